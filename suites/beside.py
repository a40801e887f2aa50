"""What results.json says of a row beside the accuracy over all users: by bucket, and what its lists are like.

Means over seeds. Results of before a number was measured do not have it, and leave it out.
"""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..recommend.metrics import Estimate
from ..recommend.report import group_names, history_names, space_told
from ..recommend.space import OWN

SEEN, AFTER = "seen", "after"
_GROUPS = {SEEN: ("groups", group_names), AFTER: ("history_groups", history_names)}  # what a bucket is of -> key, names in order
# Key in results.json -> name for people, digits that are shown.
LISTS = {"coverage": ("coverage", 4), "gini": ("Gini", 3), "mean_popularity": ("mean views", 1), "diversity": ("diversity", 3)}


@dataclass(frozen=True)
class Bucket:
    """Accuracy on questions of one kind.

    Attributes:
        of: ``SEEN``, how often training saw the target, or ``AFTER``, how much was watched before it.
        name: from how many to how many: ``5-19``.
        questions: that are of this kind.
        metrics: ``hit_rate@k``, ``ndcg@k``; the bounds are means of the seeds' bounds.
    """

    of: str
    name: str
    questions: int
    metrics: dict[str, Estimate]

    @property
    def title(self) -> str:
        """``seen 5-19 times`` or ``after 6-9 items``."""
        return f"{self.of} {self.name} {'times' if self.of == SEEN else 'items'}"


@dataclass(frozen=True)
class Beside:
    """Of one row.

    Attributes:
        buckets: split -> buckets that have questions, by training frequency first.
        lists: (split, name of ``LISTS``, k) -> number; without those that the model has none of.
        space: whose vectors diversity is measured in. Seeds that are of several have no diversity.
    """

    buckets: dict[str, tuple[Bucket, ...]] = field(default_factory=dict)
    lists: dict[tuple[str, str, int], float] = field(default_factory=dict)
    space: str = OWN

    def as_dict(self) -> dict[str, Any]:
        """For JSON: ``test coverage@10``; ``test, seen 0 times``."""
        return {
            "lists": {f"{split} {name}@{k}": number for (split, name, k), number in self.lists.items()},
            "diversity_in": self.space,
            "buckets": {
                f"{split}, {bucket.title}": {"questions": bucket.questions} | {name: e.as_dict() for name, e in bucket.metrics.items()}
                for split, buckets in self.buckets.items()
                for bucket in buckets
            },
        }


def beside_of(results: Sequence[Mapping[str, Any]]) -> Beside:
    """From results.json of the seeds of a row."""
    spaces = {space_told(result) for result in results}
    splits = {name: [result["splits"][name] for result in results] for name in results[0]["splits"]}
    return Beside(
        buckets={name: tuple(_buckets(seeds)) for name, seeds in splits.items()},
        lists={
            (name, number, int(k)): statistics.fmean(seed[number][k] for seed in seeds)
            for name, seeds in splits.items()
            for number in LISTS
            if all(seed.get(number) is not None for seed in seeds) and (number != "diversity" or len(spaces) == 1)
            for k in seeds[0][number]
        },
        space=" and ".join(sorted(spaces)),
    )


def _buckets(seeds: Sequence[Mapping[str, Any]]) -> list[Bucket]:
    found = []
    for of, (key, names) in _GROUPS.items():
        for name, _, _ in names():
            same = [seed[key][name] for seed in seeds if name in seed.get(key, {})]
            if len(same) == len(seeds):
                metrics = {metric: _mean([one[metric] for one in same]) for metric in same[0] if metric != "questions"}
                found.append(Bucket(of, name, same[0]["questions"], metrics))
    return found


def _mean(estimates: Sequence[Mapping[str, float]]) -> Estimate:
    return Estimate(*(statistics.fmean(one[part] for one in estimates) for part in ("value", "low", "high")))
