"""What is trained: an item encoder, a user model and a loss, seen as one module.

Legend: S rows of W places, P predictions, N items, D model width.
"""

from typing import Any, Protocol, cast, runtime_checkable

import torch
from torch import nn

from .batches import EncodedItems, TrainBatch
from .item_encoders import ItemEncoder
from .losses import Loss
from .models.vector_model import VectorModel
from .scorers import VectorScorer


@runtime_checkable
class HasTrainingOptions(Protocol):
    """A part of an item encoder that is trained at a pace of its own."""

    training_options: dict[str, float]


class Learner(nn.Module):
    """Calling it on a batch gives the loss.

    Args:
        encoder: an ``ItemEncoder`` that is a module.
        model: a ``VectorModel`` that is a module.
        loss: owns its negatives.
    """

    def __init__(self, encoder: nn.Module, model: nn.Module, loss: Loss) -> None:
        super().__init__()
        self.encoder = encoder
        self.model = model
        self.loss = loss

    def forward(self, batch: TrainBatch) -> torch.Tensor:
        items = self.encode(self.loss.rows(batch))
        hidden_SWD = self.model(items.at(batch.inputs_SW), batch.seq_idx_SW)
        return self.loss(hidden_SWD.flatten(0, 1)[batch.place_P], batch, items)

    def nothing(self) -> torch.Tensor:
        """The loss of no sequences: 0, with gradients of 0."""
        return torch.stack([parameter.sum() * 0 for parameter in self.parameters() if parameter.requires_grad]).sum()

    def encode(self, rows_R: torch.Tensor | None) -> EncodedItems:
        """Vectors of the items ``rows_R``, or of the whole catalogue."""
        encoder = cast(ItemEncoder, self.encoder)
        return EncodedItems(encoder.all() if rows_R is None else encoder(rows_R), rows_R)

    @torch.inference_mode()
    def scorer(self) -> VectorScorer:
        """The state of training as a scorer; puts the module into evaluation mode."""
        self.eval()
        return VectorScorer(cast(VectorModel[Any], self.model), self.encode(None).vectors_RD.clone())

    def parameter_groups(self, lr: float, weight_decay: float) -> list[dict[str, Any]]:
        """Matrices and tables decay; norms, biases and what parametrises the state space do not. ``peak`` is the learning rate of each.

        A module with an attribute ``training_options`` has an ``lr`` and a ``weight_decay`` of its own.
        """
        own = {
            id(parameter): (module.training_options["lr"], module.training_options["weight_decay"])
            for module in self.modules()
            if isinstance(module, HasTrainingOptions)
            for parameter in module.parameters()
        }
        groups: dict[tuple[float, float], list[nn.Parameter]] = {}
        for name, parameter in self.named_parameters():
            if parameter.requires_grad:
                peak, decay = own.get(id(parameter), (lr, weight_decay))
                state_space = name.rsplit(".", 1)[-1] in {"A_log", "D", "dt_bias", "conv_bias"}
                groups.setdefault((peak, 0.0 if parameter.ndim < 2 or state_space else decay), []).append(parameter)
        return [{"params": found, "lr": peak, "peak": peak, "weight_decay": decay} for (peak, decay), found in groups.items()]
