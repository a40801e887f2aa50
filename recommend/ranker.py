"""Exact ranks of targets and exact top-K lists.

Shapes: Q questions, B questions of a batch, N items of the catalogue, K places of a list.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch

from ..errors import VivimError
from ..progress import SILENT, Progress
from .sequences import Questions, SequenceBatch, Sequences

CPU_ROWS = 64


class Scorer(Protocol):
    """Anything that can score every item after a history: a trained model, popularity, item-knn."""

    def score(self, batch: SequenceBatch) -> torch.Tensor:
        """(B, N) scores, higher is better. The batch comes on the CPU; the scores may be on any device."""


@dataclass(frozen=True)
class Ranks:
    """Where the targets stand.

    Attributes:
        rank: (Q,) float64, 1 is best, in the order of the questions. Tied items share the average of their places, so halves
            occur; a target that is masked itself has ``inf``.
        num_items: N.
    """

    rank: npt.NDArray[np.float64]
    num_items: int

    def __len__(self) -> int:
        return len(self.rank)


@dataclass(frozen=True)
class TopK:
    """The best unseen items of every question, best first; of equal scores the lower row comes first.

    Attributes:
        items: (Q, K) int32 rows; -1 where fewer than K items are left to recommend.
        scores: (Q, K) float32; -inf there.
        num_items: N.
    """

    items: npt.NDArray[np.int32]
    scores: npt.NDArray[np.float32]
    num_items: int

    def __post_init__(self) -> None:
        assert self.items.shape == self.scores.shape

    def __len__(self) -> int:
        return len(self.items)


def rank_questions(scorer: Scorer, questions: Questions, *, num_items: int, batch: int = 512, progress: Progress = SILENT) -> Ranks:
    """Rank every target among all unseen items of the catalogue.

    Raises:
        VivimError: a score is NaN or +inf.
    """
    ranks = _RankKeeper(questions, num_items)
    _each_batch(scorer, questions, num_items, batch, progress, (ranks,))
    return ranks.found


def top_k(scorer: Scorer, questions: Questions, k: int, *, num_items: int, batch: int = 512, progress: Progress = SILENT) -> TopK:
    """The ``k`` best unseen items of every question.

    Raises:
        VivimError: a score is NaN or +inf.
    """
    lists = _ListKeeper(questions, num_items, k)
    _each_batch(scorer, questions, num_items, batch, progress, (lists,))
    return lists.found


def rank_and_list(
    scorer: Scorer, questions: Questions, k: int, *, num_items: int, batch: int = 512, progress: Progress = SILENT
) -> tuple[Ranks, TopK]:
    """``rank_questions`` and ``top_k`` from scores that are computed once.

    Raises:
        VivimError: a score is NaN or +inf.
    """
    ranks, lists = _RankKeeper(questions, num_items), _ListKeeper(questions, num_items, k)
    _each_batch(scorer, questions, num_items, batch, progress, (ranks, lists))
    return ranks.found, lists.found


class _Keeper(Protocol):
    """Takes what it wants of the scores of some questions."""

    def keep(self, rows: npt.NDArray[np.int64], scores_BN: torch.Tensor, seen_BS: torch.Tensor) -> None:
        """Questions ``rows`` (B,), and the items they have seen, padded with -1; on one device."""


class _RankKeeper:
    def __init__(self, questions: Questions, num_items: int) -> None:
        self.targets = questions.targets
        self.found = Ranks(np.empty(len(questions)), num_items)

    def keep(self, rows: npt.NDArray[np.int64], scores_BN: torch.Tensor, seen_BS: torch.Tensor) -> None:
        targets_B = torch.from_numpy(self.targets[rows].astype(np.int64)).to(scores_BN.device)
        self.found.rank[rows] = exact_ranks(scores_BN, targets_B, seen_BS).cpu().numpy()


class _ListKeeper:
    def __init__(self, questions: Questions, num_items: int, k: int) -> None:
        assert k >= 1, k
        shape = (len(questions), k)
        self.found = TopK(np.full(shape, -1, np.int32), np.full(shape, -np.inf, np.float32), num_items)

    def keep(self, rows: npt.NDArray[np.int64], scores_BN: torch.Tensor, seen_BS: torch.Tensor) -> None:
        items, num_items = self.found.items, self.found.num_items
        # One column more takes the padding and is cut off again.
        mask = torch.zeros(len(rows), num_items + 1, dtype=torch.bool, device=scores_BN.device).scatter_(1, seen_BS % (num_items + 1), True)
        masked = scores_BN.masked_fill(mask[:, :num_items], -torch.inf)
        best, places = best_k(masked, min(items.shape[1], num_items))
        places = places.masked_fill(best == -torch.inf, -1)
        items[rows, : places.shape[1]] = places.cpu().numpy()
        self.found.scores[rows, : places.shape[1]] = best.float().cpu().numpy()


def exact_ranks(scores_BN: torch.Tensor, targets_B: torch.Tensor, seen_BS: torch.Tensor) -> torch.Tensor:
    """(B,) float64: 1 + the unseen items that score higher + half of the other unseen items that score the same.

    Args:
        scores_BN: any floating dtype; compared as they are.
        targets_B: int64 rows.
        seen_BS: int64 rows of items that are not to be recommended, padded with -1; repeats do not count twice. A target
            among them gets rank inf.
    """
    own_B1 = scores_BN.gather(1, targets_B[:, None])
    seen_BS = seen_BS.sort(dim=1).values
    counts = seen_BS >= 0
    counts[:, 1:] &= seen_BS[:, 1:] != seen_BS[:, :-1]
    scores_BS = scores_BN.gather(1, seen_BS.clamp(min=0))
    higher = (scores_BN > own_B1).sum(1, dtype=torch.int32) - ((scores_BS > own_B1) & counts).sum(1, dtype=torch.int32)
    equal = (scores_BN == own_B1).sum(1, dtype=torch.int32) - ((scores_BS == own_B1) & counts).sum(1, dtype=torch.int32)
    # The target itself is one of the equal.
    rank = 1 + higher.double() + (equal.double() - 1) / 2
    return rank.masked_fill((seen_BS == targets_B[:, None]).any(1), torch.inf)


def best_k(scores_BN: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Scores and places (B, k) of the k highest, best first. Unlike ``torch.topk``, ties always go to the lower place."""
    best, places = scores_BN.topk(k, dim=1)
    last_B1 = best[:, -1:]
    cut = ((scores_BN >= last_B1).sum(1) > k).nonzero()[:, 0]
    if len(cut):
        some, last = scores_BN[cut], last_B1[cut]
        above, equal = some > last, some == last
        room = k - above.sum(1, keepdim=True)
        chosen = above | (equal & (equal.cumsum(1) <= room))
        places[cut] = chosen.nonzero()[:, 1].view(-1, k)
    places, _ = places.sort(dim=1)
    best, order = scores_BN.gather(1, places).sort(dim=1, descending=True, stable=True)
    return best, places.gather(1, order)


