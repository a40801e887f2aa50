"""What trained rows find by how often training saw the target and by how much was watched before it, and whether that is chance.

    python benchmarks/buckets.py --out benchmarks/results/NAME.json FOLDER...

A folder is a row of `vivim benchmark run` (seed-1, seed-2 ... in it) or a single run; it holds ranks.parquet and run.json. HR@10 on test
with 95 % intervals over users; several seeds of a row are averaged for each user first. A row is compared with the row of ids alone of the
same model by the paired randomisation test, bucket by bucket, adjusted over the buckets of a kind (Holm). A row that is in the file and
not among the folders stays as it is, with its own provenance.

Legend: U users.
"""

import argparse
import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
from vivim.recommend.build import protocol_of
from vivim.recommend.checkpoint import RunFolder
from vivim.recommend.evaluation import refuse_other_data
from vivim.recommend.metrics import bootstrap_mean, hit_rate
from vivim.recommend.protocol import Split
from vivim.recommend.ranker import Ranks
from vivim.recommend.readers import read_interactions
from vivim.recommend.report import group_names, history_names
from vivim.store.provenance import provenance
from vivim.suites.significance import Comparison, holm, randomisation

K = 10
METRIC = f"hit_rate@{K}"
KINDS = {"by_views": group_names(), "by_history": history_names()}


@dataclass(frozen=True)
class Hits:
    """What the runs of a row found on the test, user by user.

    Attributes:
        runs: of its seeds.
        ranks: of each, (U,).
    """

    runs: list[RunFolder]
    ranks: list[npt.NDArray[np.float64]]

    @property
    def mean_U(self) -> npt.NDArray[np.float64]:
        """Hits of each user, mean over seeds."""
        return np.mean([rank <= K for rank in self.ranks], axis=0)

    def among(self, chosen_U: npt.NDArray[np.bool_]) -> dict[str, float]:
        """HR, its interval over the chosen users, and its standard deviation over seeds where there are several."""
        single = len(self.ranks) == 1
        estimate = hit_rate(Ranks(self.ranks[0][chosen_U], 0), K) if single else bootstrap_mean(self.mean_U[chosen_U])
        sd = {} if single else {"sd": statistics.stdev(float((rank[chosen_U] <= K).mean()) for rank in self.ranks)}
        return {name: round(value, 5) for name, value in (estimate.as_dict() | sd).items()}


def hits_of(folder: Path, users: Sequence[str]) -> Hits:
    """The runs of a row.

    Args:
        users: (U,) ids, in the order of the questions.
    """
    paths = sorted(path.parent for path in folder.glob("seed-*/ranks.parquet")) or [folder]
    tables = [pl.read_parquet(path / "ranks.parquet").filter(pl.col("split") == "test") for path in paths]
    assert all(table["user"].to_list() == list(users) for table in tables), f"{folder} answered other users"
    return Hits([RunFolder.open(path) for path in paths], [table["rank"].to_numpy() for table in tables])


def label(folder: Path) -> str:
    """Of a row, or of one of its runs, without what is of this machine alone."""
    return f"{folder.parent.name}/{folder.name}" if folder.name.startswith("seed-") else folder.name


def chosen(numbers_U: npt.NDArray[np.int64], kind: str) -> dict[str, npt.NDArray[np.bool_]]:
    """Name of a bucket -> which questions are in it, for those that have some."""
    found = {name: (numbers_U >= least) & (numbers_U <= most) for name, least, most in KINDS[kind]}
    return {name: mask for name, mask in found.items() if mask.any()}


def row_of(hits: Hits, baseline: Hits | None, numbers: Mapping[str, npt.NDArray[np.int64]], name: str) -> dict[str, Any]:
    """One row: what was trained, what it finds, and how that compares.

    Args:
        baseline: ids alone; None: it is that, or there is none.
        numbers: kind of bucket -> (U,) the number that decides.
        name: of its folder.
    """
    info = hits.runs[0].info()
    items = info["config"]["items"]
    everybody = np.ones(len(hits.ranks[0]), bool)
    row: dict[str, Any] = {
        "model": info["config"]["model"]["kind"],
        "items": items["kind"],
        "fusion": items["fusion"],
        "delta_dropout": items["delta_dropout"],
        "delta_dropout_views": items.get("delta_dropout_views", 0.0),
        "new": items.get("new", "content"),
        "folder": name,
        "seeds": len(hits.ranks),
        "all": {"questions": len(everybody)} | hits.among(everybody) | _compared(hits, baseline, [everybody])[0],
    }
    for kind in KINDS:
        buckets = chosen(numbers[kind], kind)
        compared = _compared(hits, baseline, list(buckets.values()))
        row[kind] = {
            bucket: {"questions": int(mask.sum())} | hits.among(mask) | told
            for (bucket, mask), told in zip(buckets.items(), compared, strict=True)
        }
    return row | {"trained": info["provenance"]["date"][:10] + " " + info["provenance"]["commit"]}


