"""What is trained, seen as one module: an item encoder, a model of histories, pairs or known users, and a loss.

Legend: S rows of W places, P predictions, U users, N items, R some of them, D model width.
"""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast, runtime_checkable

import torch
import torch.nn.functional as F
from torch import nn

from ..store.run_folder import RunFolder
from .batches import EncodedItems, TrainBatch
from .item_encoders import STANDARDISATION, IdItems, ItemEncoder
from .losses import Loss
from .models.pairs import PairModel
from .models.vector_model import VectorModel
from .negatives import InBatch
from .neighbours import Placing
from .scorers import ItemScorer, PairScorer, TableScorer, VectorScorer

# Scorers whose scores are products of two vectors.
Placed = TypeVar("Placed", VectorScorer, TableScorer)


@runtime_checkable
class HasTrainingOptions(Protocol):
    """A part of an item encoder that is trained at a pace of its own."""

    training_options: dict[str, float]


@runtime_checkable
class KeepsFiles(Protocol):
    """A part of an item encoder that is of use by itself."""

    def write(self, folder: Path) -> None:
        """Write files of its own into a run's folder."""


class Trainable(nn.Module, ABC):
    """Calling it on a batch gives the loss.

    Attributes:
        first_target: place in a sequence from which on its items are predicted: 1 for the next item, 0 where every item is.
    """

    first_target = 1

    @abstractmethod
    def forward(self, batch: TrainBatch) -> torch.Tensor:
        """Mean loss over the predictions of the batch."""

    @abstractmethod
    def scorer(self) -> ItemScorer:
        """The state of training as a scorer; puts the module into evaluation mode."""

    @abstractmethod
    def save(self, run: RunFolder, scorer: ItemScorer) -> None:
        """Leave in ``model.safetensors`` all that answering needs, and what else is worth keeping.

        Args:
            scorer: of the state of training as it is: what it has encoded is not encoded once more, and one of several processes may save.
        """

    def nothing(self, batch: TrainBatch) -> torch.Tensor:
        """The loss of a process that has no sequences of this batch: 0, with gradients of 0."""
        return torch.stack([parameter.sum() * 0 for parameter in self.parameters() if parameter.requires_grad]).sum()

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


class OverItems(Trainable):
    """Reads items through an item encoder.

    Args:
        encoder: an ``ItemEncoder`` that is a module.
        model: a module that reads item vectors.
        placing: of items that training never sees; None: where their encoder has them.
    """

    def __init__(self, encoder: nn.Module, model: nn.Module, placing: Placing | None = None) -> None:
        super().__init__()
        self.encoder = encoder
        self.model = model
        self.placing = placing

    def encode(self, rows_R: torch.Tensor | None) -> EncodedItems:
        """Vectors of the items ``rows_R``, or of the whole catalogue."""
        encoder = cast(ItemEncoder, self.encoder)
        return EncodedItems(encoder.all() if rows_R is None else encoder(rows_R), rows_R)

    def placed(self, scorer: Placed) -> Placed:
        """The scorer of the state of training, with the items that training never sees in their places."""
        if self.placing is not None:
            scorer.items_ND = self.placing(scorer.items_ND, scorer.users(self.placing.users))
        return scorer

    def save(self, run: RunFolder, scorer: ItemScorer) -> None:
        tensors = {f"model.{k}": v for k, v in self.model.state_dict().items()}
        tensors["items"] = scorer.items_ND
        if self.placing is not None or not isinstance(self.encoder, IdItems):  # whose table is the vectors themselves
            self._save_encoder(run)
        run.write_tensors("model.safetensors", tensors)

    def _save_encoder(self, run: RunFolder) -> None:
        for module in self.encoder.modules():
            if isinstance(module, KeepsFiles):
                module.write(run.path)
        constants = {name: buffer for name, buffer in self.encoder.named_buffers() if name.rpartition(".")[2] in STANDARDISATION}
        near = self.placing.neighbours if self.placing is not None else None
        run.write_tensors("items.safetensors", self.encoder.state_dict() | constants | ({} if near is None else near.tensors()))


class Learner(OverItems):
    """Histories: the next item from those before it.

    Args:
        encoder: an ``ItemEncoder`` that is a module.
        model: a ``VectorModel`` that is a module.
        loss: owns its negatives.
        placing: see ``OverItems``.
    """

    def __init__(self, encoder: nn.Module, model: nn.Module, loss: Loss, placing: Placing | None = None) -> None:
        super().__init__(encoder, model, placing)
        self.loss = loss

    def forward(self, batch: TrainBatch) -> torch.Tensor:
        items = self.encode(self.loss.rows(batch))
        hidden_SWD = self.model(items.at(batch.inputs_SW), batch.seq_idx_SW)
        return self.loss(hidden_SWD.flatten(0, 1)[batch.place_P], batch, items)

    def nothing(self, batch: TrainBatch) -> torch.Tensor:
        # What processes encode together this one takes part in, forward and backward.
        return super().nothing(batch) + self.encode(self.loss.rows(batch)).vectors_RD.sum() * 0

    @torch.inference_mode()
    def scorer(self) -> VectorScorer:
        self.eval()
        return self.placed(VectorScorer(cast(VectorModel[Any], self.model), self.encode(None).vectors_RD.clone()))


