"""Views: what they keep (direction, sides, one cut and one colour for all frames) and that nothing but the seed decides them."""

import numpy as np
import pytest
import torch
from vivim.extract.pretrain.selfsup_config import ViewsConfig
from vivim.extract.pretrain.views import ViewPlan, draw, plan_pair
from vivim.extract.sampling import Uniform

CONFIG = ViewsConfig()
PLAIN = ViewsConfig(min_span=1, min_area=1, jitter=0, grey=0)
MANY = [plan for clip in range(100) for plan in plan_pair(3, 1, clip, 16, 8, CONFIG)]


def parts(plan):
    return (plan.frames_T.tolist(), plan.box, plan.colour_33.tolist(), plan.contrast, plan.brightness)


def whole(frames=(0,), box=(0.0, 0.0, 1.0, 1.0)):
    return ViewPlan(np.array(frames), box, np.eye(3))


def test_a_view_is_a_function_of_seed_epoch_and_clip():
    def both(*which):
        return [parts(plan) for plan in plan_pair(*which, 16, 8, CONFIG)]

    one, two = both(3, 5, 7)
    assert [one, two] == both(3, 5, 7)
    others = [view for which in ((4, 5, 7), (3, 6, 7), (3, 5, 8)) for view in both(*which)]
    assert all(a != b for a in (one, two) for b in [*others, two if a is one else one])


def test_frames_go_forward_and_never_repeat():
    for plan in MANY:
        assert (np.diff(plan.frames_T) > 0).all()
        assert plan.frames_T[0] >= 0 and plan.frames_T[-1] < 16
        assert plan.frames_T[-1] - plan.frames_T[0] >= 6  # at least half of the clip, but for rounding
    assert len({tuple(plan.frames_T) for plan in MANY}) > 20


def test_the_longest_span_is_what_extraction_reads():
    plan, _ = plan_pair(0, 1, 0, 16, 8, PLAIN)
    assert plan.frames_T.tolist() == Uniform(8).pick(np.arange(16.0), 16.0).tolist()


def test_a_plain_view_is_the_picture():
    frames = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 4, 3, 32, 32), dtype=np.uint8))
    views = draw(frames, [whole((1, 3)), whole((0, 2))], 32)
    torch.testing.assert_close(views, torch.stack([frames[0, [1, 3]], frames[1, [0, 2]]]) / 255, atol=1e-5, rtol=0)


def test_a_cut_shows_its_part():
    """Left half red, right half blue; the cut is the lower left quarter but for the middle line."""
    picture = torch.zeros(1, 1, 3, 32, 32, dtype=torch.uint8)
    picture[..., 0, :, :16], picture[..., 2, :, 16:] = 255, 255
    view = draw(picture, [whole(box=(0, 0.5, 0.48, 1))], 32)
    assert (view[0, 0, 0] > 0.999).all() and (view[0, 0, 1:] < 1e-3).all()


def test_cuts_are_square_inside_and_not_too_small():
    for plan in MANY:
        left, top, right, bottom = plan.box
        assert 0 <= left < right <= 1 + 1e-9 and 0 <= top < bottom <= 1 + 1e-9
        assert right - left == pytest.approx(bottom - top)
        assert 0.5 - 1e-9 <= (right - left) ** 2 <= 1 + 1e-9


def test_no_view_is_mirrored():
    """Brighter to the right and, in another picture, downwards: that stays true in every view."""
    ramp = torch.arange(32, dtype=torch.uint8)[None, :].expand(32, 32) * 4 + 60
    for picture, axis in ((ramp, -1), (ramp.T, -2)):
        steps = draw(picture.expand(len(MANY), 16, 3, 32, 32), MANY, 32).mean(2).diff(dim=axis)
        assert (steps > -1e-5).all()
        assert (steps.mean((1, 2, 3)) > 0).all()


def test_all_frames_of_a_view_share_cut_and_colour():
    picture = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (1, 1, 3, 32, 32), dtype=np.uint8))
    views = draw(picture.expand(len(MANY), 16, 3, 32, 32), MANY, 32)
    assert torch.equal(views, views[:, :1].expand_as(views))


def test_grey_stays_grey_in_any_colour_and_grey_views_have_none():
    grey = torch.full((len(MANY), 16, 3, 32, 32), 90, dtype=torch.uint8)
    view = draw(grey, MANY, 32)
    assert (view.amax(2) - view.amin(2)).max() < 1e-5
    colours = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (1, 16, 3, 32, 32), dtype=np.uint8))
    plan, _ = plan_pair(0, 1, 0, 16, 8, ViewsConfig(jitter=0, grey=1))
    view = draw(colours, [plan], 32)
    assert (view.amax(2) - view.amin(2)).max() < 1e-5


def test_colours_differ_between_the_views():
    assert all(parts(one)[2:] != parts(two)[2:] for one, two in zip(MANY[::2], MANY[1::2], strict=True))


def test_contrast_turns_about_the_mean_and_brightness_scales():
    """Pixels of .25 and .75 about their mean .5, half as far from it, then .8 as bright: .3 and .5; the other view is left alone."""
    picture = torch.full((2, 1, 3, 32, 32), 64, dtype=torch.uint8)
    picture[..., 16:] = 191
    view = draw(picture, [ViewPlan(np.array([0]), (0.0, 0.0, 1.0, 1.0), np.eye(3), contrast=0.5, brightness=0.8), whole()], 32)
    torch.testing.assert_close(view[0, 0, :, 0, [0, -1]], torch.tensor([[0.3, 0.5]]).expand(3, 2), atol=2e-3, rtol=0)
    torch.testing.assert_close(view[1, 0, :, 0, [0, -1]], torch.tensor([[64, 191]]).expand(3, 2) / 255, atol=1e-5, rtol=0)


@pytest.mark.parametrize("level", [15, 120, 200, 240])
def test_no_view_of_a_dark_or_bright_clip_is_one_colour(level):
    picture = (torch.from_numpy(np.random.default_rng(0).integers(-10, 11, (1, 1, 3, 32, 32))) + level).to(torch.uint8)
    views = draw(picture.expand(len(MANY), 16, 3, 32, 32), MANY, 32)
    assert (views.flatten(1).amax(1) - views.flatten(1).amin(1)).min() > 1e-3
