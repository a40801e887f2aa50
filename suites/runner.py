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
from ..recommend.config import EvaluateConfig, RecommendConfig
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


@dataclass(frozen=True)
class SuiteRun:
    """A suite and what it is run on: ``folder/ROW/seed-N`` is a run as ``train-rec`` leaves it, with its results.

    Attributes:
        suite: rows.
        interactions: who watched what.
        store: stored item vectors, for rows that look at them.
        folder: of the runs.
        device: that trains.
        progress: told of every row.
        data_location: how to read the interactions again, kept in every run.
    """

    suite: Suite
    interactions: Interactions
    store: EmbeddingStore | None
    folder: Path
    device: str
    progress: Progress
    data_location: dict[str, Any]

    def run(self) -> list[Outcome]:
        """Every row with every seed.

        Called again, it goes on: finished rows stay, an interrupted training is resumed, a failed one is tried again. A row that fails
        is told and does not stop the others.

        Raises:
            Interrupted: Ctrl-C; what is finished is kept.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        write_atomically(self.folder / "suite.json", json.dumps(self.suite.model_dump(mode="json"), indent=2) + "\n")
        outcomes = []
        for row in self.suite.rows:
            for seed in range(1, self.suite.seeds_of(row) + 1):
                outcome = self._one(row, seed)
                outcomes.append(outcome)
                self.progress.say(f"{row.name}, seed {seed}: {outcome.done}{': ' + outcome.error if outcome.error else ''}")
        return outcomes

    def _one(self, row: Row, seed: int) -> Outcome:
        run = self.folder / row.slug / f"seed-{seed}"
        try:
            config = build.resolved(self.suite.config_of(row), has_vectors=self.store is not None)
            uses = build.needs_vectors(config.items) and not build.looks_at_nothing(config.model)
            store = self.store if uses else None
            if self._is_this(run, config, store):
                return Outcome(row, seed, run, "before")
            # Of another configuration, other interactions or other vectors: refused there, with the difference.
            train_run(
                self.interactions,
                store,
                config,
                run,
                seed=seed,
                device=self.device,
                resume=(run / "run.json").exists(),
                progress=self.progress,
                data_location=self.data_location,
            )
            measure = EvaluateConfig(k=self.suite.k)
            evaluate_run(RunFolder.open(run), self.interactions, measure, device=self.device, progress=self.progress)
        except Interrupted:
            raise
        except VivimError as error:
            return Outcome(row, seed, run, "failed", str(error))
        return Outcome(row, seed, run, "now")

    def _is_this(self, run: Path, config: RecommendConfig, store: EmbeddingStore | None) -> bool:
        """Is the run measured, and was it trained as it would be now?"""
        if not (run / "run.json").exists() or not is_measured(run):
            return False
        info = RunFolder.open(run).info()
        vectors = (info["embeddings"] or {}).get("sha256")
        return (
            RecommendConfig.model_validate(info["config"]) == config  # an option that is newer than the run had its default
            and info["card"]["dataset_sha256"] == self.interactions.sha256
            and vectors == (store.sha256 if store else None)
        )


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
