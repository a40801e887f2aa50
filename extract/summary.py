"""What an extraction did, in numbers and in one line."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import TooManyFailures
from .clip import Failure
from .verdict import Verdict

BINDING = ("decode", "encode", "write")


@dataclass(frozen=True)
class ExtractSummary:
    """The outcome of one run.

    Attributes:
        total: clips of the catalogue.
        embedded: clips computed in this run.
        unchanged: clips that had a row already and were not computed again.
        failures: clips without a vector.
        seconds: wall time of the run.
        decode_wait_seconds: time in which the encoder waited for frames.
        encode_seconds: time in which vectors were computed.
        decoders: clips of this run by the decoder that read them.
        sha256: content hash of the file that was written; empty if none was.
        verdict: what limited the run; None if it ran elsewhere.
    """

    total: int
    embedded: int
    unchanged: int
    failures: tuple[Failure, ...]
    seconds: float
    decode_wait_seconds: float
    encode_seconds: float
    decoders: dict[str, int]
    sha256: str = ""
    verdict: Verdict | None = None

    @property
    def failures_by_kind(self) -> dict[str, int]:
        """Number of failures of each kind, the most frequent first."""
        return dict(Counter(failure.kind for failure in self.failures).most_common())

    @property
    def clips_per_second(self) -> float:
        """Clips computed per second of the run."""
        return self.embedded / self.seconds if self.seconds > 0 else 0.0

    def first_line(self) -> str:
        """The answer: ``103 of 106 clips embedded, 3 failed (2 not_video, 1 timeout); 41 s; decode-bound``."""
        parts = [f"{self.embedded + self.unchanged} of {self.total} clips embedded"]
        if self.unchanged:
            parts[0] += f" ({self.unchanged} unchanged)"
        if self.failures:
            parts[0] += f", {len(self.failures)} failed ({kinds_in_words(self.failures)})"
        parts.append(f"{self.seconds:.0f} s" if self.seconds >= 10 else f"{self.seconds:.1f} s")
        if self.verdict is not None and self.verdict.bound in BINDING:
            parts.append(f"{self.verdict.bound}-bound")
        return "; ".join(parts)


def check_fail_rate(summary: ExtractSummary, max_fail_rate: float) -> None:
    """Refuse a run in which too many clips failed. Call it after the file is written: what succeeded is kept.

    Raises:
        TooManyFailures: the share of failed clips is above ``max_fail_rate`` (0..1).
    """
    if problem := too_many(summary.failures, summary.total, max_fail_rate):
        raise TooManyFailures(
            f"{problem} Everything that succeeded is saved; repair or remove the files and run again, or raise --max-fail-rate."
        )


def too_many(failures: Sequence[Failure], total: int, max_fail_rate: float) -> str | None:
    """What is wrong when more than the share ``max_fail_rate`` (0..1) of ``total`` clips failed; None: it is not more."""
    if len(failures) <= max_fail_rate * total:
        return None
    counted = f"{len(failures)} of {total} clips failed ({kinds_in_words(failures)})"
    return f"{counted}, more than the {max_fail_rate:.1%} that --max-fail-rate allows."


def kinds_in_words(failures: Sequence[Failure]) -> str:
    """``2 not_video, 1 timeout``: failures counted by kind, the most frequent first."""
    return ", ".join(f"{count} {kind}" for kind, count in Counter(failure.kind for failure in failures).most_common())
