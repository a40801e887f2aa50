"""Health of vectors whose faults are planted."""

import json
from dataclasses import replace

import numpy as np
import pytest
from vivim.errors import InputError
from vivim.store import Rows, effective_rank, health, measure_health


def rows_of(vectors, dtype=np.float32, sha256=None, short=()):
    count = len(vectors)
    flags = np.isin(np.arange(count), short)
    ids = tuple(f"c{k}" for k in range(count))
    sha256 = sha256 or [f"{k:064x}" for k in range(count)]
    return Rows(ids, np.asarray(vectors, dtype), tuple(sha256), np.zeros((count, 2)), ("pyav",) * count, flags)


def healthy(count=200, dim=32, seed=0):
    return np.random.default_rng(seed).standard_normal((count, dim))


def test_effective_rank_of_known_spectra():
    assert effective_rank(np.array([2.0, 2.0, 2.0, 0.0])) == pytest.approx(3.0)
    assert effective_rank(np.array([5.0])) == pytest.approx(1.0)
    assert effective_rank(np.zeros(3)) == 0.0
    # Shares 3/4 and 1/4: exp(ln 4 - 3/4 ln 3).
    assert effective_rank(np.array([3.0, 1.0])) == pytest.approx(4 / 3**0.75)


def test_every_number_of_four_vectors_by_hand():
    # Mean (2, 0, 5); centred (+-3, 0, 0), (0, +-4, 0): variances 9/2, 8 and 0.
    found = measure_health(rows_of([[5, 0, 5], [-1, 0, 5], [2, 4, 5], [2, -4, 5]], short=[1, 2]))
    lengths = np.sqrt([50, 26, 45, 45])
    assert (found.rows, found.dim, found.dtype, found.short, found.rounding) == (4, 3, "float32", 2, None)
    assert found.norms == pytest.approx(
        {"min": lengths[1], "5 %": np.quantile(lengths, 0.05), "median": lengths[2], "95 %": np.quantile(lengths, 0.95), "max": lengths[0]}
    )
    assert found.mean_cosine == pytest.approx(np.mean(np.array([35, 23, 29, 29]) / (np.sqrt(29) * lengths)))
    assert found.deviation == pytest.approx(np.sqrt(12.5 / (166 / 4)))
    assert found.effective_rank == pytest.approx(7 / (3 ** (3 / 7) * 4 ** (4 / 7)))  # singular values in the ratio 3 : 4
    assert [found.dimension_deviations[q] for q in ("min", "median", "max")] == pytest.approx([0, np.sqrt(4.5), np.sqrt(8)])
    assert found.dead_dimensions == 1


def test_deviation_and_rank_are_those_of_pretraining():
    torch = pytest.importorskip("torch")
    from vivim.extract.pretrain.selfsup import spread

    vectors = healthy(30, 50) * np.linspace(0.1, 3, 50) + 2
    found = measure_health(rows_of(vectors, np.float64))
    assert (found.deviation, found.effective_rank) == pytest.approx(spread(torch.tensor(vectors)), rel=1e-4)


def test_blocks_of_rows_change_nothing(monkeypatch):
    rows = rows_of(healthy(), np.float16)
    whole = measure_health(rows)
    monkeypatch.setattr(health, "_BLOCK_ROWS", 7)
    parts = measure_health(rows)
    assert parts.near == whole.near
    for name in ("mean_cosine", "deviation", "effective_rank", "rounding"):
        assert getattr(parts, name) == pytest.approx(getattr(whole, name), rel=1e-9)


def test_rounding_to_float16_is_estimated_from_what_is_stored():
    exact = healthy(500, 64) * np.logspace(-8, 2, 64)  # from where float16 steps stay the same to large numbers
    stored = exact.astype(np.float16)
    true = np.linalg.norm(exact - stored) / np.linalg.norm(exact)
    assert measure_health(rows_of(stored, np.float16)).rounding == pytest.approx(true, rel=0.1)
    tiny = rows_of(np.full((2, 4), 2.0**-20), np.float16)  # steps of 2**-24, error a step / sqrt(12)
    assert measure_health(tiny).rounding == pytest.approx(2.0**-4 / np.sqrt(12))


