"""Dot product, cosine and temperature: scores by hand, the same through every door."""

import math

import pytest
import torch
from vivim.recommend import build
from vivim.recommend.config import ItemsConfig, ModelConfig
from vivim.recommend.item_encoders import IdItems
from vivim.recommend.scorers import VectorScorer
from vivim.recommend.sequences import SequenceBatch
from vivim.recommend.similarity import ScaledUsers, UnitItems

BATCH = SequenceBatch(torch.tensor([[1, 2, 0], [3, 4, 5]]), torch.tensor([2, 3]))


def models(**options):
    torch.manual_seed(0)
    config = ModelConfig(d_model=16, d_state=4, **options)
    return build.item_encoder(ItemsConfig(kind="ids"), config, 7, None).eval(), build.user_model(config, 10).eval()


@torch.no_grad()
def test_cosine_scores_are_cosines_over_the_temperature():
    items, users = models(similarity="cosine", temperature=0.1)
    scores = VectorScorer(users, items.all()).score(BATCH)
    hidden = users.model(torch.nn.functional.embedding(BATCH.items_BL, items.all()))
    for row, length in enumerate((2, 3)):
        user = hidden[row, length - 1]
        for item, table in enumerate(items.encoder.all()):
            cosine = float(user @ table / user.norm() / table.norm())
            assert float(scores[row, item]) == pytest.approx(10 * cosine, abs=1e-4)


@torch.no_grad()
def test_rows_and_steps_agree_with_the_whole():
    items, users = models(similarity="cosine")
    torch.testing.assert_close(items(torch.tensor([4, 1])), items.all()[[4, 1]])
    vectors = items.all()[BATCH.items_BL]
    state = users.initial_state(2)
    for place in range(3):
        step, state = users.step(vectors[:, place], state)
    torch.testing.assert_close(step[1], users(vectors)[1, -1], rtol=1e-5, atol=1e-5)


def test_the_temperature_is_learned_and_bounded_and_absent_where_it_does_nothing():
    items, users = models(similarity="cosine")
    assert isinstance(items, UnitItems) and isinstance(users, ScaledUsers)
    assert float(users.log_scale.detach().exp()) == pytest.approx(20)
    users(items.all()[None]).sum().backward()
    assert float(users.log_scale.grad.abs()) > 0
    with torch.no_grad():
        users.log_scale.fill_(math.log(1e6))
        assert float(users(items.all()[None]).norm(dim=-1).max()) == pytest.approx(100, rel=1e-4)
    items, users = models()
    assert isinstance(items, IdItems) and not isinstance(users, ScaledUsers)
    _, users = models(temperature=2.0)
    assert isinstance(users, ScaledUsers) and not users.unit
