"""What verifying an embedding file found, in numbers and in words."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ..errors import VerificationFailed
from .clip import Failure

TOLERANCE = {"32-true": 0.01, "bf16-mixed": 0.02}
"""Precision of the encoder -> how far a row may be from what its clip gives, as a share of its length. On one machine nothing but
float16's rounding, .0005 at most, was seen. Other processors, GPUs and libraries sum and round in other ways: bfloat16 as a whole
is off float32 by up to .009 (random b0), a GPU in float32 is off a CPU by 2e-7 (random b0, H200). Clips that merely look alike are
mostly further apart: half-size copies at CRF 32 by .006 to .05 (random weights)."""
ROUNDING = {"float16": 2.0**-10, "float32": 1e-4}
"""dtype of the file -> deviation that rounding and another order of sums explain. What deviates less is taken to be in its place."""
_MIN_SHIFTED = 3
_IDS_SHOWN = 5


@dataclass(frozen=True)
class RowCheck:
    """A row and what its clip gives now. Distances are shares of the length of the stored vector.

    Attributes:
        id: external id.
        row: its row in the file.
        deviation: distance of the two vectors.
        largest: largest difference of a value, in the vector's own unit.
        cosine: of the two vectors.
        nearest_id: id of the row that is nearest to what the clip gives now.
        nearest_row: its row.
        nearest_deviation: its distance.
        explained: deviation that rounding explains, see ``ROUNDING``.
        tolerance: deviation above which the row is wrong, see ``TOLERANCE``.
        note: what else is not as recorded, in words; empty: nothing.
    """

    id: str
    row: int
    deviation: float
    largest: float
    cosine: float
    nearest_id: str
    nearest_row: int
    nearest_deviation: float
    explained: float
    tolerance: float
    note: str = ""

    @property
    def misplaced(self) -> bool:
        """Another row is at least twice as near: the vector is that of another clip."""
        return self.nearest_row != self.row and self.deviation > self.explained and self.nearest_deviation <= self.deviation / 2

    @property
    def wrong(self) -> bool:
        """The row is not what its clip gives; neither is one that cannot be compared, as NaN."""
        return self.misplaced or not self.deviation <= self.tolerance


@dataclass(frozen=True)
class Verification:
    """What ``verify_rows`` finds.

    Attributes:
        rows: of the file.
        without_clip: rows whose clip is not among those given.
        checks: rows that were made again, by row.
        changed: ids whose file is not the one their row was made of: nothing can be said about the row.
        exchanged: id -> id of the row that holds the hash of its file, while that one's file is another one, too.
        unreadable: clips that could not be read this time.
    """

    rows: int
    without_clip: int
    checks: tuple[RowCheck, ...]
    changed: tuple[str, ...]
    exchanged: Mapping[str, str]
    unreadable: tuple[Failure, ...]

    @property
    def wrong(self) -> list[RowCheck]:
        """Rows that are not what their clips give."""
        return [check for check in self.checks if check.wrong]

    @property
    def passed(self) -> bool:
        return not self.wrong and not self.exchanged

    @property
    def drawn(self) -> int:
        """Rows in the sample."""
        return len(self.checks) + len(self.changed) + len(self.exchanged) + len(self.unreadable)

    @property
    def largest_deviation(self) -> float:
        """Of the rows that are right; 0 if there are none."""
        return max((check.deviation for check in self.checks if not check.wrong), default=0.0)

    @property
    def wrong_at_most(self) -> float:
        """Share of rows that may be wrong although none of those drawn is: more would have shown in 95 of 100 draws; (0, 1]."""
        return float(1 - 0.05 ** (1 / len(self.checks))) if self.checks else 1.0

    @property
    def shift(self) -> int:
        """By how many rows misplaced vectors stand off, if most of them by the same: 1 if clip i's vector is in row i + 1; else 0."""
        steps = Counter(check.nearest_row - check.row for check in self.checks if check.misplaced)
        step, count = steps.most_common(1)[0] if steps else (0, 0)
        return step if count >= max(_MIN_SHIFTED, 0.8 * steps.total()) else 0

    def first_line(self) -> str:
        """``200 of 200 rows are what their clips give, ...``, or ``FAILED: 2 of 200 rows are not ...``."""
        compared, wrong = len(self.checks), len(self.wrong)
        if self.passed:
            return f"{_rows(compared, compared)} what {_their(compared)}; off by {self.largest_deviation:.1e} of their length at most"
        parts = []
        if wrong:
            misplaced = sum(check.misplaced for check in self.checks)
            others = f", {misplaced} of them the vector of another clip" if misplaced else ""
            parts.append(f"{_rows(wrong, compared)} not what {_their(wrong)}{others}")
        if self.exchanged:
            stand = "clip stands" if len(self.exchanged) == 1 else "clips stand"
            parts.append(f"{len(self.exchanged)} {stand} in the row of another id, by the hashes of their files")
        return f"FAILED: {'; '.join(parts)}"

    def notes(self) -> list[str]:
        """What else there is to say, a line each."""
        notes = [f"{self.drawn:,} of {self.rows:,} rows were drawn, {len(self.checks):,} compared with every row."]
        if self.passed and len(self.checks) < self.rows:
            notes.append(f"So fewer than {self.wrong_at_most:.1%} of all rows are wrong, with 95 % confidence; --sample N draws more.")
        if self.shift:
            step = abs(self.shift)
            side = "after" if self.shift > 0 else "before"
            notes.append(f"The vectors are shifted: they stand {step} row{'' if step == 1 else 's'} {side} their ids.")
        if self.changed:
            notes.append(f"{_of(self.changed)} another file than their rows were made of, and not compared; vivim extract renews them.")
        if self.unreadable:
            notes.append(f"{_of([f'{f.id} ({f.kind})' for f in self.unreadable])} not readable this time, and not compared.")
        if self.without_clip:
            notes.append(f"{self.without_clip:,} rows have no clip here and were not drawn from.")
        unexplained = [check.id for check in self.checks if not check.wrong and check.deviation > check.explained]
        if unexplained:
            notes.append(f"{_of(unexplained)} off by more than rounding explains: another processor, device or library made the file.")
        noted = [check for check in self.checks if check.note]
        if noted:
            notes.append(f"{_of([check.id for check in noted])} not read as recorded; {noted[0].id}: {noted[0].note}.")
        return notes

    def as_dict(self) -> dict[str, Any]:
        """For JSON; of the rows that were compared, those that are wrong are listed."""
        return {
            "passed": self.passed,
            "rows": self.rows,
            "drawn": self.drawn,
            "compared": len(self.checks),
            "without_clip": self.without_clip,
            "wrong_at_most": self.wrong_at_most if self.passed else None,
            "largest_deviation": self.largest_deviation,
            "shift": self.shift,
            "wrong": [{name: _json(value) for name, value in asdict(check).items()} for check in self.wrong],
            "exchanged": dict(self.exchanged),
            "changed": list(self.changed),
            "unreadable": [asdict(failure) for failure in self.unreadable],
        }

    def raise_if_wrong(self) -> None:
        """Nothing, if every row that could be compared is right.

        Raises:
            VerificationFailed: a row is not what its clip gives.
        """
        if not self.passed:
            raise VerificationFailed("Do not train on this file. Extract again into another one, and verify that.")


def _json(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _rows(some: int, all_: int) -> str:
    return f"{some} of {all_} rows {'is' if some == 1 else 'are'}"


def _their(count: int) -> str:
    return "its clip gives" if count == 1 else "their clips give"


def _of(ids: Sequence[str]) -> str:
    """``3 clips (a, b, c) are``."""
    more = f" and {len(ids) - _IDS_SHOWN} more" if len(ids) > _IDS_SHOWN else ""
    return f"{len(ids)} clip{'' if len(ids) == 1 else 's'} ({', '.join(ids[:_IDS_SHOWN])}{more}) {'is' if len(ids) == 1 else 'are'}"
