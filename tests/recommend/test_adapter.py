"""The adapter sees the course of a clip, and encodes any part of a catalogue alike."""

import numpy as np
import pytest
import torch
from vivim.errors import InputError
from vivim.progress import SILENT
from vivim.recommend import adapter, build
from vivim.recommend.adapter import AdapterItems
from vivim.recommend.checkpoint import RunFolder
from vivim.recommend.config import EvaluateConfig, ItemsConfig, ModelConfig, RecommendConfig
from vivim.recommend.content import CatalogueVectors
from vivim.recommend.evaluation import evaluate_run
from vivim.recommend.train import train_run
from vivim.store import EmbeddingStore, Recipe, Rows, write_embeddings

CONFIG = ModelConfig(d_model=16, d_state=4, dropout=0.0)


def items(count=11, spans=8, width=6, seed=0):
    torch.manual_seed(seed)
    present = torch.ones(count, dtype=torch.bool)
    present[3] = False
    return AdapterItems(torch.randn(count, spans, width), present, CONFIG).eval()


@torch.no_grad()
def test_rows_equal_the_whole_and_parts_do_not_matter(monkeypatch):
    encoder = items()
    whole = encoder.all()
    torch.testing.assert_close(encoder(torch.tensor([[7, 3], [0, 7]])), whole[torch.tensor([[7, 3], [0, 7]])], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(whole[3], encoder.unknown_D)
    monkeypatch.setattr(adapter, "_ITEMS_AT_ONCE", 4)
    torch.testing.assert_close(encoder.all(), whole, rtol=1e-5, atol=1e-6)
    assert encoder(torch.tensor([], dtype=torch.long)).shape == (0, 16)


def test_activations_that_are_computed_again_give_the_same_gradients(monkeypatch):
    grads = []
    for at_once in (4, 100):
        monkeypatch.setattr(adapter, "_ITEMS_AT_ONCE", at_once)
        encoder = items().train()
        encoder.all().square().sum().backward()
        grads.append([parameter.grad for parameter in encoder.parameters()])
    for a, b in zip(*grads, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_the_order_of_spans_matters():
    encoder = items()
    turned = items()
    turned.spans_NSV.copy_(encoder.spans_NSV.flip(1))
    assert float((encoder.all() - turned.all()).abs().max()) > 1e-3


def test_vectors_of_whole_clips_are_refused_with_what_to_do():
    content = CatalogueVectors(torch.randn(5, 16), torch.ones(5, dtype=torch.bool), "0" * 64)
    with pytest.raises(InputError, match=r"extract.encoder.pooling=frames"):
        build.item_encoder(ItemsConfig(kind="adapter"), CONFIG, 5, content)


def test_what_only_the_course_of_a_clip_tells_is_learned(ring, tmp_path):
    """Item i's spans are one shape, shifted in time by i: their mean is the same for all items."""
    rng = np.random.default_rng(0)
    time = np.arange(8)
    shapes = [np.stack([np.sin(2 * np.pi * (time / 8 + i / 30)), np.cos(2 * np.pi * (time / 8 + i / 30))], 1) for i in range(30)]
    spans = np.stack(shapes) + 0.01 * rng.normal(size=(30, 8, 2))
    recipe = Recipe(encoder={"pooling": "frames"}, weights={"source": "random"}, frames={}, preprocessing={}, dtype="float32", decoder={})
    rows = Rows(
        ring.items.ids, spans.reshape(30, 16).astype(np.float32), ["0" * 64] * 30, np.zeros((30, 8)), ["pyav"] * 30, np.zeros(30, bool)
    )
    write_embeddings(tmp_path / "e.h5", recipe, rows, [])
    config = RecommendConfig.model_validate(
        {
            "model": {"d_model": 32, "layers": 1, "dropout": 0.0, "d_state": 8},
            "items": {"kind": "adapter"},
            "train": {"lr": 0.003, "weight_decay": 0.0, "batch": 16, "epochs": 80, "patience": 80},
        }
    )
    store = EmbeddingStore.open(tmp_path / "e.h5")
    where = {"path": "made by a test"}
    train_run(ring, store, config, tmp_path / "run", seed=3, device="cpu", resume=False, progress=SILENT, data_location=where)
    run = RunFolder.open(tmp_path / "run")
    assert run.info()["config"]["loss"]["kind"] == "sampled"
    report = evaluate_run(run, ring, EvaluateConfig(k=(1, 5)), progress=SILENT)
    assert report.splits[1].metrics["hit_rate@5"].value > 0.8
