"""Trains and measures the rows of a suite, one after another; what is done is not done again."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import Interrupted, VivimError
from ..progress import Progress
from ..recommend import build
from ..recommend.checkpoint import RunFolder
from ..recommend.config import EvaluateConfig
from ..recommend.evaluation import evaluate_run
from ..recommend.sequences import Interactions
from ..recommend.train import train_run
from ..store import EmbeddingStore
from ..store.run_folder import write_atomically
from .suite import Row, Suite


@dataclass(frozen=True)
class Outcome:
    """What became of one training of a row.

    Attributes:
        row: of the suite.
        seed: of the training.
        folder: its run.
        done: ``now``, ``before`` or ``failed``.
        error: why, if it failed.
    """

    row: Row
    seed: int
    folder: Path
    done: str
    error: str = ""


def run_suite(
    suite: Suite,
    interactions: Interactions,
    store: EmbeddingStore | None,
    out: Path,
    *,
    device: str,
    progress: Progress,
    data_location: dict[str, Any],
) -> list[Outcome]:
    """Every row with every seed: ``out/ROW/seed-N`` is a run as ``train-rec`` leaves it, with its results.

    Called again, it goes on: finished rows stay, an interrupted training is resumed, a failed one is tried again. A row that fails is
    told and does not stop the others.

    Raises:
        Interrupted: Ctrl-C; what is finished is kept.
    """
    out.mkdir(parents=True, exist_ok=True)
    write_atomically(out / "suite.json", json.dumps(suite.model_dump(mode="json"), indent=2) + "\n")
    outcomes = []
    for row in suite.rows:
        for seed in range(1, suite.seeds_of(row) + 1):
            outcome = _one(suite, row, seed, interactions, store, out, device, progress, data_location)
            outcomes.append(outcome)
            progress.say(f"{row.name}, seed {seed}: {outcome.done}{': ' + outcome.error if outcome.error else ''}")
    return outcomes


def _one(
    suite: Suite,
    row: Row,
    seed: int,
    interactions: Interactions,
    store: EmbeddingStore | None,
    out: Path,
    device: str,
    progress: Progress,
    data_location: dict[str, Any],
) -> Outcome:
    folder = out / row.slug / f"seed-{seed}"
    config = suite.config_of(row)
    try:
        config = build.resolved(config, has_vectors=store is not None)
        begun = (folder / "run.json").exists()
        if begun and is_measured(folder) and RunFolder.open(folder).info()["config"] == config.model_dump(mode="json"):
            return Outcome(row, seed, folder, "before")
        uses = build.needs_vectors(config.items) and not build.looks_at_nothing(config.model)
        train_run(
            interactions,
            store if uses else None,
            config,
            folder,
            seed=seed,
            device=device,
            resume=begun,
            progress=progress,
            data_location=data_location,
        )
        evaluate_run(RunFolder.open(folder), interactions, EvaluateConfig(k=suite.k), device=device, progress=progress)
    except Interrupted:
        raise
    except VivimError as error:
        return Outcome(row, seed, folder, "failed", str(error))
    return Outcome(row, seed, folder, "now")


def is_measured(folder: Path) -> bool:
    """Is the run finished, and are its results there?"""
    return (folder / "results.json").is_file() and bool(RunFolder.open(folder).info().get("finished"))


def measured(suite: Suite, out: Path) -> Iterator[tuple[Row, list[Path]]]:
    """Rows of which there are results, and their runs."""
    for row in suite.rows:
        runs = [out / row.slug / f"seed-{seed}" for seed in range(1, suite.seeds_of(row) + 1)]
        found = [run for run in runs if (run / "run.json").is_file() and is_measured(run)]
        if found:
            yield row, found
