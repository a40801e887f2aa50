"""What the commands of stage two do: configuration in, summary out. The rooms do the work; this is the wiring between them."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from .discovery import find_interactions, find_titles
from .errors import InputError
from .pipeline import Pipeline
from .progress import Progress
from .stage_one import pick_device
from .terminal import Summary, TableOf, program
from .workspace import Workspace

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .recommend.checkpoint import RunFolder
    from .recommend.config import RecommendConfig
    from .recommend.metrics import Estimate
    from .recommend.report import Report
    from .recommend.sequences import Interactions
    from .recommend.train import TrainSummary
    from .store import EmbeddingStore, ItemIndex


def run_train(pipeline: Pipeline, progress: Progress, *, embeddings: Path | None, out: Path | None, resume: bool) -> Summary:
    """Histories, and stored vectors where the items need them, to a run folder, which is remembered."""
    from .recommend.torchrun import is_first, launched
    from .recommend.train import train_run
    from .store.metric_log import tensorboard

    workspace = Workspace(pipeline.runs)
    config = recommend_config(pipeline, has_vectors=embeddings is not None or workspace.has_embeddings())
    path = find_interactions(pipeline).resolve()
    location = _location(pipeline, path)
    interactions = read_again(location)
    config = _with_frames(pipeline, config, interactions, progress)
    store = _open_store(workspace, config, embeddings)
    device = pick_device(pipeline.device)
    if launched() > 1 and out is None:
        raise InputError("with several processes say where the run is to be: --out RUN.")
    folder = out or (_interrupted_run(workspace.runs) if resume else workspace.new_run(_run_name(config)))
    try:
        done = train_run(
            interactions,
            store,
            config,
            folder,
            seed=pipeline.seed,
            device=device,
            resume=resume,
            progress=progress,
            data_location=location,
            loggers=[tensorboard(folder)] if pipeline.tensorboard else [],
        )
    except InputError:
        if out is None and not any(folder.iterdir()):
            folder.rmdir()  # made for this run, which was refused before it began
        raise
    if is_first():
        workspace.remember_run(folder)
    return Summary(headline=_train_headline(config, done), data=_train_data(done), notes=_train_notes(store, done))


def run_tune(pipeline: Pipeline, progress: Progress, *, embeddings: Path | None, out: Path | None) -> Summary:
    """Many short trainings; what the best of them chose."""
    from .recommend.epochs import LABELS, metric_field
    from .recommend.tune import tune

    workspace = Workspace(pipeline.runs)
    config = recommend_config(pipeline, has_vectors=embeddings is not None or workspace.has_embeddings())
    path = find_interactions(pipeline).resolve()
    location = _location(pipeline, path)
    interactions = read_again(location)
    config = _with_frames(pipeline, config, interactions, progress)
    store = _open_store(workspace, config, embeddings)
    folder = out or workspace.new_run(f"tune-{_run_name(config)}")
    found = tune(
        interactions,
        store,
        config,
        pipeline.tune,
        folder,
        seed=pipeline.seed,
        device=pick_device(pipeline.device),
        progress=progress,
        data_location=location,
    )
    keys = list(pipeline.tune.space)
    name, column = LABELS[found.metric], f"validation_{metric_field(found.metric)}"
    ranked = sorted(found.trials, key=lambda trial: -(trial.best or 0.0))
    rows = [
        (
            str(t.number),
            t.state,
            "-" if t.best is None else f"{t.best:.4f}",
            str(t.epochs),
            *(str(t.chosen.get(key, "")) for key in keys),
        )
        for t in ranked[:_TRIALS_SHOWN]
    ]
    chosen = " ".join(f"{key}={value}" for key, value in found.best.chosen.items())
    return Summary(
        headline=f"{len(found.trials)} trials; best validation {name} {found.best.best:.4f}, trial {found.best.number}: {chosen}",
        data={
            "folder": str(found.folder),
            "best": {"trial": found.best.number, column: found.best.best, "chosen": dict(found.best.chosen)},
            "trials": [{"trial": t.number, "state": t.state, column: t.best, **t.chosen} for t in found.trials],
        },
        tables=[TableOf("Best trials, by validation", ("trial", "state", name, "epochs", *keys), rows)],
        notes=[
            f"written: {found.folder}/trials.csv, best.yaml",
            "The best of many validation values is too high: the test questions of a run that is trained anew say what it is worth.",
            f"next: {program()} train-rec --config {found.folder}/best.yaml",
        ],
    )


def run_evaluate(pipeline: Pipeline, progress: Progress, *, run: Path | None, split: str | None, embeddings: Path | None = None) -> Summary:
    """Measure a run and write results.json, results.md and ranks.parquet into it."""
    from .recommend.evaluation import evaluate_run
    from .store import EmbeddingStore

    folder = open_run(pipeline, run, progress)
    report = evaluate_run(
        folder,
        interactions_of(pipeline, folder),
        pipeline.evaluate,
        splits=(split,) if split else ("validation", "test"),
        device=pick_device(pipeline.device),
        vectors=EmbeddingStore.open(embeddings) if embeddings else None,
        progress=progress,
    )
    return Summary(
        headline=_evaluate_headline(report),
        data=report.as_dict(),
        tables=report_tables(report),
        notes=[
            *report.lines(),
            f"written: {folder.path}/results.json, results.md, ranks.parquet",
            f"next: {program()} recommend --run {folder.path} --user ID --k {min(10, report.card['items'])}",
        ],
    )


def run_recommend(
    pipeline: Pipeline, progress: Progress, *, run: Path | None, user: str | None, k: int, history: list[str] | None
) -> Summary:
    """The best unseen items for a user of the data, or for a history given by hand."""
    from .recommend.recommender import Recommender

    if (user is None) == (history is None):
        raise InputError("give either --user ID, a user of the training data, or --history ID,ID,... with item ids, oldest first.")
    folder = open_run(pipeline, run, progress)
    recommender = Recommender.open(folder.path, pick_device(pipeline.device))
    notes: list[str] = []
    row: int | None = None
    if user is not None:
        interactions = interactions_of(pipeline, folder)
        watched = [interactions.items.ids[row] for row in interactions.histories[interactions.users.row_of(user)]]
        history = recommender.known(watched)
        if len(history) < len(watched):
            notes.append(f"{len(watched) - len(history)} items of the history are not in the catalogue of this run and were left out.")
        users = trained_users(folder, interactions)
        row = None if users is None else users.row_of(user)
    assert history is not None
    # The newest items are what the model was trained to read; everything watched is left out of the list.
    state = recommender.state(history[-recommender.max_len :], row)
    seen = set(history)
    wanted = min(len(recommender.items), k + len(seen))
    recommender.check_k(k)
    best = [(id_, score) for id_, score in recommender.top_k(state, wanted, exclude_seen=False) if id_ not in seen][:k]
    if len(best) < k:
        notes.append(f"fewer than {k}: the other {len(seen)} of the {len(recommender.items)} items of the catalogue were watched.")
    titles = titles_of(pipeline, folder)
    rows = [(str(place), id_, f"{score:.4f}", titles.get(id_, "")) for place, (id_, score) in enumerate(best, 1)]
    columns = ("place", "item", "score", "title") if titles else ("place", "item", "score")
    return Summary(
        headline=f"{len(best)} items for {f'user {user}' if user is not None else 'the history given'}, {len(history)} watched",
        data={"user": user, "history": history, "recommendations": [{"item": i, "score": s} for i, s in best], "run": str(folder.path)},
        tables=[TableOf("Recommended", columns, [row[: len(columns)] for row in rows])],
        notes=notes,
    )


_TRIALS_SHOWN = 10
_FAILURES_SAID = 10
_COLUMNS = ("user_column", "item_column", "time_column")


def recommend_config(pipeline: Pipeline, *, has_vectors: bool) -> "RecommendConfig":
    """The part of the configuration that decides what is learned, with ``items.kind: auto`` made concrete."""
    from .recommend.build import resolved
    from .recommend.config import RecommendConfig

    parts = {name: getattr(pipeline, name) for name in RecommendConfig.model_fields}
    return resolved(RecommendConfig(**parts), has_vectors=has_vectors)


def open_run(pipeline: Pipeline, run: Path | None, progress: Progress) -> "RunFolder":
    """The run given, or the one made last; if that is gone the newest finished one, which is said."""
    from .recommend.checkpoint import RunFolder

    return RunFolder.open(run or Workspace(pipeline.runs).last_run(progress.say))


def interactions_of(pipeline: Pipeline, run: "RunFolder") -> "Interactions":
    """The interactions a run was trained on, or those given for this command."""
    given = pipeline.data.interactions
    location = run.data() if given is None else _location(pipeline, given)
    if not Path(location["path"]).is_file():
        moved = "--set data.interactions=FILE says where it is now."
        raise InputError(f"the interactions file of {run.path}, {location['path']}, is gone; {moved}")
    return read_again(location)


def _location(pipeline: Pipeline, path: Path) -> dict[str, Any]:
    """What ``read_again`` needs to read a file of interactions, as run.json keeps it."""
    return {"path": str(path)} | {key: getattr(pipeline.data, key) for key in _COLUMNS}


def folder_of_data(pipeline: Pipeline, run: "RunFolder") -> Path:
    """The folder of a run's interactions, or of those given for this command: titles, clips and thumbnails are looked for there."""
    return (pipeline.data.interactions or Path(run.data()["path"])).parent


