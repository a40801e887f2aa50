"""Stored vectors laid out along the catalogue.

Legend: N items of the catalogue, V width of stored vectors.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ..errors import InputError
from ..store import EmbeddingStore, ItemIndex
from .item_encoders import Standardisation

SPANS = 8  # of a clip, in files made with the pooling "frames"


@dataclass(frozen=True)
class CatalogueVectors:
    """The stored vector of every catalogue item, and who has none.

    Attributes:
        vectors_NV: float32; zeros where absent.
        present_N: bool.
        store_sha256: content hash of the embedding file.
        spans: how many vectors of a clip, in the order of time, make up a stored one; 1: it is of the whole clip.
        warning: a suspicion worth telling, or empty.
        standard: how they are standardised, where that is not by themselves.
    """

    vectors_NV: torch.Tensor
    present_N: torch.Tensor
    store_sha256: str
    warning: str = ""
    spans: int = 1
    standard: Standardisation | None = None

    @property
    def missing(self) -> int:
        return int((~self.present_N).sum())

    @property
    def coverage(self) -> float:
        """Share of the catalogue that has a vector."""
        return float(self.present_N.float().mean())


def lay_out(store: EmbeddingStore, catalogue: ItemIndex, min_coverage: float) -> CatalogueVectors:
    """Find each catalogue item in the store, by id.

    Raises:
        InputError: fewer than ``min_coverage`` of the items have a vector.
    """
    vectors, present = store.lookup(catalogue.ids)
    hint = _shift_hint(store.ids, catalogue) if not present.all() else ""
    spans = SPANS if store.recipe.spans else 1
    found = CatalogueVectors(torch.from_numpy(vectors).float(), torch.from_numpy(present), store.sha256, hint, spans)
    advice = f"{hint + ' ' if hint else ''}Extract the missing clips, lower items.min_coverage, or do without vectors: --items ids."
    require_coverage(found.present_N, catalogue, min_coverage, f"vector in {store.path}", store.ids.ids, advice)
    return found


def require_coverage(
    present_N: torch.Tensor, catalogue: ItemIndex, min_coverage: float, what: str, ids_there: Sequence[str], advice: str
) -> None:
    """Refuse content that too many items lack.

    Args:
        present_N: bool, who has it.
        what: they lack, and where it was looked for.
        ids_there: of those that are there.
        advice: what to do.

    Raises:
        InputError: fewer than ``min_coverage`` of the items have it.
    """
    coverage = float(present_N.float().mean())
    if coverage < min_coverage:
        missing = [id_ for id_, there in zip(catalogue.ids, present_N.tolist(), strict=True) if not there]
        raise InputError(
            f"{len(missing)} of {len(catalogue)} items of the interactions have no {what} (coverage {coverage:.1%}, at least "
            f"{min_coverage:.0%} is asked for), for example {', '.join(missing[:5])}; the ids there look like {', '.join(ids_there[:5])}. "
            f"{advice}"
        )


def _shift_hint(stored: ItemIndex, catalogue: ItemIndex) -> str:
    """Says so if more ids would match when counted from one more or one less; an off-by-one gives every item its neighbour's vector."""
    numbers = [int(id_) for id_ in catalogue.ids if id_.isascii() and id_.isdigit()]
    here = sum(str(n) in stored for n in numbers)
    for shift in (1, -1):
        there = sum(str(n + shift) in stored for n in numbers)
        if there == len(catalogue) or there > max(2 * here, len(catalogue) // 2):
            return f"With {shift:+d} added to each id {there} instead of {here} would match: does one file count from 0?"
    return ""
