"""What can be chosen for stage two."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, JsonValue

from ..settings import Settings


class ProtocolConfig(Settings):
    """Who is trained on what, who is asked what (MicroLens: last 13, leave one out, input 10, window masked).

    Attributes:
        name: ``microlens`` (leave one out in the newest part of every history), ``leave-one-out`` (in whole histories), ``temporal``
            (trained on what came before a moment, asked about what came after it; needs times).
        keep_last: newest interactions kept per user (microlens).
        max_len: items of history shown to the model.
        min_interactions: users with fewer are left out.
        full_catalogue: rank every item of the file, also those that no kept window contains.
        seen: what was watched before is ``masked``, never ranked, or ``kept``, as RecBole ranks for its sequential models.
        validation_share: of the interactions, those in the validation span (temporal).
        test_share: of the interactions, the newest, those in the test span (temporal).
    """

    name: Literal["microlens", "leave-one-out", "temporal"] = "microlens"
    keep_last: int = Field(13, ge=3)
    max_len: int = Field(10, ge=1)
    min_interactions: int = Field(3, ge=3)
    full_catalogue: bool = False
    seen: Literal["masked", "kept"] = "masked"
    validation_share: float = Field(0.1, gt=0, lt=1)
    test_share: float = Field(0.1, gt=0, lt=1)


class EndToEndConfig(Settings):
    """How the video encoder is trained along.

    Attributes:
        frames: folder of the clips' frames, as ``vivim extract --cache-frames`` keeps them.
        size: of the encoder, as ``extract.encoder.size``.
        weights: to begin with, as ``extract.encoder.weights``.
        stages: the last so many of the encoder's four are trained, and the others stay as they are.
        lr: learning rate of the encoder at its peak; the recommender's is ``train.lr``.
        weight_decay: of the encoder.
        drop_path: largest chance that a frame skips a branch of the encoder in training; grows linearly over its layers.
        clips_at_once: clips that are encoded side by side.
        checkpointing: activations of the encoder are computed again instead of kept: about a third slower, much less memory.
    """

    frames: Path | None = None
    size: Literal["auto", "nano", "b0", "b1", "b2", "b3", "b4", "b5"] = "auto"
    weights: str = "random"
    stages: int = Field(4, ge=1, le=4)
    lr: float = Field(1e-4, gt=0)
    weight_decay: float = Field(0.0, ge=0)
    drop_path: float = Field(0.1, ge=0, lt=1)
    clips_at_once: int = Field(16, ge=1)
    checkpointing: bool = True


class ItemsConfig(Settings):
    """How an item becomes a vector.

    Attributes:
        kind: ``ids`` (a learned table), ``frozen`` (stored vectors through a learned projection), ``adapter`` (eight stored vectors of a
            clip through a small temporal Mamba), ``end-to-end`` (the clips' frames through the video encoder, which is trained along),
            and ``ids+frozen``, ``ids+adapter``, ``ids+end-to-end`` (that plus a zero-initialised id delta). ``auto``: ``ids+frozen`` if
            there is an embedding file, else ``ids``; the summary says which.
        fusion: how content and ids become one vector (``ids+...``): ``sum``, or ``concat``: each has half of ``model.d_model``, or ``map``
            (``ids+frozen``): ids alone are trained, and content is what ``new`` neighbours are found by.
        new: where an item is that training never saw (``ids+...``): ``content``, where its content alone has it, or ``neighbours``
            (``ids+frozen``), amid watched items of similar content, of which rarely watched ones count more.
        delta_dropout: share of items that a training step takes for new: without their id delta (``ids+...``), and in models of graphs
            without who watched them (all kinds with content).
        delta_dropout_views: h; an item that training sees n times has delta_dropout * n / (n + h) in its place, so that rarely watched
            ones keep what their ids learn. 0: all have the same.
        content_rate: learning rate of what reads stored vectors, as a share of ``train.lr``. Its weights are shared by all items, so that a
            step moves every item's content at once, and an id by what its own watchers say.
        adapter_layers: Mamba layers of the adapter.
        end_to_end: of kinds that train the video encoder.
        min_coverage: share of the catalogue that must have a stored vector; below it training is refused.
    """

    kind: Literal["auto", "ids", "frozen", "ids+frozen", "adapter", "ids+adapter", "end-to-end", "ids+end-to-end"] = "auto"
    fusion: Literal["sum", "concat", "map"] = "sum"
    new: Literal["content", "neighbours"] = "content"
    delta_dropout: float = Field(0.1, ge=0, lt=1)
    delta_dropout_views: float = Field(0.0, ge=0)
    content_rate: float = Field(1.0, gt=0)
    adapter_layers: int = Field(1, ge=1)
    end_to_end: EndToEndConfig = EndToEndConfig()
    min_coverage: float = Field(0.9, ge=0, le=1)


class ModelConfig(Settings):
    """Which user model.

    Attributes:
        kind: of histories: ``mamba``, ``mamba2``, ``sasrec``, ``gru4rec``, ``nextitnet``, ``youtube``; of users known by id: ``dssm``
            (a table of them), ``lightgcn``, ``mmgcn``, ``grcn`` (layers: of their graphs); of pairs of a history and an item: ``nfm``,
            ``deepfm``; or one of the yardsticks without learning: ``popularity``, ``item-knn``, ``bm25``, ``content-mean``.
        d_model: width of item and user vectors.
        layers: blocks; of nextitnet each is two, with dilations 1 and 4.
        d_state: N, state per channel (mamba, mamba2; 64 costs mamba2 little more than 16).
        d_conv: K, taps of the causal convolution (mamba, mamba2).
        expand: inner width over d_model (mamba, mamba2).
        headdim: channels that share a step size and a decay (mamba2); must divide expand * d_model.
        heads: attention heads (sasrec).
        routing: rounds in which a user's prototype is found (grcn).
        dropout: share of activations dropped in training.
        similarity: of user and item vectors, ``dot`` or ``cosine``.
        temperature: scores are divided by it, to begin with; then it is learned. None: 0.05 for cosine; none for dot, whose vectors find
            their own length.
    """

    kind: Literal[
        "mamba", "mamba2", "sasrec", "gru4rec", "nextitnet", "youtube", "dssm", "lightgcn", "mmgcn", "grcn", "nfm", "deepfm",
        "popularity", "item-knn", "bm25", "content-mean",
    ] = "mamba"  # fmt: skip
    d_model: int = Field(128, ge=1)
    layers: int = Field(2, ge=1)
    d_state: int = Field(16, ge=1)
    d_conv: int = Field(4, ge=1)
    expand: int = Field(2, ge=1)
    headdim: int = Field(64, ge=1)
    heads: int = Field(2, ge=1)
    routing: int = Field(3, ge=0)
    dropout: float = Field(0.5, ge=0, lt=1)
    similarity: Literal["dot", "cosine"] = "dot"
    temperature: float | None = Field(None, gt=0)


class LossConfig(Settings):
    """What is minimised.

    Attributes:
        kind: ``full`` (softmax over the whole catalogue, chunked), ``in-batch`` (MicroLens's popularity-debiased softmax), or over
            negatives that are drawn: ``sampled`` (softmax), ``bce``, ``gbce``, ``bpr``. ``auto``: ``full``; ``sampled`` from ``mixed`` with
            adapter items, ``in-batch`` with end-to-end items.
        chunk_mb: memory for logits at a time, MiB (full).
        kernel: who computes it (full): ``chunked``, exact, anywhere; ``cut-cross-entropy``, that package's kernels, on CUDA in 16 bits.
        negatives: M, drawn at each step and shared by its positions (sampled, bce, gbce, bpr).
        sampler: how they are drawn: ``uniform``; by ``popularity``; ``in-batch``, from the items of the step; ``mixed``, half
            uniform and half in-batch.
        popularity_power: of the occurrences (popularity): 1 as they are, 0 uniform.
        logq: correction for how often an item is drawn (sampled): ``corrected`` (leaves the target alone), ``classic``, ``none``.
        calibration: t of gBCE: 0 is BCE, 1 gives the probabilities of all negatives.
    """

    kind: Literal["auto", "full", "in-batch", "sampled", "bce", "gbce", "bpr"] = "auto"
    chunk_mb: int = Field(32, ge=1)
    kernel: Literal["chunked", "cut-cross-entropy"] = "chunked"
    negatives: int = Field(1024, ge=1)
    sampler: Literal["uniform", "popularity", "in-batch", "mixed"] = "uniform"
    popularity_power: float = Field(1.0, ge=0)
    logq: Literal["corrected", "classic", "none"] = "corrected"
    calibration: float = Field(0.75, ge=0, le=1)


Metric = Literal["ndcg@10", "hit_rate@10"]


class TrainConfig(Settings):
    """How it is minimised.

    Attributes:
        optimizer: ``adamw`` or ``adam``.
        lr: learning rate; its peak with a schedule.
        schedule: ``constant``, or ``cosine``: down to 0 at the last of ``epochs``.
        warmup: share of all steps in which the learning rate rises from 0.
        ema: decay of a running mean of the weights, which is validated and kept in their place; 0: none.
        weight_decay: decay of matrices and tables (AdamW; not of norms, biases or state-space parameters).
        batch: sequences per step.
        epochs: at most.
        metric: of validation, ``ndcg@10`` or ``hit_rate@10``: which epoch is the best, when training stops, and what a search compares.
        patience: epochs without a better ``metric`` before stopping.
        validation_questions: drawn once from those of validation, to be asked after each epoch; None: all. What is measured in the end
            is measured on all.
        clip_norm: gradient norm limit; 0: none.
        precision: ``32-true``, ``bf16-mixed`` or ``16-mixed`` (Lightning Fabric's names).
        init: folder of a run whose weights are begun with, as far as they fit.
        checkpoint_minutes: a checkpoint is written after every epoch, and within one after so long.
        timeout_seconds: with several processes: one that does not answer for so long ends the others.
    """

    optimizer: Literal["adamw", "adam"] = "adamw"
    lr: float = Field(1e-3, gt=0)
    schedule: Literal["constant", "cosine"] = "constant"
    warmup: float = Field(0.0, ge=0, lt=1)
    ema: float = Field(0.0, ge=0, lt=1)
    weight_decay: float = Field(0.1, ge=0)
    batch: int = Field(256, ge=1)
    epochs: int = Field(100, ge=1)
    metric: Metric = "ndcg@10"
    patience: int = Field(10, ge=1)
    validation_questions: int | None = Field(None, ge=1)
    clip_norm: float = Field(5.0, ge=0)
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"
    init: Path | None = None
    checkpoint_minutes: float = Field(10.0, gt=0)
    timeout_seconds: float = Field(600.0, gt=0)


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


# Values that the best published runs use (docs/recommend.md says whose).
DEFAULT_SPACE: dict[str, list[JsonValue]] = {
    "train.lr": [3e-4, 1e-3, 3e-3],
    "train.weight_decay": [0.0, 0.01, 0.1],
    "model.d_model": [64, 128, 256],
    "model.layers": [1, 2, 3],
    "model.dropout": [0.1, 0.3, 0.5],
}


class TuneConfig(Settings):
    """A search.

    Attributes:
        minutes: no trial is begun after so long, and one that runs is ended with the best it has, once its first epoch is validated.
        trials: at most.
        space: option of stage two -> the values to choose from.
    """

    minutes: float = Field(30.0, gt=0)
    trials: int = Field(100, ge=1)
    space: dict[str, list[JsonValue]] = DEFAULT_SPACE
