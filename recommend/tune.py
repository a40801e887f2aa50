"""Searching hyper-parameters: many short trainings, judged on validation alone, in a budget of minutes.

    trials.csv     every trial, what was chosen and what came of it
    best.yaml      the best one's choices, for --config
    study.sqlite   Optuna's memory: the same command goes on with it
    trial-0007/    the run of a trial

Source: Akiba et al., "Optuna" (KDD 2019); its tree-structured Parzen estimator chooses, trials behind the median are given up early.
"""

import importlib.util
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
import yaml
from pydantic import JsonValue

from ..errors import InputError, Interrupted, MissingExtra, VivimError
from ..progress import Progress, SilentProgress
from ..store import EmbeddingStore
from ..store.run_folder import write_atomically
from .config import DEFAULT_SPACE, Metric, RecommendConfig, TuneConfig
from .epochs import LABELS, Enough, EpochLog, metric_field, validation_value
from .sequences import Interactions
from .train import train_run


@dataclass(frozen=True)
class Trial:
    """One line of trials.csv.

    Attributes:
        number: from 0; its run is in ``trial-NUMBER``.
        state: ``complete``, also one that the budget ended after an epoch or more; ``pruned``: given up early; ``fail``: it diverged.
        best: of validation's ``train.metric``; None if it failed before its first epoch.
        epochs: that it trained.
        seconds: that it took.
        chosen: option -> value.
    """

    number: int
    state: str
    best: float | None
    epochs: int
    seconds: float
    chosen: Mapping[str, JsonValue]


@dataclass(frozen=True)
class TuneResult:
    """What a search found.

    Attributes:
        folder: with the table and the runs.
        metric: by which trials were compared.
        trials: in the order they were begun.
        best: of those that were not given up.
    """

    folder: Path
    metric: Metric
    trials: tuple[Trial, ...]
    best: Trial


def tune(
    interactions: Interactions,
    store: EmbeddingStore | None,
    config: RecommendConfig,
    search: TuneConfig,
    out: Path,
    *,
    seed: int,
    device: str,
    progress: Progress,
    data_location: dict[str, Any],
) -> TuneResult:
    """Search until the budget is used up; the test questions are never asked.

    Args:
        config: what is not searched.
        out: folder of the search; one that was begun is gone on with.

    Raises:
        MissingExtra: Optuna is not installed.
        InputError: an option that does not exist, or a value that it does not take; or a search that was begun with another metric.
        Interrupted: Ctrl-C; the table of finished trials is there.
        VivimError: no trial came through.
    """
    if importlib.util.find_spec("optuna") is None:
        raise MissingExtra("optuna", extra="tune", why="vivim tune")
    metric = config.train.metric
    _check_space(search, config)
    study = _open_study(out, metric, seed)
    deadline = time.monotonic() + 60 * search.minutes
    train = partial(train_run, interactions, store, seed=seed, device=device, resume=False, data_location=data_location)

    def objective(trial: Any) -> float:
        chosen = {key: trial.suggest_categorical(key, values) for key, values in search.space.items()}
        watch = _Watch(trial, deadline, metric)
        try:
            train(changed(config, chosen), out / f"trial-{trial.number:04d}", progress=watch.clock(), after_epoch=watch)
        except (InputError, Interrupted):
            raise
        except VivimError as error:
            progress.say(f"trial {trial.number} failed: {error}")
            return float("nan")
        return watch.best

    def told(study: Any, trial: Any) -> None:
        trials = _trials(study, metric)
        _write_table(out / "trials.csv", trials, metric)
        done = _best(trials)
        progress.advance(1, f"best {LABELS[metric]} {done.best:.4f}" if done else "")

    progress.start("tune", search.trials, "trials")
    try:
        study.optimize(objective, n_trials=search.trials, timeout=60 * search.minutes, callbacks=[told])
    finally:
        progress.finish()
    trials = _trials(study, metric)
    best = _best(trials)
    if best is None:
        raise VivimError(
            f"no trial of {len(trials)} came through; see {out / 'trials.csv'}, and above why each failed. Where the loss broke, lower the "
            "learning rates in tune.space."
            if trials
            else "the time was over before a trial began; give more tune.minutes."
        )
    write_atomically(out / "best.yaml", yaml.safe_dump(_tree(best.chosen), sort_keys=False))
    return TuneResult(out, metric, trials, best)