def test_healthy_vectors_give_no_warning_and_json():
    found = measure_health(rows_of(healthy(), np.float16))
    assert found.warnings() == []
    assert json.loads(json.dumps(found.as_dict(), allow_nan=False))["near"]["found"] == 0
    lines = dict(found.lines())
    assert lines["vectors"] == "200 of 32 dimensions, float16"
    assert lines["dead dimensions"] == "0 of 32"
    assert lines["clips with a near twin"] == "0 of 200 clips (0.0%, cosine 0.999 or more)"


def collapsed():
    return 1 + 1e-3 * healthy()


def flat():
    return healthy(200, 1) * np.ones(32) + 1e-4 * healthy()


def dead():
    vectors = healthy()
    vectors[:, :10] = 3
    return vectors


def doubled():
    vectors = healthy()
    vectors[:10] = vectors[50:60]
    return vectors


def rounded_away():
    return 1 + 0.011 * healthy()


@pytest.mark.parametrize(
    ("vectors", "dtype", "words"),
    [
        (collapsed(), np.float32, "have collapsed: they differ from their mean by 0.10% of their length"),
        (np.ones((5, 3)), np.float16, "have collapsed: they differ from their mean by 0.00%"),
        (flat(), np.float32, "few directions: effective rank 1.0 of at most 32"),
        (dead(), np.float32, "10 of 32 dimensions are the same for all clips"),
        (doubled() + np.arange(200)[:, None] * 1e-6, np.float32, "10.0% of the clips have a near twin, as 'c0' and 'c50'"),
        (rounded_away(), np.float16, "Rounding to float16 takes"),
    ],
)
def test_a_fault_is_named_and_only_it(vectors, dtype, words, monkeypatch):
    monkeypatch.setattr(health, "ROUNDED", 0.01)
    (warning,) = measure_health(rows_of(vectors, dtype)).warnings()
    assert words in warning


def test_few_clips_are_not_called_flat():
    assert measure_health(rows_of([[0, 1], [0, 2], [0, 4]])).warnings() == [
        "1 of 2 dimensions are the same for all clips: they carry nothing."
    ]


def test_copies_and_misplaced_copies_are_named():
    vectors = healthy()
    shas = [f"{k}" for k in range(200)]
    for k in range(12):
        shas[k] = shas[100]
        vectors[k] = vectors[100]
    copies = measure_health(rows_of(vectors, sha256=shas))
    assert copies.warnings() == ["12 clips are files that another id has too, as 'c0' and 'c1'. Give copies one id."]
    assert dict(copies.lines())["files under several ids"] == "1 (13 clips)"
    vectors[5] = 2 * vectors[100]
    warning = measure_health(rows_of(vectors, sha256=shas)).warnings()[-1]
    assert "1 vectors differ although their files are the same, as those of 'c0' and 'c5' by 100.0% of the length" in warning


def test_a_sample_is_called_one():
    found = measure_health(rows_of(doubled()))
    sampled = replace(found, near=replace(found.near, rows=1_000_000, looked_at=2000, found=300))
    assert dict(sampled.lines())["clips with a near twin"].startswith("300 of 2,000 clips drawn at random from 1,000,000 (15.0%")
    assert sampled.warnings()[0].startswith("15.0% of the clips looked at have a near twin")


def test_nothing_to_measure_is_refused():
    with pytest.raises(InputError, match="no vectors"):
        measure_health(Rows.empty(4, 2))


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_one_vector_is_measured_and_says_nothing_of_others(dtype):
    found = measure_health(rows_of([[3, 4]], dtype))
    assert (found.rows, found.norms["median"], found.deviation, found.warnings()) == (1, 5.0, 0.0, [])
    assert json.loads(json.dumps(found.as_dict()))["rows"] == 1
