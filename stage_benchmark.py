"""What ``vivim benchmark`` does: a suite of trainings, and the table made of them."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .discovery import find_interactions
from .errors import InputError
from .pipeline import Override, Pipeline
from .progress import Progress
from .stage_one import pick_device
from .terminal import Summary, TableOf, duration, program
from .workspace import Workspace

if TYPE_CHECKING:
    from .suites.data import SuiteData
    from .suites.line import Line
    from .suites.runner import Outcome
    from .suites.suite import Suite
    from .suites.table import Table


@dataclass(frozen=True)
class SuiteOptions:
    """What is said beside the name of a suite.

    Attributes:
        rows: names of those to run; none: all.
        jobs: trainings side by side; None: see ``side_by_side``.
        embeddings: ``FILE`` or ``NAME=FILE`` each.
        out: folder of the runs; None: in the runs folder.
        typed: options of the configuration that were set on the command line.
    """

    rows: tuple[str, ...] = ()
    jobs: int | None = None
    embeddings: tuple[str, ...] = ()
    out: Path | None = None
    typed: tuple[Override, ...] = ()


# What of the configuration a suite leaves to whoever runs it: where the data are, and what goes with them. The rest is the suite's.
NOT_THE_SUITES = (
    *("device", "runs", "data.interactions", "data.user_column", "data.item_column", "data.time_column"),
    *("items.end_to_end.frames", "items.end_to_end.weights", "items.end_to_end.size"),
)
_THE_SUITES = ("seed", "protocol", "items", "model", "loss", "train", "evaluate")


def list_suites() -> Summary:
    """The suites that come along."""
    from .strict_yaml import read
    from .suites.suite import place_of, shipped, suite_of

    suites = [suite_of(read(place_of(name)), name) for name in shipped()]
    return Summary(
        headline=f"{len(suites)} suites come along; a YAML file of one's own is given by its path",
        data={"suites": [{"name": s.name, "about": s.about, "rows": [row.name for row in s.rows]} for s in suites]},
        tables=[TableOf("", ("suite", "rows", "is"), [(s.name, str(len(s.rows)), s.about) for s in suites])],
        notes=[f"run one: {program()} benchmark run {suites[0].name}"],
    )


def run_suite(pipeline: Pipeline, progress: Progress, suite: str, options: SuiteOptions) -> Summary:
    """Train and measure the rows of a suite, as far as they are not, and write the table of those that are."""
    import torch

    from .store import memory
    from .strict_yaml import read
    from .suites.runner import SuiteRun
    from .suites.suite import place_of, suite_of

    wanted = suite_of(read(place_of(suite)), suite)
    wanted.chosen(options.rows)  # a misspelt name is said before anything is made
    _refuse_what_is_the_suites(wanted, options.typed)
    folder = options.out or pipeline.runs / f"suite-{wanted.name}"
    device = pick_device(pipeline.device)
    data = _made(wanted, pipeline, options, folder, device, progress) if wanted.world is not None else _given(pipeline, options)
    jobs = options.jobs or side_by_side(device, torch.get_num_threads(), memory.free_bytes())
    outcomes = SuiteRun(wanted, data, folder, device, progress, options.rows, jobs).run()
    failed = [outcome for outcome in outcomes if outcome.done == "failed"]
    if len(failed) == len(outcomes):
        raise InputError(f"no row of {suite} could be trained; the first, {failed[0].row.name}: {failed[0].error}")
    return _what_was_run(wanted, outcomes, failed, show_table(folder), _left_aside(pipeline))


_CORES_EACH, _BYTES_EACH = 2, 4 << 30


def side_by_side(device: str, cores: int, free_bytes: int | None) -> int:
    """How many trainings at a time where nobody says: one on a GPU, else as many as have two cores and 4 GiB each.

    A rule of thumb: no row of MicroLens-50K takes as much. What a training takes is forecast when it begins, and refused then if it does
    not fit beside the others; when the suite is run again it is tried again.

    Args:
        device: that trains.
        cores: that torch would take.
        free_bytes: None: not known.
    """
    if device != "cpu":
        return 1
    rooms = cores if free_bytes is None else free_bytes // _BYTES_EACH
    return max(1, min(cores // _CORES_EACH, rooms))


def _refuse_what_is_the_suites(suite: "Suite", typed: Sequence[Override]) -> None:
    """An option that would be read by nobody is refused: rows of one table are asked the same.

    Raises:
        InputError: one that is set on the command line.
    """
    theirs = [f"{option.key} ({option.source})" for option in typed if option.key not in NOT_THE_SUITES]
    if theirs:
        raise InputError(
            f"{', '.join(theirs)} belongs to the suite {suite.name}, which says it for its rows, and is not read here; what can be set is "
            f"{', '.join(NOT_THE_SUITES)}. To train otherwise, copy the suite's YAML, change it there, and run the copy."
        )


def _left_aside(pipeline: Pipeline) -> list[str]:
    """What of pipeline.yaml is another than the default, and not read."""
    end_to_end = pipeline.items.end_to_end
    own = {name: getattr(type(end_to_end)(), name) for name in ("frames", "weights", "size")}
    items = pipeline.items.model_copy(update={"end_to_end": end_to_end.model_copy(update=own)})
    default = Pipeline()
    changed = [name for name in _THE_SUITES if (items if name == "items" else getattr(pipeline, name)) != getattr(default, name)]
    return [f"not read: {', '.join(changed)} of the configuration file; these belong to the suite"] if changed else []


def _what_was_run(
    suite: "Suite", outcomes: "Sequence[Outcome]", failed: "Sequence[Outcome]", shown: Summary, left_aside: Sequence[str]
) -> Summary:
    counts = {done: sum(outcome.done == done for outcome in outcomes) for done in ("now", "before", "failed")}
    return Summary(
        headline=f"{counts['now']} trainings of {suite.name} done, {counts['before']} were there, {counts['failed']} failed",
        data=shown.data | {"counts": counts, "failed": [{"row": o.row.name, "seed": o.seed, "error": o.error} for o in failed]},
        tables=[
            *shown.tables,
            *([TableOf("Failed", ("row", "seed", "why"), [(o.row.name, str(o.seed), o.error) for o in failed])] if failed else []),
        ],
        notes=[*left_aside, *shown.notes],
        exit_code=1 if failed else 0,
    )


def _given(pipeline: Pipeline, options: SuiteOptions) -> "SuiteData":
    """The histories and vectors that are given, or found and remembered."""
    from .suites.data import UNNAMED, SuiteData

    columns = {key: getattr(pipeline.data, key) for key in ("user_column", "item_column", "time_column")}
    path = find_interactions(pipeline).resolve()
    vectors = dict(named_vectors(text) for text in options.embeddings)
    workspace = Workspace(pipeline.runs)
    if not vectors and pipeline.data.interactions is None and workspace.has_embeddings():
        vectors = {UNNAMED: workspace.last_embeddings()}
    given = pipeline.items.end_to_end  # what is not given is the suite's to say
    encoder = {name: value for name in ("frames", "weights", "size") if (value := getattr(given, name)) != getattr(type(given)(), name)}
    return SuiteData({"path": str(path)} | columns, vectors, encoder)


def _made(suite: "Suite", pipeline: Pipeline, options: SuiteOptions, folder: Path, device: str, progress: Progress) -> "SuiteData":
    """The demo world of a suite, made in its folder.

    Raises:
        InputError: data are given that it has no use for.
    """
    from .demo.suite_world import make_world
    from .suites.data import SuiteData

    assert suite.world is not None
    encoder = {option.key for option in options.typed} & {"items.end_to_end.weights", "items.end_to_end.size"}
    if pipeline.data.interactions is not None or options.embeddings or pipeline.items.end_to_end.frames is not None or encoder:
        raise InputError(
            f"the suite {suite.name} makes its own data; leave --interactions, --embeddings, --from-cache, --weights and --size out."
        )
    world = make_world(suite.world, folder, device, progress)
    location = {"path": str(world.pairs.resolve()), "user_column": None, "item_column": None, "time_column": None}
    return SuiteData(location, world.vectors, {"frames": world.frames.resolve()})


def named_vectors(text: str) -> tuple[str, Path]:
    """``titles=FILE`` is the vectors called titles; ``FILE`` those without a name."""
    from .suites.data import UNNAMED
    from .suites.suite import VECTORS_NAME

    name, equals, path = text.partition("=")
    return (name, Path(path)) if equals and re.match(VECTORS_NAME, name) else (UNNAMED, Path(text))


def show_table(folder: Path) -> Summary:
    """The table of a suite that was run, on the terminal and as files: Markdown, CSV, HTML and a chart."""
    from .recommend.leakage import leakage_lines
    from .suites.pages import write_table

    written = write_table(folder)
    table = written.table
    first = f"@{min(table.suite.k)}"
    rows: list[tuple[str, ...]] = []
    kind = None
    for line in table.lines:
        if line.row.kind != kind:  # on a line of its own: beside the model it would not fit 80 columns
            kind = line.row.kind
            rows.append((kind, "", "", "", ""))
        hits, gain = (line.cells["test", f"{name}{first}"].estimate for name in ("hit_rate", "ndcg"))
        interval = f"[{hits.low:.4f}, {hits.high:.4f}]"
        rows.append((f"  {line.row.name}", str(line.seeds), f"{hits.value:.4f}", interval, f"{gain.value:.4f}"))
    tested = [(t.row, t.baseline, t.metric, f"{t.found.difference:+.4f}", f"{t.p:.4f}") for t in table.tested]
    tables = [
        TableOf("Test", ("model", "seeds", f"HR{first}", "95 %", f"NDCG{first}"), rows),
        TableOf("Compared on the same users", ("model", "with", "metric", "difference", "p"), tested),
        TableOf("Cost, medians over seeds", ("model", "s/epoch", "epochs", "best", "total", "MiB", "parameters"), _cost_rows(table)),
    ]
    return Summary(
        headline=f"{table.suite.name}: {len(table.lines)} of {len(table.suite.rows)} rows are measured",
        data={"folder": str(folder), "rows": [_row_data(line) for line in table.lines], "protocol_card": table.card},
        tables=[shown for shown in tables if shown.rows],
        notes=[
            *leakage_lines(table.card["protocol"], table.leakage),
            *([_STOPPED] if any(line.cost.stopped for line in table.lines) else []),
            f"all trainings together: {duration(sum(line.cost.seconds_of_all for line in table.lines))}",
            f"written: {folder}/{', '.join(written.files)}",
            *([written.note] if written.note else []),
            f"again: {program()} benchmark table {folder}",
        ],
    )


_STOPPED = "§ a training was ended by its budget of time, not by validation"


def _cost_rows(table: "Table") -> list[tuple[str, ...]]:
    found = []
    for line in table.lines:
        cost = line.cost
        if not cost.known:
            continue
        numbers = [
            "-" if cost.seconds_per_epoch is None else f"{cost.seconds_per_epoch:.1f}",
            "-" if cost.epochs is None else f"{cost.epochs:g}{' §' if cost.stopped else ''}",
            "-" if cost.best_epoch is None else f"{cost.best_epoch:g}",
            "-" if cost.seconds is None else duration(cost.seconds),
            "-" if cost.memory_mb is None else f"{cost.memory_mb:,.0f}",
            "-" if cost.parameters is None else f"{cost.parameters:,.0f}",
        ]
        found.append((line.row.name, *numbers))
    return found


def _row_data(line: "Line") -> dict[str, Any]:
    row = {"class": line.row.kind, "model": line.row.name, "seeds": line.seeds}
    return row | line.metrics_as_dict() | line.beside.as_dict() | {"cost": line.cost.numbers | {"stopped_by_budget": line.cost.stopped}}
