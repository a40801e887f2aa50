"""A training over several processes is the training of one, and none of them outlives the others."""

import json
import os
import runpy
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from vivim.extract.weights import load_weights
from vivim.recommend.batches import train_batches
from vivim.recommend.build import protocol_of
from vivim.recommend.config import EndToEndConfig, RecommendConfig
from vivim.recommend.end_to_end import EndToEndItems, find_frames
from vivim.store import ItemIndex

SCRIPT = Path(__file__).parent / "one_of_several.py"
ROOT = Path(__file__).resolve().parents[2]


def config(loss="full", **train):
    return {
        "model": {"kind": "mamba", "d_model": 16, "layers": 1, "dropout": 0.0, "d_state": 8},
        "items": {"kind": "ids"},
        "loss": {"kind": loss, "negatives": 20, "sampler": "mixed"},
        "train": {"lr": 0.01, "batch": 16, "epochs": 3, "patience": 9, "timeout_seconds": 20} | train,
    }


def launch(folder, conf, processes, how="", resume="", vectors=""):
    program = [str(SCRIPT), str(folder), json.dumps(conf), how, resume, str(vectors)]
    command = [sys.executable, *program]
    if processes > 1:
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes), *program]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, env={**os.environ, "OMP_NUM_THREADS": "1"})


def losses(folder, name="loss"):
    return [json.loads(line)[name] for line in (folder / "log.jsonl").read_text().splitlines()]


def weights(folder):
    return load_file(folder / "model.safetensors")


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["full", "in-batch", "sampled"])
def test_two_processes_learn_what_one_learns(tmp_path, loss):
    for processes in (1, 2):
        done = launch(tmp_path / str(processes), config(loss), processes)
        assert done.returncode == 0, done.stderr[-8000:]
    assert losses(tmp_path / "2") == pytest.approx(losses(tmp_path / "1"), rel=1e-5)
    assert losses(tmp_path / "2", "grad_norm_max") == pytest.approx(losses(tmp_path / "1", "grad_norm_max"), rel=1e-4)
    one, two = weights(tmp_path / "1"), weights(tmp_path / "2")
    for name, tensor in one.items():
        torch.testing.assert_close(two[name], tensor, rtol=1e-3, atol=1e-4)
    assert json.loads((tmp_path / "2" / "run.json").read_text())["processes"] == 2


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["frozen", "ids+frozen"])
def test_two_processes_learn_from_stored_vectors_as_one_does(tmp_path, write_vectors, kind):
    write_vectors(tmp_path / "v.h5", [f"i{row:02d}" for row in range(28)])  # two items have none
    conf = config() | {"items": {"kind": kind, "delta_dropout": 0.0}}
    for processes in (1, 2):
        done = launch(tmp_path / str(processes), conf, processes, vectors=tmp_path / "v.h5")
        assert done.returncode == 0, done.stderr[-8000:]
    assert losses(tmp_path / "2") == pytest.approx(losses(tmp_path / "1"), rel=1e-5)
    assert json.loads((tmp_path / "2" / "run.json").read_text())["embeddings"]["missing"] == 2


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["dssm", "lightgcn", "mmgcn", "grcn"])
def test_two_processes_learn_pairs_as_one_does(tmp_path, kind):
    conf = config("in-batch", epochs=2) | {"model": {"kind": kind, "d_model": 16, "layers": 2}}
    for processes in (1, 2):
        done = launch(tmp_path / str(processes), conf, processes)
        assert done.returncode == 0, done.stderr[-8000:]
    assert losses(tmp_path / "2") == pytest.approx(losses(tmp_path / "1"), rel=1e-5)


@pytest.mark.slow
def test_models_of_pairs_are_refused_in_several_processes(tmp_path):
    done = launch(tmp_path / "run", config("auto") | {"model": {"kind": "nfm", "d_model": 16}}, 2)
    assert done.returncode != 0
    assert "is trained by one process" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(("loss", "batch"), [("in-batch", 16), ("sampled", 49)])  # the last batch of 50 sequences is one
def test_two_processes_train_the_encoder_as_one_does(tmp_path, frames, loss, batch):
    items = {"kind": "end-to-end", "end_to_end": {"frames": str(frames), "size": "nano", "clips_at_once": 8, "drop_path": 0.0}}
    for processes in (1, 2):
        done = launch(tmp_path / str(processes), config(loss, epochs=2, batch=batch) | {"items": items}, processes)
        assert done.returncode == 0, done.stderr[-8000:]
    assert losses(tmp_path / "2") == pytest.approx(losses(tmp_path / "1"), rel=1e-5)
    assert (tmp_path / "2" / "encoder.safetensors").exists()


