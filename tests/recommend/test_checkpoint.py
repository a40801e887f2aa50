"""Training runs that go on from checkpoints of other versions, or tampered ones, or do not and say why."""

import json
import pickle

import pytest
import torch
from lightning_fabric.plugins.precision.precision import Precision
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from vivim.errors import InputError, Interrupted
from vivim.progress import SILENT, SilentProgress
from vivim.recommend import train
from vivim.recommend.checkpoint import RunFolder
from vivim.recommend.config import EvaluateConfig, RecommendConfig
from vivim.recommend.evaluation import evaluate_run
from vivim.recommend.train import train_run

CONFIG = RecommendConfig.model_validate(
    {
        "model": {"d_model": 8, "layers": 1, "dropout": 0.2, "d_state": 4},
        "items": {"kind": "ids"},
        "train": {"lr": 0.01, "batch": 16, "epochs": 3, "patience": 9},
    }
)


class Told(SilentProgress):
    """Presses Ctrl-C in an epoch."""

    def __init__(self, stop_in=0):
        self.stop_in, self.lines, self.now = stop_in, [], ""

    def start(self, what, total, unit):
        self.now = what

    def advance(self, count=1, note=""):
        if self.now == f"epoch {self.stop_in}":
            raise KeyboardInterrupt

    def say(self, line):
        self.lines.append(line)


def run(ring, out, progress=SILENT, resume=False):
    where = {"path": "made by a test"}
    return train_run(ring, None, CONFIG, out, seed=3, device="cpu", resume=resume, progress=progress, data_location=where)


@pytest.fixture
def cut(ring, tmp_path):
    """A run that was interrupted in its last epoch of three."""
    with pytest.raises(Interrupted):
        run(ring, tmp_path / "cut", Told(stop_in=3))
    return tmp_path / "cut"


def changed(path, tensors=None, **state):
    """The checkpoint with other content, as a program with other ideas would write it."""
    with safe_open(path, "pt") as file:
        kept = json.loads(file.metadata()["state"])
    save_file(load_file(path) | (tensors or {}), path, {"state": json.dumps(kept | state)})


def flip_a_bit(path):
    content = bytearray(path.read_bytes())
    content[-50] ^= 1
    path.write_bytes(content)


OTHERS = {
    "an unknown key": (lambda path: changed(path, momentum=1), "momentum"),
    "an epoch with an unknown key": (lambda path: changed(path, epochs=[{"epoch": 1, "mood": 2}]), "mood"),
    "a tensor too many": (lambda path: changed(path, {"learner.extra": torch.ones(2)}), "extra"),
    "a tensor of another shape": (lambda path: changed(path, {"learner.encoder.table": torch.ones(2, 2)}), "encoder.table"),
    "a flipped bit": (flip_a_bit, "sha256 differs"),
    "a pickle": (lambda path: path.write_bytes(pickle.dumps({"a": 1})), "it is a pickle"),
}


@pytest.mark.parametrize(("spoil", "says"), OTHERS.values(), ids=OTHERS.keys())
def test_a_checkpoint_with_other_content_is_passed_over_for_the_one_before(ring, cut, tmp_path, spoil, says):
    run(ring, tmp_path / "whole")
    spoil(cut / "last.safetensors")
    told = Told()
    run(ring, cut, told, resume=True)
    assert [says in line and "going on from previous.safetensors" in line for line in told.lines if "checkpoint" in line] == [True]
    assert (tmp_path / "whole" / "model.safetensors").read_bytes() == (cut / "model.safetensors").read_bytes()


def test_where_none_can_be_gone_on_from_both_are_named(ring, cut):
    for name in ("last", "previous"):
        changed(cut / f"{name}.safetensors", momentum=1)
    with pytest.raises(InputError, match=r"last.safetensors: it holds other things .*momentum.*previous.safetensors: it holds other"):
        run(ring, cut, resume=True)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda info: info["config"]["train"].update(momentum=0.9), r"options that this vivim does not read: train.momentum = 0.9"),
        (lambda info: info["config"]["loss"].update(kind="hinge"), r"options that this vivim does not read: loss.kind = 'hinge'"),
        (lambda info: info.pop("config"), "it has no 'config'"),
    ],
)
def test_a_run_with_options_that_do_not_exist_here_is_refused(ring, cut, change, says):
    info = json.loads((cut / "run.json").read_text())
    change(info)
    (cut / "run.json").write_text(json.dumps(info))
    with pytest.raises(InputError, match=says):
        run(ring, cut, resume=True)


@pytest.mark.parametrize(
    "write", [lambda path: path.write_bytes(pickle.dumps({"a": 1})), lambda path: torch.save({"a": torch.ones(1)}, path)]
)
def test_a_pickle_in_place_of_the_weights_is_called_one_and_not_read(ring, tmp_path, write):
    run(ring, tmp_path / "run")
    write(tmp_path / "run" / "model.safetensors")
    with pytest.raises(InputError, match=r"model.safetensors is no safetensors file: it is a .*can run code when it is read.*never read"):
        evaluate_run(RunFolder.open(tmp_path / "run"), ring, EvaluateConfig(k=(1,)), progress=SILENT)


class StandIn(Precision):
    """A loss scaler as 16-mixed has one on a GPU: it begins too high and halves at every step, down to what fits."""

    def __init__(self, used):
        self.scale, self.used = 2.0**12, used

    def backward(self, tensor, model, *args, **kwargs):
        self.used.append(self.scale)
        super().backward(tensor * self.scale, model, *args, **kwargs)

    def unscale_gradients(self, optimizer):
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                parameter.grad /= self.scale

    def optimizer_step(self, optimizer, **kwargs):
        self.scale = max(1.0, self.scale / 2)
        return super().optimizer_step(optimizer, **kwargs)

    def state_dict(self):
        return {"scale": self.scale}

    def load_state_dict(self, state_dict):
        self.scale = state_dict["scale"]


def test_a_loss_scaler_goes_on_where_it_was(ring, tmp_path, monkeypatch):
    used = []
    start = train.start

    def with_scaler(*args):
        fabric = start(*args)
        fabric.strategy.precision = StandIn(used)
        return fabric

    monkeypatch.setattr(train, "start", with_scaler)
    run(ring, tmp_path / "whole")
    whole = list(used)
    assert whole[:3] == [4096.0, 2048.0, 1024.0]
    used.clear()
    with pytest.raises(Interrupted):
        run(ring, tmp_path / "cut", Told(stop_in=2))
    begun = len(whole) // 3
    del used[begun:]  # the steps that were lost
    run(ring, tmp_path / "cut", resume=True)
    assert used == whole
    assert (tmp_path / "whole" / "model.safetensors").read_bytes() == (tmp_path / "cut" / "model.safetensors").read_bytes()


def test_half_precision_is_refused_on_a_cpu(ring, tmp_path):
    config = CONFIG.model_copy(update={"train": CONFIG.train.model_copy(update={"precision": "16-mixed"})})
    with pytest.raises(InputError, match="16-mixed is for GPUs"):
        train_run(ring, None, config, tmp_path / "run", seed=3, device="cpu", resume=False, progress=SILENT, data_location={})
    assert not (tmp_path / "run").exists()
