"""Making the embedding file from shards: sorted by id, checked, and put in its place in one step."""

import glob
import heapq
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import InputError
from ..progress import SILENT, Progress
from ..store import EmbeddingStore, RowsById, write_embeddings
from ..store.embedding_file import check_recipe
from ..store.locks import locked
from .ledger import Stat
from .parts import Parts, all_shards, parts_of


class DamagedShardError(InputError):
    """A shard cannot be read; its clips have to be done again."""

    def __init__(self, shard: Path, why: InputError) -> None:
        super().__init__(f"{why} Run the same `vivim extract` again: it does the clips of this shard anew.")
        self.shard = shard


@dataclass(frozen=True)
class Merged:
    """What a merge wrote.

    Attributes:
        path: the embedding file.
        sha256: its content hash.
        rows: its vectors.
        failures: clips without one.
        shards: from how many shards.
        folders: from which folders of parts.
    """

    path: Path
    sha256: str
    rows: int
    failures: int
    shards: int
    folders: tuple[str, ...]


def merge(out: Path, progress: Progress = SILENT) -> Merged:
    """Write ``out`` from all shards that lie beside it, of whole and of partial runs.

    What a later shard says about a clip overrides an earlier one. The bytes of the file follow from the vectors alone: neither the order
    in which clips were done nor the cut into shards or runs shows in it.

    Raises:
        InputError: there are no shards, or they were made by different recipes.
        DamagedShardError: one cannot be read; nothing was written.
        VivimError: the file cannot be written; what was there is untouched.
    """
    folders = {folder: shards for folder, shards in all_shards(out).items() if shards}
    if not folders:
        raise InputError(f"{parts_of(out)} holds no shards; run `vivim extract --out {out}` first.")
    with locked(parts_of(out) / "merge.lock"):
        for stray in out.parent.glob(f".{glob.escape(out.name)}.*.tmp"):  # of a merge that was killed
            stray.unlink()
        return _merge(out, folders, progress)


def _merge(out: Path, folders: Mapping[Path, Sequence[Path]], progress: Progress) -> Merged:
    stores = {folder: [_open(shard) for shard in shards] for folder, shards in folders.items()}
    first = next(iter(stores.values()))[0]
    content = RowsById()
    count = sum(map(len, stores.values()))
    progress.start("merge", count, "shards")
    for store in heapq.merge(*stores.values(), key=_made_at):
        check_recipe(store, first.recipe, first.dim)
        content.add(store.rows)
        for failure in store.failures:
            content.fail(failure)
        progress.advance()
    rows, failures = content.rows(first.dim), content.failures
    sha256 = write_embeddings(out, first.recipe.model_copy(update={"created_at": ""}), rows, failures)
    progress.finish()
    return Merged(out, sha256, len(rows), len(failures), count, _names(list(folders)))


def merge_if_new(out: Path, parts: Parts, progress: Progress) -> str:
    """``merge``, unless ``out`` is what the last one wrote and no shard has come since; its content hash, empty if there is nothing.

    Raises:
        as ``merge``.
    """
    parts.check()
    ledger = parts.ledger
    shards = {folder.name: [shard.name for shard in found] for folder, found in all_shards(out).items() if found}
    if not shards:
        return ""
    state = json.dumps([shards, str(Stat.of(out))])
    if ledger.meta("merged_state") == state and (sha256 := ledger.meta("merged_sha256")):
        return sha256
    done = merge(out, progress)
    ledger.set_meta("merged_sha256", done.sha256)
    ledger.set_meta("merged_stat", str(Stat.of(out)))
    ledger.set_meta("merged_state", json.dumps([shards, str(Stat.of(out))]))
    return done.sha256


def _open(shard: Path) -> EmbeddingStore:
    try:
        return EmbeddingStore.open(shard, allow_empty=True)
    except InputError as error:
        raise DamagedShardError(shard, error) from error


def _made_at(store: EmbeddingStore) -> str:
    """Decides between folders only: within one, shards keep their order whatever the clock did."""
    return store.recipe.created_at


def _names(folders: Sequence[Path]) -> tuple[str, ...]:
    return tuple(folder.name for folder in folders)
