"""Yardsticks without learning beside item-knn: equal to loops over users and items, and worth what they should be."""

import math

import numpy as np
import pytest
import torch
from vivim.errors import InputError
from vivim.recommend.build import resolved
from vivim.recommend.config import RecommendConfig
from vivim.recommend.content import CatalogueVectors
from vivim.recommend.models.bm25 import Bm25
from vivim.recommend.models.content_mean import ContentMean
from vivim.recommend.sequences import SequenceBatch, Sequences

ROWS = [[0, 2, 1], [2], [3, 0, 0], [], [1, 4]]
TRAIN = Sequences(np.cumsum([0, *map(len, ROWS)]).astype(np.int64), np.array([i for row in ROWS for i in row], np.int32))


def bm25_by_loops(rows, items, history, k1=1.2, b=0.75):
    sets = [set(row) for row in rows]
    users_of = [sum(i in s for s in sets) for i in range(items)]
    mean = np.mean([n for n in users_of if n])

    def weight(i, u):
        idf = math.log(items / (1 + len(sets[u])))
        return idf * (k1 + 1) / (k1 * (1 - b + b * users_of[i] / mean) + 1)

    scores = np.zeros(items)
    for i in history:
        for j in range(items):
            scores[j] += sum(weight(i, u) * weight(j, u) for u, s in enumerate(sets) if i in s and j in s and i != j)
    return scores


@pytest.mark.parametrize("history", [[0], [2, 1], [4, 3, 0]])
def test_bm25_equals_loops_over_users_and_items(history):
    model = Bm25.fit(TRAIN, 6)
    got = Bm25.from_tensors(model.tensors()).score(SequenceBatch(torch.tensor([history]), torch.tensor([len(history)])))[0]
    # What no neighbour reaches is ordered by popularity, far below.
    np.testing.assert_allclose(got.numpy(), bm25_by_loops(ROWS, 6, history), rtol=1e-5, atol=1e-5)


def test_content_mean_equals_a_loop():
    torch.manual_seed(0)
    vectors, present = torch.randn(5, 3), torch.tensor([True, True, True, True, False])
    vectors[4] = 0
    model = ContentMean.of(CatalogueVectors(vectors, present, "0" * 64), decay=0.5)
    batch = SequenceBatch(torch.tensor([[0, 2, 1], [3, 0, 0]]), torch.tensor([3, 1]))
    got = ContentMean.from_tensors(model.tensors()).score(batch).numpy()
    there = vectors[:4].numpy()
    unit = (there - there.mean(0)) / there.std(0)
    unit = unit / np.linalg.norm(unit, axis=1, keepdims=True)
    for b, history in enumerate([[0, 2, 1], [3]]):
        user = sum(0.5**age * unit[item] for age, item in enumerate(reversed(history)))
        np.testing.assert_allclose(got[b, :4], unit @ user / np.linalg.norm(user), rtol=1e-5, atol=1e-6)
        assert got[b, 4] == 0


def test_bm25_finds_the_group_and_nothing_where_there_is_none(planted, tmp_path):
    for name, shuffled in (("true", False), ("shuffled", True)):
        data = planted.blocks(shuffled)
        planted.fit(data, tmp_path / name, {"model": {"kind": "bm25"}, "items": {"kind": "ids"}})
        rate = planted.hit_rate_of(tmp_path / name, data)
        assert rate < 0.2 if shuffled else rate > 0.9, (name, rate)


def test_a_taste_that_shows_is_found_by_content_and_not_by_shuffled_content(planted, tmp_path):
    """Groups of items whose vectors lie together; in the shuffled copy they are anybody's."""
    data, rng = planted.blocks(), np.random.default_rng(0)
    centres = rng.normal(size=(6, 8))
    vectors = torch.from_numpy(centres[np.arange(60) % 6] + 0.1 * rng.normal(size=(60, 8))).float()
    questions = SequenceBatch.of(data.histories, np.arange(100))
    for shown, least, most in ((vectors, 0.95, 1.0), (vectors[torch.from_numpy(rng.permutation(60))], 0.0, 0.4)):
        model = ContentMean.of(CatalogueVectors(shown, torch.ones(60, dtype=torch.bool), "0" * 64))
        nearest = model.score(questions).topk(10).indices
        group = data.histories.items.reshape(-1, 8)[:100, 0] % 6
        share = float((nearest % 6 == torch.from_numpy(group)[:, None]).float().mean())
        assert least <= share <= most


@pytest.mark.parametrize(("items", "vectors"), [("ids", True), ("auto", False)])
def test_content_mean_without_vectors_is_refused(items, vectors):
    config = RecommendConfig.model_validate({"model": {"kind": "content-mean"}, "items": {"kind": items}})
    with pytest.raises(InputError, match="looks at stored vectors"):
        resolved(config, has_vectors=vectors)
