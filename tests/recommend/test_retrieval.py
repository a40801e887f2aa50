"""FAISS lists against exact ones."""

import numpy as np
import pytest
import torch
from vivim.recommend.models.content_mean import ContentMean
from vivim.recommend.models.popularity import Popularity
from vivim.recommend.ranker import TopK, rank_questions, top_k
from vivim.recommend.retrieval import FaissIndex, agreement, faiss_top_k
from vivim.recommend.scorers import TableScorer, VectorScorer, item_vectors
from vivim.recommend.sequences import Questions, Sequences


class LastItem(torch.nn.Module):
    """A user is the vector of the newest item."""

    def forward(self, items_BLD):
        return items_BLD


def asked(count, num_items, seed=0):
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 8, count)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    items = rng.integers(0, num_items, offsets[-1]).astype(np.int32)
    histories = Sequences(offsets, items)
    return Questions(np.arange(count, dtype=np.int32), histories, rng.integers(0, num_items, count).astype(np.int32), histories)


def table(num_items, seed=1):
    return torch.randn(num_items, 16, generator=torch.Generator().manual_seed(seed))


def test_a_flat_index_gives_exactly_the_exact_lists():
    scorer = VectorScorer(LastItem(), table(300))
    questions = asked(100, 300)
    exact = top_k(scorer, questions, 20, num_items=300)
    found = faiss_top_k(FaissIndex("flat", scorer.items_ND), scorer, questions, 20, batch=7)
    assert np.array_equal(found.items, exact.items)
    np.testing.assert_allclose(found.scores, exact.scores, rtol=1e-5)
    assert agreement(found, exact, 20) == 1.0


@pytest.mark.parametrize("kind", ["hnsw", "ivf"])
def test_an_approximate_index_is_close_and_says_how_close(kind):
    scorer = VectorScorer(LastItem(), table(4000))
    questions = asked(60, 4000)
    exact = top_k(scorer, questions, 10, num_items=4000)
    found = faiss_top_k(FaissIndex(kind, scorer.items_ND), scorer, questions, 10)
    share = agreement(found, exact, 10)
    by_hand = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(found.items.tolist(), exact.items.tolist(), strict=True)])
    assert share == pytest.approx(by_hand)
    assert share > 0.4
    for row, seen in zip(found.items, questions.seen, strict=True):
        assert not set(row[row >= 0]) & set(seen)


def test_agreement_by_hand():
    def lists(*rows):
        items = np.array(rows, np.int32)
        return TopK(items, np.zeros(items.shape, np.float32), 9)

    assert agreement(lists([1, 2], [3, 4]), lists([2, 1], [3, 5]), 2) == 0.75
    assert agreement(lists([1, -1]), lists([1, -1]), 2) == 1.0
    assert agreement(lists([7, 8]), lists([1, 2]), 2) == 0.0


def test_lists_end_where_the_unseen_items_end():
    scorer = VectorScorer(LastItem(), table(4))
    questions = asked(5, 4)
    found = faiss_top_k(FaissIndex("flat", scorer.items_ND), scorer, questions, 4)
    exact = top_k(scorer, questions, 4, num_items=4)
    assert np.array_equal(found.items, exact.items)
    assert (found.items == -1).any()


def test_exact_ranks_and_flat_lists_are_one_ranking():
    """A target within K stands at its rank in the list; any other is not in it."""
    scorer = VectorScorer(LastItem(), table(300))
    questions = asked(200, 300)
    ranks = rank_questions(scorer, questions, num_items=300)
    assert len(np.unique(ranks.rank)) > 20
    assert np.isinf(ranks.rank).any()
    for lists in (faiss_top_k(FaissIndex("flat", scorer.items_ND), scorer, questions, 150), top_k(scorer, questions, 150, num_items=300)):
        places = np.where(lists.items == questions.targets[:, None], np.arange(1, 151), 0).max(1)
        assert np.array_equal(places, np.where(ranks.rank <= 150, ranks.rank, 0))


def test_the_vectors_that_a_scorer_scores_by():
    vectors = table(5)
    assert item_vectors(VectorScorer(LastItem(), vectors)) is vectors
    assert item_vectors(TableScorer(vectors, vectors)) is vectors
    assert item_vectors(ContentMean(vectors, 0.5)) is vectors
    assert item_vectors(Popularity(torch.ones(5))) is None
