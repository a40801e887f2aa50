"""What can be chosen for self-supervised pretraining."""

from typing import Literal, Self

from pydantic import Field, model_validator

from ...settings import Settings


class ViewsConfig(Settings):
    """How two views of a clip differ.

    Attributes:
        min_span: shortest span of a view, share of the clip.
        min_area: smallest cut of a view, share of the picture.
        jitter: brightness, contrast and saturation change by up to this share, hue by up to this share of half a turn.
        grey: share of views without colour.
    """

    min_span: float = Field(0.5, gt=0, le=1)
    min_area: float = Field(0.5, gt=0, le=1)
    jitter: float = Field(0.8, ge=0, lt=1)
    grey: float = Field(0.5, ge=0, le=1)


class SelfSupConfig(Settings):
    """Pretraining on clips without labels. What decides the weights cannot change when a run is resumed.

    Attributes:
        weights: to begin with: ``random``, or the path of a safetensors file.
        frames: T of a view; as many as extraction will use.
        cached_frames: F kept of each clip, from which views take theirs.
        image_size: side of a view, pixels. The encoder has no positional embedding, so extraction may use another size.
        resize: ``crop`` or ``squash``, as extraction has it.
        decoder: ``auto`` (decord reads, PyAV rescues) or ``pyav``.
        workers: decoding processes; 0: one per CPU core.
        timeout_seconds: a clip that takes longer to decode is left out and named.
        views: how two views differ.
        invariance, variance, covariance: weights of VICReg's terms, the paper's by default.
        expander: E, width of the space in which views are compared.
        epochs: passes over the clips.
        batch: clips per step, two views of each.
        lr: learning rate at its peak.
        warmup: share of the steps in which it rises; then it falls along a cosine to 0.
        weight_decay: decay of matrices (not of norms, biases or state-space parameters).
        clip_norm: gradient norm limit; 0: none.
        precision: ``32-true``, ``bf16-mixed`` or ``16-mixed`` (Lightning Fabric's names).
    """

    weights: str = "random"
    frames: int = Field(8, ge=2, le=256)
    cached_frames: int = Field(16, ge=2, le=1024)
    image_size: int = Field(112, ge=32, le=1024)
    resize: Literal["crop", "squash"] = "crop"
    decoder: Literal["auto", "pyav"] = "auto"
    workers: int = Field(0, ge=0)
    timeout_seconds: float = Field(30.0, gt=0)
    views: ViewsConfig = ViewsConfig()
    invariance: float = Field(25.0, ge=0)
    variance: float = Field(25.0, ge=0)
    covariance: float = Field(1.0, ge=0)
    expander: int = Field(256, ge=2)
    epochs: int = Field(30, ge=1)
    batch: int = Field(32, ge=2)
    lr: float = Field(2e-3, gt=0)
    warmup: float = Field(0.1, ge=0, lt=1)
    weight_decay: float = Field(0.05, ge=0)
    clip_norm: float = Field(5.0, ge=0)
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.cached_frames * self.views.min_span < self.frames:
            raise ValueError(
                f"a view of {self.frames} frames does not fit {self.views.min_span:g} of {self.cached_frames} cached frames; allowed: "
                "cached_frames * views.min_span >= frames, so that no frame repeats. Raise cached_frames or min_span."
            )
        return self

    @property
    def cached_size(self) -> int:
        """Side of the cached frames, pixels: a little more than a view's, so that cuts of them are about as sharp as whole pictures."""
        return round(1.15 * self.image_size)
