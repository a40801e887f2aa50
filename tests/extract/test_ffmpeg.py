"""Our frames are those of the ffmpeg program at the same timestamps, for every kind of clip that the benchmark makes."""

import importlib.util
import os
import sys
from pathlib import Path

import pytest

BOUND = 0.5
"""Mean difference of a frame, in grey levels of 255. With FFmpeg 9.0 it is 0; a neighbouring frame would differ by 5 or more."""


def load():
    spec = importlib.util.spec_from_file_location("frames_benchmark", Path(__file__).resolve().parents[2] / "benchmarks" / "frames.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look there
    spec.loader.exec_module(module)
    return module


frames = load()


@pytest.fixture(scope="module")
def ffmpeg():
    found = frames.find_ffmpeg()
    if found is None:
        pytest.skip("no ffmpeg: install the program or the package imageio-ffmpeg, or name one in VIVIM_FFMPEG")
    return found


@pytest.mark.parametrize("label", frames.KINDS)
def test_frames_are_those_of_ffmpeg(tmp_path, ffmpeg, label):
    row = frames.compare(ffmpeg, frames.make(frames.KINDS[label], tmp_path), 8)
    assert row["frames"] == 8
    assert row["pyav"]["worst_frame"] <= BOUND
    if "decord" in row:
        assert row["decord"]["worst_frame"] <= BOUND


@pytest.mark.skipif(not hasattr(os, "sched_getscheduler"), reason="priorities of threads are asked for as Linux has them")
@pytest.mark.parametrize("label", frames.KINDS)
def test_an_encoder_leaves_the_priority_of_this_process_as_it_was(tmp_path, label):
    before = os.sched_getscheduler(0), os.sched_getparam(0).sched_priority
    frames.make(frames.KINDS[label], tmp_path, frames=2)
    assert (os.sched_getscheduler(0), os.sched_getparam(0).sched_priority) == before


def test_a_neighbouring_frame_would_be_noticed(tmp_path, ffmpeg, monkeypatch):
    path = frames.make(frames.KINDS["h264, B-frames"], tmp_path)
    theirs = frames.ffmpeg_frames
    monkeypatch.setattr(
        frames,
        "ffmpeg_frames",
        lambda ffmpeg, path, probe, wanted, shape: {
            k - 1: v for k, v in theirs(ffmpeg, path, probe, {k + 1 for k in wanted}, shape).items()
        },
    )
    assert frames.compare(ffmpeg, path, 8)["pyav"]["mean"] > 5
