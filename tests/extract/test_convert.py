"""Pickled checkpoints: turned into safetensors, and never allowed to run anything."""

import argparse
import os
import pickle
from pathlib import Path

import pytest
import torch
from vivim import cli
from vivim.errors import InputError
from vivim.extract.convert import convert_weights
from vivim.extract.pickles import read_pickle
from vivim.extract.vivim import Vivim, VivimConfig
from vivim.extract.weight_files import read_safetensors
from vivim.extract.weights import load_weights


class Canary:
    """Unpickling it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return os.system, (f"touch {self.path}",)


@pytest.fixture(scope="module")
def encoder() -> Vivim:
    return Vivim(VivimConfig.of_size("nano"))


def test_a_lightning_checkpoint_becomes_safetensors_that_load(encoder: Vivim, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = {f"model.{name}": tensor for name, tensor in encoder.state_dict().items()}
    optimizer = {"state": {0: {"step": torch.tensor(3.0), "exp_avg": torch.zeros(2)}}, "param_groups": [{"lr": 1e-4}]}
    torch.save({"epoch": 3, "state_dict": state, "optimizer_states": [optimizer]}, tmp_path / "last.ckpt")
    out = tmp_path / "made" / "w.safetensors"
    assert cli.main(["convert-weights", str(tmp_path / "last.ckpt"), str(out)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{out} written: the tensors of last.ckpt, nano, vivim names"
    assert "  loaded: patch embeddings and SegFormer layers (100 tensors); Temporal Mamba Blocks (76 tensors)" in lines
    vivim, _ = load_weights(str(out))
    for name, tensor in encoder.state_dict().items():
        assert torch.equal(vivim.state_dict()[name], tensor)
    tensors, metadata = read_safetensors(out)
    assert tensors.keys() == state.keys()
    assert metadata == {"format": "pt", "scheme": "vivim"}


@pytest.mark.parametrize("how", ["zip", "legacy", "plain"])
def test_code_in_a_pickle_does_not_run(how: str, tmp_path: Path, encoder: Vivim, capsys: pytest.CaptureFixture[str]) -> None:
    canary, path = tmp_path / "canary", tmp_path / "w.pth"
    content = {"state_dict": encoder.state_dict(), "extra": Canary(canary)}
    if how == "plain":
        path.write_bytes(pickle.dumps(Canary(canary), protocol=2))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=how == "zip")
    assert cli.main(["convert-weights", str(path), str(tmp_path / "w.safetensors")]) == 2
    captured = capsys.readouterr()
    assert "asks for posix.system, which is code and was not run" in captured.err
    assert captured.out == ""
    assert not canary.exists()
    assert not (tmp_path / "w.safetensors").exists()
    with path.open("rb") as file:  # the canary works: it does appear where pickle itself opens the file
        if how == "plain":
            pickle.load(file)
            assert canary.exists()


def test_settings_that_are_objects_are_named(tmp_path: Path, encoder: Vivim) -> None:
    torch.save({"state_dict": encoder.state_dict(), "hyper_parameters": argparse.Namespace(lr=1)}, tmp_path / "w.ckpt")
    with pytest.raises(InputError, match=r"asks for argparse\.Namespace.*save its tensors alone"):
        read_pickle(tmp_path / "w.ckpt")


def test_what_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    path, legacy = tmp_path / "w.pth", tmp_path / "legacy.pth"
    torch.save({"x": torch.rand(4000)}, path)
    torch.save({"x": torch.rand(4000)}, legacy, _use_new_zipfile_serialization=False)
    for content in (path.read_bytes()[:3000], legacy.read_bytes()[:3000], b"", b"<html>not found</html>"):
        path.write_bytes(content)
        with pytest.raises(InputError, match="is damaged, or no torch checkpoint"):
            read_pickle(path)
    for content, says in (([1, 2], "holds list; a state dict"), ({"epoch": 3}, "holds a dictionary without tensors")):
        torch.save(content, path)
        with pytest.raises(InputError, match=says):
            read_pickle(path)


def test_a_network_that_is_no_encoder_is_not_converted(tmp_path: Path) -> None:
    torch.save({"fc.weight": torch.zeros(2, 2)}, tmp_path / "w.pth")
    with pytest.raises(InputError, match=r"w\.pth has names of no known scheme \(fc\.weight"):
        convert_weights(tmp_path / "w.pth", tmp_path / "w.safetensors")
    assert not (tmp_path / "w.safetensors").exists()


def test_names_that_cannot_be_right_are_refused(tmp_path: Path) -> None:
    (tmp_path / "there.safetensors").touch()
    for source, target, says in (
        ("w.pth", "w.pt", r"must end in \.safetensors"),
        ("w.pth", "there.safetensors", "is there already"),
        ("w.safetensors", "x.safetensors", "is a safetensors file already"),
        ("absent.pth", "x.safetensors", r"no file .*absent\.pth"),
    ):
        with pytest.raises(InputError, match=says):
            convert_weights(tmp_path / source, tmp_path / target)
