"""The folder beside an embedding file in which a run keeps what it has done: immutable shards and a ledger.

    embeddings.h5.parts/
      merge.lock              held while the embedding file is written
      all/                    of the whole catalogue; of a part of it, 2-of-8/
        shards/000001.h5      an embedding file of some clips, written once, never touched again; a later shard overrides an earlier one
        ledger.sqlite         what is known of each clip; made again from the shards if it is lost
        runs.jsonl            how long each run took (see ``run_log``)
        lock                  held by the run that writes here

``merge`` makes the embedding file from the shards.
"""

import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ..errors import InputError, VivimError
from ..progress import Progress
from ..store import EmbeddingStore, Recipe, write_embeddings
from ..store.embedding_file import check_recipe
from ..store.locks import locked
from .clip import Failure
from .clips import Catalogue
from .ledger import Ledger, Stat

_SUFFIX = ".parts"


@dataclass(frozen=True)
class Share:
    """Which part of a catalogue a run does: number ``index``, from 1, of ``count``; by the hash of the id: new clips move nothing."""

    index: int = 1
    count: int = 1

    @staticmethod
    def parse(text: str) -> "Share":
        """``"2/8"``.

        Raises:
            InputError: something else.
        """
        index, _, count = text.partition("/")
        if not (index.isdecimal() and count.isdecimal() and 1 <= int(index) <= int(count)):
            raise InputError(f"--shard {text!r} is not allowed; give number/of, as in --shard 2/8: the second of eight parts.")
        return Share(int(index), int(count))

    def holds(self, id_: str) -> bool:
        """Whether a clip belongs to this part."""
        digest = hashlib.sha256(id_.encode("utf-8", "surrogateescape")).digest()
        return int.from_bytes(digest[:8], "big") % self.count == self.index - 1

    @property
    def folder(self) -> str:
        return "all" if self.count == 1 else f"{self.index}-of-{self.count}"


WHOLE = Share()


def part_of(catalogue: Catalogue, share: Share) -> Catalogue:
    """The clips of a catalogue that belong to a share."""
    if share.count == 1:
        return catalogue
    refs = tuple(ref for ref in catalogue.refs if share.holds(ref.id))
    return Catalogue(refs, tuple(failure for failure in catalogue.failures if share.holds(failure.id)))


def parts_of(out: Path) -> Path:
    """The folder of the parts of an embedding file."""
    return out.with_name(out.name + _SUFFIX)


def shard_files(folder: Path) -> list[Path]:
    """The shards in one folder, the oldest first."""
    return sorted(path for path in (folder / "shards").glob("*.h5") if path.stem.isdecimal())


@dataclass
class Parts:
    """An open folder of parts; held by one process. Made by ``open_parts``."""

    folder: Path
    ledger: Ledger
    lock: int

    def check(self) -> None:
        """Whether the folder is still the one that was opened.

        Raises:
            VivimError: it was deleted or replaced, and shards with it.
        """
        try:
            same = os.path.samestat(os.stat(self.folder / "lock"), os.fstat(self.lock))
        except OSError:
            same = False
        if not same:
            raise VivimError(
                f"{self.folder} was deleted or replaced while this run was writing there. What it held is to be done again: "
                "run the same command once more."
            )

    def next_shard(self) -> Path:
        """Where the next shard is to be written; errors as ``check``."""
        self.check()
        files = shard_files(self.folder)
        return self.folder / "shards" / f"{int(files[-1].stem) + 1 if files else 1:06d}.h5"

    def put_aside(self, shard: Path) -> None:
        """A shard that cannot be read: its clips are to be done again."""
        os.replace(shard, shard.with_name(shard.name + ".damaged"))
        self.ledger.forget_shard(shard.name)


@contextmanager
def open_parts(folder: Path, recipe: Recipe, dim: int, progress: Progress) -> Iterator[Parts]:
    """Lock a folder of parts, make it if needed, and bring shards and ledger into agreement.

    Raises:
        InputError: another run holds it, or it cannot be written.
        RecipeMismatch: what lies there was made another way.
    """
    shards = folder / "shards"
    try:
        shards.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder} cannot be made: {error.strerror}. Choose another --out.") from error
    with locked(folder / "lock") as lock:
        for stray in shards.glob(".*.tmp"):  # of runs that were killed while they wrote
            stray.unlink()
        ledger = Ledger.open(folder / "ledger.sqlite")
        try:
            parts = Parts(folder, ledger, lock)
            _check_recipes(parts, recipe, dim)
            _agree(parts, progress)
            yield parts
        finally:
            ledger.close()


def take_over(out: Path, parts: Parts, recipe: Recipe, dim: int, share: Share) -> None:
    """Make a shard of what an embedding file holds and the shards do not: its rows need not be computed again.

    Raises:
        InputError: the file is damaged, and there are no shards from which to make it again.
        RecipeMismatch: it was made another way.
    """
    if not out.exists() or parts.ledger.meta("merged_stat") == str(Stat.of(out)):
        return
    try:
        store = EmbeddingStore.open(out, allow_empty=True)
    except InputError:
        if shard_files(parts.folder):
            return  # the merge makes it again
        raise
    check_recipe(store, recipe, dim)
    known = parts.ledger.entries()
    new = [row for row, id_ in enumerate(store.ids.ids) if id_ not in known and share.holds(id_)]
    failures = [failure for failure in store.failures if failure.id not in known and share.holds(failure.id)]
    if new or failures:
        shard = parts.next_shard()
        rows = store.rows.take(new)
        sha256 = write_embeddings(shard, store.recipe, rows, failures)
        done = zip(rows.ids, rows.sha256, strict=True)
        parts.ledger.book(shard.name, sha256, done, [Failure(*failed) for failed in failures])


def _check_recipes(parts: Parts, recipe: Recipe, dim: int) -> None:
    """Every shard was made under the lock and this check; so any one that can be read speaks for all."""
    for shard in shard_files(parts.folder):
        try:
            store = EmbeddingStore.open(shard, allow_empty=True)
        except InputError:
            continue
        check_recipe(store, recipe, dim)
        return


def _agree(parts: Parts, progress: Progress) -> None:
    """Book shards that are not in the ledger (the run was killed in between, or the ledger is lost), strike those that are gone."""
    booked = parts.ledger.shards()
    files = shard_files(parts.folder)
    names = {file.name for file in files}
    for name in booked.keys() - names:
        progress.say(f"the shard {name} is gone from {parts.folder / 'shards'}; its clips are done again")
        parts.ledger.forget_shard(name)
    new = [file for file in files if file.name not in booked]
    if new and booked.keys() & names and new[0].name < max(booked.keys() & names):
        new = files  # the ledger missed one in the middle: book all anew, in their order
    for file in new:
        try:
            store = EmbeddingStore.open(file, allow_empty=True)
        except InputError as error:
            progress.say(f"{error} It is put aside, its clips are done again.")
            parts.put_aside(file)
            continue
        done = zip(store.ids.ids, store.rows.sha256, strict=True)
        parts.ledger.book(file.name, store.sha256, done, [Failure(*failed) for failed in store.failures])


def all_shards(out: Path) -> dict[Path, Sequence[Path]]:
    """Folder -> shards, of everything that runs have left for an embedding file, whole runs before partial ones."""
    root = parts_of(out)
    folders = sorted((path for path in root.iterdir() if (path / "shards").is_dir()), key=_order) if root.is_dir() else []
    return {folder: shard_files(folder) for folder in folders}


def _order(folder: Path) -> tuple[int, ...]:
    return (0,) if folder.name == "all" else tuple(int(part) for part in folder.name.split("-of-")[::-1] if part.isdecimal())