def _each_batch(scorer: Scorer, questions: Questions, num_items: int, batch: int, progress: Progress, keepers: Sequence[_Keeper]) -> None:
    # Neighbours of one length waste no time on padding.
    order = np.argsort(questions.histories.lengths, kind="stable")
    masked = questions.masked
    progress.start("rank", len(questions), "questions")
    with torch.inference_mode():
        for start in range(0, len(order), batch):
            rows = order[start : start + batch]
            scores_BN = scorer.score(SequenceBatch.of(questions.histories, rows, questions.users[rows]))
            assert scores_BN.shape == (len(rows), num_items), (scores_BN.shape, len(rows), num_items)
            if not bool(scores_BN.max() < torch.inf):  # the maximum is NaN if any score is
                raise VivimError(
                    "the model gave a score that is NaN or infinite, so nothing can be ranked. It has probably diverged:"
                    " lower train.lr, set train.clip_norm, or use train.precision 32-true."
                )
            # A few rows at a time stay in a CPU's cache: five times faster.
            at_once = CPU_ROWS if scores_BN.device.type == "cpu" else len(rows)
            for first, part_BN in zip(range(0, len(rows), at_once), scores_BN.split(at_once), strict=True):
                some = rows[first : first + at_once]
                seen_BS = _padded_seen(masked, some).to(scores_BN.device)
                for keeper in keepers:
                    keeper.keep(some, part_BN, seen_BS)
            progress.advance(len(rows))
    progress.finish()


def _padded_seen(masked: Sequences, rows: npt.NDArray[np.int64]) -> torch.Tensor:
    """(B, S) int64 masked items of the questions ``rows``, padded with -1."""
    batch = SequenceBatch.of(masked, rows)
    return batch.items_BL.masked_fill(~batch.valid_BL, -1)