def trained_users(run: "RunFolder", interactions: "Interactions") -> "ItemIndex | None":
    """Users of a model that knows them by id, in the order of its rows; None: the model reads histories."""
    from .recommend.build import knows_users_by_id, protocol_of

    config = run.config()
    return protocol_of(config.protocol).split(interactions).users if knows_users_by_id(config.model) else None


def _interrupted_run(runs: Path) -> Path:
    """The newest run in ``runs`` that has finished epochs and is not finished itself; names begin with the time."""
    from .recommend.checkpoint import RunFolder

    for description in sorted(runs.glob("*/run.json"), reverse=True):
        run = RunFolder.open(description.parent)
        if run.begun and not run.info().get("finished"):
            return run.path
    raise InputError(f"--resume: {runs}/ holds no interrupted run; leave --resume out to start one, or name the run with --out RUN.")


def read_again(location: dict[str, Any]) -> "Interactions":
    """Read interactions from where run.json says they are."""
    from .recommend.readers import read_interactions

    return read_interactions(location["path"], **{key: location.get(key) for key in _COLUMNS})


def report_tables(report: "Report") -> list[TableOf]:
    """A report's numbers with their intervals: per split one table over all and one by kinds of questions, at the shortest length; then
    one of what the lists are like."""
    tables = []
    first = report.ks[0]
    columns = ("K", "HR@K", "95 %", "NDCG@K", "95 %")
    for s in report.splits:
        mrr = s.metrics["mrr"]
        title = f"{s.name}: {s.questions:,} users, MRR {mrr.value:.4f} {_interval(mrr)}"
        tables.append(TableOf(title, columns, [_metrics_row(s.metrics, k) for k in report.ks]))
        rows = [
            (f"{kind} {g.name}", f"{g.questions:,}", *_metrics_row(g.metrics, first)[1:])
            for kind, groups in (("seen", s.groups), ("past", s.history_groups))
            for g in groups
        ]
        title = f"{s.name}; seen: target's views in training; past: items watched before it"
        tables.append(TableOf(title, ("", "users", f"HR@{first}", "95 %", f"NDCG@{first}", "95 %"), rows))
    header, *rows_of_lists = report.list_rows()
    where = f" in {report.space}"  # in the title, as its column would be too wide for 80
    title = f"Top-K lists beside accuracy (docs/recommend.md, metrics); diversity{where}"
    tables.append(TableOf(title, [name.removesuffix(where) for name in header], rows_of_lists))
    return tables


