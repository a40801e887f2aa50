"""Training runs: they learn a known truth, are deterministic, resume exactly, and refuse what does not belong to them."""

import json
import os
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from vivim.errors import InputError, Interrupted, VivimError
from vivim.progress import SILENT, SilentProgress
from vivim.recommend import optimisation, training
from vivim.recommend.batches import num_batches, train_batches
from vivim.recommend.checkpoint import RunFolder
from vivim.recommend.config import EvaluateConfig, RecommendConfig
from vivim.recommend.content import CatalogueVectors, lay_out
from vivim.recommend.epochs import Enough
from vivim.recommend.evaluation import evaluate_run
from vivim.recommend.ranker import rank_questions
from vivim.recommend.sequences import Interactions, Sequences
from vivim.recommend.train import train_run
from vivim.store import ItemIndex, Recipe


def config(model="mamba", items="ids", loss="full", **train):
    settings = {"lr": 0.01, "weight_decay": 0.0, "batch": 16, "epochs": 25, "patience": 25} | train
    return RecommendConfig.model_validate(
        {
            "model": {"kind": model, "d_model": 16, "layers": 1, "dropout": 0.0, "d_state": 8},
            "items": {"kind": items},
            "loss": {"kind": loss, "negatives": 8},
            "train": settings,
        }
    )


def run(interactions, out, conf, *, seed=3, resume=False, progress=SILENT, store=None, after_epoch=None):
    where = {"path": "made by a test"}
    how = {"seed": seed, "device": "cpu", "resume": resume, "progress": progress, "data_location": where, "after_epoch": after_epoch}
    return train_run(interactions, store, conf, out, **how)


@pytest.mark.parametrize(
    ("model", "loss", "precision"),
    [
        ("mamba", "full", "32-true"),
        ("sasrec", "full", "32-true"),
        ("mamba", "in-batch", "32-true"),
        ("mamba", "full", "bf16-mixed"),
        ("mamba", "in-batch", "bf16-mixed"),
        ("mamba", "sampled", "32-true"),
        ("mamba", "bce", "32-true"),
        ("mamba", "gbce", "32-true"),
        ("mamba", "bpr", "32-true"),
        ("gru4rec", "full", "32-true"),
        ("nextitnet", "full", "32-true"),
    ],
)
def test_the_circle_is_learned(ring, tmp_path, model, loss, precision):
    epochs = 120 if "bce" in loss else 40
    summary = run(ring, tmp_path / "run", config(model, loss=loss, epochs=epochs, patience=epochs, precision=precision))
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


class StopWithin(StopAfter):
    """Presses Ctrl-C after the second step of an epoch."""

    steps = 0

    def advance(self, count=1, note=""):
        self.steps += bool(note) and self.now == f"epoch {self.epoch}"
        if self.steps == 2:
            raise KeyboardInterrupt


def logged(folder):
    """The lines of its log, without what a clock measured."""
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if not name.endswith("_seconds")} for line in lines]


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
    assert len(logged(tmp_path / "cut")) == 4
    assert logged(tmp_path / "cut") == logged(tmp_path / "whole")


def test_a_log_that_lacks_the_last_epoch_is_completed(ring, tmp_path):
    """A kill between the last checkpoint and its line leaves nothing to train."""
    run(ring, tmp_path / "run", config(epochs=2))
    log = tmp_path / "run" / "log.jsonl"
    whole = log.read_text()
    log.write_text(whole.splitlines(keepends=True)[0])
    run(ring, tmp_path / "run", config(epochs=2), resume=True)
    assert log.read_text() == whole


def test_training_stops_when_validation_no_longer_rises(ring, tmp_path):
    summary = run(ring, tmp_path / "run", config(epochs=60, patience=2))
    assert summary.fit.stopped_early
    assert len(summary.fit.epochs) == summary.fit.best.epoch + 2


@pytest.mark.parametrize("words", [(), ("a reason",)])
def test_enough_ends_it_with_a_word_or_without(ring, tmp_path, words):
    def enough(log):
        raise Enough(*words)

    done = run(ring, tmp_path / "run", config(epochs=3), after_epoch=enough).fit
    assert (len(done.epochs), done.stopped_early, done.stopped_by) == (1, False, "".join(words))


