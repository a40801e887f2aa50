"""A run as it stands at one moment: model, items, indexes. It never changes; a newer one takes its place.

Legend: N items of the catalogue, M of them that training knew, E items that came later, I items of the interactions file, D model width.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch

from ..errors import InputError
from ..recommend.checkpoint import RunFolder
from ..recommend.export import load_index
from ..recommend.ranker import Scorer
from ..recommend.recommender import Recommender, UserState
from ..recommend.retrieval import FaissIndex
from ..recommend.scorers import TableScorer, VectorScorer, item_vectors
from .config import Ann
from .errors import SearchUnavailable
from .histories import BaseHistories
from .search import AnnSearch, Nearness, Place, best, logarithmic_popularity, products

Search = Literal["exact", "ann"]
Fallback = Literal["popularity", "popularity+near"]

_NEAR_DECAY = 0.8  # of what was watched before, for the fallback: the newest counts most
_NEAR_ITEMS = 20


@dataclass(frozen=True)
class Ranking:
    """A list of rows, best first; what it was made from where the model had no answer; how it was searched."""

    places: list[Place]
    fallback: Fallback | None
    search: Search


class Snapshot:
    """Answers from rows, for one model and one catalogue.

    Attributes:
        kind: of the model; ``items_kind``: of its items.
        recommender: over the items of training and those that came later.
        trained: M.
        model_hash: sha256 of the weights.
        index_hash: sha256 of the weights, the ids in the order of the rows, and the vectors that came later.
        base_hash: of the histories that all events come after.
    """

    def __init__(
        self,
        recommender: Recommender,
        *,
        kind: str,
        items_kind: str,
        trained: int,
        counts_N: npt.NDArray[np.int64],
        base: BaseHistories,
        model_hash: str,
        index_hash: str,
        ann: AnnSearch | None,
    ) -> None:
        self.recommender, self.kind, self.items_kind, self.trained = recommender, kind, items_kind, trained
        self.base, self.model_hash, self.base_hash, self.index_hash = base, model_hash, base.sha256, index_hash
        self.popularity_N = logarithmic_popularity(counts_N)
        self.counts_N = torch.from_numpy(counts_N.astype(np.float32))
        vectors_ND = item_vectors(recommender.scorer)
        self.nearness = None if vectors_ND is None else Nearness(vectors_ND.float().contiguous())
        self.ann = ann
        self._row_of_base = recommender.items.rows_of(base.ids_of_items())

    @staticmethod
    def load(
        run: RunFolder,
        base: BaseHistories | None = None,
        extra_ids: Sequence[str] = (),
        extra_ED: npt.NDArray[np.float32] | None = None,
        *,
        ann: Ann = "none",
        index: Path | None = None,
        before: "Snapshot | None" = None,
    ) -> "Snapshot":
        """Read a run's folder.

        Args:
            base: what people watched before.
            extra_ids: items that came after training, beside those that the run's folder itself tells of.
            extra_ED: their vectors, of the run's item encoder.
            ann: approximate index to make, in the background.
            index: one that ``vivim export`` made of these weights, to be used instead.
            before: the snapshot that this one takes the place of; it is given back if nothing changed, and its index is used again if
                the weights did not.

        Raises:
            InputError: the run is damaged, or was being written; the model takes no new items; the index is of another model.
        """
        base = base or BaseHistories()
        weights = run.path / "model.safetensors"
        model_hash, stamp = run.model_sha256(), _stamp(weights)
        config = run.config()
        items, counts = run.catalogue()
        recommender = Recommender(run)
        if _stamp(weights) != stamp:
            raise InputError(f"the run {run.path} was written to while it was read; try again when that is done.")
        if extra_ED is not None:
            recommender = recommender.extended(extra_ids, extra_ED)
        index_hash = _index_hash(model_hash, recommender, len(items))
        if before is not None and (before.model_hash, before.index_hash, before.base_hash) == (model_hash, index_hash, base.sha256):
            return before
        same_weights = before if before is not None and before.model_hash == model_hash else None
        return Snapshot(
            recommender,
            kind=config.model.kind,
            items_kind=config.items.kind,
            trained=len(items),
            counts_N=np.concatenate([counts, np.zeros(len(recommender.items) - len(items), counts.dtype)]),
            base=base,
            model_hash=model_hash,
            index_hash=index_hash,
            ann=_ann(ann, index, recommender.scorer, len(items), model_hash) if same_weights is None else same_weights.ann,
        )

    def rows_of(self, ids: Sequence[str]) -> list[int]:
        """Rows of items; -1 where the catalogue does not hold one."""
        rows: list[int] = self.recommender.items.rows_of(ids).tolist()
        return rows

    def base_rows(self, user: str) -> list[int]:
        """Rows of what ``user`` watched before all events, oldest first; -1 where the catalogue does not hold one."""
        rows: list[int] = self._row_of_base[self.base.rows(user)].tolist()
        return rows

    def nothing_watched(self, user: str | None = None) -> UserState:
        """The state that everything begins with."""
        return self.recommender.nothing(None if user is None else self.base.trained_row(user))

    def tied_to(self, rows: Sequence[int]) -> str | None:
        """``index_hash`` if a state with these rows is right with this catalogue alone: items that training did not know may get other
        vectors or go, and an item that is not known may come."""
        return self.index_hash if any(not 0 <= row < self.trained for row in rows) else None

    @property
    def searches(self) -> list[Search]:
        """How this model's lists can be searched."""
        return ["exact"] if self.ann is None else ["exact", "ann"]

    def require(self, search: Search) -> None:
        """Refuse a search of a kind that this model has not.

        Raises:
            SearchUnavailable: an approximate list of a model without an index.
        """
        if search == "ann" and self.ann is None:
            raise SearchUnavailable(f"{self.kind} has no approximate index here; ask with search=exact.")

    def rank(self, state: UserState, k: int, *, exclude_seen: bool, search: Search) -> Ranking:
        """The ``k`` best items, fewer if the catalogue has no more.

        Where the model has no answer: popularity, and with it what is near to what was watched last, if anything is known.

        Raises:
            SearchUnavailable: an approximate list of a model without an index.
            NotReady: the index is still being made.
        """
        self.require(search)
        left_out = state.watched if exclude_seen else ()
        if not self.answers(state):
            return self._fallback(state, k, left_out)
        user_D = self._user(state)
        if user_D is None:
            return Ranking(best(self.recommender.scores(state)[0], k, left_out), None, "exact")
        assert self.nearness is not None
        if search == "ann":
            assert self.ann is not None
            return Ranking(self.ann.best(user_D, self.nearness.items_ND, k, left_out), None, "ann")
        return Ranking(best(products(self.nearness.items_ND, user_D), k, left_out), None, "exact")

    def answers(self, state: UserState) -> bool:
        """Whether the model itself has an answer: something was watched, and a model that knows users by id knows this one."""
        return bool(state.watched) and (state.user is not None or not isinstance(self.recommender.scorer, TableScorer))

    def popular(self, k: int, left_out: Sequence[int]) -> Ranking:
        """The ``k`` items that were watched most in training, by how often."""
        return Ranking(best(self.counts_N, k, left_out), "popularity", "exact")

    def similar(self, row: int, k: int) -> Ranking:
        """The ``k`` items nearest to one by the cosine of item vectors; of a model without vectors, those it expects after it."""
        if self.nearness is not None:
            return Ranking(best(self.nearness.to(self.nearness.items_ND[row]), k, (row,)), None, "exact")
        state = self.recommender.continued(self.nothing_watched(), [row])
        return Ranking(best(self.recommender.scores(state)[0], k, (row,)), None, "exact")

    def reasons(self, places: Sequence[Place], state: UserState, count: int) -> list[list[Place]]:
        """For each place the ``count`` nearest clips of the history; none for a model without vectors."""
        if self.nearness is None:
            return [[] for _ in places]
        return self.nearness.reasons([place.row for place in places], state.watched, count)

    def _fallback(self, state: UserState, k: int, left_out: Sequence[int]) -> Ranking:
        if self.nearness is None or not state.watched:
            return self.popular(k, left_out)
        rows = state.watched[-_NEAR_ITEMS:]
        weights = _NEAR_DECAY ** torch.arange(len(rows) - 1, -1, -1.0)
        near_N = self.nearness.to(weights @ self.nearness.unit(rows))
        return Ranking(best(self.popularity_N + near_N, k, left_out), "popularity+near", "exact")

    def _user(self, state: UserState) -> torch.Tensor | None:
        """(D,) vector whose products with the items are the scores; None: this model scores in another way."""
        match self.recommender.scorer:
            case VectorScorer():
                assert state.user_1D is not None
                return state.user_1D[0].float()
            case TableScorer() as scorer:
                assert state.user is not None
                return scorer.users_UD[state.user].float()
            case _:
                return None