@dataclass
class _Watch:
    """Told of every epoch of a trial; gives it up when it lags behind, and ends it with what it has when the time is over.

    Attributes:
        trial: Optuna's.
        deadline: on ``time.monotonic``.
        metric: of validation, that decides.
        best: highest so far.
        epochs: that are validated.
    """

    trial: Any
    deadline: float
    metric: Metric
    best: float = 0.0
    epochs: int = 0

    def __call__(self, log: EpochLog) -> None:
        import optuna

        self.best, self.epochs = max(self.best, validation_value(log, self.metric)), log.epoch
        self.trial.report(self.best, log.epoch)
        self.trial.set_user_attr("epochs", log.epoch)
        self.trial.set_user_attr(metric_field(self.metric), self.best)
        self.look_at_time()
        if self.trial.should_prune():
            raise optuna.TrialPruned

    def look_at_time(self) -> None:
        """A first epoch may end: before it there is nothing to show for the time."""
        if self.epochs and time.monotonic() > self.deadline:
            raise Enough("the end of tune.minutes")

    def clock(self) -> "_Clock":
        """What has it look at the time within epochs too."""
        return _Clock(self)


class _Clock(SilentProgress):
    def __init__(self, watch: _Watch) -> None:
        self.watch = watch

    def advance(self, count: int = 1, note: str = "") -> None:
        self.watch.look_at_time()


def changed(config: RecommendConfig, choices: Mapping[str, JsonValue]) -> RecommendConfig:
    """A configuration with other values of some options.

    Raises:
        InputError: an option that does not exist, or a value that it does not take.
    """
    tree = config.model_dump(mode="json")
    for key, value in choices.items():
        node = tree
        *path, name = key.split(".")
        for part in path:
            node = node.get(part, {}) if isinstance(node.get(part, {}), dict) else {}
        if name not in node:
            raise InputError(f"tune.space: stage two has no option {key!r}; options are such as {', '.join(DEFAULT_SPACE)}.")
        node[name] = value
    try:
        return RecommendConfig.model_validate(tree)
    except ValueError as error:
        raise InputError(f"tune.space: {', '.join(f'{k}={v}' for k, v in choices.items())} is not allowed: {error}") from None


def _check_space(search: TuneConfig, config: RecommendConfig) -> None:
    """Raises ``InputError`` before any training, for what some trial could not be trained with."""
    if "train.metric" in search.space:
        raise InputError("tune.space: train.metric is what trials are compared by, and the same for all; set it outside of the space.")
    for key, values in search.space.items():
        for value in values:
            changed(config, {key: value})


def _open_study(out: Path, metric: Metric, seed: int) -> Any:
    """Optuna's record of the search, which goes on where one in ``out`` ended."""
    import optuna

    out.mkdir(parents=True, exist_ok=True)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        study_name="vivim",
        storage=f"sqlite:///{out / 'study.sqlite'}",
        load_if_exists=True,
        direction="maximize",
        sampler=optuna.samplers.TPESampler(seed=seed),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=3),
    )
    _require_metric(study, metric, out)
    return study


def _require_metric(study: Any, metric: Metric, out: Path) -> None:
    """A search is one by one metric; one that was begun before there was a choice is by NDCG@10."""
    before = study.user_attrs.get("metric", "ndcg@10" if study.get_trials(deepcopy=False) else metric)
    if before != metric:
        raise InputError(
            f"the search in {out} compares trials by {before}, not by {metric}. Set train.metric to {before}, or give another --out."
        )
    study.set_user_attr("metric", metric)


def _trials(study: Any, metric: Metric) -> tuple[Trial, ...]:
    found = []
    for trial in study.get_trials(deepcopy=False):
        seconds = trial.duration.total_seconds() if trial.duration else 0.0
        told = trial.user_attrs
        found.append(
            Trial(
                trial.number,
                trial.state.name.lower(),
                told.get(metric_field(metric)),
                told.get("epochs", 0),
                round(seconds, 1),
                dict(trial.params),
            )
        )
    return tuple(found)


def _best(trials: tuple[Trial, ...]) -> Trial | None:
    done = [trial for trial in trials if trial.state == "complete"]
    return max(done, key=lambda trial: trial.best or 0.0, default=None)


def _write_table(path: Path, trials: tuple[Trial, ...], metric: Metric) -> None:
    rows = [
        {
            "trial": t.number,
            "state": t.state,
            f"validation_{metric_field(metric)}": t.best,
            "epochs": t.epochs,
            "seconds": t.seconds,
            **t.chosen,
        }
        for t in trials
    ]
    write_atomically(path, pl.DataFrame(rows, infer_schema_length=None).write_csv())


def _tree(chosen: Mapping[str, JsonValue]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for key, value in chosen.items():
        node = tree
        *path, name = key.split(".")
        for part in path:
            node = node.setdefault(part, {})
        node[name] = value
    return tree
