"""What report does: a run, its data, its vectors and its clips in; one HTML file out. The rooms do the work; this is the wiring."""

import time
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from .discovery import FOLDER, thumbnail_folder, videos_if_any
from .errors import InputError
from .pipeline import Pipeline
from .progress import Progress
from .stage_one import pick_device
from .stage_two import folder_of_data, interactions_of, open_run, titles_of
from .terminal import Summary

if TYPE_CHECKING:
    from .extract.clip import ClipRef
    from .extract.clips import Catalogue
    from .recommend.checkpoint import RunFolder
    from .serve.report.evidence import Evidence
    from .serve.report.pictures import Frames, Pictures
    from .store import EmbeddingStore

NAME = "report.html"


def run_report(pipeline: Pipeline, progress: Progress, *, run: Path | None, out: Path | None, embeddings: Path | None = None) -> Summary:
    """Everything about a run on one page.

    Raises:
        InputError: no such run, or data that are not its own.
        MissingExtra: a library of the extra ``report`` is not installed.
    """
    from .serve.report.facts import measure
    from .serve.report.page import page
    from .serve.report.pictures import Album
    from .store.run_folder import write_atomically

    started = time.monotonic()
    folder = open_run(pipeline, run, progress)
    target = out or folder.path / NAME
    _require_place(target)
    evidence = _gather(pipeline, folder, embeddings, progress)
    facts = measure(evidence, pipeline.report, pipeline.seed, progress)
    shown = list(dict.fromkeys(facts.ids_shown(evidence.items.ids)))
    pictures = _pictures(pipeline, evidence, shown, facts.sheet(), progress)
    album = Album(pictures, pipeline.report.size_mb)
    text = page(evidence, facts, album)
    try:
        write_atomically(target, text)
    except OSError as error:
        raise InputError(f"{target} cannot be written: {error.strerror}. Make room there, or choose another --out.") from error
    size, seconds = target.stat().st_size, time.monotonic() - started
    return Summary(
        headline=f"{target} written: {size / 1e6:.1f} MB, {len(album):,} clips with a picture; {seconds:.0f} s",
        data={"out": str(target), "run": str(folder.path), "size_bytes": size, "pictures": len(album), "seconds": round(seconds, 3)},
        notes=[facts.accuracy.verdict, *([album.words] if album.words else [])],
    )


def _require_place(target: Path) -> None:
    """Refuse a place for the report that nothing can be written to, before any work is done."""
    from .store.durable import require_writable

    if target.is_dir():
        raise InputError(f"{target} is a folder; --out needs a file, as in --out {target / NAME}.")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{target.parent} cannot be a folder for the report ({error.strerror}); choose another --out.") from error
    require_writable(target.parent)


def _gather(pipeline: Pipeline, folder: "RunFolder", embeddings: Path | None, progress: Progress) -> "Evidence":
    from .extract.failures import KINDS
    from .extract.run_log import noted_runs
    from .recommend.build import protocol_of
    from .recommend.evaluation import evaluate_run, refuse_other_data
    from .recommend.loading import load_scorer
    from .serve.report.evidence import Evidence

    device = pick_device(pipeline.device)
    interactions = interactions_of(pipeline, folder)
    split = protocol_of(folder.config().protocol).split(interactions)
    refuse_other_data(folder, split)
    store = _store(folder, embeddings)
    if not _measured(folder):
        progress.say("this run has not been measured on its test; measuring it")
        k = tuple(k for k in pipeline.evaluate.k if k <= len(split.items)) or (len(split.items),)
        measure = pipeline.evaluate.model_copy(update={"k": k})
        evaluate_run(folder, interactions, measure, device=device, vectors=store, progress=progress)
    items, counts_N = folder.catalogue()
    return Evidence(
        run=folder,
        interactions=interactions,
        split=split,
        items=items,
        counts_N=counts_N,
        scorer=load_scorer(folder, device),
        results=folder.read_json("results.json"),
        store=store,
        titles=titles_of(pipeline, folder),
        extractions=noted_runs(store.path) if store is not None else [],
        failure_kinds=KINDS,
    )


def _measured(folder: "RunFolder") -> bool:
    return (folder.path / "results.json").is_file() and "test" in folder.read_json("results.json")["splits"]


def _store(folder: "RunFolder", given: Path | None) -> "EmbeddingStore | None":
    """The vectors that the run was trained on: in the file given, else where they were then, if that file still holds them."""
    from .store import EmbeddingStore

    known = folder.info().get("embeddings") or {}
    if not known or "frames" in known:
        if given is not None:
            raise InputError(f"{folder.path} was not trained on a file of vectors; leave --embeddings out.")
        return None
    path = given or Path(known["path"])
    if given is None and not path.is_file():
        return None
    store = EmbeddingStore.open(path)
    if store.sha256 == known["sha256"]:
        return store
    if given is not None:
        raise InputError(f"{path} does not hold the vectors that {folder.path} was trained on; give the file it was trained on.")
    return None


def _pictures(pipeline: Pipeline, evidence: "Evidence", shown: Sequence[str], sheet: Sequence[str], progress: Progress) -> "Pictures":
    """Thumbnails, which are made of some clips that lack one; and what was read of the clips of the contact sheet."""
    from .extract.make_thumbnails import make_thumbnails
    from .extract.thumbnails import thumbnail_path
    from .serve.report.pictures import Pictures

    beside = folder_of_data(pipeline, evidence.run)
    folder = thumbnail_folder(pipeline, beside)

    def find(id_: str) -> bytes | None:
        path = thumbnail_path(folder, id_)
        return path.read_bytes() if path.is_file() else None

    catalogue = _clips(pipeline, beside)
    if catalogue is None:
        return Pictures(find)
    by_id = {ref.id: ref for ref in catalogue.refs}
    here = [id_ for id_ in dict.fromkeys([*shown, *evidence.items.ids]) if id_ in by_id]
    lacking = (by_id[id_] for id_ in here if not thumbnail_path(folder, id_).is_file())
    make_thumbnails(list(islice(lacking, pipeline.report.decode)), folder, pipeline.extract, progress)
    return Pictures(find, _frames(pipeline, evidence.store, [by_id[id_] for id_ in sheet if id_ in by_id]))


def _clips(pipeline: Pipeline, beside: Path) -> "Catalogue | None":
    """The clips that are given, or found in the folder of the interactions."""
    from .extract.clips import find_clips

    if pipeline.extract.manifest is not None:
        return find_clips(FOLDER, pipeline.extract.manifest)
    folder = videos_if_any(pipeline, beside)
    return None if folder is None else find_clips(folder)


def _frames(pipeline: Pipeline, store: "EmbeddingStore | None", refs: "Sequence[ClipRef]") -> "dict[str, Frames]":
    """Id -> the frames of a clip, read as extraction read them."""
    from .extract.clip import Clip
    from .extract.decode_pool import DecodePool
    from .extract.reader import make_reader
    from .extract.remake import config_of
    from .serve.report.pictures import Frames
    from .store import Recipe

    if store is None or not isinstance(store.recipe, Recipe) or not refs:
        return {}
    pool = DecodePool(make_reader(config_of(store.recipe, store.path)), pipeline.extract.workers, pipeline.extract.timeout_seconds)
    return {
        clip.id: Frames(clip.frames_TCHW.transpose(0, 2, 3, 1).copy(), clip.times_seconds)
        for clip in pool.decode(refs)
        if isinstance(clip, Clip)
    }
