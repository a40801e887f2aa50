"""Trains and measures the rows of a suite, each training in a process of its own; what is done is not done again."""

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from ..errors import InputError, Interrupted, VivimError
from ..progress import Progress
from ..recommend import build
from ..recommend.checkpoint import RunFolder
from ..recommend.config import RecommendConfig
from ..recommend.end_to_end import frames_sha256
from ..store import EmbeddingStore
from ..store.run_folder import write_atomically
from .data import SuiteData, check_counts
from .job import BUDGET, Job, spent_seconds
from .processes import RowProcesses
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

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.row.name}, seed {self.seed}"


@dataclass(frozen=True)
class SuiteRun:
    """A suite and what it is run on: ``folder/ROW/seed-N`` is a run as ``train-rec`` leaves it, with its results.

    Attributes:
        suite: rows.
        data: histories and vectors.
        folder: of the runs.
        device: that trains.
        progress: told of every row.
        rows: names of those that are run; none: all.
        jobs: trainings side by side, among which the cores are shared.
    """

    suite: Suite
    data: SuiteData
    folder: Path
    device: str
    progress: Progress
    rows: tuple[str, ...] = ()
    jobs: int = 1

    def run(self) -> list[Outcome]:
        """Every row with every seed.

        Called again, it goes on: finished rows stay, an interrupted training is resumed, a failed one is tried again, and one that its
        budget had ended goes on if it has more now. A row that fails, whatever becomes of its process, is told and does not stop the
        others.

        Raises:
            InputError: a row that there is not, or interactions that the suite was not made for.
            Interrupted: Ctrl-C; its processes have saved and ended.
        """
        rows = self.suite.chosen(self.rows)
        dataset_sha256 = self._checked()
        self.folder.mkdir(parents=True, exist_ok=True)
        write_atomically(self.folder / "suite.json", json.dumps(self.suite.model_dump(mode="json"), indent=2) + "\n")
        # Two that both take all cores slow each other down many times.
        threads = max(1, torch.get_num_threads() // self.jobs) if self.jobs > 1 else None
        trainings = [(row, seed) for row in rows for seed in range(1, self.suite.seeds_of(row) + 1)]
        try:
            with RowProcesses(threads, self.progress) as processes:
                return _Schedule(self, dataset_sha256, processes, trainings).work_off()
        except KeyboardInterrupt as error:
            raise Interrupted(f"stopped; finished rows and epochs are in {self.folder}. Run the same command again to go on.") from error

    def _checked(self) -> str:
        """Hash of the interactions, which are not kept here: every process reads its own."""
        interactions = self.data.interactions()
        check_counts(self.suite, interactions)
        return interactions.sha256

    def run_of(self, row: Row, seed: int) -> Path:
        """The folder of a training."""
        return self.folder / row.slug / f"seed-{seed}"

    def init_of(self, row: Row, seed: int) -> Path | None:
        """The run that a training begins with: of the same seed where there are as many."""
        init = self.suite.init_of(row)
        return None if init is None else self.run_of(init, min(seed, self.suite.seeds_of(init)))

    def job_of(self, row: Row, seed: int) -> Job:
        """What its process is told.

        Raises:
            InputError: it cannot be trained as it is configured, or without vectors or frames that are not given.
        """
        vectors = self.data.vectors_of(row)
        config = build.resolved(self.suite.config_of(row), has_vectors=vectors is not None)
        items, train = config.items, config.train
        if build.needs_frames(items):
            items = items.model_copy(update={"end_to_end": items.end_to_end.model_copy(update=dict(self.data.encoder))})
            if items.end_to_end.frames is None:
                raise InputError(
                    "it trains the encoder; give the frames that `vivim extract --cache-frames DIR` kept, with --from-cache DIR."
                )
        if (init := self.init_of(row, seed)) is not None:
            train = train.model_copy(update={"init": init.resolve()})
        uses = build.needs_vectors(config.items) and not build.looks_at_nothing(config.model)
        return Job(
            name=f"{row.name}, seed {seed}",
            seed=seed,
            folder=self.run_of(row, seed),
            config=config.model_copy(update={"items": items, "train": train}),
            location=self.data.location,
            vectors=vectors if uses else None,
            k=self.suite.k,
            space=self.data.space_of(self.suite),
            device=self.device,
            budget_seconds=self.suite.budget_of(row),
            command=tuple(sys.argv),
        )


@dataclass
class _Schedule:
    """Which training is next, and what became of each.

    Attributes:
        of: the suite and its data.
        dataset_sha256: of the interactions.
        processes: that work.
        trainings: rows and seeds, in the suite's order.
        outcomes: by run folder.
    """

    of: SuiteRun
    dataset_sha256: str
    processes: RowProcesses
    trainings: list[tuple[Row, int]]
    outcomes: dict[Path, Outcome] = field(default_factory=dict)

    def work_off(self) -> list[Outcome]:
        """All of them."""
        at_work: dict[Path, tuple[Row, int]] = {}
        waiting = list(self.trainings)
        self.of.progress.start(self.of.suite.name, len(waiting), "trainings")
        while waiting or at_work:
            while len(at_work) < self.of.jobs and (training := self._next(waiting)) is not None:
                waiting.remove(training)
                job = self._begin(*training)
                if job is not None:
                    self.processes.start(job)
                    at_work[job.folder] = training
            if at_work:
                ended = self.processes.wait()
                row, seed = at_work.pop(ended.job.folder)
                self._tell(Outcome(row, seed, ended.job.folder, "failed" if ended.error else "now", ended.error))
        self.of.progress.finish()
        return [self.outcomes[self.of.run_of(row, seed)] for row, seed in self.trainings]

    def _next(self, waiting: list[tuple[Row, int]]) -> tuple[Row, int] | None:
        """The first whose beginning is there, or has failed."""
        for row, seed in waiting:
            init = self.of.init_of(row, seed)
            if init is None or init in self.outcomes:
                return row, seed
        return None

    def _begin(self, row: Row, seed: int) -> Job | None:
        """What is to be done; None, and told, if there is nothing."""
        run, init = self.of.run_of(row, seed), self.of.init_of(row, seed)
        if init is not None and self.outcomes[init].done == "failed":
            self._tell(Outcome(row, seed, run, "failed", f"it begins with {self.outcomes[init].name}, which failed"))
            return None
        try:
            job = self.of.job_of(row, seed)
            if not self._is_there(job):
                return job
        except VivimError as error:
            self._tell(Outcome(row, seed, run, "failed", str(error)))
            return None
        self._tell(Outcome(row, seed, run, "before"))
        return None

    def _tell(self, outcome: Outcome) -> None:
        self.outcomes[outcome.folder] = outcome
        self.of.progress.say(f"{outcome.name}: {outcome.done}{': ' + outcome.error if outcome.error else ''}")
        failed = sum(one.done == "failed" for one in self.outcomes.values())
        self.of.progress.advance(1, self.processes.states() or f"{failed} failed")

    def _is_there(self, job: Job) -> bool:
        """Is the run measured, was it trained as it would be now, and would it not go on?"""
        if not (job.folder / "run.json").exists() or not is_measured(job.folder):
            return False
        run = RunFolder.open(job.folder)
        info = run.info()
        if (info.get("fit") or {}).get("stopped_by") == BUDGET and spent_seconds(job.folder) < (job.budget_seconds or float("inf")):
            return False
        return (
            _what_decides(run.config()) == _what_decides(job.config)
            and info["card"]["dataset_sha256"] == self.dataset_sha256
            and (info["embeddings"] or {}).get("sha256") == _content_sha256(job)
        )


def _what_decides(config: RecommendConfig) -> dict[str, Any]:
    """A configuration without folders: what is in them has a hash of its own, and a folder of results may be moved."""
    tree = config.model_dump(mode="json")
    tree["train"].pop("init")
    tree["items"]["end_to_end"].pop("frames")
    return tree


def _content_sha256(job: Job) -> str | None:
    """Hash of what the items of a job look at."""
    frames = job.config.items.end_to_end.frames
    if build.needs_frames(job.config.items) and frames is not None and not build.looks_at_nothing(job.config.model):
        return frames_sha256(frames)
    return EmbeddingStore.open(job.vectors).sha256 if job.vectors else None


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