def test_the_metric_that_is_named_decides_which_epoch_is_kept_and_when_to_stop(ring, tmp_path, monkeypatch):
    """Validation's HR@10 is best in epoch 2, its NDCG@10 rises to the last."""

    def fit(name, **train):
        for metric, values in (("hit_rate", [0.1, 0.5, 0.4, 0.3, 0.2]), ("ndcg", [0.1, 0.2, 0.3, 0.4, 0.5])):
            told = iter(values)
            monkeypatch.setattr(training, metric, lambda ranks, k, told=told: SimpleNamespace(value=next(told)))
        done = run(ring, tmp_path / name, config(patience=2, **train)).fit
        return done.best.epoch, len(done.epochs), done.stopped_early

    assert fit("ndcg", epochs=5) == (5, 5, False)
    assert fit("hit_rate", epochs=5, metric="hit_rate@10") == (2, 4, True)
    assert fit("two", epochs=2) == (2, 2, False)
    kept, two = (load_file(tmp_path / name / "model.safetensors") for name in ("hit_rate", "two"))
    assert all(torch.equal(kept[name], two[name]) for name in two)
    with pytest.raises(InputError, match=r"train.metric hit_rate@10 \(now ndcg@10\)"):
        run(ring, tmp_path / "hit_rate", config(epochs=5, patience=2), resume=True)


def test_some_of_the_validation_questions_choose_the_epoch_and_all_measure_it(ring, tmp_path, monkeypatch):
    asked = []

    def counted(scorer, questions, **how):
        asked.append(questions)
        return rank_questions(scorer, questions, **how)

    monkeypatch.setattr(training, "rank_questions", counted)
    some = run(ring, tmp_path / "some", config(epochs=3, validation_questions=7))
    whole = asked[0]
    assert [len(questions) for questions in asked] == [7] * 3
    assert all((questions.users == whole.users).all() for questions in asked), "drawn once"
    report = evaluate_run(RunFolder.open(tmp_path / "some"), ring, EvaluateConfig(k=(10,)), progress=SILENT)
    assert [split.questions for split in report.splits] == [len(ring.users)] * 2
    every = run(ring, tmp_path / "every", config(epochs=3, validation_questions=10**6))
    assert some.fit.best.ndcg_10 != every.fit.best.ndcg_10
    assert len(asked[-1]) == len(ring.users)


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
    assert num_batches(sequences, 2, 10) == 2


@pytest.mark.parametrize("max_len", [1, 2, 3, 10])
@pytest.mark.parametrize("first_target", [0, 1], ids=["pairs", "next items"])
def test_a_long_sequence_is_cut_so_that_every_target_comes_once(max_len, first_target):
    sequences = Sequences(np.array([0, 3, 4, 11, 13], np.int64), np.arange(13, dtype=np.int32))
    batches = list(train_batches(sequences, batch=2, max_len=max_len, seed=0, epoch=1, first_target=first_target))
    assert len(batches) == num_batches(sequences, 2, max_len, first_target)
    firsts = {0, 3, 4, 11}
    assert sorted(int(t) for b in batches for t in b.targets_P) == [i for i in range(13) if first_target == 0 or i not in firsts]
    for b in batches:
        for row, length, user in zip(b.sequences.items_BL, b.sequences.lengths_B, b.sequences.users_B, strict=True):
            piece = row[:length].tolist()
            assert piece == list(range(piece[0], piece[0] + len(piece)))  # what was watched without a gap
            assert len(piece) <= max_len + 1
            assert set(piece) <= set(sequences[int(user)].tolist())


def test_the_newest_piece_is_the_longest():
    sequences = Sequences(np.array([0, 7], np.int64), np.arange(7, dtype=np.int32))
    (batch,) = train_batches(sequences, batch=9, max_len=4, seed=0, epoch=1)
    pieces = [row[:length].tolist() for row, length in zip(batch.sequences.items_BL, batch.sequences.lengths_B, strict=True)]
    assert sorted(pieces) == [[0, 1, 2], [2, 3, 4, 5, 6]]


class Store:
    """What ``lay_out`` asks of an embedding store."""

    path = "file.h5"
    sha256 = "1" * 64
    recipe = Recipe(encoder={}, weights={}, frames={}, preprocessing={}, dtype="float32", decoder={})

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
    with pytest.raises(InputError, match=r"100 of 100 items .* for example 1, 2, 3, 4, 5; the ids there look like a, b"):
        lay_out(Store(["a", "b"]), catalogue, 0.9)
    off_by_one = lay_out(Store(str(i) for i in range(100)), catalogue, 0.9)
    assert "With -1 added to each id 100 instead of 99 would match" in off_by_one.warning
    assert not found.warning


