"""Exact ranks and lists against a plain numpy oracle, with ties, masks and lists longer than the catalogue."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from vivim.errors import VivimError
from vivim.recommend.ranker import Ranks, best_k, exact_ranks, rank_and_list, rank_questions, top_k
from vivim.recommend.sequences import Questions, SequenceBatch, Sequences


def sequences(*rows: list[int]) -> Sequences:
    offsets = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64)
    return Sequences(offsets, np.array([item for row in rows for item in row], np.int32))


def questions(histories: list[list[int]], targets: list[int], seen: list[list[int]]) -> Questions:
    return Questions(np.arange(len(targets), dtype=np.int32), sequences(*histories), np.array(targets, np.int32), sequences(*seen))


class Table:
    """Scores by the first item of the history: question q has history [q, ...]."""

    def __init__(self, scores: list[list[float]]) -> None:
        self.scores = torch.tensor(scores)

    def score(self, batch: SequenceBatch) -> torch.Tensor:
        return self.scores[batch.items_BL[:, 0]]


def oracle(scores: list[float], target: int, seen: list[int]) -> float:
    """Average place of the target over all orders of its ties, by sorting."""
    if target in seen:
        return float("inf")
    left = np.array([score for item, score in enumerate(scores) if item not in seen])
    places = np.flatnonzero(np.sort(left)[::-1] == scores[target]) + 1
    return float(places.mean())


CASES = {
    "best": ([0.1, 0.9, 0.5], 1, [], 1.0),
    "worst": ([0.1, 0.9, 0.5], 0, [], 3.0),
    "a higher one is seen": ([0.1, 0.9, 0.5], 2, [1], 1.0),
    "two share 1 and 2": ([0.5, 0.5, 0.1], 0, [], 1.5),
    "all share 1 to 4": ([0.0, 0.0, 0.0, 0.0], 3, [], 2.5),
    "a seen one does not tie": ([0.5, 0.5, 0.5], 0, [1], 1.5),
    "seen twice counts once": ([0.5, 0.9, 0.5], 0, [1, 1, 1], 1.5),
    "only the target is left": ([0.1, 0.9, 0.5], 0, [1, 2], 1.0),
    "the target is seen": ([0.1, 0.9, 0.5], 1, [0, 1], float("inf")),
    "never recommended": ([float("-inf"), float("-inf"), 0.5], 0, [], 2.5),
}


@pytest.mark.parametrize(("scores", "target", "seen"), [case[:3] for case in CASES.values()], ids=CASES.keys())
def test_where_seen_items_are_kept_they_are_ranked(scores: list[float], target: int, seen: list[int]) -> None:
    asked = dataclasses.replace(questions([[0]], [target], [seen]), masks_seen=False)
    assert rank_questions(Table([scores]), asked, num_items=len(scores)).rank.tolist() == [oracle(scores, target, [])]
    lists = top_k(Table([scores]), asked, len(scores), num_items=len(scores))
    assert sorted(lists.items[0][lists.items[0] >= 0].tolist()) == [row for row, score in enumerate(scores) if score > float("-inf")]


@pytest.mark.parametrize(("scores", "target", "seen", "rank"), CASES.values(), ids=CASES.keys())
def test_by_hand(scores: list[float], target: int, seen: list[int], rank: float) -> None:
    asked = questions([[0]], [target], [seen])
    assert rank_questions(Table([scores]), asked, num_items=len(scores)).rank.tolist() == [rank]
    assert oracle(scores, target, seen) == rank


WORLD = st.integers(1, 9).flatmap(
    lambda n: st.lists(
        st.tuples(
            st.lists(st.integers(-2, 2).map(float), min_size=n, max_size=n),
            st.integers(0, n - 1),
            st.lists(st.integers(0, n - 1), max_size=2 * n),
            st.integers(1, 4),
        ),
        min_size=1,
        max_size=8,
    )
)


@settings(deadline=None)
@given(WORLD, st.integers(1, 9), st.integers(1, 12))
def test_ranks_and_lists_equal_the_oracle(world: list[tuple[list[float], int, list[int], int]], batch: int, k: int) -> None:
    scores = [row for row, *_ in world]
    n = len(scores[0])
    asked = questions([[q] * length for q, (*_, length) in enumerate(world)], [t for _, t, *_ in world], [s for _, _, s, _ in world])
    ranks = rank_questions(Table(scores), asked, num_items=n, batch=batch)
    assert ranks.rank.tolist() == [oracle(row, target, seen) for row, target, seen, _ in world]
    lists = top_k(Table(scores), asked, k, num_items=n, batch=batch)
    both = rank_and_list(Table(scores), asked, k, num_items=n, batch=batch)
    assert np.array_equal(both[0].rank, ranks.rank)
    assert np.array_equal(both[1].items, lists.items)
    assert np.array_equal(both[1].scores, lists.scores)
    for q, (row, _, seen, _) in enumerate(world):
        best = sorted((item for item in range(n) if item not in seen), key=lambda item: (-row[item], item))[:k]
        assert lists.items[q].tolist() == best + [-1] * (k - len(best))
        assert lists.scores[q].tolist() == [row[item] for item in best] + [float("-inf")] * (k - len(best))


def test_more_questions_than_one_part_of_a_batch() -> None:
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 5, (300, 40)).astype(float).tolist()
    targets, seen = rng.integers(0, 40, 300).tolist(), [rng.integers(0, 40, 3).tolist() for _ in range(300)]
    asked = questions([[q] for q in range(300)], targets, seen)
    expected = [oracle(scores[q], targets[q], seen[q]) for q in range(300)]
    for batch in (1, 64, 200, 512):
        assert rank_questions(Table(scores), asked, num_items=40, batch=batch).rank.tolist() == expected


def test_half_precision_is_compared_as_it_is() -> None:
    scores = torch.tensor([[1.0, 1.0 + 2**-9, 0.5]], dtype=torch.bfloat16)  # bfloat16 cannot tell the first two apart
    ranks = exact_ranks(scores, torch.tensor([0]), torch.full((1, 1), -1))
    assert ranks.tolist() == [1.5]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_scores_that_cannot_be_ranked_are_an_error(bad: float) -> None:
    asked = questions([[0]], [0], [[]])
    with pytest.raises(VivimError, match=r"NaN or infinite.*train\.lr"):
        rank_questions(Table([[1.0, bad]]), asked, num_items=2)
    with pytest.raises(VivimError, match="NaN or infinite"):
        top_k(Table([[1.0, bad]]), asked, 1, num_items=2)


def test_the_size_of_the_catalogue_is_checked() -> None:
    with pytest.raises(AssertionError):
        rank_questions(Table([[1.0, 2.0]]), questions([[0]], [0], [[]]), num_items=3)


def test_ties_at_the_end_of_a_list_go_to_the_lower_row() -> None:
    scores, places = best_k(torch.tensor([[1.0, 3.0, 1.0, 2.0, 1.0], [5.0, 4.0, 3.0, 2.0, 1.0]]), 3)
    assert places.tolist() == [[1, 3, 0], [0, 1, 2]]
    assert scores.tolist() == [[3.0, 2.0, 1.0], [5.0, 4.0, 3.0]]


def test_no_questions_give_no_ranks() -> None:
    none = questions([], [], [])
    assert len(rank_questions(Table([[1.0]]), none, num_items=1)) == 0
    assert isinstance(rank_questions(Table([[1.0]]), none, num_items=1), Ranks)