def _ann(kind: Ann, exported: Path | None, scorer: Scorer, trained: int, model_hash: str) -> AnnSearch | None:
    if exported is not None:
        vectors_ND = item_vectors(scorer)
        width = 0 if vectors_ND is None else vectors_ND.shape[1]
        index = load_index(exported, model_hash, shape=(trained, width))
        given = AnnSearch(lambda: index)
        given.wait()  # nothing is to be made: whoever asks first has an answer
        return given
    if kind == "none" or not isinstance(scorer, VectorScorer | TableScorer):
        return None
    items_MD = scorer.items_ND[:trained]
    return AnnSearch(lambda: FaissIndex(kind, items_MD))


def _stamp(path: Path) -> tuple[int, int, int]:
    found = path.stat()
    return found.st_ino, found.st_size, found.st_mtime_ns


def _index_hash(model_hash: str, recommender: Recommender, trained: int) -> str:
    """Of the vectors of training the hash of the weights tells, as they are among them."""
    digest = hashlib.sha256(f"{model_hash} {recommender.items.sha256}".encode())
    if len(recommender.items) > trained:
        vectors_ND = item_vectors(recommender.scorer)
        assert vectors_ND is not None, "only to a run with item vectors can items be added"
        digest.update(np.ascontiguousarray(vectors_ND[trained:].float().cpu().numpy()).tobytes())
    return digest.hexdigest()
