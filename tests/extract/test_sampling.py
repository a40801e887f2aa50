"""Samplers against positions worked out by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from vivim.extract.config import FramesConfig
from vivim.extract.sampling import Fps, Middle, Uniform, is_short, make_sampler, nearest_keyframes, regular_times, shown_at


def test_uniform_takes_the_centres_of_equal_spans():
    # 10 s at 10 frames a second; centres at 1.25, 3.75, 6.25, 8.75 s
    assert Uniform(4).pick(regular_times(10, 10), 10.0).tolist() == [12, 37, 62, 87]


def test_uniform_goes_by_time_not_by_frame_number():
    # a slow stretch: 0..0.9 s every 0.1 s, then one frame stays until 10 s
    times = np.array([0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9])
    assert Uniform(2).pick(times, 10.0).tolist() == [9, 9]


def test_uniform_does_not_care_when_the_stream_starts():
    times = regular_times(10, 10)
    assert Uniform(5).pick(times + 77.7, 87.7).tolist() == Uniform(5).pick(times, 10.0).tolist()


@pytest.mark.parametrize(
    ("count", "stride", "expected"),
    [
        (5, 1, [48, 49, 50, 51, 52]),
        (1, 1, [50]),
        (3, 25, [25, 50, 75]),
        (2, 1, [49, 51]),  # floor(49.5) and ceil(50.5): the authors' even counts leave the middle out
        (4, 1, [48, 49, 51, 52]),
        (4, 2, [47, 49, 51, 53]),
        (4, 5, [42, 47, 53, 58]),
    ],
)
def test_middle_as_microlens_does_it(count, stride, expected):
    assert Middle(count, stride).pick(regular_times(10, 10), 10.0).tolist() == expected


def test_middle_repeats_the_ends_of_a_short_clip():
    assert Middle(5).pick(regular_times(0.3, 10), 0.3).tolist() == [0, 0, 1, 2, 2]


def test_fps_steps_around_the_middle():
    # middle 5 s; 4 frames at 2 per second: 4.25, 4.75, 5.25, 5.75 s
    assert Fps(4, 2.0).pick(regular_times(10, 10), 10.0).tolist() == [42, 47, 52, 57]


def test_fps_repeats_the_ends_of_a_clip_shorter_than_its_window():
    assert Fps(4, 1.0).pick(regular_times(1, 2), 1.0).tolist() == [0, 0, 1, 1]


def test_the_frame_on_screen():
    times = np.array([1.0, 2.0, 4.0])
    assert shown_at(times, np.array([0.0, 1.0, 1.9, 2.0, 3.9, 4.0, 99.0])).tolist() == [0, 0, 0, 1, 1, 2, 2]


def test_short_means_that_frames_repeat():
    assert is_short(np.array([0, 0, 1]))
    assert not is_short(np.array([0, 1, 2]))


def test_the_nearest_keyframe_in_time_the_earlier_of_two():
    times = np.array([0.0, 1.0, 2.0, 3.0, 10.0, 11.0])
    keyframes = np.array([0, 2, 4])  # at 0, 2 and 10 s
    assert nearest_keyframes(np.array([0, 1, 2, 3, 4, 5]), keyframes, times).tolist() == [0, 0, 2, 2, 4, 4]
    assert nearest_keyframes(np.array([1, 5]), np.array([3]), times).tolist() == [3, 3]


@given(st.lists(st.floats(0.01, 5.0), min_size=1, max_size=40), st.data())
def test_no_keyframe_is_nearer_than_the_nearest(steps, data):
    times = np.cumsum(steps)
    keyframes = np.array(sorted(data.draw(st.sets(st.integers(0, len(times) - 1), min_size=1))))
    wanted = np.array(sorted(data.draw(st.lists(st.integers(0, len(times) - 1), min_size=1, max_size=9))))
    found = nearest_keyframes(wanted, keyframes, times)
    assert (np.diff(found) >= 0).all()
    for k, near in zip(wanted, found, strict=True):
        assert near in keyframes
        assert abs(times[near] - times[k]) == min(abs(times[keyframes] - times[k]))


def test_regular_times_has_at_least_one_frame():
    assert regular_times(0.001, 10).tolist() == [0.0]


def test_config_chooses_the_sampler():
    assert make_sampler(FramesConfig(sampler="uniform", count=3)) == Uniform(3)
    assert make_sampler(FramesConfig(sampler="middle", count=5)) == Middle(5)
    assert make_sampler(FramesConfig(sampler="fps", count=2, fps=4.0)) == Fps(2, 4.0)


steps = st.lists(st.floats(0.001, 5.0), min_size=1, max_size=60)
samplers = st.one_of(
    st.builds(Uniform, st.integers(1, 32)),
    st.builds(Middle, st.integers(1, 32), st.integers(1, 9)),
    st.builds(Fps, st.integers(1, 32), st.floats(0.1, 60.0)),
)


@given(steps, samplers, st.floats(-10, 1e4))
def test_any_stream_gives_count_ascending_positions_inside_it(steps, sampler, start):
    times = start + np.cumsum(steps)
    indices = sampler.pick(times, times[-1] + steps[-1])
    assert len(indices) == sampler.count
    assert (np.diff(indices) >= 0).all()
    assert 0 <= indices[0] <= indices[-1] < len(times)


@given(st.integers(1, 40), st.integers(1, 16))
def test_uniform_on_a_constant_rate_is_the_middle_of_equal_parts(n, count):
    # In exact arithmetic: frame floor((k + 1/2) n / T). Where that lands on a frame's first instant, rounding may choose its neighbour.
    indices = Uniform(count).pick(np.arange(n) / 8, n / 8)
    exact = [((2 * k + 1) * n) // (2 * count) for k in range(count)]
    on_the_edge = [((2 * k + 1) * n) % (2 * count) == 0 for k in range(count)]
    assert all(i == e or (edge and i == e - 1) for i, e, edge in zip(indices, exact, on_the_edge, strict=True))
