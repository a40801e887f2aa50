"""What extract-text and import-embeddings do: item vectors that do not come from clips."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from .discovery import find_titles
from .errors import InputError
from .pipeline import Pipeline
from .progress import Progress
from .stage_one import FAILURES_SHOWN, known_interactions, pick_device
from .terminal import Summary, TableOf, program
from .workspace import Workspace

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .content.item_ids import ItemIds
    from .content.titles_to_vectors import TitlesDone
    from .content.vector_files import VectorFile
    from .store import EmbeddingStore, FailedClip, Health


def run_extract_text(pipeline: Pipeline, progress: Progress, *, out: Path | None) -> Summary:
    """Titles to an embedding file, which is remembered."""
    from .content.model_folder import find_model
    from .content.text_model import TextModel
    from .content.titles_to_vectors import embed_titles, read_item_titles

    path = find_titles(pipeline)
    if path is None:
        raise InputError("no titles are given and data/ holds none; give --titles FILE, a CSV of item,title.")
    titles = read_item_titles(path)
    found = find_model(pipeline.text.model)
    device = pick_device(pipeline.device)
    model = TextModel(found, pipeline.text, device)
    workspace = Workspace(pipeline.runs)
    target = out or workspace.runs / "titles.h5"
    done = embed_titles(titles, model, target, pipeline.text, progress)
    store = _remembered(workspace, target)
    covered, notes = _covered(pipeline, store)
    health = _health(store)
    return Summary(
        headline=f"{done.total - len(done.failures):,} of {done.total:,} titles have a vector in {target}, {done.embedded:,} made now; "
        f"{done.seconds:.0f} s",
        data={
            "total": done.total,
            "embedded": done.embedded,
            "unchanged": done.unchanged,
            "kept": done.kept,
            "repeated": len(done.repeated),
            "model": found.source,
            "device": device,
            "seconds": round(done.seconds, 3),
        }
        | _file_data(store, done.failures, target, health)
        | covered,
        tables=_tables(done.failures, health, "titles"),
        notes=[
            f"{model.dim} dimensions from {path.name} by {found.source}, at most {model.max_tokens} tokens of a title",
            *_text_notes(done),
            *notes,
            *health.warnings_of_the_space(),
            f"next: {program()} train-rec",
        ],
    )


def run_import(
    pipeline: Pipeline,
    progress: Progress,
    *,
    vectors: Path,
    ids: Path | None,
    first_id: int | None,
    name: str | None,
    out: Path | None,
) -> Summary:
    """Vectors that others have made to an embedding file, which is remembered."""
    from .content.import_vectors import import_vectors
    from .content.vector_files import open_vectors

    opened = open_vectors(vectors)
    of_rows = _ids_of(opened, ids, first_id)
    workspace = Workspace(pipeline.runs)
    target = out or workspace.runs / "imported.h5"
    done = import_vectors(opened, of_rows, target, name or vectors.name, progress)
    store = _remembered(workspace, target)
    covered, notes = _covered(pipeline, store)
    health = _health(store)
    return Summary(
        headline=f"{done.rows:,} vectors of {done.dim} dimensions imported into {target}"
        + (f", {len(done.failures):,} rows cannot be used" if done.failures else ""),
        data={"rows": done.rows, "name": name or vectors.name, "ids": of_rows.told}
        | _file_data(store, done.failures, target, health)
        | covered,
        tables=_tables(done.failures, health, "vectors"),
        notes=[
            f"the first row is item {of_rows.ids[0]!r}, the last {of_rows.ids[-1]!r}; {done.dtype}",
            *_unknown(done.failures, "vector that can be used"),
            *notes,
            *health.warnings_of_the_space(),
            f"next: {program()} train-rec",
        ],
    )


def _ids_of(opened: "VectorFile", ids: Path | None, first_id: int | None) -> "ItemIds":
    """Which item each row is.

    Raises:
        InputError: ids are said twice.
    """
    from .content.item_ids import ItemIds

    given = [option for option, value in (("--ids", ids), ("--first-id", first_id)) if value is not None]
    if opened.ids is not None and given:
        raise InputError(f"{opened.path} names the item of every row itself; leave out {given[0]}.")
    if len(given) > 1:
        raise InputError("--ids and --first-id both say which item a row is; give one.")
    if opened.ids is not None:
        return opened.ids
    return ItemIds.read(ids) if ids is not None else ItemIds.counted(len(opened.values_ND), 1 if first_id is None else first_id)


def _remembered(workspace: Workspace, target: Path) -> "EmbeddingStore":
    from .store import EmbeddingStore

    store = EmbeddingStore.open(target)
    workspace.remember_embeddings(target)
    return store


def _covered(pipeline: Pipeline, store: "EmbeddingStore") -> tuple[dict[str, Any], list[str]]:
    """How much of the histories has a vector, where histories are known: as data, and as lines.

    A file of histories that cannot be read costs no more than this: the vectors are there.
    """
    from .recommend.content import lay_out

    try:
        interactions = known_interactions(pipeline)
    except InputError as error:
        return {}, [f"How much of the interactions has a vector is not known: {error}"]
    if interactions is None:
        return {}, []
    found = lay_out(store, interactions.items, 0.0)
    having = len(interactions.items) - found.missing
    lines = [f"{having:,} of {len(interactions.items):,} items of the interactions have a vector ({found.coverage:.1%})"]
    return {"coverage": round(found.coverage, 6), "warning": found.warning}, lines + ([found.warning] if found.warning else [])


def _text_notes(done: "TitlesDone") -> list[str]:
    notes = _unknown(done.failures, "title")
    if done.repeated:
        items = "1 item has" if len(done.repeated) == 1 else f"{len(done.repeated):,} items have"
        notes.append(f"{items} a second title, as {done.repeated[0]!r}; the first was taken")
    if done.kept:
        notes.append(f"{done.kept:,} vectors of items that the titles do not name were in the file and stay")
    return notes


def _unknown(failures: "Sequence[FailedClip]", what: str) -> list[str]:
    if not failures:
        return []
    items = "1 item has" if len(failures) == 1 else f"{len(failures):,} items have"
    return [f'{items} no {what}, as {failures[0].id!r}: to a recommender all such items look alike, by one learned vector for "unknown"']


def _health(store: "EmbeddingStore") -> "Health":
    from .store import measure_health

    return measure_health(store.rows)


def _file_data(store: "EmbeddingStore", failures: "Sequence[FailedClip]", target: Path, health: "Health") -> dict[str, Any]:
    return {
        "failed": len(failures),
        "failures": [failure._asdict() for failure in failures],
        "dim": store.dim,
        "health": health.as_dict(),
        "recipe": store.recipe.model_dump(mode="json"),
        "out": str(target),
        "sha256": store.sha256,
    }


def _tables(failures: "Sequence[FailedClip]", health: "Health", sources: str) -> list[TableOf]:
    shown = [tuple(failure) for failure in failures[:FAILURES_SHOWN]]
    return [
        *([TableOf("Without a vector", ("id", "kind", "message"), shown)] if shown else []),
        TableOf("Health of all vectors in the file", ("what", "value"), health.lines("items", sources)),
    ]
