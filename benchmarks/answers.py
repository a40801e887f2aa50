"""What the table of a suite is made from, kept in this repository: answers user by user, and what each training cost.

A suite takes hours, a session has fewer, and a row of another day can only be compared on the same users if its answers are still there.
``benchmarks/answers/SUITE`` is a folder of results as ``vivim benchmark run`` leaves one, without weights and without paths:
``vivim benchmark table`` reads it. Ranks behind the longest list are one number, and users have no names, only the order of the
questions: what is of a data set stays with it.
"""

import json
from pathlib import Path
from typing import Any

import polars as pl
from vivim.errors import InputError
from vivim.recommend.checkpoint import RunFolder
from vivim.store.run_folder import write_atomically
from vivim.suites.runner import measured
from vivim.suites.suite import Row, Suite

ANSWERS = Path(__file__).resolve().parent / "answers"


def keep(folder: Path, kept: Path, today: Suite | None = None) -> list[str]:
    """Take over what was run into ``folder``.

    Rows that were not run there stay as they are kept, unless the suite has configured them otherwise since. Nor is a row taken over that
    the suite would train otherwise today.

    Args:
        kept: the suite's folder among ``ANSWERS``.
        today: the suite as it is now; None: as it was run.

    Returns:
        What was taken over, and what was not or was dropped.

    Raises:
        InputError: the runs of the two folders are of different interactions or protocols.
    """
    run_as = Suite.model_validate_json((folder / "suite.json").read_text(encoding="utf-8"))
    suite = run_as if today is None else today
    before = kept / "suite.json"
    older = Suite.model_validate_json(before.read_text(encoding="utf-8")) if before.exists() else suite
    there = [(row, run) for row, runs in measured(older, kept) for run in runs]
    outdated = [run for row, run in there if not _still_in(suite, older, row)]
    staying = [run for _, run in there if run not in outdated]
    new = [(row, run) for row, runs in measured(run_as, folder) for run in runs]
    if len({_card(run) for run in (*staying, *(run for _, run in new))}) > 1:
        raise InputError(f"{folder} and {kept} hold runs of different protocol cards; drop {kept} to begin anew.")
    told = [_drop(run) for run in outdated]
    for row, run in new:
        if _still_in(suite, run_as, row):
            _keep_run(run, kept / row.slug / run.name, longest=max(suite.k))
            told.append(f"kept {row.name}, {run.name}")
        else:
            told.append(f"left {row.name}, {run.name}: the suite has configured it otherwise since")
    write_atomically(before, json.dumps(suite.model_dump(mode="json"), indent=1) + "\n")
    return told


def _still_in(suite: Suite, older: Suite, row: Row) -> bool:
    """Would the suite train a row today as the older one did?"""
    same = [one for one in suite.rows if one.slug == row.slug]
    return bool(same) and suite.config_of(same[0]) == older.config_of(row) and set(suite.k) <= set(older.k)


def _drop(run: Path) -> str:
    for file in run.iterdir():
        file.unlink()
    run.rmdir()
    return f"dropped {run.parent.name}, {run.name}: the suite has configured it otherwise since"


def _card(run: Path) -> str:
    return json.dumps(json.loads((run / "results.json").read_text(encoding="utf-8"))["protocol_card"], sort_keys=True)


def _keep_run(run: Path, kept: Path, *, longest: int) -> None:
    """A run without weights, paths and names of users."""
    kept.mkdir(parents=True, exist_ok=True)
    results = json.loads((run / "results.json").read_text(encoding="utf-8"))
    write_atomically(kept / "results.json", json.dumps(_without_paths(results)) + "\n")
    write_atomically(kept / "run.json", json.dumps({"finished": RunFolder.open(run).info()["finished"]}) + "\n")
    log = run / "log.jsonl"
    if log.exists():
        write_atomically(kept / "log.jsonl", log.read_text(encoding="utf-8"))
    ranks = pl.read_parquet(run / "ranks.parquet").select(
        pl.col("split").cast(pl.Categorical), pl.col("rank").clip(upper_bound=longest + 1)
    )
    ranks.write_parquet(kept / "ranks.parquet", compression="zstd", compression_level=19)


def _without_paths(told: Any) -> Any:
    """Paths of the machine that ran it say nothing to others: only the last part is kept."""
    if isinstance(told, dict):
        return {key: _without_paths(value) for key, value in told.items()}
    if isinstance(told, list):
        return [_without_paths(value) for value in told]
    if isinstance(told, str) and "/" in told:
        return " ".join(Path(word).name if word.startswith("/") or "=/" in word else word for word in told.split(" "))
    return told
