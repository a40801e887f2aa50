"""From configuration to objects: the one place that reads the names of item encoders, user models and losses."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from ..errors import InputError
from .adapter import AdapterItems
from .config import ItemsConfig, LossConfig, ModelConfig, ProtocolConfig, RecommendConfig
from .content import CatalogueVectors
from .item_encoders import ContentAndIdItems, ContentVectors, FrozenItems, Fusion, IdItems, StoredContent, concat
from .learner import CollaborativeLearner, Learner, OverItems, PairLearner
from .losses import FullSoftmax, InBatchSoftmax, Loss
from .models.bm25 import Bm25
from .models.collaborative import LightGcn, MatrixFactorisation
from .models.content_mean import ContentMean
from .models.grcn import Grcn
from .models.gru4rec import Gru4RecUserModel
from .models.item_knn import ItemKnn
from .models.mamba import MambaUserModel, mamba1, mamba2
from .models.mmgcn import Mmgcn
from .models.nextitnet import NextItNetUserModel
from .models.pairs import DeepFm, Nfm
from .models.popularity import Popularity
from .models.sasrec import SasRecUserModel
from .models.youtube import YoutubeUserModel
from .negatives import ByPopularity, InBatch, Mixed, Negatives, Uniform
from .neighbours import Placing
from .new_share import NewShare
from .protocol import LeaveOneOutProtocol, MicroLensProtocol, Protocol, Split
from .sampled_losses import BinaryCrossEntropy, Bpr, GeneralisedBce, SampledSoftmax
from .sequences import Sequences
from .similarity import ScaledUsers, UnitItems
from .temporal import TemporalProtocol

if TYPE_CHECKING:
    from .end_to_end import CatalogueFrames

    Content = CatalogueVectors | CatalogueFrames

Yardstick = Popularity | ItemKnn | Bm25 | ContentMean

# Yardsticks are counted, not learned.
_COUNTED: dict[str, type[Popularity] | type[ItemKnn] | type[Bm25]] = {"popularity": Popularity, "item-knn": ItemKnn, "bm25": Bm25}
YARDSTICKS: dict[str, type[Yardstick]] = {**_COUNTED, "content-mean": ContentMean}

_USER_MODELS: dict[str, Callable[[ModelConfig, int], nn.Module]] = {
    "mamba": lambda config, max_len: MambaUserModel(config, mamba1),
    "mamba2": lambda config, max_len: MambaUserModel(config, mamba2),
    "sasrec": lambda config, max_len: SasRecUserModel(config, max_len),
    "gru4rec": lambda config, max_len: Gru4RecUserModel(config),
    "nextitnet": lambda config, max_len: NextItNetUserModel(config),
    "youtube": lambda config, max_len: YoutubeUserModel(config),
}

# They know their users by id: (configuration, training sequences, N, which items a step takes for new) -> a ``Collaborative``.
_COLLABORATIVE: dict[str, Callable[[ModelConfig, Sequences, int, NewShare | None], nn.Module]] = {
    "dssm": lambda config, train, items, new: MatrixFactorisation(len(train), config.d_model),
    "lightgcn": lambda config, train, items, new: LightGcn(train, items, config.d_model, config.layers, new),
    "mmgcn": lambda config, train, items, new: Mmgcn(train, items, config.d_model, config.layers, new),
    "grcn": lambda config, train, items, new: Grcn(train, items, config.d_model, config.layers, config.routing, new),
}

# Of these: who looks at the whole catalogue at every step, and who treats content and ids apart.
_OVER_GRAPHS = {"lightgcn", "mmgcn", "grcn"}
_JOINS_ITSELF = {"mmgcn", "grcn"}

# They score pairs: (configuration, items of history) -> a ``PairModel``.
_PAIR_MODELS: dict[str, Callable[[ModelConfig, int], nn.Module]] = {
    "nfm": lambda config, max_len: Nfm(config),
    "deepfm": lambda config, max_len: DeepFm(config, max_len),
}

_LOSSES: dict[str, Callable[[LossConfig, "Catalogue"], Loss]] = {
    "full": lambda config, catalogue: FullSoftmax(
        config.chunk_mb, None if catalogue.all_compete else catalogue.candidates_R, config.kernel
    ),
    "in-batch": lambda config, catalogue: InBatchSoftmax(catalogue.train_counts_N),
    "sampled": lambda config, catalogue: SampledSoftmax(catalogue.negatives(config), config.logq),
    "bce": lambda config, catalogue: BinaryCrossEntropy(catalogue.negatives(config)),
    "gbce": lambda config, catalogue: GeneralisedBce(
        catalogue.negatives(config), len(catalogue.candidates_R), config.negatives, config.calibration
    ),
    "bpr": lambda config, catalogue: Bpr(catalogue.negatives(config)),
}

_PROTOCOLS: dict[str, Callable[[ProtocolConfig], Protocol]] = {
    "microlens": MicroLensProtocol,
    "leave-one-out": LeaveOneOutProtocol,
    "temporal": TemporalProtocol,
}

# Options of one protocol alone.
_PROTOCOL_OPTIONS = {"keep_last": "microlens", "validation_share": "temporal", "test_share": "temporal"}

_FUSIONS: dict[str, Fusion] = {"sum": torch.add, "concat": concat}

_COSINE_TEMPERATURE = 0.05


@dataclass(frozen=True)
class Catalogue:
    """What a loss needs to know of the items.

    Attributes:
        train_counts_N: how often training sees each.
        candidates_R: rows, ascending, that compete.
    """

    train_counts_N: torch.Tensor
    candidates_R: torch.Tensor

    @property
    def all_compete(self) -> bool:
        return len(self.candidates_R) == len(self.train_counts_N)

    def negatives(self, config: LossConfig) -> Negatives:
        """What draws ``config.negatives`` of them."""

        def uniform(count: int) -> Negatives:
            return Uniform(self.candidates_R, len(self.train_counts_N), count)

        match config.sampler:
            case "uniform":
                return uniform(config.negatives)
            case "popularity":
                return ByPopularity(self.train_counts_N, config.negatives, config.popularity_power)
            case "in-batch":
                return InBatch(self.train_counts_N, config.negatives)
            case "mixed":
                half = max(1, config.negatives // 2)
                return Mixed(uniform(half), InBatch(self.train_counts_N, half))


def protocol_of(config: ProtocolConfig) -> Protocol:
    """What divides the interactions.

    Raises:
        InputError: an option was changed that this protocol does not have, or shares that leave nothing to train on.
    """
    for option, owner in _PROTOCOL_OPTIONS.items():
        value = getattr(config, option)
        if config.name != owner and value != ProtocolConfig.model_fields[option].default:
            raise InputError(
                f"protocol.{option} = {value} is an option of protocol.name {owner}, and this is {config.name}, where it would do nothing; "
                "leave it out."
            )
    return _PROTOCOLS[config.name](config)


def resolved(config: RecommendConfig, *, has_vectors: bool) -> RecommendConfig:
    """The configuration with ``auto`` made concrete.

    Items: content where there are vectors and a model that uses them; neighbours for new ones where ids alone are trained. Loss: over
    the whole catalogue where encoding all of it costs little; else over what a step has encoded anyway.

    Raises:
        InputError: a model with items, a loss or a similarity that it cannot have; a loss that would encode every clip of the catalogue
            at every step.
    """
    items, loss = config.items, config.loss
    if (knows_users_by_id(config.model) or scores_pairs(config.model)) and config.model.similarity == "cosine":
        raise InputError(f"--model {config.model.kind} has scores of its own; leave model.similarity at dot.")
    if scores_pairs(config.model):
        if loss.kind not in ("auto", "in-batch"):
            raise InputError(f"--model {config.model.kind} is trained with the items of a step; leave --loss at auto or in-batch.")
        loss = loss.model_copy(update={"kind": "in-batch"})
    if config.model.kind == "content-mean":
        if items.kind not in ("auto", "frozen") or not has_vectors:
            raise InputError("--model content-mean looks at stored vectors; give --embeddings FILE.h5, and leave --items out.")
        items = items.model_copy(update={"kind": "frozen"})
    if items.kind == "auto":
        content = has_vectors and config.model.kind not in YARDSTICKS
        items = items.model_copy(update={"kind": "ids+frozen" if content else "ids"})
    if is_mapped(items):
        items = items.model_copy(update={"new": "neighbours"})
    _require_fusion(items, config.model)
    if needs_frames(items) and config.model.kind in _OVER_GRAPHS:
        raise InputError(
            f"--model {config.model.kind} goes over the whole catalogue at every step, and --items {items.kind} would encode every clip of "
            "it each time. Extract the clips and use frozen or adapter, or take a model that needs the items of a step alone, such as dssm."
        )
    if loss.kind == "auto":
        kind = "in-batch" if needs_frames(items) else "sampled" if "adapter" in items.kind else "full"
        sampler = {"sampler": "mixed"} if kind == "sampled" else {}
        loss = loss.model_copy(update={"kind": kind} | sampler)
    if needs_frames(items) and loss.kind == "full":
        raise InputError(
            f"--items {items.kind} with loss.kind full would encode every clip of the catalogue at every step. Use in-batch, or sampled "
            "with few loss.negatives."
        )
    return config.model_copy(update={"items": items, "loss": loss})


def _require_fusion(items: ItemsConfig, model: ModelConfig) -> None:
    if joins_halves(items) and model.kind in _JOINS_ITSELF:
        raise InputError(f"--model {model.kind} joins content and ids in its own way; leave items.fusion at sum.")
    if joins_halves(items) and model.d_model % 2:
        raise InputError(
            f"items.fusion concat gives half of model.d_model to the content and half to the ids: {model.d_model} is odd; take "
            f"{model.d_model + 1}, or items.fusion sum."
        )
    asked = "items.fusion map" if is_mapped(items) else "items.new neighbours"
    if has_neighbours(items) and not (items.kind == "ids+frozen" and takes_new_items(model) and not scores_pairs(model)):
        raise InputError(
            f"{asked} places what nobody watched amid watched items of similar stored vectors, which needs --items ids+frozen and a model "
            f"whose scores are products of vectors; this is {model.kind} with {items.kind}. Leave items.fusion at sum and items.new at "
            "content."
        )


def is_mapped(config: ItemsConfig) -> bool:
    """Is it trained by ids alone, and content places only what training never saw?"""
    return config.kind.startswith("ids+") and config.fusion == "map"


def has_neighbours(config: ItemsConfig) -> bool:
    """Is an item that training never saw placed amid watched ones of similar content?"""
    return is_mapped(config) or config.new == "neighbours"


def joins_halves(config: ItemsConfig) -> bool:
    """Do content and ids stand side by side, each in half of the width?"""
    return config.kind.startswith("ids+") and config.fusion == "concat"


def yardstick(config: ModelConfig, split: Split, content: "Content | None") -> Yardstick:
    """What is counted over the training sequences, or looks at content."""
    if config.kind == "content-mean":
        assert isinstance(content, CatalogueVectors)
        return ContentMean.of(content)
    return _COUNTED[config.kind].fit(split.train, len(split.items))


def looks_at_nothing(config: ModelConfig) -> bool:
    """Does it use no content, whatever the items?"""
    return config.kind in _COUNTED


def needs_vectors(config: ItemsConfig) -> bool:
    """Does this item encoder read an embedding file?"""
    return config.kind.removeprefix("ids+") in ("frozen", "adapter")


def needs_frames(config: ItemsConfig) -> bool:
    """Does this item encoder read frames?"""
    return config.kind.removeprefix("ids+") == "end-to-end"


def has_content(config: ItemsConfig) -> bool:
    """Does this item encoder look at clips?"""
    assert config.kind != "auto", "resolve auto before building"
    return config.kind != "ids"


def learner(config: RecommendConfig, split: Split, content: "Content | None", seed: int) -> OverItems:
    """What is trained, with fresh weights. Raises as ``item_encoder``."""
    new = NewShare(config.items.delta_dropout, train_counts(split), config.items.delta_dropout_views)
    encoder = item_encoder(config.items, config.model, len(split.items), content, seed, new)
    placing = None
    if has_neighbours(config.items):
        assert isinstance(content, CatalogueVectors)
        placing = Placing(content, train_counts(split), split.train, config.protocol.max_len)
    if config.items.content_rate != 1:
        for part in encoder.modules():
            if isinstance(part, StoredContent):
                part.training_options = {"lr": config.train.lr * config.items.content_rate, "weight_decay": config.train.weight_decay}
    if config.model.kind in _COLLABORATIVE:
        # Of an item that training knows by its id alone nothing is left where it is taken for new.
        new_to_graph = new if has_content(config.items) and not is_mapped(config.items) else None
        model = _COLLABORATIVE[config.model.kind](config.model, split.train, len(split.items), new_to_graph)
        known_U = torch.from_numpy(split.train.lengths > 0)
        return CollaborativeLearner(encoder, model, loss(config.loss, config.items, split), known_U, placing)
    if config.model.kind in _PAIR_MODELS:
        return PairLearner(encoder, pair_model(config.model, config.protocol.max_len), InBatch(train_counts(split), config.loss.negatives))
    return Learner(encoder, user_model(config.model, config.protocol.max_len), loss(config.loss, config.items, split), placing)


def pair_model(config: ModelConfig, max_len: int) -> nn.Module:
    """A ``PairModel`` with fresh weights."""
    return _PAIR_MODELS[config.kind](config, max_len)


def scores_pairs(config: ModelConfig) -> bool:
    """Is it a model that scores pairs of a history and an item?"""
    return config.kind in _PAIR_MODELS


def knows_users_by_id(config: ModelConfig) -> bool:
    """Is it a model of known users, which reads no history?"""
    return config.kind in _COLLABORATIVE


def first_target(config: ModelConfig) -> int:
    """Place in a sequence from which on a learned model is trained to predict: ``Trainable.first_target``."""
    return CollaborativeLearner.first_target if knows_users_by_id(config) else Learner.first_target


def takes_new_items(config: ModelConfig) -> bool:
    """Is an item's vector the one that its encoder gives, so that one which training did not know has a place?"""
    return config.kind not in YARDSTICKS and config.kind not in _JOINS_ITSELF