def test_the_learning_rate_rises_and_falls_as_configured(ring, tmp_path, monkeypatch):
    seen = []
    original = training.Training._step

    def step(self, batch):
        original(self, batch)
        seen.append(self.optimisation.optimizer.param_groups[0]["lr"])

    monkeypatch.setattr(training.Training, "_step", step)
    run(ring, tmp_path / "run", config(epochs=4, schedule="cosine", warmup=0.25, lr=0.1))
    steps = len(seen)
    assert [line["lr"] for line in logged(tmp_path / "run")] == seen[steps // 4 - 1 :: steps // 4]
    rising = -(-steps // 4)
    assert seen[:rising] == pytest.approx([0.1 * (k + 1) / rising for k in range(rising)])
    assert seen[rising] == pytest.approx(0.1)
    assert seen[(rising + steps) // 2] == pytest.approx(0.05, rel=0.2)
    assert 0 < seen[-1] < 0.01
    with pytest.raises(InputError, match=r"train.epochs 4 \(now 6\)"):
        run(ring, tmp_path / "run", config(epochs=6, schedule="cosine", warmup=0.25, lr=0.1), resume=True)


@pytest.mark.parametrize("clip_norm", [0.0, 0.5], ids=["not clipped", "clipped"])
def test_the_norms_of_the_gradients_are_logged_as_they_were_before_clipping(ring, tmp_path, monkeypatch, clip_norm):
    seen = []
    original = optimisation.clip

    def looked_at(fabric, module, optimizer, limit):
        flat = torch.cat([parameter.grad.flatten().double() for parameter in module.parameters() if parameter.grad is not None])
        seen.append(float(flat.square().sum().sqrt()))
        return original(fabric, module, optimizer, limit)

    monkeypatch.setattr(optimisation, "clip", looked_at)
    run(ring, tmp_path / "run", config(epochs=2, clip_norm=clip_norm))
    lines, steps = logged(tmp_path / "run"), len(seen) // 2
    assert steps > 2
    for line, norms in zip(lines, (seen[:steps], seen[steps:]), strict=True):
        assert line["grad_norm_mean"] == pytest.approx(sum(norms) / steps, rel=1e-5)
        assert line["grad_norm_max"] == pytest.approx(max(norms), rel=1e-5)
        assert line["grad_norm_max"] > 0.5


def without_norms(path):
    """A checkpoint as versions left it that did not look at the gradients."""
    with safe_open(path, "pt") as file:
        state = json.loads(file.metadata()["state"])
    news = {"lr", "grad_norm_mean", "grad_norm_max", "grad_overflows"}
    state["epochs"] = [{name: value for name, value in line.items() if name not in news} for line in state["epochs"]]
    tensors = load_file(path)
    del tensors["gradient_norms"]
    save_file(tensors, path, metadata={"state": json.dumps(state)})


def test_what_an_earlier_version_began_is_gone_on_with(ring, tmp_path):
    """Epochs of which not every step was seen have no norms."""
    conf = config(epochs=3)
    run(ring, tmp_path / "whole", conf)
    with pytest.raises(Interrupted):
        run(ring, tmp_path / "cut", config(epochs=3, checkpoint_minutes=1e-9), progress=StopWithin(2))
    without_norms(tmp_path / "cut" / "last.safetensors")
    run(ring, tmp_path / "cut", conf, resume=True)
    lines, whole = logged(tmp_path / "cut"), logged(tmp_path / "whole")
    assert [line["lr"] for line in lines] == [None, 0.01, 0.01]
    assert [line["grad_norm_mean"] for line in lines] == [None, None, whole[2]["grad_norm_mean"]]
    assert [line["loss"] for line in lines] == [line["loss"] for line in whole]


def test_the_mean_of_the_weights_is_kept_in_their_place(ring, tmp_path, monkeypatch):
    history = []
    original = training.Training._step

    def step(self, batch):
        original(self, batch)
        history.append(self.learner.encoder.table.detach().clone())

    monkeypatch.setattr(training.Training, "_step", step)
    conf = config(epochs=1, ema=0.9, lr=0.05)
    run(ring, tmp_path / "run", conf)
    mean = history[0]
    for table in history[1:]:
        mean = 0.9 * mean + 0.1 * table
    kept = load_file(tmp_path / "run" / "model.safetensors")["items"]
    torch.testing.assert_close(kept, mean, rtol=1e-4, atol=1e-6)
    assert not torch.allclose(kept, history[-1], atol=1e-3)


def test_an_interrupted_run_with_everything_in_it_resumes_to_the_same_bytes(ring, tmp_path):
    """Dropout, drawn negatives, a schedule and a running mean, cut in the middle of an epoch after a checkpoint within it."""
    conf = config(loss="sampled", epochs=3, schedule="cosine", warmup=0.2, ema=0.9, checkpoint_minutes=1e-9)
    conf = conf.model_copy(update={"model": conf.model.model_copy(update={"dropout": 0.3, "similarity": "cosine"})})
    run(ring, tmp_path / "whole", conf)
    with pytest.raises(Interrupted, match="1 epochs are saved"):
        run(ring, tmp_path / "cut", conf, progress=StopWithin(2))
    run(ring, tmp_path / "cut", conf, resume=True)
    whole, cut = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "cut"))
    assert all(torch.equal(whole[k], cut[k]) for k in whole)
    assert logged(tmp_path / "cut") == logged(tmp_path / "whole")
    assert all(line["grad_norm_mean"] < line["grad_norm_max"] and line["grad_overflows"] == 0 for line in logged(tmp_path / "cut"))


def test_the_newest_checkpoint_that_can_be_read_is_gone_on_from(ring, tmp_path, told):
    conf = config(epochs=3)
    run(ring, tmp_path / "whole", conf)
    with pytest.raises(Interrupted):
        run(ring, tmp_path / "cut", conf, progress=StopAfter(3))
    last = tmp_path / "cut" / "last.safetensors"
    last.write_bytes(last.read_bytes()[:-100])
    run(ring, tmp_path / "cut", conf, resume=True, progress=told)
    assert any("cannot be read" in line and "previous.safetensors" in line for line in told.lines)
    assert (tmp_path / "whole" / "model.safetensors").read_bytes() == (tmp_path / "cut" / "model.safetensors").read_bytes()
    with pytest.raises(Interrupted):
        run(ring, tmp_path / "lost", conf, progress=StopAfter(3))
    for name in ("last.safetensors", "previous.safetensors"):
        (tmp_path / "lost" / name).write_bytes(b"torn")
    with pytest.raises(InputError, match=r"no checkpoint in .* can be read: last.safetensors.*previous.safetensors"):
        run(ring, tmp_path / "lost", conf, resume=True)


def test_the_batch_over_which_the_loss_broke_is_kept(ring, tmp_path):
    with pytest.raises(VivimError, match=r"bad_batch.json"):
        run(ring, tmp_path / "run", config(lr=1e30, clip_norm=0.0, epochs=3))
    kept = json.loads((tmp_path / "run" / "bad_batch.json").read_text())
    assert kept["loss"] in ("nan", "inf")
    assert kept["processes"] == 1
    assert len(kept["histories"]) <= 16
    assert {item for history in kept["histories"] for item in history} <= set(ring.items.ids)


def test_gradients_that_are_not_finite_change_no_weight(ring, tmp_path, monkeypatch):
    """The loss is the same, and its gradients are NaN: of a root at 0."""
    at, before = [0], {}
    step, forward = training.Training._step, training.Trainable.__call__

    def stepping(self, batch):
        at[0] += 1
        before.update({name: tensor.clone() for name, tensor in self.learner.state_dict().items()}, learner=self.learner)
        step(self, batch)

    def spoilt(self, batch):
        loss = forward(self, batch)
        return loss + (self.encoder.table[0] * 0).sqrt().sum() if at[0] == 3 else loss

    monkeypatch.setattr(training.Training, "_step", stepping)
    monkeypatch.setattr(training.Trainable, "__call__", spoilt)
    with pytest.raises(VivimError, match=r"the gradients became nan at a loss of \d.* in epoch 1, step 2; the weights were not touched"):
        run(ring, tmp_path / "run", config(epochs=1, clip_norm=0.0))
    learner = before.pop("learner")
    assert all(torch.equal(before[name], tensor) for name, tensor in learner.state_dict().items())
    kept = json.loads((tmp_path / "run" / "bad_batch.json").read_text())
    assert (kept["step"], kept["gradient_norm"]) == (2, "nan")
    assert float(kept["loss"]) > 0


def test_two_runs_in_one_folder_are_refused(ring, tmp_path):
    class Second(SilentProgress):
        refused = ""

        def advance(self, count=1, note=""):
            if not self.refused:
                with pytest.raises(InputError, match="another run is writing to") as caught:
                    run(ring, tmp_path / "run", config(epochs=1))
                Second.refused = str(caught.value)

    run(ring, tmp_path / "run", config(epochs=1), progress=Second())
    assert f"process {os.getpid()}" in Second.refused


def test_too_little_memory_is_said_with_advice(ring, tmp_path, monkeypatch):
    def step(self, batch):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 8 GiB")

    monkeypatch.setattr(training.Training, "_step", step)
    with pytest.raises(VivimError, match=r"too little memory for a step .*Lower train.batch"):
        run(ring, tmp_path / "run", config(epochs=1))
