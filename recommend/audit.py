"""What the data is, in the numbers of the paper's Table 1, and everything odd about it."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .build import protocol_of
from .config import ProtocolConfig
from .oddities import Oddity, OddityKind, about_ids, history_oddities, id_oddities, partner_oddities, split_oddities, user_item_pairs
from .protocol import Split
from .sequences import Interactions
from .titles import read_titles


@dataclass(frozen=True)
class Audit:
    """A data set described.

    Attributes:
        source: file, format and time unit.
        facts: name -> number, in the order to show them; lengths are interactions per user, ``sparsity`` is a share.
        oddities: in the order found.
    """

    source: str
    facts: dict[str, int | float | str]
    oddities: tuple[Oddity, ...]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        oddities = [{"kind": str(oddity.kind), "count": oddity.count, "message": oddity.message} for oddity in self.oddities]
        return {"source": self.source, "facts": dict(self.facts), "oddities": oddities}

    def lines(self) -> list[tuple[str, str]]:
        """(name, value) of every fact as text for people."""
        return [(name, _shown(name, value)) for name, value in self.facts.items()]


def audit(
    interactions: Interactions,
    *,
    clip_ids: Collection[str] | None = None,
    vector_ids: Collection[str] | None = None,
    titles: Path | None = None,
    protocol: ProtocolConfig | None = None,
) -> Audit:
    """Describe a data set and name its oddities.

    Args:
        interactions: as read.
        clip_ids: ids of the clips at hand, None if there is no folder.
        vector_ids: ids in the embedding file, None if there is none.
        titles: a titles file.
        protocol: how it will be divided; default: MicroLens.

    Raises:
        InputError: the titles file cannot be read, or the protocol cannot divide these interactions (they have no times).
    """
    config = protocol or ProtocolConfig()
    facts = _table_one(interactions)
    oddities = [*id_oddities(interactions.items), *history_oddities(interactions, config.min_interactions)]
    if interactions.histories.lengths.max(initial=0) >= config.min_interactions:  # else nobody is left, which is among the oddities
        split = protocol_of(config).split(interactions)
        facts |= _split_facts(split)
        oddities += split_oddities(interactions, split)
    if titles is not None:
        read = read_titles(titles)
        facts["titles"] = len(read.by_id)
        empty = [id_ for id_, title in read.by_id.items() if not title]
        oddities += partner_oddities(interactions.items, read.by_id.keys(), "TITLES", "title", "They are shown by their id.")
        oddities += about_ids(OddityKind.TITLES_EMPTY, empty, "empty titles")
        oddities += about_ids(OddityKind.TITLES_REPEATED, read.repeated, "lines that repeat an item", "Its first title is used.")
    for ids, kind, noun, consequence in (
        (clip_ids, "CLIPS", "clip", "Nothing can be extracted for them."),
        (vector_ids, "VECTORS", "vector", "See items.min_coverage."),
    ):
        if ids is not None:
            partners = frozenset(ids)
            facts[f"{noun}s"] = len(partners)
            facts[f"items with a {noun}"] = sum(id_ in partners for id_ in interactions.items.ids)
            oddities += partner_oddities(interactions.items, partners, kind, noun, consequence)
    return Audit(interactions.source, facts, tuple(oddities))


def _table_one(interactions: Interactions) -> dict[str, int | float | str]:
    lengths = interactions.histories.lengths
    users, items = len(interactions.users), len(interactions.items)
    facts: dict[str, int | float | str] = {
        "users": users,
        "items": items,
        "interactions": len(interactions),
        "sparsity": 1 - len(np.unique(user_item_pairs(interactions))) / (users * items),
        "length mean": float(lengths.mean()),
    }
    for name, quantile in (("min", 0), ("25 %", 0.25), ("median", 0.5), ("75 %", 0.75), ("95 %", 0.95), ("max", 1)):
        facts[f"length {name}"] = int(np.quantile(lengths, quantile, method="inverted_cdf"))
    if interactions.times_ms is not None:
        for name, time in (("first", interactions.times_ms.min()), ("last", interactions.times_ms.max())):
            facts[f"{name} interaction"] = str(np.datetime64(int(time), "ms").astype("datetime64[s]"))
    return facts


def _split_facts(split: Split) -> dict[str, int | float | str]:
    return {
        "users asked": len(split.test),
        "items ranked": len(split.items),
        "interactions kept": split.card.interactions,
        "interactions to train on": len(split.train.items),
    }


def _shown(name: str, value: int | float | str) -> str:
    if name == "sparsity":
        return f"{value:.2%}"
    if isinstance(value, float):
        return f"{value:.2f}"
    return f"{value:,}" if isinstance(value, int) else value
