"""What limited an extraction, in words: which stage, how busy each was, what would help and by how much at most."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

Bound = Literal["decode", "encode", "write", "balanced", "other", "unknown"]

SHORT_SECONDS = 10.0
"""Shorter runs are mostly starting: a decoding process takes a second or two, more on a busy machine."""
CLIPS_PER_DECODER = 4
"""Fewer clips per decoding process tell about single clips, not about the run."""
AHEAD = 0.15
"""A stage binds when it takes this share of the run more than the next one; closer ones are balanced."""
BUSY = 0.6
"""Decoding processes that are less busy than that while the encoder waits for them are not what it waits for."""


@dataclass(frozen=True)
class StageTimes:
    """Where the time of a run went. One thread encodes and writes; the decoding processes work beside it.

    Attributes:
        seconds: wall time of the run, from the first process started to the file written.
        clips: decoded in this run.
        wait_seconds: the encoding thread waited for frames.
        encode_seconds: it computed vectors.
        write_seconds: it wrote.
        decoders: decoding processes.
        decode_busy_seconds: from a clip handed to a process to its frames, summed over all processes.
        blocked_seconds: decoding processes were done and waited to hand over because enough frames were ready, summed over all.
        cores: CPU cores that the run might use.
        device: that encodes.
        precision: of the encoder, as in ``extract.precision``.
        seek: how decoders reach a frame, where that can be chosen; None: it cannot.
    """

    seconds: float
    clips: int
    wait_seconds: float
    encode_seconds: float
    write_seconds: float
    decoders: int
    decode_busy_seconds: float
    blocked_seconds: float
    cores: int
    device: str
    precision: str = "32-true"
    seek: Literal["exact", "keyframe"] | None = None

    def __post_init__(self) -> None:
        spans = (self.seconds, self.wait_seconds, self.encode_seconds, self.write_seconds, self.decode_busy_seconds, self.blocked_seconds)
        assert min(spans) >= 0 and min(self.decoders, self.cores) >= 1 and self.clips >= 0, self

    @property
    def shares(self) -> dict[str, float]:
        """Of the run's wall time: waiting for frames (``decode``), ``encode``, ``write``, and the rest (``other``)."""
        parts = {"decode": self.wait_seconds, "encode": self.encode_seconds, "write": self.write_seconds}
        shares = {name: min(part / self.seconds, 1.0) if self.seconds else 0.0 for name, part in parts.items()}
        return shares | {"other": max(0.0, 1.0 - sum(shares.values()))}

    @property
    def decode_busy(self) -> float:
        """Share of the run in which a decoding process was reading a clip, on average."""
        return self._of_decoders(self.decode_busy_seconds)

    @property
    def decode_blocked(self) -> float:
        """Share of the run in which a decoding process waited to hand over, on average."""
        return self._of_decoders(self.blocked_seconds)

    def _of_decoders(self, seconds: float) -> float:
        return min(seconds / (self.decoders * self.seconds), 1.0) if self.seconds else 0.0


@dataclass(frozen=True)
class Verdict:
    """The answer of ``verdict``.

    Attributes:
        bound: the stage that limited the run; ``balanced``: decoding and encoding alike; ``other``: none of the three stages;
            ``unknown``: the run was too short to tell.
        words: one to three sentences.
        at_most: how many times as fast the run becomes at most if the stage takes no time at all; None: nothing is claimed.
        times: what was measured.
    """

    bound: Bound
    words: str
    at_most: float | None
    times: StageTimes

    def as_dict(self) -> dict[str, Any]:
        """For JSON; shares are of the run's wall time."""
        measured = asdict(self.times) | {f"{name}_share": share for name, share in self.times.shares.items()}
        measured |= {"decode_busy_share": self.times.decode_busy, "blocked_share": self.times.decode_blocked}
        rounded = {name: round(value, 3) if isinstance(value, float) else value for name, value in measured.items()}
        at_most = None if self.at_most is None else round(self.at_most, 2)
        return {"bound": self.bound, "words": self.words, "at_most": at_most, **rounded}


