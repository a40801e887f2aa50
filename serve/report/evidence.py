"""What a report is made from, and how it says that something is not there.

Shapes: N items of the catalogue.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ...recommend.checkpoint import RunFolder
from ...recommend.config import RecommendConfig
from ...recommend.protocol import Split
from ...recommend.ranker import Scorer
from ...recommend.sequences import Interactions
from ...store import EmbeddingStore, ItemIndex


@dataclass(frozen=True)
class Missing:
    """A part of the report that cannot be made.

    Attributes:
        what: is not there, in a sentence.
        command: that would bring it; empty: none would.
    """

    what: str
    command: str = ""


@dataclass(frozen=True)
class Evidence:
    """A run and what belongs to it, opened.

    Attributes:
        run: its folder.
        interactions: those it was trained on.
        split: as its protocol divides them.
        items: its catalogue.
        counts_N: (N,) training interactions of each item.
        scorer: the trained model.
        results: what ``vivim evaluate`` wrote, as JSON.
        store: the vectors it was trained on; None: none, or they are gone.
        titles: by item id; empty where there are none.
        extractions: what the runs of stage one that made ``store`` noted, the oldest first.
        failure_kinds: kind of failure -> its meaning.
    """

    run: RunFolder
    interactions: Interactions
    split: Split
    items: ItemIndex
    counts_N: npt.NDArray[np.int64]
    scorer: Scorer
    results: Mapping[str, Any]
    store: EmbeddingStore | None
    titles: Mapping[str, str]
    extractions: Sequence[Mapping[str, Any]] = ()
    failure_kinds: Mapping[str, str] | None = None

    @property
    def info(self) -> dict[str, Any]:
        """The content of run.json."""
        return self.run.info()

    @property
    def config(self) -> RecommendConfig:
        """What was trained."""
        return self.run.config()

    @property
    def name(self) -> str:
        """Of the model, as in its results."""
        return str(self.results["model"])
