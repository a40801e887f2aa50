"""Files of tensors: what a file is that may not be one, and what its tensors are, in one hash."""

import hashlib
from collections.abc import Mapping
from enum import Enum
from pathlib import Path

import torch


class Kind(Enum):
    """What a file is by its beginning; the value is for messages, after "it is"."""

    SAFETENSORS = "a safetensors file"
    LFS_POINTER = "a Git LFS pointer"
    WEB_PAGE = "a web page"
    ZIP = "a zip archive, as torch.save makes them"
    PICKLE = "a pickle"

    @property
    def runs_code(self) -> bool:
        """Whether reading it may run code that is written in it."""
        return self in (Kind.ZIP, Kind.PICKLE)


_BEGINNINGS = (
    (b"version https://git-lfs", Kind.LFS_POINTER),
    (b"<", Kind.WEB_PAGE),
    (b"PK\x03\x04", Kind.ZIP),
    (b"\x80", Kind.PICKLE),
)


def kind_of(path: Path) -> Kind | None:
    """What a file is; None where its beginning does not tell.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        beginning = file.read(64)
    if beginning[8:9] == b"{":  # what safetensors has before that is a length, which may look like anything
        return Kind.SAFETENSORS
    return next((kind for start, kind in _BEGINNINGS if len(beginning) > 8 and beginning.startswith(start)), None)


def hash_tensors(tensors: Mapping[str, torch.Tensor]) -> str:
    """sha256 over name, dtype, shape and bytes of every tensor, in the order of the names."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
