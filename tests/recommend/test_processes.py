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
from vivim.recommend.batches import train_batches
from vivim.recommend.build import protocol_of
from vivim.recommend.config import RecommendConfig

SCRIPT = Path(__file__).parent / "one_of_several.py"


def config(loss="full", **train):
    return {
        "model": {"kind": "mamba", "d_model": 16, "layers": 1, "dropout": 0.0, "d_state": 8},
        "items": {"kind": "ids"},
        "loss": {"kind": loss, "negatives": 20, "sampler": "mixed"},
        "train": {"lr": 0.01, "batch": 16, "epochs": 3, "patience": 9, "timeout_seconds": 20} | train,
    }


def launch(folder, conf, processes, how="", resume=""):
    program = [str(SCRIPT), str(folder), json.dumps(conf), how, resume]
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
        assert done.returncode == 0, done.stderr[-2000:]
    assert losses(tmp_path / "2") == pytest.approx(losses(tmp_path / "1"), rel=1e-5)
    assert losses(tmp_path / "2", "grad_norm_max") == pytest.approx(losses(tmp_path / "1", "grad_norm_max"), rel=1e-4)
    one, two = weights(tmp_path / "1"), weights(tmp_path / "2")
    for name, tensor in one.items():
        torch.testing.assert_close(two[name], tensor, rtol=1e-3, atol=1e-4)
    assert json.loads((tmp_path / "2" / "run.json").read_text())["processes"] == 2


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["dssm", "lightgcn", "mmgcn", "grcn"])
def test_two_processes_learn_pairs_as_one_does(tmp_path, kind):
    conf = config("in-batch", epochs=2) | {"model": {"kind": kind, "d_model": 16, "layers": 2}}
    for processes in (1, 2):
        done = launch(tmp_path / str(processes), conf, processes)
        assert done.returncode == 0, done.stderr[-2000:]
    assert losses(tmp_path / "2") == pytest.approx(losses(tmp_path / "1"), rel=1e-5)


@pytest.mark.slow
def test_models_of_pairs_are_refused_in_several_processes(tmp_path):
    done = launch(tmp_path / "run", config("auto") | {"model": {"kind": "nfm", "d_model": 16}}, 2)
    assert done.returncode != 0
    assert "is trained by one process" in done.stderr


@pytest.mark.slow
def test_two_processes_train_the_encoder_as_one_does(tmp_path, frames):
    items = {"kind": "end-to-end", "end_to_end": {"frames": str(frames), "size": "nano", "clips_at_once": 8, "drop_path": 0.0}}
    for processes in (1, 2):
        done = launch(tmp_path / str(processes), config("in-batch", epochs=2) | {"items": items}, processes)
        assert done.returncode == 0, done.stderr[-2000:]
    assert losses(tmp_path / "2") == pytest.approx(losses(tmp_path / "1"), rel=1e-5)
    assert (tmp_path / "2" / "encoder.safetensors").exists()


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
    assert done.returncode == 0, done.stderr[-2000:]
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
