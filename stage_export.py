"""What a run gives to other programs: lists for everybody (``recommend --all``), and its parts as files (``export``)."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import InputError
from .pipeline import Pipeline
from .progress import Progress
from .stage_one import pick_device
from .stage_two import interactions_of, open_run, run_recommend, trained_users
from .terminal import Summary, TableOf

if TYPE_CHECKING:
    from .recommend.retrieval import Kind


@dataclass(frozen=True)
class RecommendOptions:
    """What ``vivim recommend`` was asked.

    Attributes:
        run: folder; None: the one made last.
        user: one of the data.
        history: item ids, oldest first.
        k: length of a list.
        everybody: a list for every user of the data.
        out: their file.
        index: that searches for everybody; None: flat.
    """

    run: Path | None
    user: str | None
    history: tuple[str, ...] | None
    k: int
    everybody: bool
    out: Path | None
    index: "Kind | None"


def recommend_as_asked(pipeline: Pipeline, progress: Progress, asked: RecommendOptions) -> Summary:
    """Items for one user, or for everybody.

    Raises:
        InputError: options of the one with the other.
    """
    if asked.everybody:
        if asked.user is not None or asked.history is not None:
            raise InputError("--all is every user of the data; leave --user and --history out.")
        if asked.out is None:
            raise InputError("--all writes a file; say which: --out recs.parquet.")
        return run_recommend_all(pipeline, progress, run=asked.run, k=asked.k, out=asked.out, index=asked.index or "flat")
    if asked.out is not None or asked.index is not None:
        raise InputError("--out and --index belong to --all; one user is answered at once, and exactly.")
    history = None if asked.history is None else list(asked.history)
    return run_recommend(pipeline, progress, run=asked.run, user=asked.user, k=asked.k, history=history)


def run_recommend_all(pipeline: Pipeline, progress: Progress, *, run: Path | None, k: int, out: Path, index: "Kind") -> Summary:
    """A list for every user of the data, in one Parquet file."""
    from .recommend.batch import recommend_all
    from .recommend.recommender import Recommender
    from .store.memory import peak_mb

    folder = open_run(pipeline, run, progress)
    recommender = Recommender.open(folder.path, pick_device(pipeline.device))
    interactions = interactions_of(pipeline, folder)
    known = trained_users(folder, interactions)
    done = recommend_all(recommender, interactions, k, out, index=index, known_users=known, progress=progress)
    rate = done.users / max(done.seconds, 1e-9)
    notes = [f"{rate:,.0f} users/s, {done.seconds:.1f} s; peak memory {peak_mb():,} MiB; index {index}"]
    if done.short:
        notes.append(f"{done.short:,} lists are shorter than {k}: these users have watched the rest, or the index found no more")
    if done.left_out:
        notes.append(f"{done.left_out:,} users are left out: the run knows nothing that they watched, or not them")
    return Summary(
        headline=f"{done.users:,} lists, {done.rows:,} rows in {out}",
        data={
            "out": str(out),
            "run": str(folder.path),
            "k": k,
            "index": index,
            "users": done.users,
            "rows": done.rows,
            "short": done.short,
            "left_out": done.left_out,
            "seconds": round(done.seconds, 3),
            "users_per_second": round(rate, 1),
            "peak_memory_mb": peak_mb(),
        },
        notes=notes,
    )


def run_export(pipeline: Pipeline, progress: Progress, *, run: Path | None, out: Path, index: "Kind") -> Summary:
    """A run's user model, item vectors and index as files that need no vivim."""
    from .recommend.export import export_run

    folder = open_run(pipeline, run, progress)
    done = export_run(folder, out, index)
    return Summary(
        headline=f"{done.folder} written: the step of the user model, {done.items:,} item vectors of {done.width} numbers, {index} index",
        data={
            "out": str(done.folder),
            "run": str(folder.path),
            "items": done.items,
            "width": done.width,
            "model_sha256": done.model_sha256,
            "index": index,
            "inputs": list(done.step.inputs),
            "outputs": list(done.step.outputs),
            "largest_difference": done.step.largest_difference,
            "files": done.files,
        },
        tables=[TableOf("", ("file", "bytes"), [(name, f"{size:,}") for name, size in done.files.items()])],
        notes=[
            f"steps by onnxruntime are those of torch to {done.step.largest_difference:.1e}",
            f"{done.folder}/README.md shows how to answer with these files alone",
        ],
    )
