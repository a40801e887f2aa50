"""What ``vivim index`` does, and ``ClipIndex``, which a service calls: new clips to a run that was trained without them."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import InputError, TooManyFailures
from .pipeline import Pipeline
from .progress import Progress
from .stage_one import FAILURES_SHOWN, make_recipe, pick_device
from .stage_two import open_run
from .terminal import Summary, TableOf, program

if TYPE_CHECKING:
    from .extract.clip import EmbeddingBatch, Failure
    from .extract.shard_loop import ClipEncoder
    from .recommend.additions import Additions
    from .recommend.checkpoint import RunFolder
    from .store import AnyRecipe


@dataclass(frozen=True)
class AddedClips:
    """What became of clips that were to be added.

    Attributes:
        ids: of those that can be recommended now.
        failures: of those that could not be read.
        total: items that the run answers with beyond its trained catalogue.
    """

    ids: tuple[str, ...]
    failures: "tuple[Failure, ...]"
    total: int


class ClipIndex:
    """A run opened for adding clips: its video encoder and its item encoder, loaded once.

    Args:
        run: trained on vectors of clips, or along with its encoder.
        pipeline: of it the device, and where the weights are (``extract.encoder.weights``) if the run was trained on vectors of weights
            from a file; workers, deadlines and batch of the extraction. What changes a vector is the run's.

    Raises:
        InputError: the run takes no new clips, or its vectors cannot be made here: other weights, other versions of what reads clips.
    """

    def __init__(self, run: "RunFolder", pipeline: Pipeline) -> None:
        from .extract.precision import MixedPrecision
        from .extract.remake import config_of, encoder_of
        from .recommend.new_items import NewItems

        self.run, self.options = run, pipeline.extract
        self.items = NewItems.open(run)
        self.config = config_of(_of_clips(self.items.recipe, run), run.path)
        encoder, weights = encoder_of(self.items.recipe, _weights(run, pipeline), run.path)
        self.items.check(make_recipe(self.config, encoder, weights), encoder.dim)
        encoder.to(pick_device(pipeline.device))
        self.encoder: ClipEncoder = MixedPrecision(encoder) if self.config.precision == "bf16-mixed" else encoder

    def add(self, clips: Mapping[str, Path], progress: Progress, *, replace: bool = False) -> AddedClips:
        """Extract clips, encode them as the run's items, append them to the run. A clip that cannot be read is left out, and named.

        Args:
            clips: id -> file.
            replace: a clip that was added before under one of these ids gives way.

        Raises:
            InputError: an id that is taken or that no file can hold, before any clip is read.
        """
        from .extract.clips import check_ids
        from .recommend.additions import Additions, add, all_additions, refuse_known

        check_ids(clips)
        check_ids([os.fspath(path.absolute()) for path in clips.values()])
        refuse_known(self.run, all_additions(self.run), list(clips), replace=replace)
        read = self._read(clips, progress)
        ids = tuple(sorted(read.vectors))
        if not ids:
            return AddedClips((), tuple(read.failures), len(all_additions(self.run)))
        vectors_RD = self.items.encode(np.stack([read.vectors[id_] for id_ in ids])).numpy()
        files = [os.fspath(clips[id_].absolute()) for id_ in ids]
        there = add(self.run, Additions.now(ids, vectors_RD, files, [read.sha256[id_] for id_ in ids]), replace=replace)
        return AddedClips(ids, tuple(read.failures), len(there))

    def _read(self, clips: Mapping[str, Path], progress: Progress) -> "_Read":
        from .extract.clip import ClipRef
        from .extract.decode_pool import DecodePool
        from .extract.reader import make_reader
        from .extract.shard_loop import Tally, run_shard

        pool = DecodePool(make_reader(self.config), self.options.workers, self.options.timeout_seconds, ahead=2 * self.options.batch_clips)
        read = _Read(self.items.recipe.dtype)
        progress.start("extract", len(clips), "clips")
        refs = [ClipRef(id_, path) for id_, path in clips.items()]
        run_shard(refs, pool.decode, self.encoder, read, Tally(), batch_clips=self.options.batch_clips, progress=progress)
        progress.finish()
        read.failures.sort(key=lambda failure: failure.id)
        return read


def add_clips(run: "RunFolder", clips: Mapping[str, Path], pipeline: Pipeline, progress: Progress, *, replace: bool = False) -> AddedClips:
    """``ClipIndex(run, pipeline).add(clips)``: for who adds once. Raises as both."""
    return ClipIndex(run, pipeline).add(clips, progress, replace=replace)


class _Read:
    """An ``EmbeddingWriter`` that keeps the vectors, rounded as an embedding file would hold them.

    Attributes:
        vectors: id -> (V,).
        sha256: id -> hash of the clip's file.
        failures: clips that could not be read.
    """

    def __init__(self, dtype: str) -> None:
        self._dtype = dtype
        self.vectors: dict[str, np.ndarray[Any, Any]] = {}
        self.sha256: dict[str, str] = {}
        self.failures: list[Failure] = []

    @property
    def hashes(self) -> Mapping[str, str]:
        """None: every clip is to be computed."""
        return {}

    def add(self, batch: "EmbeddingBatch") -> "Sequence[Failure]":
        from .extract.clip import Failure
        from .store import vector_faults

        with np.errstate(over="ignore"):
            stored_BV = batch.vectors_BD.astype(self._dtype)
        faults = vector_faults(stored_BV)
        for row, clip in enumerate(batch.clips):
            if row not in faults:
                self.vectors[clip.id], self.sha256[clip.id] = stored_BV[row], clip.sha256
        refused = [Failure(batch.clips[row].id, "nan_output", f"the vector {why} as {self._dtype}") for row, why in faults.items()]
        self.failures += refused
        return refused

    def fail(self, failure: "Failure") -> None:
        self.failures.append(failure)

    def same(self, id_: str) -> None:
        raise AssertionError("no hash is known, so none can be the same")

    def idle(self) -> None:
        """All clips are added together; nothing is written before the last."""


def run_index_add(pipeline: Pipeline, progress: Progress, paths: Sequence[Path], *, run: Path | None, replace: bool) -> Summary:
    """Clips, and folders of clips, to a run's index."""
    clips = _clips(paths)
    folder = open_run(pipeline, run, progress)
    done = add_clips(folder, clips, pipeline, progress, replace=replace)
    notes = [f"{folder.path} answers with {done.total:,} items more than it was trained on"]
    exit_code = 0
    if len(done.failures) > pipeline.extract.max_fail_rate * len(clips):
        exit_code = TooManyFailures.exit_code
        notes.append(f"more clips failed than --max-fail-rate {pipeline.extract.max_fail_rate:g} allows; those that did not are added")
    if done.ids:
        notes.append(f"next: {program()} recommend --run {folder.path} --user ID")
    failures = [{"id": failure.id, "kind": failure.kind, "message": failure.message} for failure in done.failures]
    shown = [tuple(failure.values()) for failure in failures[:FAILURES_SHOWN]]
    if len(failures) > len(shown):
        notes.append(f"{len(failures) - len(shown):,} more clips cannot be read; --json lists all")
    return Summary(
        headline=f"{len(done.ids):,} of {len(clips):,} clips can be recommended now",
        data={"run": str(folder.path), "added": list(done.ids), "failures": failures, "total": done.total},
        tables=[TableOf("Failed", ("id", "kind", "message"), shown)] if shown else [],
        notes=notes,
        exit_code=exit_code,
    )