def _metrics_row(metrics: "Mapping[str, Estimate]", k: int) -> tuple[str, ...]:
    hits, gain = metrics[f"hit_rate@{k}"], metrics[f"ndcg@{k}"]
    return str(k), f"{hits.value:.4f}", _interval(hits), f"{gain.value:.4f}", _interval(gain)


def _interval(estimate: "Estimate") -> str:
    return f"[{estimate.low:.4f}, {estimate.high:.4f}]"


def _open_store(workspace: Workspace, config: "RecommendConfig", embeddings: Path | None) -> "EmbeddingStore | None":
    from .recommend.build import looks_at_nothing, needs_vectors
    from .store import EmbeddingStore

    if not needs_vectors(config.items) or looks_at_nothing(config.model):
        return None
    return EmbeddingStore.open(embeddings or workspace.last_embeddings())


def _with_frames(pipeline: Pipeline, config: "RecommendConfig", interactions: "Interactions", progress: Progress) -> "RecommendConfig":
    """The configuration with the frames of the clips that are given, decoded once and kept beside the runs.

    Raises:
        InputError: several processes would decode the same clips.
    """
    from .extract.fill_cache import fill_cache
    from .extract.sources import videos
    from .recommend.build import needs_frames
    from .recommend.torchrun import launched
    from .stage_one import frame_recipe

    folder = pipeline.data.videos
    if not needs_frames(config.items) or config.items.end_to_end.frames is not None or folder is None:
        return config
    if launched() > 1:
        raise InputError(
            "--videos decodes the clips in one process, and there are several. Keep the frames first, with `vivim extract --cache-frames "
            "DIR`, and give --from-cache DIR."
        )
    recipe = frame_recipe(pipeline.extract)
    kept = pipeline.runs / f"frames-{recipe.sha256[:12]}"
    done = fill_cache(videos(folder, pipeline.extract), kept, recipe, pipeline.extract, set(interactions.items.ids), progress)
    progress.say(f"frames of {done.added + done.there:,} clips in {kept}, {done.added:,} of them decoded now")
    for failure in done.failures[:_FAILURES_SAID]:
        progress.say(f"clip {failure.id} cannot be read: {failure.kind}, {failure.message}")
    if len(done.failures) > _FAILURES_SAID:
        progress.say(f"and {len(done.failures) - _FAILURES_SAID:,} clips more")
    options = config.items.end_to_end.model_copy(update={"frames": kept})
    return config.model_copy(update={"items": config.items.model_copy(update={"end_to_end": options})})


