"""Lists hold the best items that may be recommended, reasons the nearest of the history."""

import time

import pytest
import torch
from vivim.recommend.retrieval import FaissIndex
from vivim.serve.errors import NotReady
from vivim.serve.search import AnnSearch, Nearness, Place, best, products


def test_the_best_come_first_ties_by_row_and_what_is_left_out_is_not_there():
    scores = torch.tensor([1.0, 5.0, 3.0, 5.0, 0.0])
    assert best(scores, 3, ()) == [(1, 5.0), (3, 5.0), (2, 3.0)]
    assert best(scores, 3, (3, 3, 2)) == [(1, 5.0), (0, 1.0), (4, 0.0)]
    assert best(scores, 99, (1,)) == [(3, 5.0), (2, 3.0), (0, 1.0), (4, 0.0)]
    assert best(scores, 2, range(5)) == []
    assert scores.tolist() == [1.0, 5.0, 3.0, 5.0, 0.0]


@pytest.mark.parametrize("different", [2, 30, 10_000])
def test_the_best_are_those_of_a_sort_however_many_are_equal(different):
    torch.manual_seed(different)
    for items in (1, 5, 300):
        scores = torch.randint(different, (items,)).float()
        sorted_rows = sorted(range(items), key=lambda row: (-scores[row], row))
        for k in (1, 4, 50):
            assert [row for row, _ in best(scores, k, ())] == sorted_rows[:k]


@pytest.mark.parametrize(("items", "width"), [(1, 1), (7, 3), (1001, 17), (64, 128), (2, 4099), (0, 5)])
def test_products_are_those_of_the_matrix(items, width):
    torch.manual_seed(0)
    every_ND, vector_D = torch.randn(items + 2, width), torch.randn(3, width).T[:, 1]
    torch.testing.assert_close(products(every_ND[2:], vector_D), every_ND[2:] @ vector_D, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["flat", "ivf", "hnsw"])
def test_an_index_finds_what_is_near_and_items_that_came_later_are_compared_too(kind):
    torch.manual_seed(0)
    items = torch.nn.functional.normalize(torch.randn(500, 8), dim=1)
    search = AnnSearch(lambda: FaissIndex(kind, items))
    search.wait()
    user = items[42] * 2
    assert search.best(user, items, 1, ())[0].row == 42
    assert 42 not in [row for row, _ in search.best(user, items, 5, (42,))]
    more = torch.cat([items, items[42:43] * 3, items[42:43] / 2])
    found = search.best(user, more, 2, ())
    assert [row for row, _ in found] == [500, 42]
    assert [score for _, score in found] == pytest.approx([6.0, 2.0], rel=1e-5)
    assert [row for row, _ in search.best(user, more, 1, (500, 42))] != [500]


def test_an_index_that_is_still_being_made_says_so():
    search = AnnSearch(lambda: time.sleep(0.2) or FaissIndex("flat", torch.eye(4)))
    assert not search.ready
    with pytest.raises(NotReady, match="still being made"):
        search.best(torch.ones(4), torch.eye(4), 1, ())
    search.wait()
    assert search.best(torch.tensor([0.0, 0.0, 1.0, 0.0]), torch.eye(4), 1, ()) == [(2, 1.0)]


def test_nearness_is_the_cosine():
    items = torch.tensor([[2.0, 0.0], [3.0, 3.0], [0.0, 5.0], [0.0, 0.0]])
    near = Nearness(items)
    torch.testing.assert_close(near.to(torch.tensor([4.0, 0.0])), torch.tensor([1.0, 0.5**0.5, 0.0, 0.0]))
    [[first, second], [third, _]] = near.reasons([1, 2], [0, 2, 0, 1], 2)
    assert (first.row, first.score) == (1, pytest.approx(1.0))
    assert (second.row, second.score) in [(0, pytest.approx(0.5**0.5)), (2, pytest.approx(0.5**0.5))]
    assert third == Place(2, 1.0)
    assert near.reasons([0], [], 3) == [[]]
    assert near.reasons([], [0], 3) == []
    assert [len(reasons) for reasons in near.reasons([0], [1, 1, 1], 3)] == [1], "one clip is one reason"


def test_a_long_history_gives_its_newest_thousand_as_reasons():
    items = torch.eye(1200)
    reasons = Nearness(items).reasons([5, 1100], list(range(1200)), 1)
    assert reasons[1] == [Place(1100, 1.0)]
    assert reasons[0][0].row >= 200
