"""decord agrees with PyAV where it is believed, and is not believed where it should not be."""

import numpy as np
import pytest
from vivim.extract.decord_frames import DoubtError, read_frames
from vivim.extract.probe import Limits, probe_clip
from vivim.extract.pyav_frames import read_timed


def test_frames_are_those_of_pyav(tmp_path, clips):
    rng = np.random.default_rng(0)
    path = clips.write(
        tmp_path / "a.mp4", 30, options={"bf": "2", "g": "10"}, picture=lambda k: rng.integers(0, 256, (48, 64, 3), dtype=np.uint8)
    )
    probe = probe_clip(path, "mov", Limits())
    wanted = [0, 5, 14, 15, 29]
    quick, careful = dict(read_frames(path, probe, wanted)), dict(read_timed(path, probe, wanted))
    assert set(quick) == set(careful) == set(wanted)
    assert max(np.abs(quick[k].astype(int) - careful[k]).mean() for k in wanted) < 1.0


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_turned_clips_come_out_upright_too(tmp_path, clips, degrees):
    path = clips.write(tmp_path / "a.mp4", 2, width=160, height=128, picture=lambda k: clips.two_halves(k, 160, 128))
    clips.turn(path, degrees)
    probe = probe_clip(path, "mov", Limits())
    quick, careful = dict(read_frames(path, probe, [0])), dict(read_timed(path, probe, [0]))
    assert np.abs(quick[0].astype(int) - careful[0]).mean() < 1.0


def test_frames_too_narrow_for_decord_are_refused(tmp_path, clips):
    path = clips.write(tmp_path / "a.mp4", 5, width=2, height=2, pix_fmt="yuv444p")
    with pytest.raises(DoubtError, match="2x2 came out as"):
        list(read_frames(path, probe_clip(path, "mov", Limits()), [0]))


def test_streams_that_are_not_plain_are_refused(tmp_path, clips):
    path = clips.write(tmp_path / "a.mp4", 5, tracks=2)
    with pytest.raises(DoubtError, match="several"):
        list(read_frames(path, probe_clip(path, "mov", Limits()), [0]))


def test_a_disagreement_with_the_packets_is_refused(tmp_path, clips):
    long, short = clips.write(tmp_path / "a.mp4", 20), clips.write(tmp_path / "b.mp4", 10)
    other = clips.write(tmp_path / "c.mp4", 10, pts=[0, 1, 2, 3, 4, 15, 16, 17, 18, 19])
    with pytest.raises(DoubtError, match="counts 20 frames, the packets say 10"):
        list(read_frames(long, probe_clip(short, "mov", Limits()), [0]))
    with pytest.raises(DoubtError, match="timestamps"):
        list(read_frames(other, probe_clip(short, "mov", Limits()), [0, 9]))


def test_what_decord_cannot_open_is_a_doubt(tmp_path, clips):
    path = clips.write(tmp_path / "a.mp4", 10)
    probe = probe_clip(path, "mov", Limits())
    path.write_bytes(b"no film")
    with pytest.raises(DoubtError):
        list(read_frames(path, probe, [0]))