class PairLearner(OverItems):
    """Any item of a sequence from all the others, one drawn at each step, as MicroLens trains its NFM and DeepFM.

    Softmax over the drawn items of the step and the targets of its sequences; logits are corrected by how often an item is drawn, and
    one's own other items are left out.

    Args:
        encoder: an ``ItemEncoder`` that is a module.
        model: a ``PairModel`` that is a module.
        negatives: draws items of the step.
    """

    def __init__(self, encoder: nn.Module, model: nn.Module, negatives: InBatch) -> None:
        super().__init__(encoder, model)
        self.negatives = negatives

    def forward(self, batch: TrainBatch) -> torch.Tensor:
        sequences = batch.sequences
        device = sequences.items_BL.device
        chance = torch.rand(len(batch.slots_M), generator=torch.Generator().manual_seed(batch.step_seed), dtype=torch.float64)
        place_B1 = (chance.to(device)[batch.first_slot_B] * sequences.lengths_B).long()[:, None]
        others_L = torch.arange(sequences.items_BL.shape[1] - 1, device=device)
        inputs_BL = sequences.items_BL.gather(1, others_L + (others_L >= place_B1))
        targets_B = sequences.items_BL.gather(1, place_B1)[:, 0]
        drawn = self.negatives.draw(batch)
        candidates_M = torch.cat([drawn.rows_M, targets_B])
        rows_R = torch.cat([sequences.items_BL[sequences.valid_BL], candidates_M]).unique()
        items = self.encode(rows_R)
        model, lengths_B = cast(PairModel, self.model), sequences.lengths_B - 1
        read = model.read(items.at(inputs_BL.where(others_L < lengths_B[:, None], targets_B[:, None])), lengths_B)
        logits_BM = model.scores(read, items.at(candidates_M)) - drawn.log_q_N[candidates_M]
        own_BR = torch.zeros(len(targets_B), len(rows_R), dtype=torch.bool, device=device)
        own_BR[sequences.valid_BL.nonzero()[:, 0], items.place(sequences.items_BL[sequences.valid_BL])] = True
        masked_BM = own_BR[:, items.place(candidates_M)]
        target_B = len(drawn.rows_M) + torch.arange(len(targets_B), device=device)
        masked_BM[torch.arange(len(targets_B), device=device), target_B] = False
        return F.cross_entropy(logits_BM.masked_fill(masked_BM, -torch.inf).float(), target_B)

    @torch.inference_mode()
    def scorer(self) -> PairScorer:
        self.eval()
        return PairScorer(cast(PairModel, self.model), self.encode(None).vectors_RD.clone())


class Collaborative(Protocol):
    """A model of known users: vectors of users and items, whose products are scores."""

    def __call__(self, encoder: ItemEncoder, rows_R: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
        """(U, D) of all users and (R, D) of the items ``rows_R``; None: (N, D) of all."""


class CollaborativeLearner(OverItems):
    """Pairs of a user and an item: every item of a training sequence is one, without order.

    Args:
        encoder: an ``ItemEncoder`` that is a module.
        model: a ``Collaborative`` that is a module.
        loss: owns its negatives.
        known_U: bool, users with something in training; None: all. The others, who came later (protocol temporal), were never moved
            from where they began; they answer as the mean of the known.
        placing: see ``OverItems``.
    """

    first_target = 0

    def __init__(
        self,
        encoder: nn.Module,
        model: nn.Module,
        loss: Loss,
        known_U: torch.Tensor | None = None,
        placing: Placing | None = None,
    ) -> None:
        super().__init__(encoder, model, placing)
        self.loss = loss
        self.known_U = known_U

    def vectors(self, rows_R: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """(U, D) of all users, (R, D) of the items ``rows_R``, or (N, D) of all."""
        return cast(Collaborative, self.model)(cast(ItemEncoder, self.encoder), rows_R)

    def forward(self, batch: TrainBatch) -> torch.Tensor:
        rows_R = self.loss.rows(batch)
        users_UD, items_RD = self.vectors(rows_R)
        return self.loss(F.embedding(batch.users_P, users_UD), batch, EncodedItems(items_RD, rows_R))

    def nothing(self, batch: TrainBatch) -> torch.Tensor:
        return super().nothing(batch) + self.vectors(self.loss.rows(batch))[1].sum() * 0  # as in ``Learner``

    @torch.inference_mode()
    def scorer(self) -> TableScorer:
        self.eval()
        users_UD, items_ND = self.vectors()
        users_UD = users_UD.clone()
        if self.known_U is not None and not self.known_U.all():
            known_U = self.known_U.to(users_UD.device)
            users_UD[~known_U] = users_UD[known_U].mean(0)
        return self.placed(TableScorer(users_UD, items_ND.clone()))

    def save(self, run: RunFolder, scorer: ItemScorer) -> None:
        """What answering needs are two tables; what the items were made of is kept beside them, to begin another run with."""
        assert isinstance(scorer, TableScorer)
        self._save_encoder(run)
        run.write_tensors("model.safetensors", {"users": scorer.users_UD, "items": scorer.items_ND})
