"""Items that were added to a run after its training: a table in the run's folder, beside the catalogue that evaluation knows.

Legend: N items of the catalogue, M added ones, D model width.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
from safetensors import SafetensorError, safe_open

from ..errors import InputError
from ..store import ItemIndex, vector_faults
from ..store.durable import replacing, sync
from ..store.failpoints import failpoint
from .checkpoint import RunFolder
from .tables import read_own

KEPT = "clips"
"""Folder in a run, of clips that came without a place of their own: one goes when no added item needs it any more."""
_NAME = "additions.parquet"
_COLUMNS = dict.fromkeys(("id", "file", "file_sha256", "added_at", "model_sha256"), pl.String) | {"vector": pl.Array}


@dataclass(frozen=True)
class Additions:
    """Added items, in the order of the rows that they have after those of the catalogue.

    Attributes:
        ids: M external ids.
        vectors_MD: float32, by which the run's model reads and scores them.
        files: M absolute paths of the clips; empty where there is none.
        file_sha256: M hashes of their bytes; empty where there is none.
        added_at: M times, UTC, ISO 8601.
    """

    ids: tuple[str, ...]
    vectors_MD: npt.NDArray[np.float32]
    files: tuple[str, ...]
    file_sha256: tuple[str, ...]
    added_at: tuple[str, ...]

    def __post_init__(self) -> None:
        lengths = {len(self.vectors_MD), len(self.files), len(self.file_sha256), len(self.added_at)}
        assert self.vectors_MD.ndim == 2 and lengths == {len(self.ids)}, (self.vectors_MD.shape, lengths, len(self.ids))

    def __len__(self) -> int:
        return len(self.ids)

    @staticmethod
    def now(
        ids: Sequence[str], vectors_MD: npt.NDArray[np.float32], files: Sequence[str] = (), file_sha256: Sequence[str] = ()
    ) -> "Additions":
        """Items that are being added; ``files`` and ``file_sha256`` may be left out."""
        added_at = datetime.now(UTC).isoformat(timespec="seconds")
        blank = ("",) * len(ids)
        return Additions(tuple(ids), vectors_MD, tuple(files) or blank, tuple(file_sha256) or blank, (added_at,) * len(ids))


def read_additions(run: RunFolder) -> tuple[tuple[str, ...], npt.NDArray[np.float32]]:
    """Ids (M) and vectors (M, D) of the items that were added to a run, in the order of their rows after the catalogue's.

    Raises:
        InputError: the table is damaged, or belongs to other weights.
    """
    found = all_additions(run)
    return found.ids, found.vectors_MD


def all_additions(run: RunFolder) -> Additions:
    """Everything that is known of them. Raises as ``read_additions``."""
    path = run.path / _NAME
    if not path.exists():
        return _none()
    try:
        table = read_own(path, _COLUMNS)
        found = Additions(
            ItemIndex(table["id"].to_list()).ids,
            table["vector"].to_numpy().astype(np.float32).reshape(len(table), -1),
            tuple(table["file"].to_list()),
            tuple(table["file_sha256"].to_list()),
            tuple(table["added_at"].to_list()),
        )
    except (ValueError, InputError) as error:
        raise InputError(f"{path} cannot be read ({error}); delete it, and add the clips again.") from error
    if set(table["model_sha256"].to_list()) != {run.model_sha256()}:
        raise InputError(f"{path} was made with other weights than those of the run; delete it, and add the clips again.")
    if faults := vector_faults(found.vectors_MD):
        raise InputError(
            f"{path}: the vector of {found.ids[next(iter(faults))]!r} cannot be used; delete the file, and add the clips again."
        )
    return found


def add(run: RunFolder, new: Additions, *, replace: bool = False) -> Additions:
    """Append items to a run, all or none; returns all additions. Killed at any moment, the table is the one before or the one after.

    Args:
        new: their vectors are of the run's item encoder (``NewItems``).
        replace: an id that was added before gets the new vector, in its old row.

    Raises:
        InputError: an id is in the trained catalogue, or was added before; vectors that cannot be used, or of another width than the
            run's; another process is adding.
    """
    ItemIndex(new.ids)
    if faults := vector_faults(new.vectors_MD):
        row, why = next(iter(faults.items()))
        raise InputError(f"the vector of {new.ids[row]!r} {why}; nothing was added.")
    with run.locked():
        there = all_additions(run)
        refuse_known(run, there, new.ids, replace=replace)
        _require_width(run, new)
        rows = {id_: row for row, id_ in enumerate(there.ids)}
        kept = [row for row, id_ in enumerate(new.ids) if id_ not in rows]
        replaced = {rows[id_]: row for row, id_ in enumerate(new.ids) if id_ in rows}
        return _exchange(run, there, _joined(there, new, replaced, kept))


def remove(run: RunFolder, ids: Collection[str]) -> Additions:
    """Take added items out again, all or none; returns what is left. The rows of those behind them move up.

    Raises:
        InputError: an id was not added; another process is adding.
    """
    gone = set(ids)
    with run.locked():
        there = all_additions(run)
        if strangers := [id_ for id_ in ids if id_ not in there.ids]:
            known = f"added are {', '.join(there.ids[:5])}" if len(there) else "nothing was added to it"
            raise InputError(f"{', '.join(map(repr, strangers[:5]))} was not added to {run.path}; {known}. Nothing was removed.")
        return _exchange(run, there, _take(there, [row for row, id_ in enumerate(there.ids) if id_ not in gone]))


def refuse_known(run: RunFolder, there: Additions, ids: Sequence[str], *, replace: bool) -> None:
    """Refuse ids that are taken, before any work is done for them.

    Raises:
        InputError: an id is in the trained catalogue, or was added before and may not be replaced.
    """
    catalogue, _ = run.catalogue()
    if trained := [id_ for id_ in ids if id_ in catalogue]:
        raise InputError(
            f"{len(trained)} ids are in the catalogue that {run.path} was trained on, for example {', '.join(trained[:5])}; training knows "
            "more of them than a new vector would. Give a new clip a new id, or train again."
        )
    again = [] if replace else sorted(set(ids) & set(there.ids))
    if again:
        raise InputError(
            f"{len(again)} ids were added to {run.path} before, for example {', '.join(again[:5])}; with --replace the new clips take "
            "their place."
        )


def _exchange(run: RunFolder, before: Additions, after: Additions) -> Additions:
    """Write ``after``, and delete the clips kept here that were of ``before`` alone."""
    _write(run, after)
    for file in set(before.files) - set(after.files):
        path = Path(file)
        if path.parent == run.path.resolve() / KEPT:
            path.unlink(missing_ok=True)
    return after


def _none() -> Additions:
    return Additions((), np.zeros((0, 0), np.float32), (), (), ())


def _require_width(run: RunFolder, new: Additions) -> None:
    """Refuse vectors that the run's items cannot stand beside."""
    path = run.path / "model.safetensors"
    try:
        with safe_open(path, "pt") as file:
            width = file.get_slice("items").get_shape()[1] if "items" in file.keys() else None  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path} cannot be read ({error}); train the run again.") from error
    if width is None:
        raise InputError(f"{run.path} is a run of a model that scores by no item vectors, so that nothing can be added to it.")
    if new.vectors_MD.shape[1] != width:
        raise InputError(f"vectors of {new.vectors_MD.shape[1]} numbers cannot be added to {run.path}, whose items have {width}.")


