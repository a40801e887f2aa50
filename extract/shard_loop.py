"""The loop: frames in, vectors out, whatever single clips do; the same wherever it runs.

Shapes: B clips in a batch, T frames per clip, C = 3, H = W = image size, D embedding width.
"""

import time
from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch

from ..progress import Progress
from .clip import Clip, ClipRef, EmbeddingBatch, Failure
from .decode_pool import Idle, Result
from .reader import Unchanged
from .writer import EmbeddingWriter

Decode = Callable[[Sequence[ClipRef], Mapping[str, str]], Generator[Result | Idle, None, None]]


class ClipEncoder(Protocol):
    """What turns frames into vectors."""

    @property
    def dim(self) -> int:
        """D, width of the vectors."""

    @property
    def device(self) -> torch.device:
        """Where it computes; frames are moved there."""

    def embed_uint8(self, frames_BTCHW: torch.Tensor) -> torch.Tensor:
        """(B, D) float32 vectors of (B, T, 3, H, W) uint8 RGB frames on ``device``; normalising is its own business."""


@dataclass
class Tally:
    """What has happened so far in a run; filled by ``run_shard``, readable at any time."""

    unchanged: int = 0
    failures: list[Failure] = field(default_factory=list)
    decoders: Counter[str] = field(default_factory=Counter)
    decode_wait_seconds: float = 0.0
    encode_seconds: float = 0.0

    @property
    def embedded(self) -> int:
        return self.decoders.total()


def run_shard(
    refs: Sequence[ClipRef],
    decode: Decode,
    encoder: ClipEncoder,
    writer: EmbeddingWriter,
    tally: Tally,
    *,
    batch_clips: int,
    progress: Progress,
) -> None:
    """Read, encode and hand over clips; the one loop, wherever it runs.

    Args:
        refs: the clips, each id once.
        decode: gives one result per ref, in any order, and may tell of pauses; usually ``DecodePool(...).listen``.
        encoder: frames to vectors.
        writer: takes vectors and failures; clips it has already are not computed again while their file stays the same.
        tally: counts what happens; true also when this function is left by an exception.
        batch_clips: B, clips encoded at once; fewer where no more come for a while.
        progress: told about every clip.
    """
    known = writer.hashes
    waiting: list[Clip] = []
    with closing(decode(refs, known)) as results:  # whatever happens, the decoding processes end here
        while (result := _next(results, tally)) is not None:
            if isinstance(result, Clip):
                waiting.append(result)
                if len(waiting) == batch_clips:
                    _encode_and_write(waiting, encoder, writer, tally, progress)
                    waiting = []
            elif isinstance(result, Idle):
                if waiting:  # the encoder has nothing better to do
                    _encode_and_write(waiting, encoder, writer, tally, progress)
                    waiting = []
                writer.idle()
            elif isinstance(result, Unchanged):
                writer.same(result.id)
                tally.unchanged += 1
                progress.advance()
            else:
                _note_failure(result, known, writer, tally, progress)
        if waiting:
            _encode_and_write(waiting, encoder, writer, tally, progress)


def _next(results: Generator[Result | Idle, None, None], tally: Tally) -> Result | Idle | None:
    """The next result, or None at the end; the time spent waiting for it is put down."""
    begin = time.perf_counter()
    result = next(results, None)
    tally.decode_wait_seconds += time.perf_counter() - begin
    return result


def _encode_and_write(clips: list[Clip], encoder: ClipEncoder, writer: EmbeddingWriter, tally: Tally, progress: Progress) -> None:
    begin = time.perf_counter()
    vectors_BD = encode(clips, encoder, progress)
    tally.encode_seconds += time.perf_counter() - begin
    refused = writer.add(EmbeddingBatch(tuple(clips), vectors_BD))
    tally.failures += refused
    bad = {failure.id for failure in refused}
    tally.decoders.update(clip.decoder for clip in clips if clip.id not in bad)
    progress.advance(len(clips), _note(tally))


def encode(clips: Sequence[Clip], encoder: ClipEncoder, progress: Progress) -> npt.NDArray[np.float32]:
    """(B, D) vectors; when the device has too little memory for all at once, in halves."""
    try:
        return _encode_at_once(clips, encoder)
    except torch.OutOfMemoryError:
        if len(clips) == 1:
            raise
    progress.say(f"the device has no memory for {len(clips)} clips at once; trying halves. A smaller batch_clips avoids this.")
    half = len(clips) // 2
    return np.concatenate([encode(clips[:half], encoder, progress), encode(clips[half:], encoder, progress)])


def _encode_at_once(clips: Sequence[Clip], encoder: ClipEncoder) -> npt.NDArray[np.float32]:
    frames = torch.from_numpy(np.stack([clip.frames_TCHW for clip in clips]))
    if encoder.device.type == "cuda":
        frames = frames.pin_memory()  # copied without a stop on the way
    frames = frames.to(encoder.device, non_blocking=True)
    with torch.inference_mode():
        vectors: npt.NDArray[np.float32] = encoder.embed_uint8(frames).float().cpu().numpy()
    return vectors


def _note_failure(failure: Failure, known: Mapping[str, str], writer: EmbeddingWriter, tally: Tally, progress: Progress) -> None:
    """A file that went missing since the plan was made keeps its row, as one that was missing before."""
    if failure.kind == "missing" and failure.id in known:
        tally.unchanged += 1
        progress.say(f"{failure.id}: the file is gone, its vector is kept")
    else:
        writer.fail(failure)
        tally.failures.append(failure)
    progress.advance(1, _note(tally))


def _note(tally: Tally) -> str:
    return f"{len(tally.failures)} failed" if tally.failures else ""
