"""From configuration to objects: the one place that reads the names of item encoders, user models and losses."""

from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from ..errors import InputError
from .config import ItemsConfig, LossConfig, ModelConfig, RecommendConfig
from .content import CatalogueVectors
from .item_encoders import ContentAndIdItems, FrozenItems, IdItems
from .losses import FullSoftmax, InBatchSoftmax, Loss
from .models.item_knn import ItemKnn
from .models.mamba import MambaUserModel, mamba1, mamba2
from .models.popularity import Popularity
from .models.sasrec import SasRecUserModel
from .protocol import Split

# Yardsticks are counted, not learned.
YARDSTICKS: dict[str, type[Popularity] | type[ItemKnn]] = {"popularity": Popularity, "item-knn": ItemKnn}

_USER_MODELS: dict[str, Callable[[ModelConfig, int], nn.Module]] = {
    "mamba": lambda config, max_len: MambaUserModel(config, mamba1),
    "mamba2": lambda config, max_len: MambaUserModel(config, mamba2),
    "sasrec": lambda config, max_len: SasRecUserModel(config, max_len),
}

_LOSSES: dict[str, Callable[[LossConfig, Split, torch.Tensor | None], Loss]] = {
    "full": lambda config, split, candidates: FullSoftmax(config.chunk_mb, candidates),
    "in-batch": lambda config, split, candidates: InBatchSoftmax(train_counts(split)),
}


def resolved(config: RecommendConfig, *, has_vectors: bool) -> RecommendConfig:
    """The configuration with ``items.kind: auto`` made concrete: content where there are vectors and a model that uses them."""
    if config.items.kind != "auto":
        return config
    content = has_vectors and config.model.kind not in YARDSTICKS
    items = config.items.model_copy(update={"kind": "ids+frozen" if content else "ids"})
    return config.model_copy(update={"items": items})


def needs_vectors(config: ItemsConfig) -> bool:
    """Does this item encoder read an embedding file?"""
    assert config.kind != "auto", "resolve auto before building"
    return config.kind != "ids"


def item_encoder(config: ItemsConfig, num_items: int, d_model: int, content: CatalogueVectors | None) -> nn.Module:
    """An ``ItemEncoder``.

    Raises:
        InputError: it needs stored vectors and there are none.
    """
    if not needs_vectors(config):
        return IdItems(num_items, d_model)
    if content is None:
        raise InputError(f"--items {config.kind} needs stored vectors; give --embeddings FILE.h5, or run `vivim extract` first.")
    frozen = FrozenItems(content.vectors_NV, content.present_N, d_model)
    return frozen if config.kind == "frozen" else ContentAndIdItems(frozen, d_model, config.delta_dropout)


def user_model(config: ModelConfig, max_len: int) -> nn.Module:
    """A ``VectorModel`` with fresh weights."""
    try:
        return _USER_MODELS[config.kind](config, max_len)
    except ValueError as error:
        raise InputError(f"the model cannot be built: {error}") from error


def loss(config: LossConfig, items: ItemsConfig, split: Split) -> Loss:
    """The loss, with what it needs of the training data.

    With content, an item that nobody watched in training is no negative: it may be too new to have been watched, and as a
    negative it would be taught never to be recommended. With ids alone that is all that can be known of it, so it stays one.
    """
    counts = train_counts(split)
    candidates = counts.nonzero()[:, 0] if needs_vectors(items) else None
    return _LOSSES[config.kind](config, split, candidates)


def train_counts(split: Split) -> torch.Tensor:
    """(N,) int64, how often each item occurs in the training sequences."""
    return torch.from_numpy(np.bincount(split.train.items, minlength=len(split.items)).astype(np.int64))