def _run_name(config: "RecommendConfig") -> str:
    from .recommend.build import YARDSTICKS

    return config.model.kind if config.model.kind in YARDSTICKS else f"{config.model.kind}-{config.items.kind}"


def _train_headline(config: "RecommendConfig", done: "TrainSummary") -> str:
    from .recommend.epochs import LABELS

    name = config.model.kind
    if done.fit is None:
        return f"{name} counted over {len(done.split.train.items):,} training interactions of {len(done.split.items):,} items"
    best = done.fit.best
    by = "" if config.train.metric == "ndcg@10" else f" by {LABELS[config.train.metric]}"
    return (
        f"{name} over {config.items.kind}: best epoch{by} {best.epoch} of {len(done.fit.epochs)}, "
        f"validation HR@10 {best.hit_rate_10:.4f}, NDCG@10 {best.ndcg_10:.4f}; {done.seconds_per_epoch():.1f} s per epoch, "
        f"peak memory {done.peak_memory_mb:,} MiB"
    )


def _train_data(done: "TrainSummary") -> dict[str, Any]:
    from dataclasses import asdict

    return {
        "run": str(done.run),
        "users": len(done.split.users),
        "items": len(done.split.items),
        "epochs": [asdict(log) for log in done.fit.epochs] if done.fit else [],
        "best": asdict(done.fit.best) if done.fit else None,
        "stopped_early": done.fit.stopped_early if done.fit else None,
        "seconds_per_epoch": done.seconds_per_epoch(),
        "coverage": done.coverage,
        "peak_memory_mb": done.peak_memory_mb,
        "protocol_card": done.split.card.as_dict(),
    }


def _train_notes(store: "EmbeddingStore | None", done: "TrainSummary") -> list[str]:
    from .recommend.leakage import leakage_lines

    notes = [f"run: {done.run}"]
    if store is not None and done.coverage is not None:
        notes.append(f"{done.coverage:.1%} of the items have a vector in {store.path}; {store.recipe.origin_words}")
    ks = [k for k in (10, 20) if k <= len(done.split.items)] or [len(done.split.items)]
    notes += leakage_lines(done.split.card.protocol, done.split.leakage)
    if done.split.dropped_users:
        notes.append(f"{done.split.dropped_users:,} users have too few interactions and were left out")
    return [*notes, f"next: {program()} evaluate --run {done.run} --k {' '.join(map(str, ks))}"]


def _evaluate_headline(report: "Report") -> str:
    last = report.splits[-1]
    k = report.ks[0]
    hits, gain = last.metrics[f"hit_rate@{k}"], last.metrics[f"ndcg@{k}"]
    return f"{report.model}: {last.name} HR@{k} {hits}, NDCG@{k} {gain}"


def titles_of(pipeline: Pipeline, run: "RunFolder") -> dict[str, str]:
    """Titles by item, from the file given, or else from beside the interactions: ids of another data set are other items."""
    from .recommend.titles import read_titles

    path = find_titles(pipeline, folder_of_data(pipeline, run))
    return read_titles(path).by_id if path else {}
