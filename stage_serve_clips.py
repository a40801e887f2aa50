"""Clips of ``vivim serve``: their files and thumbnails, and new ones that an operator sends."""

import hashlib
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .discovery import thumbnail_folder, videos_if_any
from .errors import InputError
from .pipeline import Pipeline
from .progress import Progress
from .stage_index import ClipIndex

if TYPE_CHECKING:
    from .extract.clip import ClipRef
    from .recommend.checkpoint import RunFolder
    from .serve.media import MediaFiles, MediaTable

_MOST_THUMBNAILS = 1000  # made while somebody waits for the server to start

# Ends of names by which browsers know a container that ``extract.sniff`` has found.
_SUFFIXES = {"mov": ".mp4", "matroska": ".webm", "ogg": ".ogv", "mpeg": ".mpg"}


def find_media(
    pipeline: Pipeline, beside: Path, runs: Sequence["RunFolder"], progress: Progress
) -> tuple[dict[str, "MediaFiles"], list[str]]:
    """The files of items, and lines that say how many there are.

    Args:
        beside: the folder of the interactions, in which clips are looked for if they are not named.
        runs: whose added clips are shown too.
    """
    from .extract.clip import ClipRef
    from .extract.clips import find_clips
    from .recommend.additions import all_additions
    from .serve.media import MediaFiles

    folder, manifest = videos_if_any(pipeline, beside), pipeline.extract.manifest
    found = find_clips(folder or beside, manifest).refs if folder is not None or manifest is not None else ()
    refs = {ref.id: ref for ref in found if manifest is not None or folder is None or _inside(ref.path, folder)}
    for run in runs:
        added = all_additions(run)
        refs |= {id_: ClipRef(id_, Path(file)) for id_, file in zip(added.ids, added.files, strict=True) if file and Path(file).is_file()}
    if not found and not refs:
        return {}, ["clips     none; --videos DIR shows them"]
    pictures = thumbnail_folder(pipeline, beside)
    there = {path.stem for path in pictures.glob("*/*.webp") if not path.is_symlink()} if pictures.is_dir() else set()
    lacking = [ref for ref in refs.values() if _picture(pictures, ref.id).stem not in there]
    if len(lacking) <= _MOST_THUMBNAILS:
        there |= _make_thumbnails(lacking, pictures, pipeline, progress)
    files = {}
    for id_, ref in refs.items():
        picture = _picture(pictures, id_)
        files[id_] = MediaFiles(ref.path.resolve(), picture if picture.stem in there else None)
    shown = sum(of.thumbnail is not None for of in files.values())
    how = "; extract --thumbnails DIR makes them" if len(lacking) > _MOST_THUMBNAILS else ""
    words = [f"clips     {len(files):,}, {shown:,} with thumbnails{how}"]
    outside = len(found) - len({ref.id for ref in found} & set(refs))
    return files, [*words, *([f"          {outside:,} not shown: links that lead out of the folder"] if outside else [])]


def _inside(path: Path, folder: Path) -> bool:
    """Whether a file lies in the folder, links followed. A manifest may name any file."""
    return path.resolve().is_relative_to(folder.resolve())


def _picture(folder: Path, id_: str) -> Path:
    from .extract.thumbnails import thumbnail_path

    return thumbnail_path(folder.resolve(), id_)


def _make_thumbnails(refs: Sequence["ClipRef"], folder: Path, pipeline: Pipeline, progress: Progress) -> set[str]:
    """Make those that lack; the stems of what was made."""
    from .extract.make_thumbnails import make_thumbnails

    failed = {failure.id for failure in make_thumbnails(refs, folder, pipeline.extract, progress)}
    return {_picture(folder, ref.id).stem for ref in refs if ref.id not in failed}


