"""One step of a user model as an ONNX file: an item vector and a state in, the user vector and the next state out.

Legend: B users, D model width.
"""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from ..errors import InputError, MissingExtra, VivimError
from .models.vector_model import VectorModel

EXPORTABLE = "mamba, mamba2, gru4rec, youtube"
_TOLERANCE = 1e-4
_STEPS_CHECKED = 30


@dataclass(frozen=True)
class StepFile:
    """What stands in the file.

    Attributes:
        inputs: names, ``item`` (B, D) first, then the state.
        outputs: names, ``user`` (B, D) first, then the next state in the order of the state.
        shapes: of the state for one user who has watched nothing, all zeros; where one of its dimensions counts users is in ``axes``.
        axes: of each part of the state the dimension of the users.
        largest_difference: from torch, over the steps of the check, in any number of user vectors and states.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    axes: tuple[int, ...]
    largest_difference: float


class _Step(nn.Module):
    """A step over plain tensors."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, item_BD: torch.Tensor, *state: torch.Tensor) -> tuple[torch.Tensor, ...]:
        step: VectorModel[Any] = self.model  # type: ignore[assignment]
        user_BD, after = step.step(item_BD, _built(step.initial_state(1), iter(state)))
        return (user_BD, *_leaves(after))


def write_step(model: VectorModel[Any], width: int, path: Path, *, seed: int = 0) -> StepFile:
    """Write the step of a model, and compare it with torch over some random steps of several users.

    Args:
        model: a module, in evaluation mode.
        width: D.
        path: of the file.
        seed: of the item vectors of the check.

    Raises:
        InputError: the model's state grows with the history, so that its step has no fixed form.
        MissingExtra: onnx, onnxscript or onnxruntime is absent.
        VivimError: the file does not give what torch gives.
    """
    _require_packages()
    assert isinstance(model, nn.Module)
    step = _Step(model).eval().cpu()
    one, three = (_leaves(step.model.initial_state(batch)) for batch in (1, 3))  # type: ignore[operator]
    with torch.inference_mode():
        _, *after = step(torch.zeros(1, width), *one)
    if any(a.shape != b.shape for a, b in zip(one, after, strict=True)):
        raise InputError(
            f"the state of {type(model).__name__} is the window of what was watched, which grows: its step cannot be exported. Models "
            f"whose state has one size can be: {EXPORTABLE}."
        )
    axes = tuple(
        next(axis for axis, (a, b) in enumerate(zip(x.shape, y.shape, strict=True)) if a != b) for x, y in zip(one, three, strict=True)
    )
    inputs = ("item", *(f"state_{part}" for part in range(len(one))))
    outputs = ("user", *(f"next_state_{part}" for part in range(len(one))))
    users = torch.export.Dim("users", min=1)
    with _quiet():
        torch.onnx.export(
            step,
            (torch.zeros(3, width), *three),
            path,
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_shapes=({0: users}, tuple({axis: users} for axis in axes)),
            dynamo=True,
            external_data=False,
        )
    shapes = tuple(tuple(part.shape) for part in one)
    apart = _compare(step, path, inputs, width, seed)
    if not apart <= _TOLERANCE:
        raise VivimError(f"the exported step differs from torch by {apart:.2g}, more than {_TOLERANCE:.0e}; {path} is not to be used.")
    return StepFile(inputs, outputs, shapes, axes, apart)


def _require_packages() -> None:
    for package in ("onnx", "onnxscript", "onnxruntime"):
        try:
            __import__(package)
        except ImportError as error:
            raise MissingExtra(package, extra="export", why="vivim export") from error


def _compare(step: _Step, path: Path, inputs: Sequence[str], width: int, seed: int) -> float:
    """Largest difference between the file and torch over some steps of three users; each goes on with its own state."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    draw = torch.Generator().manual_seed(seed)
    state = _leaves(step.model.initial_state(3))  # type: ignore[operator]
    theirs: list[npt.NDArray[np.float32]] = [part.numpy() for part in state]
    apart = 0.0
    with torch.inference_mode():
        for _ in range(_STEPS_CHECKED):
            item_BD = torch.randn(3, width, generator=draw)
            user_BD, *state = step(item_BD, *state)
            user, *theirs = session.run(None, dict(zip(inputs, (item_BD.numpy(), *theirs), strict=True)))
            pairs = zip((user_BD, *state), (user, *theirs), strict=True)
            apart = max(apart, *(float(np.abs(ours.numpy() - other).max()) for ours, other in pairs))
    return apart


def _leaves(state: Any) -> list[torch.Tensor]:
    """The tensors of a state, in the order of its parts."""
    if isinstance(state, torch.Tensor):
        return [state]
    parts = state if isinstance(state, tuple) else [getattr(state, field.name) for field in fields(state)]
    return [leaf for part in parts for leaf in _leaves(part)]


def _built(like: Any, leaves: Iterator[torch.Tensor]) -> Any:
    """A state of the form of ``like`` from its tensors."""
    if isinstance(like, torch.Tensor):
        return next(leaves)
    if isinstance(like, tuple):
        return tuple(_built(part, leaves) for part in like)
    assert is_dataclass(like) and not isinstance(like, type)
    return type(like)(*(_built(getattr(like, field.name), leaves) for field in fields(like)))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporter prints what it does, and warns of its own parts."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
