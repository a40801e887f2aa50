"""One training run from interactions to a run folder."""

import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.loggers.logger import Logger

from ..errors import InputError
from ..progress import Progress
from ..store import EmbeddingStore, memory
from ..store.provenance import provenance
from . import build
from .batches import num_batches
from .checkpoint import FORMAT, RunFolder
from .config import RecommendConfig
from .content import CatalogueVectors, lay_out
from .epochs import EpochLog, FitResult
from .initial import begin_with
from .learner import PairLearner
from .processes import Processes, start
from .protocol import Split
from .sequences import Interactions
from .training import Training


@dataclass(frozen=True)
class TrainSummary:
    """What a run left.

    Attributes:
        run: its folder.
        split: who was trained on what.
        fit: epochs of a learned model; None for a yardstick.
        coverage: share of the catalogue with a stored vector; None without an embedding file.
        peak_memory_mb: largest resident memory of the process, MiB.
    """

    run: Path
    split: Split
    fit: FitResult | None
    coverage: float | None
    peak_memory_mb: int

    def seconds_per_epoch(self) -> float | None:
        """Median seconds of an epoch's training steps."""
        return statistics.median(log.train_seconds for log in self.fit.epochs) if self.fit else None


def train_run(
    interactions: Interactions,
    store: EmbeddingStore | None,
    config: RecommendConfig,
    out: Path,
    *,
    seed: int,
    device: str,
    resume: bool,
    progress: Progress,
    data_location: dict[str, Any],
    loggers: Sequence[Logger] = (),
    after_epoch: Callable[[EpochLog], None] | None = None,
) -> TrainSummary:
    """Train what ``config`` describes and leave it in the folder ``out``.

    Args:
        store: stored item vectors, for item encoders that read them; where there are any, ``items.kind: auto`` uses them.
        resume: go on with the interrupted run in ``out``.
        data_location: how to read the interactions again, kept in run.json.
        loggers: told the metrics of every epoch, beside log.jsonl.
        after_epoch: told of every epoch when it is saved; what it raises ends the training, ``Enough`` as a finished one.

    Raises:
        InputError: data, embeddings or an earlier run that do not fit.
        Interrupted: Ctrl-C; finished epochs are kept.
    """
    config = build.resolved(config, has_vectors=store is not None)
    split = build.protocol_of(config.protocol).split(interactions)
    if len(split.users) < 2:
        raise InputError(
            f"{interactions.source} leaves 1 user to train on; a recommender learns what users have in common. "
            "Bring the histories of at least two, better of thousands."
        )
    if config.model.kind not in build.YARDSTICKS:
        _require_targets(split, config, interactions.source)
    content = _content(config, store, split, progress)
    fabric = start(device, config.train.precision, list(loggers), config.train.timeout_seconds)
    processes = Processes(fabric.global_rank, fabric.world_size)
    description = _describe(split, config, seed, content, store, data_location, processes.count)
    before_mb = memory.peak_mb()  # the forecast begins the peak anew
    with ExitStack() as held:
        if processes.first:
            run = _open_run(out, split, description, resume, held)
        processes.wait()
        if not processes.first:
            run = RunFolder.open(out)
        result: FitResult | None = None
        begun = time.perf_counter()
        if config.model.kind in build.YARDSTICKS:
            if processes.first:
                run.write_tensors("model.safetensors", build.yardstick(config.model, split, content).tensors())
        else:
            result = _learn(fabric, split, content, config, run, seed=seed, resume=resume, progress=progress, after_epoch=after_epoch)
        peak_mb = max(before_mb, memory.peak_mb())
        if processes.first:
            told = {"fit": _describe_fit(result, fabric)} if result else {"counting": {"seconds": round(time.perf_counter() - begun, 3)}}
            hashes = {"files_sha256": run.files_sha256()}
            run.write_json("run.json", description | told | {"peak_memory_mb": peak_mb} | hashes | {"finished": True})
        processes.part()
    return TrainSummary(out, split, result, content.coverage if content else None, peak_mb)


def _require_targets(split: Split, config: RecommendConfig, source: str) -> None:
    first_target = build.first_target(config.model)
    if num_batches(split.train, 1, config.protocol.max_len, first_target):
        return
    longest = int(split.train.lengths.max())
    raise InputError(
        f"{source} leaves nothing to learn from: once the questions are set aside the longest training history has {longest} "
        f"interaction{'' if longest == 1 else 's'}, and --model {config.model.kind} needs {first_target + 1}. Bring longer histories; or "
        "lower what is set aside (protocol.validation_share and test_share of temporal), raise protocol.keep_last of microlens, or take a "
        "model without order, such as dssm or popularity."
    )


def _content(config: RecommendConfig, store: EmbeddingStore | None, split: Split, progress: Progress) -> "build.Content | None":
    """What the item encoder looks at, laid out along the catalogue."""
    if build.looks_at_nothing(config.model):
        return None
    content: build.Content | None = None
    if build.needs_frames(config.items):
        from .end_to_end import find_frames

        content = find_frames(config.items.end_to_end, split.items, config.items.min_coverage)
    elif store is not None and build.needs_vectors(config.items):
        content = lay_out(store, split.items, config.items.min_coverage)
        if content.warning:
            progress.say(f"warning: {content.warning}")
    if content is not None and content.missing:
        progress.say(f'{content.missing} of {len(split.items)} items have no vector and share one learned "unknown clip" vector')
    return content


