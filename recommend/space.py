"""In which vectors the items of a list are compared.

Legend: N items, D width.
"""

from dataclasses import dataclass
from pathlib import Path

import torch

from ..progress import Progress
from ..store import EmbeddingStore
from .checkpoint import RunFolder
from .content import lay_out
from .models.content_mean import ContentMean
from .ranker import Scorer
from .scorers import item_vectors

OWN = "own vectors"  # each model has others, so that nothing measured in them is to be compared with another model
_INSTEAD = "the diversity of lists is measured in the model's own vectors"


@dataclass(frozen=True)
class Space:
    """Vectors of the whole catalogue.

    Attributes:
        name: ``OWN``, or the name of an embedding file and the beginning of its hash.
        vectors_ND: None: the model has none.
    """

    name: str
    vectors_ND: torch.Tensor | None


def space_of(run: RunFolder, scorer: Scorer, store: EmbeddingStore | None, progress: Progress) -> Space:
    """Where the lists of a run are looked at: content, so that runs can be compared, or else the vectors by which it scores.

    Content is standardised by dimension, as ``content-mean`` compares it; an item without any has cosine 0 to all. A file that has less
    than ``items.min_coverage`` of the catalogue is not taken, which is said.

    Args:
        store: content for all runs that are compared; None: what this one was trained on, if that is a file and still there.
    """
    store = _trained_on(run, progress) if store is None else store
    if store is not None:
        found, least = lay_out(store, run.catalogue()[0], 0.0), run.config().items.min_coverage
        if found.coverage >= least:
            return Space(f"{store.path.name} {store.sha256[:8]}", ContentMean.of(found).items_NV)
        has = f"{store.path} has vectors of {found.coverage:.1%} of the items, and items.min_coverage is {least:.0%}"
        progress.say(f"{has}; {_INSTEAD}")
    return Space(OWN, item_vectors(scorer))


def _trained_on(run: RunFolder, progress: Progress) -> EmbeddingStore | None:
    known = run.info().get("embeddings") or {}
    if not known or "frames" in known:
        return None
    path = Path(known["path"])
    store = EmbeddingStore.open(path) if path.is_file() else None
    if store is not None and store.sha256 == known["sha256"]:
        return store
    gone = "is gone" if store is None else "holds others now"
    progress.say(f"the vectors that {run.path} was trained on: {path} {gone}; {_INSTEAD}")
    return None
