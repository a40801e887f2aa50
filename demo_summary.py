"""What ``vivim demo`` prints."""

import time
from pathlib import Path
from typing import Any

from .demo.run import DemoResult, K, run_demo_world, run_name
from .errors import MissingExtra
from .pipeline import DataConfig, Pipeline
from .progress import Progress
from .stage_one import pick_device
from .stage_report import NAME, run_report
from .terminal import Summary, TableOf, program, show


def run_demo(pipeline: Pipeline, progress: Progress, *, out: Path | None, quick: bool) -> Summary:
    """The whole job on the built-in world."""
    folder = out or pipeline.runs / "demo"
    done = run_demo_world(folder, seed=pipeline.seed, device=pick_device(pipeline.device), quick=quick, progress=progress)
    report, about_report = _report(pipeline, done, folder, progress)
    total = sum(done.seconds.values())
    parts = ", ".join(f"{name} {spent:.0f} s" for name, spent in done.seconds.items())
    rows = []
    for row in done.rows:
        hits, gain = row.result.metrics[f"hit_rate@{K}"], row.result.metrics[f"ndcg@{K}"]
        rows.append((row.name, f"{hits.value:.3f}", _interval(hits), f"{gain.value:.3f}", *_cold(row.cold)))
    cold = next((g.questions for g in done.rows[0].result.groups if g.name == "0"), 0)
    title = f"Test, {done.viewers:,} viewers, full ranking; cold: the next clip was never watched in training ({cold:,} viewers)"
    return Summary(
        headline=_headline(done, total),
        data=_data(done) | {"report": None if report is None else str(report)},
        tables=[TableOf(title, ("model", f"HR@{K}", "95 %", f"NDCG@{K}", f"cold HR@{K}", "95 %"), rows)],
        notes=[
            done.weights,
            parts,
            f"the page of one viewer whose next clip is new: {done.page}",
            about_report,
            f"next: {program()} recommend --run {done.rows[-1].run} --user {_first_user(done)} --k 5",
            f"or look at it in a browser: {program()} serve {' '.join(f'--run {run}' for run in served_runs(folder))}",
        ],
    )


def served_runs(folder: Path) -> tuple[Path, ...]:
    """The demo's runs that are worth comparing in a browser; the first one answers unless another is named."""
    return tuple(folder / "runs" / run_name(row) for row in ("ids + video", "frozen video", "ids"))


def serve_demo(pipeline: Pipeline, progress: Progress, *, out: Path | None, quick: bool) -> Summary:
    """The whole job, its table, and then the page on what it made, until a signal comes."""
    from .stage_serve import ServeOptions, require_packages, run_serve

    require_packages()  # not after two minutes
    show(run_demo(pipeline, progress, out=out, quick=quick), as_json=False)
    return run_serve(_own_data(pipeline), progress, ServeOptions(served_runs(out or pipeline.runs / "demo")))


def _own_data(pipeline: Pipeline) -> Pipeline:
    """Without what is said of other data: that of the demo is found beside its interactions."""
    extract = pipeline.extract.model_copy(update={"manifest": None, "thumbnails": None})
    return pipeline.model_copy(update={"data": DataConfig(), "extract": extract})


def _report(pipeline: Pipeline, done: DemoResult, folder: Path, progress: Progress) -> tuple[Path | None, str]:
    """The page about the last run of the table, and what to say of it; a demo without the extra ``report`` does without."""
    out = folder / NAME
    started = time.monotonic()
    try:
        run_report(_own_data(pipeline), progress, run=done.rows[-1].run, out=out)
    except MissingExtra as error:
        return None, f"no report: {error}"
    done.seconds["report"] = time.monotonic() - started
    return out, f"the report of {done.rows[-1].name}, everything on one page: {out}"


def _headline(done: DemoResult, total: float) -> str:
    by_name = {row.name: row for row in done.rows}
    video, ids = by_name["ids + video"].cold, by_name["ids"].cold
    if video is None or ids is None:
        return f"{done.clips} clips embedded and five recommenders measured in {total:.0f} s; no viewer was asked for a new clip"
    return f"new clips: ids + video finds {video.value:.0%} of them in its top {K}, ids alone {ids.value:.0%}; {total:.0f} s"


def _cold(estimate: Any) -> tuple[str, str]:
    return (f"{estimate.value:.3f}", _interval(estimate)) if estimate is not None else ("-", "-")


def _interval(estimate: Any) -> str:
    return f"[{estimate.low:.3f}, {estimate.high:.3f}]"


def _first_user(done: DemoResult) -> str:
    import polars as pl

    return str(pl.read_parquet(done.rows[-1].run / "ranks.parquet")["user"][0])


def _data(done: DemoResult) -> dict[str, Any]:
    return {
        "rows": {
            row.name: {
                **{k: v.as_dict() for k, v in row.result.metrics.items()},
                f"cold_hit_rate@{K}": None if row.cold is None else row.cold.as_dict(),
                "run": str(row.run),
            }
            for row in done.rows
        },
        "page": str(done.page),
        "seconds": done.seconds,
        "weights": done.weights,
        "clips": done.clips,
        "viewers": done.viewers,
    }
