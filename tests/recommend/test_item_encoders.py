"""Item encoders: rows and the whole table agree, missing vectors are one learned vector, the delta starts at zero."""

import pytest
import torch
from vivim.errors import InputError
from vivim.recommend.build import resolved
from vivim.recommend.config import RecommendConfig
from vivim.recommend.item_encoders import ContentAndIdItems, FrozenItems, IdItems, concat
from vivim.recommend.new_share import NewShare
from vivim.store import EmbeddingStore

PRESENT = torch.tensor([True, False, True, True, False])
STORED = torch.randn(5, 6, generator=torch.Generator().manual_seed(3))


def make(kind):
    torch.manual_seed(0)
    frozen = FrozenItems(STORED.clone(), PRESENT, 4)
    halves = ContentAndIdItems(FrozenItems(STORED.clone(), PRESENT, 2), 2, fusion=concat)
    return {"ids": IdItems(5, 4), "frozen": frozen, "ids+frozen": ContentAndIdItems(frozen, 4), "halves": halves}[kind]


@pytest.mark.parametrize("kind", ["ids", "frozen", "ids+frozen", "halves"])
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


def test_side_by_side_content_and_ids_have_half_of_the_width_each():
    halves = make("halves")
    torch.nn.init.normal_(halves.delta.table)
    torch.testing.assert_close(halves.all()[:, :2], halves.content.all())
    torch.testing.assert_close(halves.all()[:, 2:], halves.delta.table)
    halves.train().new_share = NewShare(1.0)
    assert halves.all()[:, 2:].eq(0).all()


@pytest.mark.parametrize(("kind", "beside"), [("ids", False), ("frozen", False), ("ids+frozen", True), ("halves", True)])
def test_parts_are_what_the_vectors_are_made_of(kind, beside):
    """Content is content; where there is none, the ids are."""
    encoder = make(kind)
    if beside:
        torch.nn.init.normal_(encoder.delta.table)
    parts = encoder.parts()
    if not beside:
        assert torch.equal(parts.content_NC, encoder.all()) and parts.ids_NC is None
    else:
        assert torch.equal(parts.content_NC, encoder.content.all()) and torch.equal(parts.ids_NC, encoder.delta.table)
        torch.testing.assert_close(encoder.fusion(parts.content_NC, parts.ids_NC), encoder.all())


@pytest.mark.parametrize("kind", ["ids", "frozen", "ids+frozen", "halves"])
def test_all_parts_are_of_one_step_and_what_is_taken_for_new_has_no_id(kind):
    encoder, new = make(kind), torch.tensor([False, True, False, False, True])
    if beside := kind in ("ids+frozen", "halves"):
        torch.nn.init.normal_(encoder.delta.table)
        encoder.train().new_share = NewShare(0.5)
    torch.manual_seed(1)
    parts = encoder.parts()
    torch.manual_seed(1)
    assert torch.equal(parts.vectors_ND, encoder.all())
    parts = encoder.parts(new)
    if not beside:
        assert torch.equal(parts.vectors_ND, encoder.all())
    else:
        assert torch.equal(parts.ids_NC, encoder.delta.table * ~new[:, None])
        assert torch.equal(parts.vectors_ND, encoder.fusion(parts.content_NC, parts.ids_NC))


def test_a_delta_that_is_left_out_learns_nothing_in_that_step():
    torch.manual_seed(0)
    both = make("ids+frozen").train()
    both.new_share = NewShare(0.5)
    both.parts().ids_NC.sum().backward()
    assert set(both.delta.table.grad.flatten().tolist()) == {0.0, 1.0}


def test_halves_serve_a_model_of_histories_which_finds_what_nobody_watched(tmp_path, planted, write_vectors):
    data, vectors = planted.taste()
    write_vectors(tmp_path / "v.h5", data.items.ids, vectors=vectors)
    conf = {
        "model": {"kind": "gru4rec", "d_model": 32, "layers": 1, "dropout": 0.0},
        "items": {"kind": "ids+frozen", "fusion": "concat"},
        "train": {"lr": 0.02, "batch": 32, "epochs": 8, "weight_decay": 0.0},
    }
    planted.fit(data, tmp_path / "run", conf, EmbeddingStore.open(tmp_path / "v.h5"))
    assert planted.hit_rate_of(tmp_path / "run", data) > 0.9
    with pytest.raises(InputError, match="33 is odd; take 34"):
        resolved(RecommendConfig.model_validate(conf | {"model": {"d_model": 33}}), has_vectors=True)
