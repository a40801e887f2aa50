"""Item encoders: rows and the whole table agree, missing vectors are one learned vector, the delta starts at zero."""

import pytest
import torch
from vivim.recommend.item_encoders import ContentAndIdItems, FrozenItems, IdItems

PRESENT = torch.tensor([True, False, True, True, False])
STORED = torch.randn(5, 6, generator=torch.Generator().manual_seed(3))


def make(kind):
    torch.manual_seed(0)
    frozen = FrozenItems(STORED.clone(), PRESENT, 4)
    return {"ids": IdItems(5, 4), "frozen": frozen, "ids+frozen": ContentAndIdItems(frozen, 4)}[kind]


@pytest.mark.parametrize("kind", ["ids", "frozen", "ids+frozen"])
def test_rows_are_rows_of_the_whole_table(kind):
    encoder = make(kind)
    rows = torch.tensor([[4, 0], [2, 2]])
    torch.testing.assert_close(encoder(rows), encoder.all()[rows])
    assert encoder.all().shape == (5, 4)
    assert encoder.num_items == 5


def test_items_without_a_vector_share_the_learned_unknown_vector():
    encoder = make("frozen")
    table = encoder.all()
    assert torch.equal(table[1], encoder.unknown_D)
    assert torch.equal(table[4], encoder.unknown_D)
    assert len({tuple(row.tolist()) for row in table}) == 4


def test_what_stands_in_a_missing_row_is_never_looked_at():
    garbage = STORED.clone()
    garbage[~PRESENT] = float("nan")
    torch.manual_seed(0)
    clean = FrozenItems(STORED.clone(), PRESENT, 4)
    torch.manual_seed(0)
    torch.testing.assert_close(FrozenItems(garbage, PRESENT, 4).all(), clean.all())


def test_the_scale_of_stored_vectors_does_not_matter():
    torch.manual_seed(0)
    one = FrozenItems(STORED.clone(), PRESENT, 4)
    torch.manual_seed(0)
    other = FrozenItems(STORED * 1000 + 77, PRESENT, 4)
    torch.testing.assert_close(one.all(), other.all(), rtol=1e-3, atol=1e-4)


def test_a_fresh_delta_is_zero_so_that_a_new_item_is_placed_by_content():
    torch.manual_seed(0)
    both = make("ids+frozen")
    torch.testing.assert_close(both.all(), both.content.all())
    assert both.delta.table.requires_grad