def verdict(times: StageTimes) -> Verdict:
    """Which stage limited the run.

    If a stage took no time, the others would still take theirs, so a run gets faster by seconds / (seconds - the stage's) at most;
    for decoding, the stage's time is what the encoder waited for it, for encoding at most until the decoding processes are busy
    throughout. On a CPU both use the same cores, so that one slows the other and the bound is an estimate.
    """
    if times.seconds < SHORT_SECONDS or times.clips < CLIPS_PER_DECODER * times.decoders:
        clips = f"{times.clips} clip{'' if times.clips == 1 else 's'}"
        return Verdict("unknown", f"Too short a run to tell what limits it: {clips} in {times.seconds:.1f} s.", None, times)
    (first, most), (second, next_) = sorted(times.shares.items(), key=lambda item: -item[1])[:2]
    if most - next_ < AHEAD and {first, second} == {"decode", "encode"}:
        return _balanced(times)
    match first:
        case "decode" if times.decode_busy >= BUSY:
            return _decode(times)
        case "decode":
            return _handing_over(times)
        case "encode":
            return _encode(times)
        case "write":
            return _write(times)
    words = f"Neither decoding, encoding nor writing took most of the time: {times.shares['other']:.0%} of it went elsewhere."
    return Verdict("other", words, None, times)


def _decode(times: StageTimes) -> Verdict:
    at_most = _without(times, times.wait_seconds)
    saw = f"Decoding bound the run: the encoder waited {times.shares['decode']:.0%} of the time while {_busy(times)}."
    if times.device == "cpu":
        gpu = _times(_without(times, times.encode_seconds))
        help_ = f"{_shared(times)} More cores would help both; a GPU, which leaves the cores to decoding, up to {gpu}."
    elif times.cores > times.decoders:
        help_ = f"{times.cores} cores were there: more of them would help (--workers {times.cores}), up to {_times(at_most)}."
    else:
        # As many processes as keep the encoder busy all the time that the run then lasts.
        enough = times.decode_busy_seconds / max(times.seconds - times.wait_seconds, 1e-9)
        help_ = f"More cores would help, up to {_times(at_most)} (with {enough:,.0f} the encoder would hardly wait)."
    seek = " --seek keyframe decodes one frame per wanted frame." if times.seek == "exact" else ""
    return Verdict("decode", f"{saw} {help_}{seek}", at_most, times)


def _encode(times: StageTimes) -> Verdict:
    left = max(times.decode_busy_seconds / times.decoders, times.seconds - times.encode_seconds)
    at_most = _without(times, times.seconds - left)
    blocked = f", and decoding processes waited {times.decode_blocked:.0%} of theirs to hand over frames" if times.blocked_seconds else ""
    saw = f"Encoding bound the run: the encoder computed {times.shares['encode']:.0%} of the time{blocked}."
    if times.device == "cpu":
        help_ = f"{_shared(times)} A GPU or a smaller encoder would help, up to about {_times(at_most)}."
    else:
        help_ = f"A faster GPU or a smaller encoder would help, up to {_times(at_most)}; then decoding binds."
    precise = " So may extract.precision=bf16-mixed." if times.precision == "32-true" else ""
    return Verdict("encode", f"{saw} {help_}{precise}", at_most, times)


def _balanced(times: StageTimes) -> Verdict:
    at_most = _without(times, max(times.wait_seconds, times.encode_seconds))
    words = (
        f"Decoding and encoding were balanced: the encoder computed {times.shares['encode']:.0%} of the time and waited "
        f"{times.shares['decode']:.0%} while {_busy(times)}."
    )
    if times.device == "cpu":
        return Verdict("balanced", f"{words} {_shared(times)} More cores would help both; a GPU, up to {_times(at_most)}.", at_most, times)
    return Verdict("balanced", f"{words} Speeding up one of them alone helps up to {_times(at_most)}.", at_most, times)


def _write(times: StageTimes) -> Verdict:
    at_most = _without(times, times.write_seconds)
    saw = f"Writing bound the run: {times.shares['write']:.0%} of the time went into storing vectors."
    return Verdict("write", f"{saw} A faster disk for --out would help, up to {_times(at_most)}.", at_most, times)


def _handing_over(times: StageTimes) -> Verdict:
    words = (
        f"The encoder waited {times.shares['decode']:.0%} of the time, and yet {_busy(times)}: the time went into starting processes and "
        "handing frames over. A longer run tells more."
    )
    return Verdict("other", words, None, times)


def _without(times: StageTimes, seconds: float) -> float:
    return times.seconds / max(times.seconds - seconds, 1e-3 * times.seconds)


def _busy(times: StageTimes) -> str:
    one = times.decoders == 1
    only = "only " if times.decode_busy < BUSY else ""
    return f"{times.decoders} decoding process{' was' if one else 'es were'} {only}{times.decode_busy:.0%} busy"


def _shared(times: StageTimes) -> str:
    return f"Both share {times.cores} cores." if times.cores > 1 else "Both share one core."


def _times(factor: float) -> str:
    """``7.5 times``; ``a hundred times`` and more is not told apart."""
    return f"{factor:.1f} times" if factor < 100 else "a hundred times"
