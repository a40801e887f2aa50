"""Windows look at every frame; variation is the same for all frames and the masks."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from vivim.extract.pretrain.masks import MaskedClip
from vivim.extract.pretrain.windows import num_batches, training_batches, windows_of


def clip_of(length, size=32):
    """Frame t has brightness t + 100 where its mask is."""
    masks = torch.zeros(length, size, size, dtype=torch.bool)
    masks[:, 4:20, 2:10] = True
    frames = torch.zeros(length, 3, size, size, dtype=torch.uint8)
    for t in range(length):
        frames[t, :, masks[t]] = t + 100
    return MaskedClip("c", frames, masks)


@given(st.integers(1, 40), st.integers(1, 8), st.sampled_from(["all", "middle"]), st.integers(0, 7))
def test_every_frame_is_kept_by_some_window(length, frames, supervise, offset):
    windows = windows_of(0, length, frames, supervise, min(offset, frames - 1))
    kept = [window.frames[t] for window in windows for t in window.keep]
    assert set(kept) == set(range(length))
    for window in windows:
        assert len(window.frames) == frames
        assert all(b - a in (0, 1) for a, b in zip(window.frames, window.frames[1:], strict=False))
    if supervise == "middle":
        assert kept == list(range(length))
    if offset == 0 and supervise == "all" and length % frames == 0:
        assert kept == list(range(length))


def test_windows_of_seven_frames_by_hand():
    assert [w.frames for w in windows_of(0, 7, 3, "all")] == [(0, 1, 2), (3, 4, 5), (4, 5, 6)]
    assert [w.frames for w in windows_of(0, 7, 3, "all", offset=2)] == [(0, 1, 2), (1, 2, 3), (4, 5, 6)]
    assert [w.frames for w in windows_of(0, 3, 5, "middle")] == [(0, 0, 0, 1, 2), (0, 0, 1, 2, 2), (0, 1, 2, 2, 2)]


def epoch(seed, augment=True, batch=2):
    return list(training_batches([clip_of(9), clip_of(4)], frames=3, supervise="all", batch=batch, augment=augment, seed=seed))


def test_an_epoch_follows_from_its_seed():
    first, again, other = epoch(1), epoch(1), epoch(2)
    assert all(torch.equal(a.frames_BTCHW, b.frames_BTCHW) for a, b in zip(first, again, strict=True))
    assert not all(torch.equal(a.frames_BTCHW, b.frames_BTCHW) for a, b in zip(first, other, strict=False))
    assert len(first) <= num_batches([clip_of(9), clip_of(4)], 3, "all", 2)


def test_frames_and_masks_are_mirrored_together_and_all_frames_alike():
    mirrored = set()
    for seed in range(6):
        for batch in epoch(seed, batch=1):
            frames, masks = batch.frames_BTCHW[0], batch.masks_BTHW[0]
            mirrored.add(bool(masks[0, 5, 28]))
            # Where the mask is, a frame is brighter than elsewhere, whatever was done to it.
            assert bool(((frames.mean(1) > 0.2) == masks.bool()).all())
            # Brightness and contrast of the windows change, but frame by frame the steps of 1 / 255 stay alike.
            values = torch.stack([frame[0][mask.bool()][0] for frame, mask in zip(frames, masks, strict=True)])
            steps = values.diff()
            assert float(steps[0]) == pytest.approx(float(steps[1]), abs=1e-6)
    assert mirrored == {True, False}


def test_without_variation_frames_are_as_they_are():
    for batch in epoch(0, augment=False):
        values = {round(255 * float(x)) for x in batch.frames_BTCHW[batch.masks_BTHW[:, :, None].expand_as(batch.frames_BTCHW) == 1]}
        assert values <= set(range(100, 109))
