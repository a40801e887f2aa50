"""Pickled checkpoints: turned into safetensors, and never allowed to run anything."""

import argparse
import os
import pickle
import warnings
from pathlib import Path

import pytest
import torch
from vivim import cli
from vivim.errors import InputError
from vivim.extract.convert import convert_weights
from vivim.extract.pickles import read_pickle
from vivim.extract.vivim import Vivim, VivimConfig
from vivim.extract.weight_files import read_safetensors
from vivim.extract.weights import load_weights, save_encoder


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
    vivim = load_weights(str(out))
    for name, tensor in encoder.state_dict().items():
        assert torch.equal(vivim.state_dict()[name], tensor)
    tensors, metadata = read_safetensors(out)
    assert tensors.keys() == state.keys()
    assert metadata == {"format": "pt", "scheme": "vivim"}


@pytest.mark.parametrize(("how", "suffix"), [("zip", ".ckpt"), ("legacy", ".bin"), ("plain", ".pt")])
def test_code_in_a_pickle_does_not_run(how: str, suffix: str, tmp_path: Path, encoder: Vivim, capsys: pytest.CaptureFixture[str]) -> None:
    canary, path = tmp_path / "canary", tmp_path / f"w{suffix}"
    content = {"state_dict": {"model": encoder.state_dict(), "callbacks": [{"deep": (1, {"er": Canary(canary)})}]}}
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


def test_code_in_a_file_called_safetensors_does_not_run(tmp_path: Path) -> None:
    canary, path = tmp_path / "canary", tmp_path / "w.safetensors"
    torch.save({"x": Canary(canary)}, path)
    with pytest.raises(
        InputError, match=r"it is a zip archive, as torch\.save makes them; name it \.pth and give it to vivim convert-weights"
    ):
        load_weights(str(path))
    path.write_bytes(pickle.dumps(Canary(canary)))
    with pytest.raises(InputError, match=r"it is a pickle; name it \.pth"):
        load_weights(str(path))
    assert not canary.exists()


def test_settings_that_are_objects_are_named(tmp_path: Path, encoder: Vivim) -> None:
    torch.save({"state_dict": encoder.state_dict(), "hyper_parameters": argparse.Namespace(lr=1)}, tmp_path / "w.ckpt")
    with pytest.raises(InputError, match=r"asks for argparse\.Namespace.*save its tensors alone"):
        read_pickle(tmp_path / "w.ckpt")


def test_what_is_no_checkpoint_is_refused(tmp_path: Path, encoder: Vivim) -> None:
    path, legacy = tmp_path / "w.pth", tmp_path / "legacy.pth"
    torch.save({"x": torch.rand(4000)}, path)
    torch.save({"x": torch.rand(4000)}, legacy, _use_new_zipfile_serialization=False)
    for content, says in (
        (path.read_bytes()[:3000], r"is damaged, or no torch checkpoint \(RuntimeError: PytorchStreamReader .*central directory\)"),
        (legacy.read_bytes()[:3000], "is damaged, or no torch checkpoint"),
        (b"", r"is damaged, or no torch checkpoint \(EOFError\)"),
        (b"<html>not found</html>", "is no torch checkpoint: it is a web page; download the file itself"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "it is a Git LFS pointer; fetch .*git lfs pull"),
        (pickle.dumps({"x": 1}, protocol=4), "is a pickle of protocol 4 or newer, which cannot be opened without running"),
    ):
        path.write_bytes(content)
        with pytest.raises(InputError, match=says):
            read_pickle(path)
    within_itself: dict[str, object] = {}
    within_itself["model"] = within_itself
    for entries, says in (
        ([1, 2], "holds list; a state dict"),
        ({"epoch": 3}, "holds a dictionary without tensors"),
        ({"w": torch.eye(2).to_sparse()}, "holds w, which is sparse, quantized, complex or without data; a state dict of plain tensors"),
        (within_itself, r"is damaged, or no torch checkpoint \(RecursionError"),
    ):
        torch.save(entries, path)
        with pytest.raises(InputError, match=says):
            read_pickle(path)
    save_encoder(encoder, tmp_path / "w.safetensors")
    (tmp_path / "w.safetensors").rename(path)
    with pytest.raises(InputError, match=r"it is a safetensors file; name it \.safetensors and use it as it is"):
        read_pickle(path)


def test_a_program_is_not_opened(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), tmp_path / "w.pt")
    with pytest.raises(InputError, match=r"is a TorchScript program, which cannot be opened.*Where you trust it, save its tensors alone"):
        read_pickle(tmp_path / "w.pt")


def test_a_network_that_is_no_encoder_is_not_converted(tmp_path: Path) -> None:
    torch.save({"fc.weight": torch.zeros(2, 2)}, tmp_path / "w.pth")
    with pytest.raises(InputError, match=r"w\.pth has names of no known scheme \(fc\.weight"):
        convert_weights(tmp_path / "w.pth", tmp_path / "w.safetensors")
    assert not (tmp_path / "w.safetensors").exists()


def test_a_place_that_cannot_be_written_is_refused_and_left_as_it_was(tmp_path: Path, encoder: Vivim) -> None:
    torch.save(encoder.state_dict(), tmp_path / "w.pth")
    (tmp_path / "file").write_text("mine")
    for target in (tmp_path / "file" / "w.safetensors", tmp_path / ("x" * 300 + ".safetensors")):
        with pytest.raises(InputError, match=r"convert-weights: .*safetensors cannot be written \(.*Choose another place"):
            convert_weights(tmp_path / "w.pth", target)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "w.pth"]
    assert (tmp_path / "file").read_text() == "mine"


def test_names_that_cannot_be_right_are_refused(tmp_path: Path) -> None:
    (tmp_path / "there.safetensors").touch()
    (tmp_path / "dangling.safetensors").symlink_to("elsewhere")
    (tmp_path / "folder.pth").mkdir()
    (tmp_path / "folder.pth" / "a.bin").touch()
    for source, target, says in (
        ("w.pth", "w.pt", r"must end in \.safetensors"),
        ("w.pth", "there.safetensors", "is there already"),
        ("w.pth", "dangling.safetensors", "is there already"),
        ("w.safetensors", "x.safetensors", "is a safetensors file already"),
        ("w.SafeTensors", "x.safetensors", "is a safetensors file already"),
        ("folder.pth", "x.safetensors", r"folder\.pth is a folder\. Give one of the files in it: a\.bin\."),
        ("x" * 300 + ".pth", "x.safetensors", "cannot be opened"),
        ("absent.pth", "x.safetensors", r"no file .*absent\.pth"),
    ):
        with pytest.raises(InputError, match=says):
            convert_weights(tmp_path / source, tmp_path / target)