def item_encoder(
    config: ItemsConfig,
    model: ModelConfig,
    num_items: int,
    content: "Content | None",
    seed: int = 1,
    new: NewShare | None = None,
) -> nn.Module:
    """An ``ItemEncoder`` for a user model.

    Args:
        content: stored vectors or frames, where the kind needs them.
        seed: of a video encoder with random weights.
        new: which items a training step takes for new; None: none, as where nothing is trained.

    Raises:
        InputError: it needs stored vectors and there are none, or others.
    """
    encoder = _item_encoder(config, model, num_items, content, seed, new)
    return UnitItems(encoder) if model.similarity == "cosine" else encoder


def _item_encoder(
    config: ItemsConfig,
    model: ModelConfig,
    num_items: int,
    content: "Content | None",
    seed: int,
    new: NewShare | None,
) -> nn.Module:
    if not has_content(config):
        return _ids(model, num_items)
    if content is None:
        raise InputError(f"--items {config.kind} needs stored vectors; give --embeddings FILE.h5, or run `vivim extract` first.")
    if not config.kind.startswith("ids+"):
        return _content_encoder(config, model, content, seed)
    if is_mapped(config):
        return _ids(model, num_items)
    width = model.d_model // 2 if joins_halves(config) else model.d_model
    encoder = _content_encoder(config, model.model_copy(update={"d_model": width}), content, seed)
    return ContentAndIdItems(encoder, width, new, _FUSIONS[config.fusion])


