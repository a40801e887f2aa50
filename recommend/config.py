"""What can be chosen for stage two."""

from typing import Annotated, Literal

from pydantic import Field

from ..settings import Settings


class ProtocolConfig(Settings):
    """Who is trained on what, who is asked what (MicroLens: last 13, leave one out, input 10, window masked).

    Attributes:
        name: ``microlens``, the only one so far.
        keep_last: newest interactions kept per user.
        max_len: items of history shown to the model.
        min_interactions: users with fewer are left out.
        full_catalogue: rank every item of the file, also those that no kept window contains.
    """

    name: Literal["microlens"] = "microlens"
    keep_last: int = Field(13, ge=3)
    max_len: int = Field(10, ge=1)
    min_interactions: int = Field(3, ge=3)
    full_catalogue: bool = False


class ItemsConfig(Settings):
    """How an item becomes a vector.

    Attributes:
        kind: ``ids`` (a learned table), ``frozen`` (stored vectors through a learned projection), ``ids+frozen`` (the projection plus a
            zero-initialised id delta). ``auto``: ``ids+frozen`` if there is an embedding file, else ``ids``; the summary says which.
        delta_dropout: share of items whose id delta is left out of a training step (``ids+frozen``).
        min_coverage: share of the catalogue that must have a stored vector; below it training is refused.
    """

    kind: Literal["auto", "ids", "frozen", "ids+frozen"] = "auto"
    delta_dropout: float = Field(0.5, ge=0, lt=1)
    min_coverage: float = Field(0.9, ge=0, le=1)


class ModelConfig(Settings):
    """Which user model.

    Attributes:
        kind: ``mamba``, ``mamba2``, ``sasrec``, or one of the yardsticks without learning, ``popularity`` and ``item-knn``.
        d_model: width of item and user vectors.
        layers: blocks.
        d_state: N, state per channel (mamba, mamba2; 64 costs mamba2 little more than 16).
        d_conv: K, taps of the causal convolution (mamba, mamba2).
        expand: inner width over d_model (mamba, mamba2).
        headdim: channels that share a step size and a decay (mamba2); must divide expand * d_model.
        heads: attention heads (sasrec).
        dropout: share of activations dropped in training.
    """

    kind: Literal["mamba", "mamba2", "sasrec", "popularity", "item-knn"] = "mamba"
    d_model: int = Field(128, ge=1)
    layers: int = Field(2, ge=1)
    d_state: int = Field(16, ge=1)
    d_conv: int = Field(4, ge=1)
    expand: int = Field(2, ge=1)
    headdim: int = Field(64, ge=1)
    heads: int = Field(2, ge=1)
    dropout: float = Field(0.5, ge=0, lt=1)


class LossConfig(Settings):
    """What is minimised.

    Attributes:
        kind: ``full`` (softmax over the whole catalogue, chunked) or ``in-batch`` (MicroLens's popularity-debiased softmax).
        chunk_mb: memory for logits at a time, MiB (full).
    """

    kind: Literal["full", "in-batch"] = "full"
    chunk_mb: int = Field(32, ge=1)


class TrainConfig(Settings):
    """How it is minimised.

    Attributes:
        optimizer: ``adamw`` or ``adam``.
        lr: learning rate.
        weight_decay: decay of matrices and tables (AdamW; not of norms, biases or state-space parameters).
        batch: sequences per step.
        epochs: at most.
        patience: epochs without a better validation NDCG@10 before stopping.
        clip_norm: gradient norm limit; 0: none.
        precision: ``32-true``, ``bf16-mixed`` or ``16-mixed`` (Lightning Fabric's names).
    """

    optimizer: Literal["adamw", "adam"] = "adamw"
    lr: float = Field(1e-3, gt=0)
    weight_decay: float = Field(0.1, ge=0)
    batch: int = Field(256, ge=1)
    epochs: int = Field(30, ge=1)
    patience: int = Field(3, ge=1)
    clip_norm: float = Field(5.0, ge=0)
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"


class EvaluateConfig(Settings):
    """How a run is measured.

    Attributes:
        k: list lengths.
        index: FAISS index for the top-K lists: ``flat`` is exact; ``hnsw`` and ``ivf`` are approximate and say how much.
        batch: questions scored at once.
    """

    k: tuple[Annotated[int, Field(ge=1)], ...] = Field((10, 20), min_length=1)
    index: Literal["flat", "hnsw", "ivf"] = "flat"
    batch: int = Field(512, ge=1)


class RecommendConfig(Settings):
    """Everything that decides what a training run learns; kept in its run.json."""

    protocol: ProtocolConfig = ProtocolConfig()
    items: ItemsConfig = ItemsConfig()
    model: ModelConfig = ModelConfig()
    loss: LossConfig = LossConfig()
    train: TrainConfig = TrainConfig()