def _compared(hits: Hits, baseline: Hits | None, masks: Sequence[npt.NDArray[np.bool_]]) -> list[dict[str, Any]]:
    """Against the baseline, one family of tests."""
    if baseline is None:
        return [{} for _ in masks]
    found = [randomisation(hits.mean_U[mask], baseline.mean_U[mask]) for mask in masks]
    return [_told(comparison, p) for comparison, p in zip(found, holm([c.p for c in found]), strict=True)]


def _told(comparison: Comparison, p: float) -> dict[str, Any]:
    numbers = {"difference": round(comparison.difference, 5), "better": comparison.better, "worse": comparison.worse}
    return {"against_ids": numbers | {"p": round(comparison.p, 5), "p_holm": round(p, 5)}}


def measure(folders: Sequence[Path]) -> list[dict[str, Any]]:
    """The rows of the folders, which are of one data set and protocol."""
    first = next(iter(sorted(folders[0].glob("seed-*/run.json"))), folders[0] / "run.json").parent
    split = _split_of(RunFolder.open(first))
    questions, counts_N = split.test, np.bincount(split.train.items, minlength=len(split.items))
    numbers = {"by_views": counts_N[questions.targets], "by_history": questions.seen.lengths}
    users = [split.users.ids[row] for row in questions.users]
    rows = {folder: hits_of(folder, users) for folder in folders}
    for hits in rows.values():
        for run in hits.runs:
            refuse_other_data(run, split)
    ids = {hits.runs[0].config().model.kind: hits for hits in rows.values() if hits.runs[0].config().items.kind == "ids"}
    found = []
    for folder, hits in rows.items():
        baseline = ids.get(hits.runs[0].config().model.kind)
        found.append(row_of(hits, None if baseline is hits else baseline, numbers, label(folder)))
    return found


def _split_of(run: RunFolder) -> Split:
    location = dict(run.data())
    interactions = read_interactions(location.pop("path"), **location)
    return protocol_of(run.config().protocol).split(interactions)


def merged(before: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], record: Mapping[str, Any]) -> dict[str, Any]:
    """A result file: rows measured now in the place of those that were there, the others as they were."""
    records = before.get("provenance", [])
    records = [records] if isinstance(records, dict) else list(records)
    kept = [{"provenance": 0} | row for row in before.get("rows", []) if _key(row) not in {_key(new) for new in rows}]
    used = sorted({row["provenance"] for row in kept})
    place = {old: new for new, old in enumerate(used)}
    found = [*({**row, "provenance": len(used)} for row in rows), *(row | {"provenance": place[row["provenance"]]} for row in kept)]
    return {"metric": METRIC, "rows": found, "provenance": [*(records[old] for old in used), dict(record)]}


def _key(row: Mapping[str, Any]) -> tuple[Any, ...]:
    if row["items"] == "ids":  # nothing to leave out
        return row["model"], "ids"
    options = row.get("delta_dropout_views", 0.0), row.get("new", "content")  # older files lack them
    return *(row[name] for name in ("model", "items", "fusion", "delta_dropout")), *options


TITLES = {"all": "all", "by_views": "seen {} times", "by_history": "after {} items"}


def table(found: Mapping[str, Any], model: str = "mamba") -> list[str]:
    """Markdown: buckets down, the rows of a model with ids in them across; the p is that of the difference from ids alone."""
    rows = [row for row in found["rows"] if row["model"] == model and row["items"].startswith("ids") and "by_history" in row]
    names = ["ids alone" if row["items"] == "ids" else _named(row) for row in rows]
    lines = [f"| target | questions | {' | '.join(names)} |", f"|{'---|' * (len(rows) + 2)}"]
    for kind, title in TITLES.items():
        buckets = {"": rows[0]["all"]} if kind == "all" else rows[0][kind]
        for bucket, first in buckets.items():
            cells = [_cell(row["all"] if kind == "all" else row[kind][bucket]) for row in rows]
            lines.append(f"| {title.format(bucket)} | {first['questions']:,} | {' | '.join(cells)} |")
    return lines


def _named(row: Mapping[str, Any]) -> str:
    grown = f", views {row['delta_dropout_views']:g}" if row["delta_dropout_views"] else ""
    amid = ", neighbours" if row.get("new") == "neighbours" else ""
    return f"{row['delta_dropout']:g}{grown}{amid}{', side by side' if row['fusion'] == 'concat' else ''}"


def _cell(told: Mapping[str, Any]) -> str:
    value, low, high = (f"{told[name]:.4f}".removeprefix("0") for name in ("value", "low", "high"))
    compared = told.get("against_ids")
    p = "" if compared is None else f", p {compared['p_holm']:.4f}".replace(" 0.", " .")
    return f"{value} [{low}, {high}]{p}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    record = provenance() | {"command": "buckets.py " + " ".join(label(folder) for folder in options.folders)}
    before = json.loads(options.out.read_text(encoding="utf-8")) if options.out.exists() else {}
    found = merged(before, measure(options.folders), record)
    options.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print("\n".join(table(found)))


if __name__ == "__main__":
    main()
