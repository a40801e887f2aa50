"""From the runs of a suite to its table: rows with their numbers, what is significant, and what stands below."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..recommend.leakage import Leakage, leakage_lines
from ..recommend.report import card_line
from ..recommend.space import OWN
from .comparisons import YARDSTICK, Tested, compare
from .line import Line, line_of
from .published import DIFFERS, IMPOSSIBLE, MARKS, PAPER, README
from .runner import measured
from .suite import Suite

_PRINTED = (
    f"{README}, {PAPER}: printed for MicroLens-100K, not measured here. {MARKS[DIFFERS]} the two differ in this cell; {MARKS[IMPOSSIBLE]} "
    "the four numbers of that row cannot come from one evaluation."
)
_NOT_PRINTED = f"What {README} and {PAPER} print is of MicroLens-100K; it says nothing of a world that was made, and does not stand here."

_OWN_SPACE = f"Diversity in {OWN} is of each model's own space: it is not to be compared with that of another row."


@dataclass(frozen=True)
class Table:
    """The whole table of a suite.

    Attributes:
        suite: that was run.
        lines: its rows with results, class by class.
        tested: comparisons.
        card: protocol card, the same for all.
        provenance: of the newest result.
        leakage: how far training looks past the test; None where the file has no times.
    """

    suite: Suite
    lines: tuple[Line, ...]
    tested: tuple[Tested, ...]
    card: dict[str, Any]
    provenance: dict[str, Any]
    leakage: Leakage | None = None

    @property
    def metrics(self) -> list[str]:
        return [f"{name}@{k}" for k in sorted(self.suite.k) for name in ("hit_rate", "ndcg")]

    @property
    def beside_printed(self) -> bool:
        """Printed numbers are of MicroLens, and say nothing about a world that was made."""
        return self.suite.world is None

    def notes(self) -> list[str]:
        """What stands below."""
        return [
            card_line(self.card),
            *leakage_lines(self.card["protocol"], self.leakage),
            "Ours: mean over users and seeds, [95 % interval over users], ± standard deviation over seeds.",
            *([_PRINTED] if self.beside_printed else [_NOT_PRINTED]),
            f"Every learned row is compared with {YARDSTICK} where that is measured, ours with the best baseline of their class in "
            "validation, rows that name one with it; p is adjusted for all comparisons of a metric.",
            "Buckets: HR and NDCG of the questions whose target training saw so often, or that had so much before them; means over seeds, "
            "their intervals are in table.csv. Lists: of the test's top-K lists, as in results.json of a run.",
            *([_OWN_SPACE] if any(line.beside.space == OWN for line in self.lines) else []),
            f"Sum of training time: {sum(line.cost.seconds_of_all for line in self.lines) / 3600:.2f} h, all seeds, with validations.",
            *(
                ["§ a training was ended by its budget of time, not by validation."]
                if any(line.cost.stopped for line in self.lines)
                else []
            ),
            *self._measured(),
            *(f"{line.row.name}: {line.row.note}" for line in self.lines if line.row.note),
        ]

    def _measured(self) -> list[str]:
        """Which rows are of which day and commit, where they are of several."""
        rows: dict[str, list[str]] = {}
        for line in self.lines:
            for when in line.measured:
                rows.setdefault(when, []).append(line.row.name)
        return [f"Measured {when}: {', '.join(names)}." for when, names in sorted(rows.items())] if len(rows) > 1 else []


def table_of(out: Path) -> Table:
    """The table of the suite that was run into ``out``; rows without results are left out.

    Raises:
        InputError: no suite was run there, nothing of it is finished, or its runs have different protocol cards.
    """
    try:
        suite = Suite.model_validate_json((out / "suite.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{out} holds no suite that was run ({error}); run one with: vivim benchmark run SUITE --out {out}.") from error
    lines: list[Line] = []
    cards: dict[str, Path] = {}
    provenance: dict[str, Any] = {}
    leakage: Leakage | None = None
    for row, runs in measured(suite, out):
        results = [json.loads((run / "results.json").read_text(encoding="utf-8")) for run in runs]
        for run, result in zip(runs, results, strict=True):
            cards.setdefault(json.dumps(result["protocol_card"], sort_keys=True), run)
            leakage = leakage or (Leakage(**result["leakage"]) if result.get("leakage") else None)
            provenance = max(provenance, result["provenance"], key=lambda p: p.get("date", ""))
        lines.append(line_of(row, suite.k, runs, results))
    if not lines:
        raise InputError(f"nothing of the suite in {out} is finished yet.")
    if len(cards) > 1:
        one, other = list(cards.values())[:2]
        raise InputError(f"{one} and {other} have different protocol cards; their numbers do not belong in one table.")
    order = list(dict.fromkeys(row.kind for row in suite.rows))
    lines.sort(key=lambda line: order.index(line.row.kind))
    return Table(suite, tuple(lines), tuple(compare(lines)), json.loads(next(iter(cards))), provenance, leakage)