def runs_that_take_clips(runs: Sequence["RunFolder"], progress: Progress) -> list["RunFolder"]:
    """Those whose items can be placed by what they look like; why not, of the others."""
    from .recommend.new_items import NewItems

    takers = []
    for run in runs:
        try:
            NewItems.open(run)
        except InputError as error:
            progress.say(f"new clips are not added to {run.path.name}: {error}")
        else:
            takers.append(run)
    return takers


class NewClips:
    """Adds a clip to every run that takes any; a ``serve.desk.Adder``. One call at a time.

    Args:
        runs: at least one, each of which takes new clips.
        pictures: folder of thumbnails.
        media: told of the clip's files.
        reload: makes the service look at the runs again.
    """

    def __init__(
        self,
        runs: Sequence["RunFolder"],
        pipeline: Pipeline,
        progress: Progress,
        pictures: Path,
        media: "MediaTable",
        reload: Callable[[], object],
    ) -> None:
        from .recommend.additions import KEPT

        self.runs, self.pipeline, self.progress = runs, pipeline, progress
        self.pictures, self.media, self.reload = pictures, media, reload
        self.kept = runs[0].path.resolve() / KEPT
        self._indexes: list[ClipIndex] = []

    def __call__(self, item: str, path: Path) -> bool:
        """Raises: ItemTaken, BadClip, BadId; InputError: the encoder that made the run's vectors cannot be loaded."""
        from .extract.clip import ClipRef
        from .serve.media import MediaFiles

        self._check_id(item)
        if not self._indexes:
            self._indexes = [ClipIndex(run, self.pipeline) for run in self.runs]
        before = self._file_before(item)
        file = self._keep(item, path)
        try:
            self._add(item, file)
        except BaseException:
            if file not in (before, self._file_before(item)):  # a run that took it before another failed needs it until it is sent again
                file.unlink(missing_ok=True)
            raise
        self.reload()
        made = _make_thumbnails([ClipRef(item, file)], self.pictures, self.pipeline, self.progress)
        self.media.put(item, MediaFiles(file, _picture(self.pictures, item) if made else None))
        if before is not None and before != file and before.parent == self.kept:
            before.unlink(missing_ok=True)
        return before is not None

    def _file_before(self, item: str) -> Path | None:
        """Of a clip that was added under this id before."""
        from .recommend.additions import all_additions

        for run in self.runs:
            added = all_additions(run)
            if item in added.ids:
                return Path(added.files[added.ids.index(item)])
        return None

    def _check_id(self, item: str) -> None:
        from .extract.clips import check_ids
        from .serve.errors import BadId, ItemTaken

        try:
            check_ids([item])
        except InputError as error:
            raise BadId(str(error)) from None
        if any(item in run.catalogue()[0] for run in self.runs):
            raise ItemTaken(f"{item!r} is an item that training knew; a new clip takes a new id.")

    def _keep(self, item: str, path: Path) -> Path:
        """The clip where it stays, under a name made of hashes."""
        from .extract.failures import ClipError
        from .extract.sniff import HEAD_BYTES, container_of
        from .serve.errors import BadClip
        from .store import file_sha256
        from .store.durable import replacing, sync

        with path.open("rb") as file:
            try:
                suffix = _SUFFIXES.get(container_of(file.read(HEAD_BYTES)), ".clip")
            except ClipError as error:
                raise BadClip(f"what was sent for {item!r} is no clip: {error}.") from None
        self.kept.mkdir(exist_ok=True)
        target = self.kept / f"{hashlib.sha256(item.encode()).hexdigest()[:32]}-{file_sha256(path)[:16]}{suffix}"
        with replacing(target) as temporary:  # the row that names it is on disk before the sender hears of it, and so must the clip be
            shutil.copyfile(path, temporary)
        sync(self.kept)
        return target

    def _add(self, item: str, file: Path) -> None:
        from .serve.errors import BadClip

        for index in self._indexes:
            done = index.add({item: file}, self.progress, replace=True)
            if done.failures:
                raise BadClip(f"the clip sent for {item!r} cannot be read: {done.failures[0].kind}.")
