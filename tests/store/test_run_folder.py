"""Checkpoints: what is no longer what was saved is passed over for the one before, and said."""

import json
import os
import pickle
import subprocess
import sys

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from vivim.errors import InputError
from vivim.progress import SILENT
from vivim.store import failpoints
from vivim.store.run_folder import RunFolder, write_atomically


@pytest.fixture
def two(tmp_path):
    """A folder with two checkpoints, of steps 1 and 2."""
    folder = RunFolder(tmp_path)
    for step in (1, 2):
        folder.save_state(
            {"a": torch.full((3,), float(step)), "b": torch.tensor(step), "c": torch.ones(2, dtype=torch.bfloat16)}, {"step": step}
        )
    return folder


def metadata(path):
    with safe_open(path, "pt") as file:
        return dict(file.metadata())


def test_the_newest_is_what_was_saved_last(two, told):
    tensors, state = two.load_state(told)
    assert (tensors["a"].tolist(), int(tensors["b"]), state) == ([2.0] * 3, 2, {"step": 2})
    assert not told.lines


def flip(path, tamper):
    path.write_bytes(tamper(path.read_bytes()))


TAMPERED = {
    "a bit of a tensor": (lambda path: flip(path, lambda content: content[:-1] + bytes([content[-1] ^ 1])), "sha256 differs"),
    "how far it came": (lambda path: flip(path, lambda content: content.replace(b'\\"step\\": 2', b'\\"step\\": 9')), "sha256 differs"),
    "cut off": (lambda path: flip(path, lambda content: content[:-3]), "is damaged"),
    "a newer version": (lambda path: save_file(load_file(path), path, metadata(path) | {"state_format": "2"}), r"newer version .*format 2"),
    "no version at all": (lambda path: save_file(load_file(path), path), "another version"),
    "a pickle": (lambda path: path.write_bytes(pickle.dumps({"a": 1})), "it is a pickle, which can run code"),
    "of torch.save": (lambda path: torch.save({"a": torch.ones(2)}, path), "it is a zip archive, as torch.save makes them"),
}


@pytest.mark.parametrize(("spoil", "says"), TAMPERED.values(), ids=TAMPERED.keys())
def test_what_was_not_saved_so_is_passed_over_for_the_one_before(two, told, spoil, says):
    before = (two.path / "last.safetensors").read_bytes()
    spoil(two.path / "last.safetensors")
    assert (two.path / "last.safetensors").read_bytes() != before
    tensors, state = two.load_state(told)
    assert (tensors["a"].tolist(), state) == ([1.0] * 3, {"step": 1})
    (line,) = told.lines
    assert "going on from previous.safetensors" in line
    (two.path / "previous.safetensors").unlink()
    with pytest.raises(InputError, match=says):
        two.load_state(SILENT)


def test_one_of_an_earlier_version_without_a_hash_is_read(two):
    path = two.path / "last.safetensors"
    save_file(load_file(path), path, {"state": json.dumps({"step": 2})})
    assert two.load_state(SILENT)[1] == {"step": 2}


def test_a_log_is_read_as_it_was_written_and_a_damaged_one_is_named(two):
    assert two.read_log() == []
    lines = [{"epoch": 1, "loss": 0.5}, {"epoch": 2, "loss": None}]
    two.write_log(lines)
    assert two.read_log() == lines
    for spoilt in (b'{"epoch": 1}\n{"epo', b"\xff\n"):
        (two.path / "log.jsonl").write_bytes(spoilt)
        with pytest.raises(InputError, match=r"log\.jsonl is damaged .*; train the run again, or delete the file"):
            two.read_log()


def test_one_that_cannot_be_put_back_is_passed_over(two, told):
    restored = []

    def restore(tensors, state):
        if state["step"] == 2:
            raise InputError("of something else")
        restored.append(state)

    assert two.load_state(told, restore)[1] == {"step": 1}
    assert restored == [{"step": 1}]
    assert "of something else" in told.lines[0]


@pytest.mark.parametrize("point", ["state.synced", "state.kept"])
def test_a_death_after_one_was_passed_over_leaves_the_one_that_can_be_read(two, point):
    """The one that cannot be read must not take the place of the one before it."""
    path = two.path / "last.safetensors"
    flip(path, lambda content: content[:-1] + bytes([content[-1] ^ 1]))
    program = f"""
from pathlib import Path
from vivim.progress import SILENT
from vivim.store.run_folder import RunFolder
folder = RunFolder(Path({str(two.path)!r}))
tensors, state = folder.load_state(SILENT)
folder.save_state(tensors, {{"step": 3}})
"""
    died = subprocess.run([sys.executable, "-c", program], env={**os.environ, failpoints.VARIABLE: f"{point}:1"}, check=False)
    assert died.returncode == -9
    assert RunFolder(two.path).load_state(SILENT)[1] == {"step": 1}
    subprocess.run([sys.executable, "-c", program], check=True)
    assert RunFolder(two.path).load_state(SILENT)[1] == {"step": 3}


def test_a_text_for_which_there_is_no_room_leaves_the_one_that_was_there(tmp_path, no_file_beyond):
    path = tmp_path / "told.json"
    write_atomically(path, "before")
    with no_file_beyond(100_000), pytest.raises(OSError, match="File too large"):
        write_atomically(path, "x" * 100_001)
    assert (os.listdir(tmp_path), path.read_text()) == (["told.json"], "before")