@pytest.mark.slow
def test_two_processes_encode_each_clip_once_before_a_validation(tmp_path, frames):
    items = {"kind": "end-to-end", "end_to_end": {"frames": str(frames), "size": "nano", "clips_at_once": 8, "drop_path": 0.0}}
    done = launch(tmp_path / "run", config("in-batch", epochs=2) | {"items": items}, 2, "watch")
    assert done.returncode == 0, done.stderr[-8000:]
    shares = [json.loads((tmp_path / "run" / f"encoded-{rank}.json").read_text()) for rank in (0, 1)]
    there = [row for row in range(30) if row != 7]  # which has no frames
    assert sorted(shares[0] + shares[1]) == sorted(2 * there)  # of two epochs; keeping the best encodes nothing
    assert [len(share) for share in shares] == [30, 28]
    mine, other = (load_file(tmp_path / "run" / f"vectors-{rank}.safetensors") for rank in (0, 1))
    assert mine.keys() == other.keys() == {"0", "1"}
    assert all(torch.equal(mine[epoch], other[epoch]) for epoch in mine)
    # And one process that encodes the whole catalogue has the same of what was kept.
    options = EndToEndConfig(frames=frames)
    whole = EndToEndItems(
        load_weights(str(tmp_path / "run")), find_frames(options, ItemIndex(f"i{row:02d}" for row in range(30)), 0.9), 16, options
    ).eval()
    whole.load_state_dict(load_file(tmp_path / "run" / "items.safetensors"))
    with torch.no_grad():
        torch.testing.assert_close(weights(tmp_path / "run")["items"], whole.all(), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_a_batch_smaller_than_the_processes_is_learned_too(tmp_path):
    conf = config(batch=49)  # the last batch of 50 sequences is one
    for processes in (1, 2):
        assert launch(tmp_path / str(processes), conf, processes).returncode == 0
    assert losses(tmp_path / "2") == pytest.approx(losses(tmp_path / "1"), rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["kill:1:5", "kill:0:5", "stall:1:5"])
def test_when_one_process_dies_or_stalls_the_others_end_and_another_number_goes_on(tmp_path, how):
    conf = config()
    assert launch(tmp_path / "whole", conf, 1).returncode == 0
    began = time.monotonic()
    assert launch(tmp_path / "cut", conf, 2, how).returncode != 0
    assert time.monotonic() - began < 90
    assert len(losses(tmp_path / "cut")) == 1  # 4 steps an epoch: the first one is saved
    done = launch(tmp_path / "cut", conf, 1, "", "resume")
    assert done.returncode == 0, done.stderr[-8000:]
    assert losses(tmp_path / "cut") == pytest.approx(losses(tmp_path / "whole"), rel=1e-5)


@pytest.mark.slow
def test_a_loss_that_one_process_breaks_ends_all_with_the_histories_of_all(tmp_path):
    done = launch(tmp_path / "run", config(), 2, "nan:1:2")
    assert done.returncode != 0
    assert "VivimError: the loss became nan in epoch 1, step 2" in done.stderr
    kept = json.loads((tmp_path / "run" / "bad_batch.json").read_text())
    protocol = RecommendConfig.model_validate(config()).protocol
    split = protocol_of(protocol).split(runpy.run_path(str(SCRIPT))["walks"]())
    batch = list(train_batches(split.train, batch=16, max_len=protocol.max_len, seed=3, epoch=1))[2].sequences
    expected = [row[:length].tolist() for row, length in zip(batch.items_BL, batch.lengths_B, strict=True)]
    assert kept["histories"] == [[split.items.ids[item] for item in history] for history in expected]
    assert (len(kept["histories"]), kept["processes"]) == (16, 2)


@pytest.mark.slow
def test_all_are_refused_at_once_where_one_lacks_the_memory(tmp_path):
    done = launch(tmp_path / "run", config(timeout_seconds=250), 2, "full:1:")
    assert done.returncode != 0
    assert "InputError: training would need about" in done.stderr  # of the one that has enough


def test_the_docs_say_how_far_two_processes_are_from_one():
    found = json.loads((ROOT / "benchmarks" / "results" / "processes.json").read_text())
    assert found["largest"] == max(row["largest"] for row in found["rows"]) <= found["bound"] == 1e-5
    assert {"frozen", "ids+frozen", "end-to-end"} <= {row["items"] for row in found["rows"]}
    said = f"at most {found['largest']:.1e} of it (`benchmarks/processes.py`, {len(found['rows'])} combinations of items and loss)"
    assert said in " ".join((ROOT / "docs" / "recommend.md").read_text().split())
