"""Training runs: they learn a known truth, are deterministic, resume exactly, and refuse what does not belong to them."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from vivim.errors import InputError, Interrupted, VivimError
from vivim.progress import SILENT, SilentProgress
from vivim.recommend.batches import train_batches
from vivim.recommend.checkpoint import RunFolder
from vivim.recommend.config import EvaluateConfig, RecommendConfig
from vivim.recommend.content import CatalogueVectors, lay_out
from vivim.recommend.evaluation import evaluate_run
from vivim.recommend.sequences import Interactions, Sequences
from vivim.recommend.train import train_run
from vivim.store import ItemIndex


def config(model="mamba", items="ids", loss="full", **train):
    settings = {"lr": 0.01, "weight_decay": 0.0, "batch": 16, "epochs": 25, "patience": 25} | train
    return RecommendConfig.model_validate(
        {
            "model": {"kind": model, "d_model": 16, "layers": 1, "dropout": 0.0, "d_state": 8},
            "items": {"kind": items},
            "loss": {"kind": loss},
            "train": settings,
        }
    )


def run(interactions, out, conf, *, seed=3, resume=False, progress=SILENT, store=None):
    return train_run(
        interactions, store, conf, out, seed=seed, device="cpu", resume=resume, progress=progress, data_location={"path": "made by a test"}
    )


@pytest.mark.parametrize(
    ("model", "loss", "precision"),
    [
        ("mamba", "full", "32-true"),
        ("sasrec", "full", "32-true"),
        ("mamba", "in-batch", "32-true"),
        ("mamba", "full", "bf16-mixed"),
        ("mamba", "in-batch", "bf16-mixed"),
    ],
)
def test_the_circle_is_learned(ring, tmp_path, model, loss, precision):
    summary = run(ring, tmp_path / "run", config(model, loss=loss, epochs=40, precision=precision))
    assert summary.fit.epochs[-1].loss < summary.fit.epochs[0].loss
    report = evaluate_run(RunFolder.open(tmp_path / "run"), ring, EvaluateConfig(k=(1, 5)), progress=SILENT)
    for split in report.splits:
        assert split.metrics["hit_rate@1"].value > 0.9, split
        assert split.index_agreement == {1: 1.0, 5: 1.0}


def test_the_same_seed_gives_the_same_bytes_and_another_seed_does_not(ring, tmp_path):
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        run(ring, tmp_path / name, config(epochs=2), seed=seed)
    a, b, c = ((tmp_path / name / "model.safetensors").read_bytes() for name in "abc")
    assert a == b
    assert a != c


class StopAfter(SilentProgress):
    """Presses Ctrl-C in the middle of an epoch."""

    def __init__(self, epoch):
        self.epoch, self.now = epoch, ""

    def start(self, what, total, unit):
        self.now = what

    def advance(self, count=1, note=""):
        if self.now == f"epoch {self.epoch}":
            raise KeyboardInterrupt


@pytest.mark.parametrize("optimizer", ["adamw", "adam"])
def test_an_interrupted_run_resumes_to_the_same_weights(ring, tmp_path, optimizer):
    conf = config(epochs=4, optimizer=optimizer)
    run(ring, tmp_path / "whole", conf)
    with pytest.raises(Interrupted, match="2 epochs are saved"):
        run(ring, tmp_path / "cut", conf, progress=StopAfter(3))
    run(ring, tmp_path / "cut", conf, resume=True)
    for name in ("model.safetensors", "last.safetensors"):
        whole, cut = load_file(tmp_path / "whole" / name), load_file(tmp_path / "cut" / name)
        assert whole.keys() == cut.keys()
        assert all(torch.equal(whole[k], cut[k]) for k in whole)
    assert len((tmp_path / "cut" / "log.jsonl").read_text().splitlines()) == 4


def test_training_stops_when_validation_no_longer_rises(ring, tmp_path):
    summary = run(ring, tmp_path / "run", config(epochs=60, patience=2))
    assert summary.fit.stopped_early
    assert len(summary.fit.epochs) == summary.fit.best.epoch + 2


def test_a_diverging_run_stops_with_its_last_epoch_saved(ring, tmp_path):
    with pytest.raises(VivimError, match=r"loss became .* in epoch \d+"):
        run(ring, tmp_path / "run", config(lr=1e30, clip_norm=0.0, epochs=3))


def test_resuming_with_other_data_or_settings_is_refused_with_the_differences(ring, tmp_path):
    run(ring, tmp_path / "run", config(epochs=1))
    with pytest.raises(InputError, match=r"train.lr 0.01 \(now 0.02\)"):
        run(ring, tmp_path / "run", config(epochs=2, lr=0.02), resume=True)
    with pytest.raises(InputError, match="seed 3"):
        run(ring, tmp_path / "run", config(epochs=2), seed=4, resume=True)
    with pytest.raises(InputError, match="mapping hash"):
        run(renamed(ring), tmp_path / "run", config(epochs=2), resume=True)
    with pytest.raises(InputError, match=r"not a run"):
        run(ring, tmp_path / "absent", config(), resume=True)


def renamed(interactions):
    """The same histories over a catalogue with other ids: as many items, another mapping."""
    items = ItemIndex(f"j{i:02d}" for i in range(len(interactions.items)))
    return Interactions(interactions.users, items, interactions.histories, None, "renamed", interactions.sha256)


def test_evaluating_on_another_catalogue_is_refused(ring, tmp_path):
    run(ring, tmp_path / "run", config("popularity"))
    with pytest.raises(InputError, match="another catalogue"):
        evaluate_run(RunFolder.open(tmp_path / "run"), renamed(ring), EvaluateConfig(k=(1,)), progress=SILENT)
    with pytest.raises(InputError, match="k = 31 is larger than the catalogue of 30"):
        evaluate_run(RunFolder.open(tmp_path / "run"), ring, EvaluateConfig(k=(31,)), progress=SILENT)


def test_a_run_folder_never_overwrites_something_else(ring, tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match="not a run"):
        run(ring, tmp_path, config())
    assert (tmp_path / "thesis.txt").read_text() == "mine"
    with pytest.raises(InputError, match="is a file"):
        run(ring, tmp_path / "thesis.txt", config())
    run(ring, tmp_path / "done", config("popularity"))
    with pytest.raises(InputError, match="already holds a finished run"):
        run(ring, tmp_path / "done", config("popularity"))
    with pytest.raises(Interrupted):
        run(ring, tmp_path / "cut", config(epochs=3), progress=StopAfter(2))
    with pytest.raises(InputError, match="add --resume"):
        run(ring, tmp_path / "cut", config(epochs=3))
    with pytest.raises(Interrupted):
        run(ring, tmp_path / "early", config(epochs=3), progress=StopAfter(1))
    run(ring, tmp_path / "early", config(epochs=1))


def test_damaged_runs_are_refused_by_file(ring, tmp_path):
    run(ring, tmp_path / "run", config(epochs=1))
    path = tmp_path / "run" / "model.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[:-10])
    with pytest.raises(InputError, match=r"model.safetensors is damaged"):
        evaluate_run(RunFolder.open(tmp_path / "run"), ring, EvaluateConfig(k=(1,)), progress=SILENT)
    path.write_bytes(whole)
    (tmp_path / "run" / "catalogue.parquet").write_bytes(b"nonsense")
    with pytest.raises(InputError, match=r"catalogue.parquet"):
        evaluate_run(RunFolder.open(tmp_path / "run"), ring, EvaluateConfig(k=(1,)), progress=SILENT)


def test_results_are_written_with_card_provenance_and_per_user_ranks(ring, tmp_path):
    import polars as pl

    run(ring, tmp_path / "run", config("item-knn"))
    report = evaluate_run(RunFolder.open(tmp_path / "run"), ring, EvaluateConfig(k=(1, 10)), progress=SILENT)
    stored = json.loads((tmp_path / "run" / "results.json").read_text())
    assert stored["protocol_card"]["catalogue_sha256"] == ring.items.sha256
    assert {"date", "commit", "hardware", "versions", "command"} <= stored["provenance"].keys()
    ranks = pl.read_parquet(tmp_path / "run" / "ranks.parquet")
    test = ranks.filter(pl.col("split") == "test")
    assert test["user"].to_list() == list(ring.users.ids)
    share = float((test["rank"] <= 1).mean())
    assert stored["splits"]["test"]["metrics"]["hit_rate@1"]["value"] == share
    assert "HR@1" in (tmp_path / "run" / "results.md").read_text()
    assert report.splits[1].index_agreement is None  # nothing to index


def test_every_usable_sequence_comes_once_an_epoch_and_the_order_depends_on_seed_and_epoch():
    sequences = Sequences(np.array([0, 3, 4, 8, 10], np.int64), np.arange(10, dtype=np.int32))

    def firsts(seed, epoch):
        batches = train_batches(sequences, batch=2, max_len=10, seed=seed, epoch=epoch)
        return [int(row[0]) for b in batches for row in b.sequences.items_BL]

    assert sorted(firsts(0, 1)) == [0, 4, 8]
    assert firsts(0, 1) == firsts(0, 1)
    assert len({tuple(firsts(0, e)) for e in range(10)}) > 1
    cut = next(iter(train_batches(sequences, batch=9, max_len=2, seed=0, epoch=1))).sequences
    assert sorted(cut.items_BL[:, 0].tolist()) == [0, 5, 8]
    assert cut.lengths_B.max() == 3


class Store:
    """What ``lay_out`` asks of an embedding store."""

    path = "file.h5"
    sha256 = "1" * 64

    def __init__(self, ids):
        self.ids = ItemIndex(ids)

    def lookup(self, ids):
        rows = self.ids.rows_of(ids)
        return np.ones((len(ids), 3), np.float32), rows >= 0


def test_an_embedding_file_that_lacks_items_is_counted_or_refused_with_examples():
    catalogue = ItemIndex(str(i) for i in range(1, 101))
    found = lay_out(Store(str(i) for i in range(1, 96)), catalogue, 0.9)
    assert isinstance(found, CatalogueVectors)
    assert (found.missing, found.coverage) == (5, pytest.approx(0.95))
    with pytest.raises(InputError, match=r"100 of 100 items .* for example 1, 2, 3, 4, 5; the file's ids look like a, b"):
        lay_out(Store(["a", "b"]), catalogue, 0.9)
    off_by_one = lay_out(Store(str(i) for i in range(100)), catalogue, 0.9)
    assert "With -1 added to each id 100 instead of 99 would match" in off_by_one.warning
    assert not found.warning
