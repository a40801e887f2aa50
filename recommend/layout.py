"""Which tensors a file of weights must hold. A tensor of another type or shape would fail at the first question, or answer it wrongly."""

from collections.abc import Mapping
from pathlib import Path

import torch

from ..errors import InputError

Layout = Mapping[str, tuple[torch.dtype, tuple[int | None, ...]]]
"""By name: type, and sizes; None: any."""


def layout_of(tensors: Mapping[str, torch.Tensor]) -> Layout:
    """The one that these tensors have."""
    return {name: (tensor.dtype, tuple(tensor.shape)) for name, tensor in tensors.items()}


def require_layout(tensors: Mapping[str, torch.Tensor], layout: Layout, path: Path) -> None:
    """Refuse what differs.

    Args:
        path: of the file, for the message.

    Raises:
        InputError: tensors are missing, unknown, or of another type or shape; they are named.
    """
    faults = [f"{name} is missing" for name in layout if name not in tensors]
    faults += [f"{name} is unknown" for name in tensors if name not in layout]
    for name, (dtype, sizes) in layout.items():
        if name not in tensors:
            continue
        tensor = tensors[name]
        fits = len(sizes) == tensor.ndim and all(size in (None, found) for size, found in zip(sizes, tensor.shape, strict=True))
        if tensor.dtype != dtype or not fits:
            faults.append(f"{name} is {_words(tensor.dtype, tuple(tensor.shape))}, expected {_words(dtype, sizes)}")
    if faults:
        more = f", and {len(faults) - 5} more" if len(faults) > 5 else ""
        raise InputError(f"{path} does not fit the run's configuration: {'; '.join(faults[:5])}{more}. Train the run again.")


def _words(dtype: torch.dtype, sizes: tuple[int | None, ...]) -> str:
    return f"{str(dtype).removeprefix('torch.')} ({', '.join('any' if size is None else str(size) for size in sizes)})"
