"""Finding the clips of a catalogue: a folder of files, or a manifest that names them."""

import csv
import os
from collections import defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from ..errors import InputError
from ..store import ItemIndex
from .clip import ClipRef, Failure

EXTENSIONS = frozenset(
    [".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".3gp", ".3g2", ".ts", ".mts", ".m2ts", ".mpg", ".mpeg", ".flv", ".wmv", ".ogv"],
)
"""What counts as a clip in a folder, in upper or lower case. Not .gif, which is usually a picture; a manifest may name any file."""


@dataclass(frozen=True)
class Catalogue:
    """The clips that are to be embedded.

    Attributes:
        refs: each id once, sorted by id without regard to case (then with).
        failures: clips that are known to be unreadable before any is opened: missing, or with a doubtful id.
    """

    refs: tuple[ClipRef, ...]
    failures: tuple[Failure, ...] = ()

    def __len__(self) -> int:
        return len(self.refs) + len(self.failures)

    def first(self, count: int | None) -> "Catalogue":
        """At most so many clips, the first by id, those known to be unreadable included; None: all."""
        if count is None or count >= len(self):
            return self
        kept = set(sorted([ref.id for ref in self.refs] + [failure.id for failure in self.failures], key=_by_id)[:count])
        refs = tuple(ref for ref in self.refs if ref.id in kept)
        return Catalogue(refs, tuple(failure for failure in self.failures if failure.id in kept))


def find_clips(folder: Path, manifest: Path | None = None) -> Catalogue:
    """The clips in a folder and all folders below it, or those that a manifest lists.

    Without a manifest a clip's id is its file name without the extension. Hidden files and folders (``.name``) are passed over.
    Links to files are followed, also out of the folder: who may put a link into the folder may put a clip there. Links to folders
    are not followed, so that a circle of links ends.

    Args:
        folder: where the clips are; unused with a manifest.
        manifest: CSV with the columns id,path; see ``read_manifest``.

    Raises:
        InputError: the folder is absent, not a folder, unreadable, or without clips; two clips have one id; a file name is not
            text; the manifest cannot be used.
    """
    if manifest is not None:
        return read_manifest(manifest)
    if (reason := _why_unreachable(folder)) is not None or not folder.is_dir():
        raise InputError(f"{folder}: {reason or 'a file, not a folder'}; give the folder that holds the clips.")
    paths = [path for path in walk_files(folder) if path.suffix.lower() in EXTENSIONS]
    if not paths:
        raise InputError(f"{folder} holds no clips; looked in all its folders for {' '.join(sorted(EXTENSIONS))}.")
    by_id: dict[str, list[Path]] = defaultdict(list)
    for path in paths:
        by_id[path.stem].append(path)
    _check_ids(by_id)
    return sorted_catalogue(*_split({id_: path for id_, (path,) in by_id.items()}))


def read_manifest(path: Path) -> Catalogue:
    """The clips that a CSV file lists under the header ``id,path``.

    UTF-8, with or without a byte order mark, any line ends, quotes as usual in CSV. Ids are text: ``007`` stays ``007``. Relative
    paths start at the manifest's folder. A path that leads nowhere becomes a failure ``missing``; an id that is given to two
    files becomes a failure ``duplicate_id``, and neither file is read.

    Raises:
        InputError: the manifest is absent, empty, not UTF-8, lacks a column, or a line has too few fields.
    """
    lines = _manifest_lines(path)
    if not lines:
        raise InputError(f"{path} lists no clips; below the header id,path every line names one.")
    named: dict[str, tuple[int, Path]] = {}
    doubtful: dict[str, Failure] = {}
    for number, id_, file in lines:
        target = path.parent / file
        if id_ in named and named[id_][1] != target:
            message = f"lines {named[id_][0]} and {number} of {path.name} give this id to {named[id_][1].name} and {target.name}"
            doubtful.setdefault(id_, Failure(id_, "duplicate_id", message))
        named.setdefault(id_, (number, target))
    try:
        ItemIndex(named)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    good = {id_: target for id_, (_, target) in named.items() if id_ not in doubtful}
    refs, missing = _split(good)
    return sorted_catalogue(refs, [*doubtful.values(), *missing])


def _split(paths: dict[str, Path]) -> tuple[list[ClipRef], list[Failure]]:
    """The clips whose files can be reached, and a failure ``missing`` for each of the others."""
    reasons = {id_: _why_unreachable(path) for id_, path in paths.items()}
    refs = [ClipRef(id_, path) for id_, path in paths.items() if reasons[id_] is None]
    return refs, [Failure(id_, "missing", f"{reason}: {paths[id_]}") for id_, reason in reasons.items() if reason is not None]


def _why_unreachable(path: Path) -> str | None:
    try:
        path.stat()
    except FileNotFoundError:
        return "a link that leads nowhere" if path.is_symlink() else "not there"
    except OSError as error:
        return error.strerror or type(error).__name__
    except ValueError as error:  # a NUL character
        return str(error)
    return None


def _manifest_lines(path: Path) -> list[tuple[int, str, str]]:
    """(line number, id, path) of every line below the header; empty lines are passed over."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            header = [name.strip() for name in next(reader, [])]
            if "id" not in header or "path" not in header:
                raise InputError(f"{path} begins with {','.join(header)[:80]!r}; its first line must name the columns id,path.")
            id_column, path_column = header.index("id"), header.index("path")
            lines = []
            for row in reader:
                if not row:
                    continue
                if len(row) <= max(id_column, path_column) or not row[path_column]:
                    raise InputError(f"{path}, line {reader.line_num}: {len(row)} fields, {row!r}; the columns are {','.join(header)}.")
                lines.append((reader.line_num, row[id_column], row[path_column]))
            return lines
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"the manifest {path} cannot be read: {error}. It must be a UTF-8 CSV file with the columns id,path.") from error


def walk_files(folder: Path) -> Iterator[Path]:
    """All files of a folder and the folders below it, without hidden ones, in the order of their names.

    Raises:
        InputError: a folder that may not be read.
    """

    def refuse(error: OSError) -> None:
        raise InputError(
            f"{error.filename} cannot be read: {error.strerror}. Give read permission, or name the clips in a manifest."
        ) from error

    for directory, folders, files in os.walk(folder, onerror=refuse):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if not name.startswith("."):
                yield Path(directory, name)


def _check_ids(by_id: dict[str, list[Path]]) -> None:
    twins = {id_: paths for id_, paths in by_id.items() if len(paths) > 1}
    if twins:
        id_, paths = next(iter(twins.items()))
        raise InputError(
            f"{len(twins)} {'id belongs' if len(twins) == 1 else 'ids belong'} to more than one clip: "
            f"{id_!r} is {paths[0]} and {paths[1]}. "
            "The id is the file name without its extension; rename one, or give ids in a manifest (--manifest, columns id,path)."
        )
    check_ids(by_id)


def check_ids(ids: Collection[str]) -> None:
    """Refuse ids, taken from file names, that no embedding file can hold.

    Raises:
        InputError: an id that is empty, holds a control character, or is not UTF-8 text.
    """
    ItemIndex(ids)
    for id_ in ids:
        if not id_.isprintable() and any("\ud800" <= character <= "\udfff" for character in id_):
            raise InputError(f"the file name {os.fsencode(id_)!r} is not UTF-8 text; rename the file.")


def _by_id(id_: str) -> tuple[str, str]:
    return id_.casefold(), id_


def sorted_catalogue(refs: list[ClipRef], failures: list[Failure]) -> Catalogue:
    """A catalogue of these, in its order."""
    return Catalogue(
        tuple(sorted(refs, key=lambda ref: _by_id(ref.id))),
        tuple(sorted(failures, key=lambda failure: _by_id(failure.id))),
    )
