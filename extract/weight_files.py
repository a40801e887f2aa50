"""Safetensors files of weights: reading, writing, hashing."""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from ..errors import InputError

_CONTAINERS = ("state_dict", "model")


# Where ``write_safetensors`` puts its metadata: safetensors writes several entries in an order that changes from run to run.
_METADATA = "vivim"


def write_safetensors(tensors: Mapping[str, torch.Tensor], path: Path, metadata: Mapping[str, str]) -> None:
    """Write tensors, atomically and flushed to disk; the same tensors and metadata give the same bytes."""
    temporary = path.with_name(path.name + ".tmp")
    kept = {_METADATA: json.dumps(dict(metadata), sort_keys=True)}
    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, temporary, kept)
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
    temporary.replace(path)


def read_safetensors(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """The tensors and the metadata of a file, its own entries and those of ``write_safetensors``.

    Raises:
        InputError: no such file, another kind of file, or a damaged one.
    """
    if not path.is_file():
        raise InputError(f"weights: no file {path}. Give --weights random, or the path of a safetensors file.")
    if path.suffix != ".safetensors":
        raise InputError(
            f"weights: {path.name} is not a .safetensors file. Pickled checkpoints can run code and are not opened here. Convert it: "
            f"vivim convert-weights {path} {path.with_suffix('.safetensors')}"
        )
    try:
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
            metadata = dict(file.metadata() or {})
            return tensors, metadata | json.loads(metadata.pop(_METADATA, "{}"))
    except (SafetensorError, OSError, ValueError, TypeError) as error:
        raise InputError(f"weights: {path} is not a readable safetensors file ({error}). Copy or export it again.") from error


def unpack(tensors: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """The tensors of a checkpoint: inside its container if it has one, without entries that are none (epochs, settings)."""
    for key in _CONTAINERS:
        if isinstance(tensors.get(key), Mapping):
            return unpack(tensors[key])
    return {str(name): tensor for name, tensor in tensors.items() if isinstance(tensor, torch.Tensor)}


def hash_tensors(tensors: Mapping[str, torch.Tensor]) -> str:
    """sha256 over name, dtype, shape and bytes of every tensor, in the order of the names."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
