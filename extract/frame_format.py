"""How a shard stores frames: as they are, or as JPEG.

Legend: N clips of a shard, T frames of a clip, C = 3 channels, S side in pixels. A clip is stored as parts, arrays of bytes.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt
from pydantic import Field, JsonValue

from ..settings import Settings
from .frame_recipe import FrameRecipe
from .jpeg import DamagedJpeg, decode_jpegs, encode_jpegs

Bytes = npt.NDArray[np.uint8]
Parts = Sequence[Bytes]


class DamageError(Exception):
    """A shard, or a clip in it, does not hold what was written; says in what way."""


class FrameFormat(Protocol):
    """Between frames and what stands in a file."""

    @property
    def stored(self) -> dict[str, JsonValue]:
        """Names the format in a shard's header."""

    def described(self, recipe: FrameRecipe) -> FrameRecipe:
        """The recipe of frames that went through this format."""

    def encode(self, frames_TCHW: Bytes) -> Parts:
        """The parts of one clip."""

    def decode(self, parts: Parts) -> Bytes:
        """(T, C, S, S) frames of one clip.

        Raises:
            DamageError: the parts hold no frames.
        """

    def pack(self, clips: Sequence[Parts]) -> dict[str, npt.NDArray[Any]]:
        """Tensors that hold the parts of N clips."""

    def open(self, file: Any, count: int, frames: int) -> Callable[[int], Parts]:
        """What fetches the parts of one clip by its row, without reading others.

        Args:
            file: a safetensors file, open.
            count: N.
            frames: T.

        Raises:
            DamageError: the tensors are not those of N clips.
        """


class Raw(Settings):
    """Frames as they are: (N, T, C, S, S) in one tensor, T x C x S x S bytes a clip."""

    kind: Literal["raw"] = "raw"

    @property
    def stored(self) -> dict[str, JsonValue]:
        return self.model_dump(mode="json")

    def described(self, recipe: FrameRecipe) -> FrameRecipe:
        return recipe

    def encode(self, frames_TCHW: Bytes) -> Parts:
        return (np.ascontiguousarray(frames_TCHW),)

    def decode(self, parts: Parts) -> Bytes:
        return parts[0]

    def pack(self, clips: Sequence[Parts]) -> dict[str, npt.NDArray[Any]]:
        return {"frames": np.stack([parts[0] for parts in clips])}

    def open(self, file: Any, count: int, frames: int) -> Callable[[int], Parts]:
        tensor = checked(file, "frames", "U8")
        shape = tensor.get_shape()
        if len(shape) != 5 or shape[:3] != [count, frames, 3]:
            raise DamageError(f"its frames have the shape {shape}, {count} clips of {frames} frames are named")
        return lambda row: (tensor[row],)


class Jpeg(Settings):
    """Each frame as a JPEG with colours at full size, all in one tensor of bytes, with where each begins.

    At ``qscale`` 2 a clip of 8 frames of 224 x 224 takes about 84 kB instead of 1204, and pixels are off by .9 grey levels in the
    mean (2.0 in the worst of 106 real clips); at 1, 124 kB and .6; at 4, 57 kB and 1.3. Source: benchmarks/results/frames.json.

    Attributes:
        qscale: FFmpeg's scale of loss, from 1 (least) to 31.
    """

    kind: Literal["jpeg"] = "jpeg"
    qscale: int = Field(2, ge=1, le=31)

    @property
    def stored(self) -> dict[str, JsonValue]:
        return self.model_dump(mode="json")

    def described(self, recipe: FrameRecipe) -> FrameRecipe:
        return recipe.model_copy(update={"preprocessing": recipe.preprocessing | {"stored": self.stored}})

    def encode(self, frames_TCHW: Bytes) -> Parts:
        return [np.frombuffer(data, np.uint8) for data in encode_jpegs(frames_TCHW, self.qscale)]

    def decode(self, parts: Parts) -> Bytes:
        try:
            pictures = decode_jpegs([part.tobytes() for part in parts])
            return np.stack([np.ascontiguousarray(picture_HWC.transpose(2, 0, 1)) for picture_HWC in pictures])
        except (DamagedJpeg, ValueError) as error:
            raise DamageError(f"its pictures cannot be decoded: {error}") from error

    def pack(self, clips: Sequence[Parts]) -> dict[str, npt.NDArray[Any]]:
        files = [part for parts in clips for part in parts]
        offsets = np.cumsum([0, *(len(file) for file in files)], dtype=np.int64)
        return {"jpeg": np.concatenate(files), "offsets": offsets}

    def open(self, file: Any, count: int, frames: int) -> Callable[[int], Parts]:
        blob, offsets = checked(file, "jpeg", "U8"), checked(file, "offsets", "I64")[:]
        if offsets.shape != (count * frames + 1,) or offsets[0] != 0 or (np.diff(offsets) < 0).any() or [offsets[-1]] != blob.get_shape():
            raise DamageError(f"where its pictures begin does not fit {count} clips of {frames} frames")

        def fetch(row: int) -> Parts:
            bounds = offsets[row * frames : (row + 1) * frames + 1]
            return np.split(blob[int(bounds[0]) : int(bounds[-1])], bounds[1:-1] - bounds[0])

        return fetch


def format_of(stored: Mapping[str, JsonValue]) -> FrameFormat:
    """The format that a shard's header names.

    Raises:
        DamageError: no such format.
    """
    kinds: dict[JsonValue, type[Raw] | type[Jpeg]] = {"raw": Raw, "jpeg": Jpeg}
    try:
        return kinds[stored["kind"]].model_validate(stored)
    except (KeyError, TypeError, ValueError) as error:
        raise DamageError(f"it stores frames as {dict(stored)}, which is none of {', '.join(map(str, kinds))}") from error


def checked(file: Any, name: str, dtype: str) -> Any:
    """A tensor of an open safetensors file, not read yet.

    Raises:
        DamageError: absent, or of another type.
    """
    if name not in file.keys():  # noqa: SIM118 - not a dict
        raise DamageError(f"it has no tensor {name!r}")
    tensor = file.get_slice(name)
    if tensor.get_dtype() != dtype:
        raise DamageError(f"its tensor {name!r} is of type {tensor.get_dtype()}, not {dtype}")
    return tensor
