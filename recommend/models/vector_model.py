"""The promise of a user model whose answer is a vector.

Legend: B histories, L positions, D model width.
"""

from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

import torch

State = TypeVar("State")


class VectorModel(Protocol, Generic[State]):
    """Histories of item vectors to user vectors; an item's score is user vector . item vector, so FAISS can serve it.

    Strictly causal: the vector at position l depends on items 0..l alone.
    """

    def __call__(self, items_BLD: torch.Tensor, seq_idx_BL: torch.Tensor | None = None) -> torch.Tensor:
        """(B, L, D) user vectors after each item. Rows shorter than L are padded on the right, with anything.

        With ``seq_idx_BL`` a row holds several histories, one after another: where its value changes another one begins, and
        nothing of the one before is left. Equal to one history per row.
        """

    def initial_state(self, batch: int) -> State:
        """What the model remembers of users who watched nothing yet."""

    def step(self, item_BD: torch.Tensor, state: State) -> tuple[torch.Tensor, State]:
        """One more watched item: (user vectors (B, D), new state). Equal to calling the model on the whole history."""

    def read(self, items_BLD: torch.Tensor, state: State) -> tuple[torch.Tensor, State]:
        """Many more watched items at once, L at least 1: (user vectors (B, D) after the newest, new state). Equal to a step over each."""


@runtime_checkable
class Steps(Protocol):
    """A model whose step is quicker once its parameters are taken out of it."""

    def stepper(self) -> Callable[[torch.Tensor, Any], tuple[torch.Tensor, Any]]:
        """``step`` with the parameters as they are now."""


def step_of(model: VectorModel[State]) -> Callable[[torch.Tensor, State], tuple[torch.Tensor, State]]:
    """``model.step``, the quickest way there is while its parameters stay as they are."""
    return model.stepper() if isinstance(model, Steps) else model.step
