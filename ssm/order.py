"""In which order a scan walks over the tokens.

Legend: B batch, L tokens, D channels, T frames, N tokens of one frame (L = T * N, frame-major: token t * N + n).
"""

from dataclasses import dataclass
from enum import Enum

import torch


class Walk(Enum):
    """The three ways through a clip."""

    FORWARD = "forward"
    REVERSE = "reverse"
    TIME_MAJOR = "time_major"


@dataclass(frozen=True)
class Order:
    """An index map over the sequence, and its inverse.

    ``FORWARD`` and ``REVERSE`` are constants; ``time_major(frames)`` visits all frames of one location before the
    next location (Vivim's "spatial" direction: sequence position n * T + t takes token t * N + n).

    Attributes:
        walk: which way.
        frames: T, used by ``Walk.TIME_MAJOR`` alone.
    """

    walk: Walk
    frames: int = 1

    def apply(self, x_BL: torch.Tensor) -> torch.Tensor:
        """Tokens in the order of the walk; ``x_BL`` is (B, L, ...).

        Raises:
            ValueError: L does not divide into ``frames`` equal frames.
        """
        match self.walk:
            case Walk.FORWARD:
                return x_BL
            case Walk.REVERSE:
                return x_BL.flip(1)
            case Walk.TIME_MAJOR:
                return _swap(x_BL, self.frames)

    def undo(self, y_BL: torch.Tensor) -> torch.Tensor:
        """Back to token order: ``undo(apply(x)) == x``."""
        match self.walk:
            case Walk.FORWARD:
                return y_BL
            case Walk.REVERSE:
                return y_BL.flip(1)
            case Walk.TIME_MAJOR:
                length = y_BL.shape[1]
                _check_frames(length, self.frames)
                return _swap(y_BL, length // self.frames)


def time_major(frames: int) -> Order:
    """The walk that runs along time at each location of a clip of ``frames`` frames."""
    if frames < 1:
        raise ValueError(f"a clip has at least one frame, not {frames}")
    return Order(Walk.TIME_MAJOR, frames)


FORWARD = Order(Walk.FORWARD)
REVERSE = Order(Walk.REVERSE)


def _check_frames(length: int, frames: int) -> None:
    if length % frames:
        raise ValueError(f"{length} tokens do not divide into {frames} equal frames")


def _swap(x_BL: torch.Tensor, outer: int) -> torch.Tensor:
    """(B, outer * inner, ...) -> (B, inner * outer, ...)."""
    length = x_BL.shape[1]
    _check_frames(length, outer)
    return x_BL.unflatten(1, (outer, length // outer)).transpose(1, 2).flatten(1, 2)
