"""The graph of pairs: sums, products and softmaxes are those of loops over pairs, with every gradient."""

import numpy as np
import pytest
import torch
from vivim.recommend.models import pair_graph
from vivim.recommend.models.pair_graph import PairGraph
from vivim.recommend.sequences import Sequences

# User 4 has item 1 twice, user 3 has nothing, nobody has item 5.
TRAIN = Sequences(np.array([0, 3, 4, 6, 6, 9]), np.array([0, 2, 1, 2, 3, 0, 1, 1, 4], np.int32))
PAIRS = [(0, 0), (0, 1), (0, 2), (1, 2), (2, 0), (2, 3), (4, 1), (4, 4)]


def numbers(*shape):
    return torch.randn(*shape, dtype=torch.float64, requires_grad=True)


@pytest.fixture(params=[2**14, 3])
def graph(request, monkeypatch):
    """Pairs at once, or three at a time."""
    monkeypatch.setattr(pair_graph, "_PAIRS_AT_ONCE", request.param)
    torch.manual_seed(0)
    return PairGraph(TRAIN, 6).double()


def assert_same(got, want, inputs):
    torch.testing.assert_close(got, want)
    probe = torch.randn_like(got)
    gradients = [torch.autograd.grad((found * probe).sum(), inputs, allow_unused=True) for found in (got, want)]
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)


def test_each_pair_counts_once_and_weighs_what_its_ends_say():
    graph = PairGraph(TRAIN, 6)
    assert list(zip(graph.users_E.tolist(), graph.items_E.tolist(), strict=True)) == PAIRS
    degrees = {0: 3, 1: 1, 2: 2, 4: 2}, {0: 2, 1: 2, 2: 2, 3: 1, 4: 1}
    for (u, i), both, user, item in zip(PAIRS, graph.symmetric_E, graph.per_user_E, graph.per_item_E, strict=True):
        assert float(both) == pytest.approx((degrees[0][u] * degrees[1][i]) ** -0.5)
        assert (float(user), float(item)) == pytest.approx((1 / degrees[0][u], 1 / degrees[1][i]))
    assert graph.alone_U1[:, 0].nonzero().tolist() == [[3]]
    assert graph.alone_N1[:, 0].nonzero().tolist() == [[5]]
    assert not graph.state_dict()


@pytest.mark.parametrize("new", [[1], [0, 2, 5], range(6)], ids=str)
def test_without_some_items_it_is_the_graph_of_who_did_not_watch_them(new):
    whole, new_N = PairGraph(TRAIN, 6), torch.isin(torch.arange(6), torch.tensor(list(new)))
    rows = [[item for item in row if item not in new] for row in TRAIN]
    lengths = [len(row) for row in rows]
    rest = Sequences(np.cumsum([0, *lengths]), np.array([item for row in rows for item in row], np.int32))
    found, want = dict(whole.without(new_N).named_buffers()), dict(PairGraph(rest, 6).named_buffers())
    assert found.keys() == want.keys()
    for name in want:
        assert torch.equal(found[name], want[name]), name
    assert len(whole.users_E) == 8


def test_sums_are_those_of_loops_and_who_has_no_pair_hears_itself(graph):
    users, items, weights = numbers(5, 4), numbers(6, 4), numbers(8)
    to_users, to_items = [torch.zeros(4).double()] * 5, [torch.zeros(4).double()] * 6
    for (u, i), weight in zip(PAIRS, weights, strict=True):
        to_users[u], to_items[i] = to_users[u] + weight * items[i], to_items[i] + weight * users[u]
    to_users[3], to_items[5] = users[3], items[5]
    assert_same(graph.to_users(items, weights, users), torch.stack(to_users), (users, items, weights))
    assert_same(graph.to_items(users, weights, items), torch.stack(to_items), (users, items, weights))


def test_products_and_softmaxes_are_those_of_loops(graph):
    users, items = numbers(5, 4), numbers(6, 4)
    products = [users[u] @ items[i] for u, i in PAIRS]
    assert_same(graph.products(users, items), torch.stack(products), (users, items))
    scores = numbers(8)
    for end, found in ((0, graph.softmax_by_user(scores)), (1, graph.softmax_by_item(scores))):
        want = []
        for pair, score in zip(PAIRS, scores, strict=True):
            rivals = [s.exp() for p, s in zip(PAIRS, scores, strict=True) if p[end] == pair[end]]
            want.append(score.exp() / sum(rivals))
        assert_same(found, torch.stack(want), (scores,))


def test_a_softmax_over_large_scores_stays_finite():
    graph = PairGraph(TRAIN, 6)
    scores = torch.tensor([900.0, 900, -900, 5, 900, -900, -900, -900])
    torch.testing.assert_close(graph.softmax_by_user(scores), torch.tensor([0.5, 0.5, 0, 1, 1, 0, 0.5, 0.5]))


def test_sums_over_vectors_in_16_bits_are_taken_in_32():
    graph, items = PairGraph(TRAIN, 6), torch.randn(6, 4).bfloat16().requires_grad_()
    found = graph.to_users(items, graph.symmetric_E, torch.zeros(5, 4))
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, graph.to_users(items.float(), graph.symmetric_E, torch.zeros(5, 4)))
    found.sum().backward()
    assert items.grad is not None and items.grad.dtype == torch.bfloat16
