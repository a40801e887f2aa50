"""Safetensors files of weights: reading, writing, hashing."""

import json
import os
import shlex
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from ..errors import InputError
from ..store.durable import replacing
from ..store.tensor_files import Kind, kind_of

_CONTAINERS = ("state_dict", "model")
PICKLED = (".pth", ".pt", ".bin", ".ckpt")

# Of files that are often taken for weights, and for safetensors.
_ADVICE = {
    Kind.LFS_POINTER: "fetch the file it stands for: git lfs pull",
    Kind.WEB_PAGE: "download the file itself",
    Kind.ZIP: "name it .pth and give it to vivim convert-weights",
    Kind.PICKLE: "name it .pth and give it to vivim convert-weights",
}

# Where ``write_safetensors`` puts its metadata: safetensors writes several entries in an order that changes from run to run.
_METADATA = "vivim"


def write_safetensors(tensors: Mapping[str, torch.Tensor], path: Path, metadata: Mapping[str, str]) -> None:
    """Write tensors, atomically and flushed to disk; the same tensors and metadata give the same bytes.

    Raises:
        OSError, SafetensorError: the file cannot be written; nothing of it is left.
    """
    kept = {_METADATA: json.dumps(dict(metadata), sort_keys=True)}
    with replacing(path) as temporary:
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, temporary, kept)


def read_safetensors(path: Path, option: str = "weights") -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """The tensors and the metadata of a file, its own entries and those of ``write_safetensors``.

    Args:
        path: of the file.
        option: what messages begin with.

    Raises:
        InputError: no such file, another kind of file, or a damaged one.
    """
    require_file(path, option, [".safetensors"])
    if path.suffix.lower() != ".safetensors":
        raise InputError(f"{option}: {path} is not a .safetensors file. {_how_to_convert(path)}")
    try:
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
            return tensors, _metadata(file.metadata() or {})
    except OSError as error:
        raise InputError(f"{option}: {path} cannot be opened ({error}). Give the path of a .safetensors file.") from error
    except (SafetensorError, ValueError, RecursionError) as error:
        reason = taken_for_weights(path) or f"{error}; copy or export it again"
        raise InputError(f"{option}: {path} is not a readable safetensors file: {reason}.") from error


def require_file(path: Path, option: str, suffixes: Sequence[str]) -> None:
    """Refuse what is no file.

    Args:
        path: of the file.
        option: what the message begins with.
        suffixes: of files to give instead.

    Raises:
        InputError: there is nothing, a folder, or something that may not be looked at.
    """
    wanted = f"a {', '.join(suffixes[:-1])}{' or ' if suffixes[:-1] else ''}{suffixes[-1]} file"
    try:
        mode = path.stat().st_mode
        held = sorted(entry.name for entry in path.iterdir() if entry.suffix.lower() in suffixes) if stat.S_ISDIR(mode) else []
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(f"{option}: no file {path}. Give the path of {wanted}.") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise InputError(f"{option}: {path} cannot be opened ({reason}). Give the path of {wanted}.") from error
    if stat.S_ISDIR(mode):
        todo = f"one of the files in it: {', '.join(held[:5])}" if held else f"the path of {wanted}"
        raise InputError(f"{option}: {path} is a folder. Give {todo}.")
    if not stat.S_ISREG(mode):
        raise InputError(f"{option}: {path} is not a file. Give the path of {wanted}.")
    if not os.access(path, os.R_OK):
        raise InputError(f"{option}: {path} may not be read. Allow it (chmod +r), or give the path of another file.")


def taken_for_weights(path: Path) -> str | None:
    """What a file is that is not what its name says, and what to do, in words; None where its beginning does not tell."""
    kind, called_safetensors = kind_of(path), path.suffix.lower() == ".safetensors"
    if kind is Kind.SAFETENSORS:
        return None if called_safetensors else "it is a safetensors file; name it .safetensors and use it as it is"
    if kind is None or (kind.runs_code and not called_safetensors):
        return None
    return f"it is {kind.value}; {_ADVICE[kind]}"


def _how_to_convert(path: Path) -> str:
    if path.suffix.lower() not in PICKLED:
        return "Give one; of pickled checkpoints (.pth, .pt, .bin, .ckpt) vivim convert-weights makes one."
    made = shlex.join([str(path), str(path.with_suffix(".safetensors"))])
    return f"Pickled checkpoints can run code and are not opened here. Convert it: vivim convert-weights {made}"


def _metadata(entries: Mapping[str, str]) -> dict[str, str]:
    own = {name: text for name, text in entries.items() if name != _METADATA}
    ours = json.loads(entries.get(_METADATA, "{}"))
    if not isinstance(ours, dict) or not all(isinstance(text, str) for text in ours.values()):
        raise ValueError(f"its metadata under {_METADATA!r} are damaged")
    return own | ours


def unpack(tensors: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """The tensors of a checkpoint: inside its container if it has one, without entries that are none (epochs, settings)."""
    for key in _CONTAINERS:
        if isinstance(tensors.get(key), Mapping):
            return unpack(tensors[key])
    return {str(name): tensor for name, tensor in tensors.items() if isinstance(tensor, torch.Tensor)}