def _learn(
    fabric: Fabric,
    split: Split,
    content: "build.Content | None",
    config: RecommendConfig,
    run: RunFolder,
    *,
    seed: int,
    resume: bool,
    progress: Progress,
    after_epoch: Callable[[EpochLog], None] | None,
) -> FitResult:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        learner = build.learner(config, split, content, seed)
        if isinstance(learner, PairLearner) and fabric.world_size > 1:
            raise InputError(f"{config.model.kind} is trained by one process: its batch norm and its draws are those of a whole step.")
        if config.train.init is not None:
            for line in begin_with(learner, RunFolder.open(config.train.init), split.items.sha256):
                progress.say(line)
        max_len = config.protocol.max_len
        training = Training(fabric, learner, split, config.train, run, max_len, seed, progress)
        return training.fit(resume=resume, after_epoch=after_epoch)


def _describe(
    split: Split,
    config: RecommendConfig,
    seed: int,
    content: "build.Content | None",
    store: EmbeddingStore | None,
    data_location: dict[str, Any],
    processes: int,
) -> dict[str, Any]:
    embeddings: dict[str, Any] | None = None
    if content is not None and not isinstance(content, CatalogueVectors):
        embeddings = {
            "path": str(content.cache.folder.resolve()),
            "sha256": content.cache.sha256,
            "frames": content.cache.recipe.model_dump(mode="json"),
            "coverage": content.coverage,
            "missing": content.missing,
        }
    elif content is not None and store is not None:
        embeddings = {
            "path": str(store.path.resolve()),
            "sha256": content.store_sha256,
            "weights": store.recipe.origin,
            "recipe": store.recipe.model_dump(mode="json"),
            "coverage": content.coverage,
            "missing": content.missing,
        }
    return {
        "format": FORMAT,
        "config": config.model_dump(mode="json"),
        "seed": seed,
        "catalogue_sha256": split.items.sha256,
        "card": split.card.as_dict(),
        "data": data_location,
        "embeddings": embeddings,
        "processes": processes,
        "provenance": provenance(),
        "finished": False,
    }


def _describe_fit(result: FitResult, fabric: Fabric) -> dict[str, Any]:
    return {
        "best_epoch": result.best.epoch,
        "validation_ndcg_10": result.best.ndcg_10,
        "epochs": len(result.epochs),
        "stopped_early": result.stopped_early,
        "stopped_by": result.stopped_by,
        "seconds_per_epoch": statistics.median(log.train_seconds for log in result.epochs),
        "seconds": round(sum(log.train_seconds + log.validation_seconds for log in result.epochs), 3),
        "parameters": result.parameters,
        "device": fabric.device.type,
    }


def _open_run(out: Path, split: Split, description: dict[str, Any], resume: bool, held: ExitStack) -> RunFolder:
    """The run's folder, locked until ``held`` lets go."""
    run = RunFolder.open(out) if resume else RunFolder.create(out)
    held.enter_context(run.locked())
    if not resume:
        RunFolder.create(out)  # once more, now that nobody else writes there: another run may just have begun
        run.write_json("run.json", description)  # first: by it a folder is known as a run's
        run.write_catalogue(split.items, build.train_counts(split).numpy())
        return run
    _refuse_other_run(run, description)
    run.forget_files()
    return run


def _refuse_other_run(run: RunFolder, description: dict[str, Any]) -> None:
    """Resuming is allowed with the same data and configuration; what changes no weight, and the end, may change."""
    before = run.info()
    differences = []
    if before.get("catalogue_sha256") != description["catalogue_sha256"]:
        differences.append("another catalogue of items (mapping hash differs)")
    if before.get("card", {}).get("dataset_sha256") != description["card"]["dataset_sha256"]:
        differences.append("another interactions file")
    if (before.get("embeddings") or {}).get("sha256") != (description["embeddings"] or {}).get("sha256"):
        differences.append("other item vectors")
    if before.get("seed") != description["seed"]:
        differences.append(f"seed {before.get('seed')}")
    # An option that did not exist when the run began had the value that is its default now.
    trained = run.config().model_dump(mode="json")
    old, new = _flatten(trained), _flatten(description["config"])
    free = {"train.patience", "train.checkpoint_minutes", "train.timeout_seconds"}
    # A cosine ends at the last epoch, and a warm-up is a share of all.
    free |= {"train.epochs"} if new["train.schedule"] == "constant" and not new["train.warmup"] else set()
    for key in sorted(old.keys() | new.keys()):
        if key not in free and old.get(key) != new.get(key):
            differences.append(f"{key} {old.get(key)} (now {new.get(key)})")
    if differences:
        raise InputError(f"cannot resume {run.path}: it was trained with {'; '.join(differences)}. Use the same, or start a new run.")


def _flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat = {}
    for key, value in tree.items():
        flat.update(_flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value})
    return flat
