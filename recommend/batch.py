"""Lists for every user at once, in one file, in bounded memory.

Legend: U users, B some of them, N items, K places of a list.
"""

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from ..errors import InputError, VivimError
from ..progress import Progress
from ..store import ItemIndex
from ..store.durable import free_bytes, require_writable, sync
from .ranker import TopK, top_k
from .recommender import Recommender
from .retrieval import FaissIndex, Kind, faiss_top_k
from .scorers import TableScorer, VectorScorer
from .sequences import Interactions, Questions, Sequences

# Users whose lists are written together; what a part of the file holds.
_USERS_AT_ONCE = 4096
# Scores at a time: those of 64 MiB, and there are about three copies of them.
_SCORES = 2**24

Answer = Callable[[Questions], TopK]


@dataclass(frozen=True)
class Written:
    """What became of the users.

    Attributes:
        users: that have a list.
        rows: of the file.
        short: users with fewer than K items: they have watched the rest, or an approximate index found no more.
        left_out: users of whom the run knows nothing.
        seconds: that it took.
    """

    users: int
    rows: int
    short: int
    left_out: int
    seconds: float


def recommend_all(
    recommender: Recommender,
    interactions: Interactions,
    k: int,
    out: Path,
    *,
    index: Kind = "flat",
    known_users: ItemIndex | None = None,
    progress: Progress,
) -> Written:
    """The ``k`` best unseen items of every user, as a Parquet file: user, rank from 1, item, score; users in the order of the data.

    A user's list is what one alone is answered with: the newest items are read, everything watched is left out. The file is there whole
    or not at all.

    Args:
        recommender: the run.
        interactions: the users; items that the run does not know are passed over.
        k: length of the lists.
        out: the file; an earlier one is replaced.
        index: ``flat`` scores every item, ``hnsw`` and ``ivf`` are approximate.
        known_users: of a model that knows its users by id, in the order of its rows.
        progress: told of every user.

    Raises:
        InputError: k is not between 1 and N, the place cannot be written, no user is known, or an index is asked for and the model's
            scores are no products of vectors.
        VivimError: the disk is full; what was there before is untouched.
    """
    recommender.check_k(k)
    _check_place(out)
    answer = _answers(recommender, k, index)
    began, told = time.monotonic(), _Counts()
    rows_of_items = recommender.items.rows_of(interactions.items.ids)
    with _parts_of(out) as write:
        progress.start("recommend", len(interactions.users), "users")
        for start in range(0, len(interactions.users), _USERS_AT_ONCE):
            users = np.arange(start, min(start + _USERS_AT_ONCE, len(interactions.users)))
            asked, questions = _questions(interactions, users, rows_of_items, recommender.max_len, known_users)
            if len(asked):
                table = _table(interactions.users, asked, recommender.items, answer(questions))
                told.count(table, len(asked), k)
                write(table)
            progress.advance(len(users))
        progress.finish()
        if not told.users:
            raise InputError(f"the run knows no item that a user of {interactions.source} has watched; nobody can be recommended anything.")
    return Written(told.users, told.rows, told.short, len(interactions.users) - told.users, time.monotonic() - began)


@contextmanager
def _parts_of(out: Path) -> Iterator[Callable[[pl.DataFrame], None]]:
    """Takes a table part by part; when all are there, ``out`` is they, one after another. Nothing is held whole.

    Raises:
        VivimError: it cannot be written.
    """
    temporary = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    try:
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as folder:
            parts: list[Path] = []

            def write(table: pl.DataFrame) -> None:
                parts.append(Path(folder) / f"{len(parts)}.parquet")
                table.write_parquet(parts[-1])

            yield write
            pl.scan_parquet(parts).sink_parquet(temporary)
        sync(temporary)
        temporary.replace(out)
        sync(out.parent)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise VivimError(
            f"{out} could not be written: {error}. {free_bytes(out.parent)} bytes are free there, and the lists are written twice. What "
            "was there before is untouched."
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


@dataclass
class _Counts:
    users: int = 0
    rows: int = 0
    short: int = 0

    def count(self, table: pl.DataFrame, asked: int, k: int) -> None:
        self.users += asked
        self.rows += len(table)
        self.short += asked - int((table["rank"] == k).sum())


def _check_place(out: Path) -> None:
    if out.is_dir():
        raise InputError(f"{out} is a folder; --out needs a file name, for example {out / 'recs.parquet'}.")
    require_writable(out.parent)


def _answers(recommender: Recommender, k: int, index: Kind) -> Answer:
    """What gives the lists of some users."""
    scorer, num_items = recommender.scorer, len(recommender.items)
    if index == "flat":
        batch = max(1, min(512, _SCORES // num_items))
        return lambda questions: top_k(scorer, questions, k, num_items=num_items, batch=batch)
    if not isinstance(scorer, VectorScorer | TableScorer):
        raise InputError(f"--index {index} needs a model whose scores are products of vectors; leave it out for this run.")
    built = FaissIndex(index, scorer.items_ND)
    return lambda questions: faiss_top_k(built, scorer, questions, k)


def _questions(
    interactions: Interactions,
    users: npt.NDArray[np.int64],
    rows_of_items: npt.NDArray[np.int64],
    max_len: int,
    known_users: ItemIndex | None,
) -> tuple[npt.NDArray[np.int64], Questions]:
    """Those of ``users`` that can be asked for, and what is asked.

    Args:
        rows_of_items: row in the run of each item of the interactions; -1: unknown.
    """
    of_run = [rows_of_items[row] for row in interactions.histories.take(users)]
    watched = [rows[rows >= 0] for rows in of_run]
    by_id = np.zeros(len(users), np.int64)
    if known_users is not None:
        by_id = known_users.rows_of([interactions.users.ids[user] for user in users])
    asked = [place for place, rows in enumerate(watched) if len(rows) and by_id[place] >= 0]
    seen = [watched[place] for place in asked]
    nothing_asked = np.zeros(len(asked), np.int32)  # there is no target
    questions = Questions(by_id[asked].astype(np.int32), _sequences([rows[-max_len:] for rows in seen]), nothing_asked, _sequences(seen))
    return users[asked], questions


def _sequences(rows: list[npt.NDArray[np.int64]]) -> Sequences:
    offsets = np.cumsum([0, *map(len, rows)]).astype(np.int64)
    return Sequences(offsets, np.concatenate(rows).astype(np.int32) if rows else np.zeros(0, np.int32))


def _table(users: ItemIndex, asked: npt.NDArray[np.int64], items: ItemIndex, lists: TopK) -> pl.DataFrame:
    """The lists as rows of the file; places that stayed empty are left out."""
    filled_BK = lists.items >= 0
    place, rank = np.nonzero(filled_BK)
    names = np.array([users.ids[user] for user in asked], dtype=object)
    return pl.DataFrame(
        {
            "user": pl.Series(names[place], dtype=pl.String),
            "rank": pl.Series(rank + 1, dtype=pl.Int32),
            "item": pl.Series([items.ids[row] for row in lists.items[filled_BK]], dtype=pl.String),
            "score": pl.Series(lists.scores[filled_BK], dtype=pl.Float32),
        }
    )
