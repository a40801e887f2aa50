"""What reads stored vectors may learn at a pace of its own, beside the ids."""

import json

import pytest
import torch
from vivim.recommend import build
from vivim.recommend.config import ProtocolConfig, RecommendConfig
from vivim.recommend.content import CatalogueVectors
from vivim.recommend.protocol import MicroLensProtocol
from vivim.store import EmbeddingStore


@pytest.fixture
def made(planted):
    data, vectors = planted.taste()
    split = MicroLensProtocol(ProtocolConfig()).split(data)

    def make(kind, items, similarity="dot", **options):
        config = RecommendConfig.model_validate(
            {
                "model": {"kind": kind, "d_model": 8, "layers": 1, "similarity": similarity},
                "items": {"kind": items} | options,
                "loss": {"kind": "in-batch"},
                "train": {"lr": 1e-2, "weight_decay": 0.3},
            }
        )
        stored = torch.from_numpy(vectors).float()
        spans = 8 if "adapter" in items else 1
        stored = stored.repeat(1, spans) if spans > 1 else stored
        content = CatalogueVectors(stored, torch.ones(len(stored), dtype=torch.bool), "0" * 64, spans=spans)
        return build.learner(config, split, content, 1)

    return make


@pytest.mark.parametrize("similarity", ["dot", "cosine"])
@pytest.mark.parametrize(
    ("kind", "items"),
    [("mamba", "ids+frozen"), ("dssm", "ids+frozen"), ("grcn", "frozen"), ("nfm", "ids+frozen"), ("sasrec", "ids+adapter")],
)
def test_what_reads_stored_vectors_has_its_own_rate_and_nothing_else_has(made, kind, items, similarity):
    learner = made(kind, items, similarity, content_rate=0.01)
    rates = {id(p): (group["lr"], group["peak"]) for group in learner.parameter_groups(1e-2, 0.3) for p in group["params"]}
    of_content = {name for name, parameter in learner.named_parameters() if rates[id(parameter)] == (1e-4, 1e-4)}
    assert of_content == {name for name, _ in learner.named_parameters() if name.startswith("encoder") and "delta" not in name}
    assert all(rates[id(p)] == (1e-2, 1e-2) for name, p in learner.named_parameters() if name not in of_content)
    decays = {group["weight_decay"] for group in learner.parameter_groups(1e-2, 0.3) if group["lr"] == 1e-4}
    assert decays == {0.0, 0.3}


def test_without_it_there_is_one_rate(made):
    assert {group["lr"] for group in made("dssm", "ids+frozen").parameter_groups(1e-2, 0.3)} == {1e-2}


def test_a_step_moves_content_so_much_less(made):
    """The first step of AdamW is as long as its rate, whatever the gradient."""
    moved = {}
    for rate in (1.0, 0.01):
        torch.manual_seed(0)
        learner = made("dssm", "ids+frozen", content_rate=rate)
        before = {name: value.detach().clone() for name, value in learner.named_parameters()}
        optimizer = torch.optim.AdamW(learner.parameter_groups(1e-2, 0.0))
        torch.stack([value.sum() for value in learner.parameters()]).sum().backward()
        optimizer.step()
        moved[rate] = {name: float((before[name] - value).detach().abs().mean()) for name, value in learner.named_parameters()}
    for name in moved[1.0]:
        content = name.startswith("encoder.content")
        assert moved[0.01][name] == pytest.approx(moved[1.0][name] * (0.01 if content else 1), rel=0.02), name


def test_a_run_learns_with_it(tmp_path, planted, write_vectors):
    """Also where content is all there is: slower, and recorded."""
    data, vectors = planted.taste()
    write_vectors(tmp_path / "v.h5", data.items.ids, vectors=vectors)
    store, losses = EmbeddingStore.open(tmp_path / "v.h5"), {}
    for rate in (1.0, 0.01):
        conf = {"model": {"kind": "youtube", "d_model": 8, "dropout": 0.0}, "train": {"epochs": 3, "lr": 1e-2}}
        planted.fit(data, tmp_path / str(rate), conf | {"items": {"kind": "frozen", "content_rate": rate}}, store)
        run = json.loads((tmp_path / str(rate) / "run.json").read_text())
        assert run["config"]["items"]["content_rate"] == rate
        log = (tmp_path / str(rate) / "log.jsonl").read_text().splitlines()
        losses[rate] = json.loads(log[-1])["loss"]
    assert losses[1.0] < losses[0.01]
