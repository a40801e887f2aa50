"""Pickled checkpoints (.pth, .pt, .bin, .ckpt), which may hold code: opened in a child process only, and never allowed to run it."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from ..errors import InputError, VivimError
from ..store.children import child_environment, ending
from .weight_files import PICKLED, read_safetensors, require_file, taken_for_weights

_SAVE = "save its tensors alone: torch.save(model.state_dict(), PATH)"


def read_pickle(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a pickled checkpoint; it is opened in a child process that refuses code.

    Raises:
        InputError: no such file, or one that holds code, no tensors, or is damaged.
        VivimError: no child process could be started.
    """
    require_file(path, "weights", PICKLED)
    with tempfile.TemporaryDirectory() as folder:
        safe = Path(folder, "tensors.safetensors")
        arguments = [sys.executable, "-P", "-m", "vivim.extract.pickle_child", str(path.absolute()), str(safe)]
        try:
            child = subprocess.run(
                arguments, stdin=subprocess.DEVNULL, capture_output=True, text=True, env=child_environment(), check=False
            )
        except OSError as error:
            raise VivimError(f"a process to open {path} could not be started: {error}.") from error
        if child.returncode:
            last = child.stderr.strip().splitlines()[-1:]
            raise InputError(
                f"weights: opening {path} ended with {ending(child.returncode)}: {''.join(last) or 'no word'}. Copy it again, or "
                f"where you trust it, {_SAVE}."
            )
        told = json.loads(child.stdout)
        if told:
            raise InputError(_refusal(path, **told))
        return read_safetensors(safe)[0]


def _refusal(path: Path, error: str, message: str) -> str:
    match error:
        case "code":
            asked = f"it asks for {message}, which is code and was not run"
            return f"weights: {path} holds more than tensors: {asked}. Where you trust it, {_SAVE}."
        case "content":
            return f"weights: {path} holds {message}; a state dict of plain tensors is needed. In Python, {_SAVE}."
        case "unreadable":
            return f"weights: {path} is {message}, which cannot be opened without running what is in it. Where you trust it, {_SAVE}."
        case _:
            if words := taken_for_weights(path):
                return f"weights: {path} is no torch checkpoint: {words}."
            return f"weights: {path} is damaged, or no torch checkpoint ({message}). Copy it again."
