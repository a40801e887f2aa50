"""Which rows of a table are compared, and what comes of it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from .line import Line
from .significance import Comparison, holm, randomisation

YARDSTICK = "item-knn"  # what does not beat it has learned nothing worth shipping


@dataclass(frozen=True)
class Tested:
    """A row against another: the one it names, the best baseline of its class, or the yardstick.

    Attributes:
        kind: class of the first.
        row, baseline: their names.
        metric: on the test.
        found: the comparison.
        p: adjusted for all comparisons of the metric (Holm).
    """

    kind: str
    row: str
    baseline: str
    metric: str
    found: Comparison
    p: float


def compare(lines: Sequence[Line]) -> list[Tested]:
    """Rows against those they name; others of ours against the best baseline of their class, by validation; learned rows against
    ``YARDSTICK``. All comparisons of a metric are one family."""
    gains = lines[0].answers.gains
    first = "ndcg@10" if "ndcg@10" in gains else next(metric for metric in gains if metric.startswith("ndcg"))
    # A pair that is asked for twice is one comparison.
    pairs = list({(one.row.slug, other.row.slug): (one, other) for one, other in _pairs(lines, first)}.values())
    found = []
    for metric in (first.replace("ndcg", "hit_rate"), first):
        comparisons = [_compare(line, other, metric) for line, other in pairs]
        adjusted = holm([comparison.p for comparison in comparisons])
        found += [
            Tested(line.row.kind, line.row.name, other.row.name, metric, comparison, p)
            for (line, other), comparison, p in zip(pairs, comparisons, adjusted, strict=True)
        ]
    return found


def _pairs(lines: Sequence[Line], first: str) -> Iterator[tuple[Line, Line]]:
    for line in lines:
        of_class = [other for other in lines if other.row.kind == line.row.kind and not other.row.ours]
        if line.row.against is not None:
            yield from ((line, other) for other in lines if other.row.name == line.row.against)
        elif line.row.ours and of_class:
            yield line, max(of_class, key=lambda other: other.cells["validation", first].estimate.value)
    for line in lines:
        if line.learned:
            yield from ((line, other) for other in lines if other.row.name == YARDSTICK)


def _compare(line: Line, other: Line, metric: str) -> Comparison:
    assert line.answers.users.equals(other.answers.users), f"{line.row.name} and {other.row.name} answered different users"
    return randomisation(line.answers.gains[metric], other.answers.gains[metric])
