"""Where clips are read and encoded."""

import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Protocol

from ..progress import Progress
from .clip import ClipRef, Failure
from .decode_pool import DecodePool, Idle, Result
from .ledger import Ledger
from .schedule import TRIED_TWICE
from .shard_loop import ClipEncoder, Tally, run_shard
from .writer import ShardWriter


class Engine(Protocol):
    """Reads and encodes many clips side by side."""

    def run(
        self, refs: Sequence[ClipRef], writer: ShardWriter, tally: Tally, stop: threading.Event, progress: Progress
    ) -> Sequence[ClipRef]:
        """Every clip ends up with the writer, or among those that are returned: to be tried once more, alone.

        Args:
            refs: the clips.
            writer: takes vectors and failures.
            tally: counts them.
            stop: once it is set, what is decoded is still encoded and nothing more is begun.
            progress: told about every clip.
        """


MakeEngine = Callable[[DecodePool, ClipEncoder, int], Engine]
"""(what reads clips, what encodes them, B) -> engine."""


@dataclass(frozen=True)
class LocalEngine:
    """This machine: decoding processes, and the encoder in this one.

    Attributes:
        pool: reads clips.
        encoder: frames to vectors.
        batch_clips: B, clips encoded at once.
        ledger: told of every clip before it is begun, so that a death can be traced to it.
    """

    pool: DecodePool
    encoder: ClipEncoder
    batch_clips: int
    ledger: Ledger

    def run(
        self, refs: Sequence[ClipRef], writer: ShardWriter, tally: Tally, stop: threading.Event, progress: Progress
    ) -> Sequence[ClipRef]:
        again: set[str] = set()
        self._run(self.pool, refs, writer, tally, stop, progress, again)
        return [ref for ref in refs if ref.id in again]

    def run_alone(self, refs: Sequence[ClipRef], writer: ShardWriter, tally: Tally, stop: threading.Event, progress: Progress) -> None:
        """The same with one decoding process and nothing waiting beside it: what fails now fails by itself."""
        if not stop.is_set():
            self._run(replace(self.pool, workers=1, ahead=1), refs, writer, tally, stop, progress, None)

    def _run(
        self,
        pool: DecodePool,
        refs: Sequence[ClipRef],
        writer: ShardWriter,
        tally: Tally,
        stop: threading.Event,
        progress: Progress,
        again: set[str] | None,
    ) -> None:
        def starting(ref: ClipRef) -> None:
            self.ledger.starting(ref.id, alone=again is None)

        def decode(refs: Sequence[ClipRef], known: Mapping[str, str]) -> Generator[Result | Idle, None, None]:
            with closing(pool.listen(refs, known, starting, stop)) as results:
                for result in results:
                    if isinstance(result, Idle):
                        yield result
                        continue
                    self.ledger.read(result.id)
                    if again is not None and isinstance(result, Failure) and result.kind in TRIED_TWICE:
                        again.add(result.id)
                    else:
                        yield result

        if refs:
            run_shard(refs, decode, self.encoder, writer, tally, batch_clips=self.batch_clips, progress=progress)
