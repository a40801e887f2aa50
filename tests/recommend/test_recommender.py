"""A run opened for use: steps equal whole histories, lists hold what an evaluation would say."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from vivim.errors import InputError
from vivim.progress import SILENT
from vivim.recommend.config import RecommendConfig
from vivim.recommend.recommender import Recommender
from vivim.recommend.sequences import SequenceBatch
from vivim.recommend.train import train_run


@pytest.fixture(scope="module", params=["mamba", "sasrec", "popularity", "item-knn"])
def recommender(request, ring, tmp_path_factory):
    out = tmp_path_factory.mktemp("run") / request.param
    config = RecommendConfig.model_validate(
        {"model": {"kind": request.param, "d_model": 16, "layers": 2, "d_state": 8}, "train": {"epochs": 2, "lr": 0.01}}
    )
    train_run(ring, None, config, out, seed=0, device="cpu", resume=False, progress=SILENT, data_location={})
    return Recommender.open(out)


@given(history=st.lists(st.integers(0, 29), min_size=1, max_size=10))
@settings(max_examples=25, deadline=None)
def test_steps_equal_the_full_forward_over_random_histories(recommender, history):
    ids = [f"i{i:02d}" for i in history]
    state = recommender.state(ids[:1])
    for id_ in ids[1:]:
        state = recommender.step(state, id_)
    with torch.inference_mode():
        want = recommender.scorer.score(SequenceBatch(torch.tensor([history]), torch.tensor([len(history)])))
    torch.testing.assert_close(recommender.scores(state), want, rtol=1e-5, atol=1e-5)


def test_seen_items_are_left_out_unless_asked_for(recommender):
    state = recommender.state(["i03", "i04"])
    listed = [id_ for id_, _ in recommender.top_k(state, 30)]
    assert len(listed) == 28
    assert not {"i03", "i04"} & set(listed)
    everything = recommender.top_k(state, 30, exclude_seen=False)
    assert {id_ for id_, _ in everything} == set(recommender.items.ids)
    scores = [score for _, score in everything]
    assert scores == sorted(scores, reverse=True)


def test_a_step_leaves_the_old_state_as_it_was(recommender):
    state = recommender.state(["i00", "i01"])
    before = recommender.top_k(state, 5)
    recommender.step(state, "i02")
    assert recommender.top_k(state, 5) == before


def test_a_long_history_is_read_in_parts(recommender, monkeypatch):
    ids = [f"i{n % 30:02d}" for n in range(9)]
    want = recommender.scores(recommender.state(ids))
    monkeypatch.setattr("vivim.recommend.recommender._AT_ONCE", 2)
    torch.testing.assert_close(recommender.scores(recommender.state(ids)), want, rtol=1e-5, atol=1e-5)


def test_unknown_items_impossible_k_and_empty_histories_are_refused(recommender):
    with pytest.raises(InputError, match="unknown id 'i99'"):
        recommender.state(["i99"])
    state = recommender.state(["i00"])
    for k in (0, 31):
        with pytest.raises(InputError, match=f"k = {k} is not between 1 and the 30"):
            recommender.top_k(state, k)
    with pytest.raises(InputError, match="watched nothing"):
        recommender.top_k(recommender.state(), 5)


def test_a_folder_that_is_not_a_run_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"is not a run: it has no run.json"):
        Recommender.open(tmp_path)
