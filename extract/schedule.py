"""What a run has to do: every clip of the catalogue against what is known of it, before any file is opened."""

from collections.abc import Mapping
from dataclasses import dataclass

from .clip import ClipRef, Failure
from .clips import Catalogue
from .ledger import DEATHS, Entry, Stat

TRIED_TWICE = frozenset({"timeout", "crash", "oom", "changed"})
"""Failures after which a clip is read once more in the same run, alone, when all others are done."""

ALWAYS_AGAIN = frozenset({"missing", "changed"})
"""Failures that say nothing about the file's content. All others are tried again only when the file has changed, or when asked for."""


@dataclass(frozen=True)
class Plan:
    """What becomes of each clip of a catalogue.

    Attributes:
        total: clips of the catalogue.
        todo: to be read, the largest files first, so that no long clip is left over for the end.
        alone: to be read one at a time after all others: an earlier run ended without a word while they were being read.
        unchanged: ids whose vector is there; their files have the size and time they had.
        gone: ids whose vector is there and whose file is not: an unmounted disk must not empty a catalogue.
        failures: clips that have failed before any is read.
        news: those of ``failures`` that are not on record yet.
        hashes: of the files behind vectors that may be outdated, by id: read again, the same file is not decoded again.
        stats: size and time of every file that will be read.
    """

    total: int
    todo: tuple[ClipRef, ...]
    alone: tuple[ClipRef, ...]
    unchanged: tuple[str, ...]
    gone: tuple[str, ...]
    failures: tuple[Failure, ...]
    news: tuple[Failure, ...]
    hashes: Mapping[str, str]
    stats: Mapping[str, Stat | None]

    @property
    def size_bytes(self) -> int:
        """Of the files that will be read."""
        return sum(stat.size_bytes for stat in self.stats.values() if stat)


def make_plan(catalogue: Catalogue, entries: Mapping[str, Entry], suspects: Mapping[str, int], *, retry_failed: bool = False) -> Plan:
    """Sort a catalogue's clips into those to be read and those of which everything is known.

    Args:
        entries: what earlier runs found, by id.
        suspects: clips that were being read when an earlier run ended, and over how many of them alone the machine went down.
        retry_failed: try every failed clip again.
    """
    todo: list[ClipRef] = []
    alone: list[ClipRef] = []
    unchanged: list[str] = []
    gone: list[str] = []
    failures: list[Failure] = []
    news: list[Failure] = []
    stats: dict[str, Stat | None] = {}
    for failure in catalogue.failures:
        entry = entries.get(failure.id)
        if failure.kind == "missing" and entry and entry.state == "done":
            gone.append(failure.id)
            continue
        failures.append(failure)
        if entry is None or (entry.state, entry.kind) != ("failed", failure.kind):
            news.append(failure)
    for ref in catalogue.refs:
        entry, stat = entries.get(ref.id), Stat.of(ref.path)
        same = entry is not None and stat is not None and entry.stat == stat
        if suspects.get(ref.id, 0) >= DEATHS and not retry_failed:
            failures.append(
                Failure(ref.id, "crash", f"the machine went down {suspects[ref.id]} times while this clip was being read alone")
            )
            news.append(failures[-1])
        elif entry and same and entry.state == "done":
            unchanged.append(ref.id)
        elif entry and same and entry.kind not in ALWAYS_AGAIN and not retry_failed:
            failures.append(Failure(ref.id, entry.kind, entry.message))
        else:
            stats[ref.id] = stat
            (alone if ref.id in suspects else todo).append(ref)

    def largest_first(ref: ClipRef) -> tuple[int, str]:
        stat = stats[ref.id]
        return (-stat.size_bytes if stat else 0, ref.id)

    return Plan(
        total=len(catalogue),
        todo=tuple(sorted(todo, key=largest_first)),
        alone=tuple(sorted(alone, key=largest_first)),
        unchanged=tuple(unchanged),
        gone=tuple(gone),
        failures=tuple(failures),
        news=tuple(news),
        hashes={id_: entry.sha256 for id_ in stats if (entry := entries.get(id_)) and entry.state == "done"},
        stats=stats,
    )
