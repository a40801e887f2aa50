"""Predictions, by hand."""

import numpy as np
import pytest
from vivim.extract import forecast as forecast_module
from vivim.extract.config import ExtractConfig, FramesConfig
from vivim.extract.forecast import embedding_file_bytes, forecast, frame_cache_bytes
from vivim.extract.headers import Header
from vivim.extract.timing import Sample
from vivim.store import FailedClip, Recipe, Rows, write_embeddings


@pytest.fixture(autouse=True)
def _four_cores(monkeypatch):
    monkeypatch.setattr(forecast_module, "usable_cores", lambda: 4)


def headers(sizes):
    return [Header(f"c{k}", size, "mov", "h264", 64, 48, 40, 2.0, False, 0, 8, False, False) for k, size in enumerate(sizes)]


def sample(seconds_per_byte, sizes=(10, 30), encode=0.5):
    return Sample(tuple(sizes), tuple(size * seconds_per_byte for size in sizes), encode, ())


@pytest.mark.parametrize(
    ("workers", "device", "seconds_per_byte", "seconds", "bound"),
    [
        # 100 clips, 2,000 bytes; a process decodes all in 200 s or 20,000 s, the encoder takes 50 s.
        (0, "cuda", 0.1, 50.0, "decode-bound"),  # 200 s on four workers: both take as long
        (0, "cpu", 0.1, 100.0, "decode-bound"),  # the same cores do both
        (2, "cuda", 0.1, 100.0, "decode-bound"),
        (2, "cpu", 0.1, 100.0, "decode-bound"),  # 50 s for the encoder, 200 core-seconds on four cores: no more than decoding alone
        (0, "cuda", 0.01, 50.0, "encode-bound"),
        (0, "cpu", 0.01, 55.0, "encode-bound"),
        (8, "cpu", 0.1, 75.0, "encode-bound"),  # timed while eight shared the cores
        (0, "cuda", 10.0, 5000.0, "decode-bound"),
    ],
)
def test_time_by_hand(workers, device, seconds_per_byte, seconds, bound):
    found = forecast(headers([20] * 100), sample(seconds_per_byte), ExtractConfig(workers=workers), device, seed=1)
    assert found is not None
    assert found.seconds == pytest.approx(seconds)
    assert (found.low_seconds, found.high_seconds) == (pytest.approx(seconds), pytest.approx(seconds))  # time goes exactly with bytes
    assert found.bound == bound
    assert found.workers == (workers or 4)
    assert found.decode_clips_per_second == pytest.approx(100 * found.workers / (2000 * seconds_per_byte))
    assert found.encode_clips_per_second == 2.0


def test_large_files_count_for_what_they_are():
    # The sample has small files, the catalogue larger ones on average: 1 s for 10 bytes is 100 s for 1,000.
    found = forecast(headers([10, 10, 980]), Sample((10, 10), (1.0, 1.0), 0.001, ()), ExtractConfig(workers=1), "cuda", seed=1)
    assert found is not None and found.seconds == pytest.approx(100.0)


def test_the_range_holds_the_truth_about_as_often_as_it_says():
    random = np.random.default_rng(5)
    size_N = np.exp(random.normal(3, 1, 2000)).astype(int) + 1
    seconds_N = 0.2 + 0.01 * size_N * random.lognormal(0, 0.5, 2000)
    hits = []
    for _ in range(200):
        picks = random.choice(2000, 30, replace=False)
        found = forecast(
            headers(size_N), Sample(tuple(size_N[picks]), tuple(seconds_N[picks]), 1e-6, ()), ExtractConfig(workers=1), "cuda", seed=1
        )
        assert found is not None
        hits.append(found.low_seconds <= seconds_N.sum() <= found.high_seconds)
    assert 0.85 <= np.mean(hits) <= 0.99


def test_nothing_is_uncertain_when_every_clip_was_timed():
    found = forecast(headers([10, 30]), Sample((10, 30), (5.0, 1.0), 0.001, ()), ExtractConfig(workers=1), "cuda", seed=1)
    assert found is not None
    assert (found.low_seconds, found.seconds, found.high_seconds) == (6.0, 6.0, 6.0)


def test_no_forecast_without_a_clip_that_could_be_read():
    assert forecast(headers([10]), Sample((10,), (1.0,), None, ()), ExtractConfig(), "cpu", seed=1) is None


@pytest.mark.parametrize(("dim", "dtype", "frames"), [(512, "float16", 8), (240, "float32", 2)])
def test_the_size_of_a_file_is_that_of_one_that_is_written(tmp_path, dim, dtype, frames):
    count = 3000
    ids = tuple(f"{k:05d}" for k in range(count))
    recipe = Recipe(encoder={}, weights={}, frames={}, preprocessing={}, dtype=dtype, decoder={})
    rows = Rows(
        ids=ids,
        vectors_ND=np.random.default_rng(0).normal(size=(count, dim)).astype(dtype),
        sha256=("0" * 64,) * count,
        times_seconds_NT=np.zeros((count, frames)),
        decoder=("decord",) * count,
        short_N=np.zeros(count, bool),
    )
    write_embeddings(tmp_path / "e.h5", recipe, rows, [FailedClip("bad", "empty", "0 bytes")])
    config = ExtractConfig(dtype=dtype, frames=FramesConfig(count=frames))
    assert embedding_file_bytes(ids, dim, config) == pytest.approx((tmp_path / "e.h5").stat().st_size, rel=0.03)


def test_the_size_of_a_frame_cache():
    assert frame_cache_bytes(1000, ExtractConfig(image_size=224, frames=FramesConfig(count=8))) == 1000 * 8 * 224 * 224 * 3
