"""What ``vivim benchmark`` does: a suite of trainings, and the table made of them."""

from pathlib import Path
from typing import Any

from .discovery import find_interactions
from .errors import InputError
from .pipeline import Pipeline
from .progress import Progress
from .stage_one import pick_device
from .terminal import Summary, TableOf, program
from .workspace import Workspace


def run_suite(pipeline: Pipeline, progress: Progress, *, suite: str, embeddings: Path | None, out: Path | None) -> Summary:
    """Train and measure the rows of a suite, as far as they are not, and write the table of those that are."""
    from .recommend.readers import read_interactions
    from .store import EmbeddingStore
    from .strict_yaml import read
    from .suites.runner import SuiteRun
    from .suites.suite import place_of, suite_of

    place = place_of(suite)
    wanted = suite_of(read(place), suite)
    columns = {key: getattr(pipeline.data, key) for key in ("user_column", "item_column", "time_column")}
    path = find_interactions(pipeline).resolve()
    workspace = Workspace(pipeline.runs)
    if embeddings is None and pipeline.data.interactions is None and workspace.has_embeddings():
        embeddings = workspace.last_embeddings()
    folder = out or pipeline.runs / f"suite-{wanted.name}"
    outcomes = SuiteRun(
        wanted,
        read_interactions(str(path), **columns),
        EmbeddingStore.open(embeddings) if embeddings else None,
        folder,
        pick_device(pipeline.device),
        progress,
        {"path": str(path)} | columns,
    ).run()
    failed = [outcome for outcome in outcomes if outcome.done == "failed"]
    if len(failed) == len(outcomes):
        raise InputError(f"no row of {suite} could be trained; the first: {failed[0].error}")
    shown = show_table(folder)
    counts = {done: sum(outcome.done == done for outcome in outcomes) for done in ("now", "before", "failed")}
    return Summary(
        headline=f"{counts['now']} trainings of {wanted.name} done, {counts['before']} were there, {counts['failed']} failed",
        data=shown.data | {"counts": counts, "failed": [{"row": o.row.name, "seed": o.seed, "error": o.error} for o in failed]},
        tables=[
            *shown.tables,
            *([TableOf("Failed", ("row", "seed", "why"), [(o.row.name, str(o.seed), o.error) for o in failed])] if failed else []),
        ],
        notes=shown.notes,
        exit_code=1 if failed else 0,
    )


def show_table(folder: Path) -> Summary:
    """The table of a suite that was run, on the terminal and as table.md, .csv and .html."""
    from .suites.table import write_table

    table = write_table(folder)
    first = f"@{min(table.suite.k)}"
    rows = []
    for line in table.lines:
        hits, gain = (line.cells["test", f"{name}{first}"].estimate for name in ("hit_rate", "ndcg"))
        interval = f"[{hits.low:.4f}, {hits.high:.4f}]"
        rows.append((line.row.kind, line.row.name, str(line.seeds), f"{hits.value:.4f}", interval, f"{gain.value:.4f}"))
    data: dict[str, Any] = {
        "folder": str(folder),
        "rows": [
            {"class": line.row.kind, "model": line.row.name, "seeds": line.seeds}
            | {f"{split} {metric}": cell.estimate.as_dict() | {"sd": cell.sd} for (split, metric), cell in line.cells.items()}
            for line in table.lines
        ],
        "protocol_card": table.card,
    }
    tested = [(t.row, t.baseline, t.metric, f"{t.found.difference:+.4f}", f"{t.p:.4f}") for t in table.tested]
    return Summary(
        headline=f"{table.suite.name}: {len(table.lines)} of {len(table.suite.rows)} rows are measured",
        data=data,
        tables=[
            TableOf("Test", ("class", "model", "seeds", f"HR{first}", "95 %", f"NDCG{first}"), rows),
            *(
                [TableOf("Against the best baseline of the class", ("model", "baseline", "metric", "difference", "p"), tested)]
                if tested
                else []
            ),
        ],
        notes=[f"written: {folder}/table.md, table.csv, table.html", f"again: {program()} benchmark table {folder}"],
    )