def run_index_list(pipeline: Pipeline, progress: Progress, *, run: Path | None) -> Summary:
    """What was added to a run."""
    from .recommend.additions import all_additions

    folder = open_run(pipeline, run, progress)
    found = all_additions(folder)
    rows = [(id_, when, file) for id_, when, file in zip(found.ids, found.added_at, found.files, strict=True)]
    return _listed(folder, found, f"{len(found):,} items were added to {folder.path}", rows)


def run_index_remove(pipeline: Pipeline, progress: Progress, ids: Sequence[str], *, run: Path | None) -> Summary:
    """Added items out of a run again."""
    from .recommend.additions import remove

    if not ids:
        raise InputError("name the items to remove: vivim index remove ID... (vivim index list shows what was added).")
    folder = open_run(pipeline, run, progress)
    left = remove(folder, ids)
    return _listed(folder, left, f"{len(set(ids)):,} items removed, {len(left):,} added ones are left in {folder.path}", [])


def _listed(folder: "RunFolder", found: "Additions", headline: str, rows: list[tuple[str, str, str]]) -> Summary:
    items = [
        {"item": id_, "added_at": when, "file": file, "file_sha256": sha256}
        for id_, when, file, sha256 in zip(found.ids, found.added_at, found.files, found.file_sha256, strict=True)
    ]
    return Summary(
        headline=headline,
        data={"run": str(folder.path), "items": items},
        tables=[TableOf("Added", ("item", "added", "file"), rows)] if rows else [],
    )


def _clips(paths: Sequence[Path]) -> dict[str, Path]:
    """Id -> file: a file's id is its name without the extension; a folder means all clips in it.

    Raises:
        InputError: nothing is given, a path leads nowhere, a folder has no clips, or two files have one id.
    """
    from .extract.clips import find_clips

    if not paths:
        raise InputError("name the clips to add: vivim index add CLIP...")
    found: dict[str, Path] = {}
    for path in paths:
        if not path.exists():
            raise InputError(f"{path} is not there; give files of clips, or folders of them.")
        many = {ref.id: ref.path for ref in find_clips(path).refs} if path.is_dir() else {path.stem: path}
        for id_, file in many.items():
            if id_ in found and not found[id_].samefile(file):
                raise InputError(
                    f"{found[id_]} and {file} have one id, {id_!r}: the name without the extension. Rename one, or add one of them."
                )
            found[id_] = file
    return found


def _of_clips(recipe: "AnyRecipe", run: "RunFolder") -> "AnyRecipe":
    from .store import Recipe

    if not isinstance(recipe, Recipe):
        raise InputError(f"{run.path} was trained on vectors made from {recipe.made_from}; a clip gives none. Train on vectors of clips.")
    return recipe


def _weights(run: "RunFolder", pipeline: Pipeline) -> str:
    """Where the weights of the video encoder are: in the run that trained them, or where the configuration says."""
    from .recommend.build import needs_frames

    trained = run.path / "encoder.safetensors"
    along = needs_frames(run.config().items)
    return str(trained) if along else pipeline.extract.encoder.weights
