"""The sample that is really read: how it is drawn, and that its time is its own."""

from pathlib import Path

import numpy as np
import pytest
import torch
from vivim.extract import timing
from vivim.extract.clip import Clip, ClipRef
from vivim.extract.config import ExtractConfig
from vivim.extract.headers import Header
from vivim.extract.timing import draw, time_sample
from vivim.progress import SILENT


def headers(sizes):
    return [Header(f"c{k:04d}", size, "mov", "h264", 64, 48, 40, 2.0, False, 0, 8, False, False) for k, size in enumerate(sizes)]


class CountingEncoder:
    """Counts what it is given; more than ``most`` clips at once do not fit into its memory."""

    dim = 3
    device = torch.device("cpu")

    def __init__(self, most=100):
        self.batches = []
        self.most = most

    def embed_uint8(self, frames_BTCHW):
        if len(frames_BTCHW) > self.most:
            raise torch.OutOfMemoryError
        self.batches.append(len(frames_BTCHW))
        return torch.zeros(len(frames_BTCHW), self.dim)


def test_one_clip_of_every_size_is_drawn():
    all_ = headers(np.random.default_rng(0).permutation(1000) + 1)
    drawn = draw(all_, 10, seed=1)
    assert [(header.size_bytes - 1) // 100 for header in drawn] == [9, 8, 7, 6, 5, 4, 3, 2, 1, 0]
    assert draw(all_, 10, seed=1) == drawn
    assert draw(all_[::-1], 10, seed=1) == drawn
    assert draw(all_, 10, seed=2) != drawn


def test_every_clip_of_a_group_can_be_drawn():
    all_ = headers([5] * 7)
    assert {header.id for seed in range(200) for header in draw(all_, 2, seed)} == {header.id for header in all_}


@pytest.mark.parametrize(("clips", "sample", "drawn"), [(0, 30, 0), (1, 30, 1), (5, 30, 5), (5, 5, 5), (31, 30, 30)])
def test_never_more_than_there_are_and_none_twice(clips, sample, drawn):
    ids = [header.id for header in draw(headers(range(1, clips + 1)), sample, seed=3)]
    assert len(ids) == len(set(ids)) == drawn


def test_a_sample_is_read_then_encoded(tmp_path, clips):
    paths = [clips.write(tmp_path / f"c{k:04d}.mp4", 20 + k) for k in range(4)]
    (tmp_path / "c0002.mp4").write_bytes(paths[0].read_bytes()[:-100])
    sizes = [path.stat().st_size for path in paths]
    encoder = CountingEncoder()
    config = ExtractConfig(workers=2, image_size=32, batch_clips=2)
    sample = time_sample(headers(sizes), {path.stem: ClipRef(path.stem, path) for path in paths}, config, encoder, SILENT)
    assert sorted(sample.size_bytes) == sorted(sizes)
    assert len(sample.decode_seconds) == 4 and min(sample.decode_seconds) > 0
    assert [(failure.id, failure.kind) for failure in sample.failures] == [("c0002", "truncated")]
    assert sample.encode_seconds is not None and sample.encode_seconds > 0
    assert encoder.batches == [1, 1, 2, 2, 2, 2]  # as many as are encoded at once, the first pass of each size for warmth


def test_a_timeout_costs_the_deadline_and_a_crash_is_not_counted(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    import misbehaving_readers

    monkeypatch.setattr(timing, "TimedReader", lambda reader: misbehaving_readers.timing_by_id)
    ids = ["fine-1", "hang-1", "segv-1"]
    found = [Header(id_, 10 + k, "mov", "h264", 64, 48, 40, 2.0, False, 0, 8, False, False) for k, id_ in enumerate(ids)]
    config = ExtractConfig(workers=1, timeout_seconds=2.0)
    sample = time_sample(found, {id_: ClipRef(id_, Path("unused")) for id_ in ids}, config, CountingEncoder(), SILENT)
    assert dict(zip(sample.size_bytes, sample.decode_seconds, strict=True)) == {10: 0.5, 11: 2.0}
    assert {failure.id: failure.kind for failure in sample.failures} == {"hang-1": "timeout", "segv-1": "crash"}


def test_an_encoder_too_slow_for_a_batch_is_timed_on_less(monkeypatch):
    clip = Clip("x", np.zeros((1, 3, 32, 32), np.uint8), np.zeros(1), "pyav", "0")
    seconds_of = {"now": 0.0, "per clip": 2.0}

    def encode(clips, encoder):
        encoder.batches.append(len(clips))
        return seconds_of["per clip"] * len(clips)

    monkeypatch.setattr(timing, "_encode", encode)
    for per_clip, batches in ((2.0, [1, 1, 2, 2]), (9.0, [1, 1]), (0.01, [1, 1, 8, 8, 8, 8])):
        seconds_of["per clip"], encoder = per_clip, CountingEncoder()
        assert timing._encode_seconds([clip] * 8, encoder) == pytest.approx(per_clip)
        assert encoder.batches == batches


def test_a_batch_too_large_for_the_device_is_timed_in_halves():
    clip = Clip("x", np.zeros((1, 3, 32, 32), np.uint8), np.zeros(1), "pyav", "0")
    encoder = CountingEncoder(most=2)
    assert timing._encode([clip] * 7, encoder) > 0
    assert encoder.batches == [1, 2, 2, 2]
    with pytest.raises(torch.OutOfMemoryError):
        timing._encode([clip], CountingEncoder(most=0))