def _joined(there: Additions, new: Additions, replaced: dict[int, int], kept: list[int]) -> Additions:
    """``there`` with the rows ``replaced`` (old row -> row of ``new``) exchanged, and the rows ``kept`` of ``new`` behind."""

    def column(name: str) -> tuple[Any, ...]:
        old, now = getattr(there, name), getattr(new, name)
        return (*(now[replaced[row]] if row in replaced else value for row, value in enumerate(old)), *(now[row] for row in kept))

    vectors = np.stack(column("vectors_MD"))
    return Additions(column("ids"), vectors, column("files"), column("file_sha256"), column("added_at"))


def _take(there: Additions, rows: list[int]) -> Additions:
    def column(name: str) -> tuple[str, ...]:
        return tuple(getattr(there, name)[row] for row in rows)

    return Additions(column("ids"), there.vectors_MD[rows], column("files"), column("file_sha256"), column("added_at"))


def _write(run: RunFolder, all_: Additions) -> None:
    path = run.path / _NAME
    if not len(all_):
        path.unlink(missing_ok=True)
        sync(run.path)
        return
    width = all_.vectors_MD.shape[1]
    table = pl.DataFrame(
        {
            "id": all_.ids,
            "file": all_.files,
            "file_sha256": all_.file_sha256,
            "added_at": all_.added_at,
            "model_sha256": [run.model_sha256()] * len(all_),
            "vector": pl.Series(all_.vectors_MD.astype(np.float32), dtype=pl.Array(pl.Float32, width)),
        }
    )
    try:
        with replacing(path) as temporary:
            table.write_parquet(temporary)
            sync(temporary)
            failpoint("additions.synced")
        failpoint("additions.renamed")
        sync(run.path)
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror or error}. What was there before is untouched.") from error
