"""Forward co-visits against a dictionary of pairs, and the known numbers on MicroLens-50K."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from vivim.recommend.config import ProtocolConfig
from vivim.recommend.metrics import accuracy
from vivim.recommend.models.item_knn import ItemKnn
from vivim.recommend.models.popularity import Popularity
from vivim.recommend.protocol import MicroLensProtocol
from vivim.recommend.ranker import Scorer, rank_questions
from vivim.recommend.readers import read_interactions
from vivim.recommend.sequences import SequenceBatch, Sequences

N = 7


def sequences(rows: list[list[int]]) -> Sequences:
    offsets = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64)
    return Sequences(offsets, np.array([item for row in rows for item in row], np.int32))


def everyone(rows: list[list[int]]) -> SequenceBatch:
    return SequenceBatch.of(sequences(rows), np.arange(len(rows)))


def test_by_hand() -> None:
    model = ItemKnn.fit(sequences([[0, 1, 2], [0, 2]]), 4, decay=0.5, exponent=0.5)
    # 0 -> 1 once at distance 1, 0 -> 2 at distances 2 and 1, 1 -> 2 once; counts 2, 1, 2, 0.
    expected = torch.tensor([[0, 1 / 2**0.5, 1.5 / 2, 0], [0, 0.5 / 2**0.5, 0.75 / 2 + 1 / 2**0.5, 0]])
    assert torch.allclose(model.score(everyone([[0], [0, 1]])), expected, atol=2e-6)


def test_what_no_neighbour_reaches_is_ordered_by_popularity() -> None:
    scores = ItemKnn.fit(sequences([[0, 1], [2, 3], [4, 3], [3], [4]]), 6).score(everyone([[0]]))[0]
    assert scores.argsort(descending=True)[:3].tolist() == [1, 3, 4]
    assert scores[5] == 0


def oracle(train: list[list[int]], history: list[int], window: int, decay: float, exponent: float) -> list[float]:
    counts = Counter(item for row in train for item in row)
    scores = [0.0] * N
    for age, item in enumerate(reversed(history)):
        for row in train:
            for i, a in enumerate(row):
                for distance, b in enumerate(row[i + 1 : i + 1 + window], start=1):
                    if a == item:
                        scores[b] += decay**age * decay ** (distance - 1) / (counts[a] * counts[b]) ** exponent
    return scores


ROWS = st.lists(st.lists(st.integers(0, N - 1), min_size=1, max_size=8), min_size=1, max_size=6)


@settings(deadline=None)
@given(ROWS, ROWS, st.integers(1, 9), st.floats(0.1, 1), st.floats(0, 1))
def test_against_a_plain_loop(train: list[list[int]], asked: list[list[int]], window: int, decay: float, exponent: float) -> None:
    scores = ItemKnn.fit(sequences(train), N, window=window, decay=decay, exponent=exponent).score(everyone(asked))
    expected = [oracle(train, history, window, decay, exponent) for history in asked]
    torch.testing.assert_close(scores, torch.tensor(expected), atol=5e-6, rtol=1e-5)


def test_one_by_one_equals_together() -> None:
    model = ItemKnn.fit(sequences([[0, 1, 2, 3], [3, 2, 5], [6, 1, 0]]), N)
    rows = [[0], [1, 2, 3], [6, 6], [3, 1]]
    together = model.score(everyone(rows))
    for row, expected in zip(rows, together, strict=True):
        assert torch.equal(model.score(everyone([row]))[0], expected)


def test_saved_and_loaded_it_scores_the_same(tmp_path: Path) -> None:
    model = ItemKnn.fit(sequences([[0, 1, 2], [2, 1]]), N)
    save_file(model.tensors(), tmp_path / "model.safetensors")
    loaded = ItemKnn.from_tensors(load_file(tmp_path / "model.safetensors"))
    batch = everyone([[0, 1], [2]])
    assert torch.equal(loaded.score(batch), model.score(batch))


@pytest.mark.slow
def test_microlens_50k_gives_the_known_numbers(shared_data: Path) -> None:
    """Reference: a separate implementation over the same protocol; shared/data/README.md beside the checkout."""
    split = MicroLensProtocol(ProtocolConfig()).split(read_interactions(shared_data / "microlens-50k" / "MicroLens-50k_pairs.tsv"))
    n = len(split.items)
    knn: Scorer = ItemKnn.fit(split.train, n)
    test = accuracy(rank_questions(knn, split.test, num_items=n), (10, 20))
    validation = accuracy(rank_questions(knn, split.validation, num_items=n), (10,))
    popular = accuracy(rank_questions(Popularity.fit(split.train, n), split.test, num_items=n), (10,))
    assert test["hit_rate@10"].value == pytest.approx(0.0581, abs=0.0005)
    assert test["ndcg@10"].value == pytest.approx(0.0345, abs=0.0005)
    assert test["hit_rate@20"].value == pytest.approx(0.0777, abs=0.001)
    assert validation["hit_rate@10"].value == pytest.approx(0.0759, abs=0.0005)
    assert validation["ndcg@10"].value == pytest.approx(0.0465, abs=0.0005)
    assert popular["hit_rate@10"].value == pytest.approx(0.0028, abs=0.0001)
