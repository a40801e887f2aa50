"""Pickled checkpoints (.pth, .pt, .bin, .ckpt), which may hold code: opened in a child process only, and never allowed to run it."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from ..errors import InputError, VivimError
from .decode_process import child_environment, ending
from .weight_files import read_safetensors


def read_pickle(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a pickled checkpoint; it is opened in a child process that refuses code.

    Raises:
        InputError: no such file, or one that holds code, no tensors, or is damaged.
        VivimError: no child process could be started.
    """
    if not path.is_file():
        raise InputError(f"weights: no file {path}. Give the path of a .pth, .pt, .bin or .ckpt file.")
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
            raise InputError(f"weights: opening {path} ended with {ending(child.returncode)}: {''.join(last) or 'no word'}")
        told = json.loads(child.stdout)
        if told:
            raise InputError(_refusal(path, **told))
        return read_safetensors(safe)[0]


def _refusal(path: Path, error: str, message: str) -> str:
    match error:
        case "code":
            return (
                f"weights: {path} holds more than tensors: it asks for {message}, which is code and was not run. Where you trust "
                "it, save its tensors alone: torch.save(model.state_dict(), PATH)."
            )
        case "content":
            return f"weights: {path} holds {message}; a state dict is needed. Save one: torch.save(model.state_dict(), PATH)."
        case _:
            return f"weights: {path} is damaged, or no torch checkpoint ({' '.join(message.split())[-200:]}). Copy it again."