def _ids(model: ModelConfig, num_items: int) -> IdItems:
    # Beside a table of users the table of items begins as that does: xavier.
    std = (2 / (num_items + model.d_model)) ** 0.5 if knows_users_by_id(model) else 0.02
    return IdItems(num_items, model.d_model, std)


def _content_encoder(config: ItemsConfig, model: ModelConfig, content: "Content", seed: int) -> ContentVectors:
    if not isinstance(content, CatalogueVectors):
        from .end_to_end import make_end_to_end

        return make_end_to_end(config.end_to_end, content, model.d_model, seed)
    if "adapter" not in config.kind:
        return FrozenItems(content.vectors_NV, content.present_N, model.d_model, content.standard)
    if content.spans == 1:
        raise InputError(
            f"--items {config.kind} needs vectors of the spans of each clip: extract them with --set extract.encoder.pooling=frames, into "
            "a file of their own."
        )
    spans_NSV = content.vectors_NV.unflatten(1, (content.spans, -1))
    return AdapterItems(spans_NSV, content.present_N, model, config.adapter_layers, content.standard)


def user_model(config: ModelConfig, max_len: int) -> nn.Module:
    """A ``VectorModel`` with fresh weights."""
    try:
        model = _USER_MODELS[config.kind](config, max_len)
    except ValueError as error:
        raise InputError(f"the model cannot be built: {error}") from error
    unit = config.similarity == "cosine"
    if not unit and config.temperature is None:
        return model
    return ScaledUsers(model, config.temperature or _COSINE_TEMPERATURE, unit=unit)


def loss(config: LossConfig, items: ItemsConfig, split: Split) -> Loss:
    """The loss, with what it needs of the training data.

    With content, an item that nobody watched in training is no negative: it may be too new to have been watched, and as a
    negative it would be taught never to be recommended. With ids alone that is all that can be known of it, so it stays one.
    """
    counts_N = train_counts(split)
    candidates_R = counts_N.nonzero()[:, 0] if has_content(items) else torch.arange(len(counts_N))
    return _LOSSES[config.kind](config, Catalogue(counts_N, candidates_R))


def train_counts(split: Split) -> torch.Tensor:
    """(N,) int64, how often each item occurs in the training sequences."""
    return torch.from_numpy(np.bincount(split.train.items, minlength=len(split.items)).astype(np.int64))
