"""What can be chosen for pretraining."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from ...settings import Settings


class MaskLossConfig(Settings):
    """What is minimised when training on masks. See ``losses`` and ``affine`` for the terms.

    Attributes:
        kind: ``ours``, or ``official``: the published code's terms with their faults, for comparison.
        edge: weight of the edge loss.
        affine: weight of the affine constraint of eq. 10; 0 leaves it out.
        delta_1: within it, weight of a frame's own departure from the truth.
        delta_2: within it, weight of the difference to the first frame's departure.
        tiles: patches per side of a frame that the constraint looks at one by one.
        inverse_form: safetensors file of the InverseForm regressor, which then replaces the moment match; None: moment match.
    """

    kind: Literal["ours", "official"] = "ours"
    edge: float = Field(0.3, ge=0)
    affine: float = Field(0.3, ge=0)
    delta_1: float = Field(1.0, ge=0)
    delta_2: float = Field(0.5, ge=0)
    tiles: int = Field(8, ge=1, le=64)
    inverse_form: Path | None = None


class PretrainConfig(Settings):
    """Training the encoder before stage one; its size is ``extract.encoder.size``.

    Attributes:
        frames: folder of clips, each a folder of pictures, or the pictures of one clip.
        masks: the same for the masks.
        test_frames: clips to measure on, laid out like ``frames``; None: a share of the training clips is held out.
        test_masks: their masks.
        held_out: that share; of the clips, or of the last frames when there is one clip only.
        weights: to begin with: ``random``, or a safetensors file.
        pixels: side of the square the encoder sees.
        clip_frames: T, consecutive frames seen at once.
        supervise: ``all`` frames of these, or the ``middle`` one, as the published code does.
        augment: flips, brightness and contrast, drawn per clip.
        batch: clips of T frames per step.
        epochs: passes over the frames.
        lr: learning rate at the start.
        lr_end: at the end; it falls along a cosine.
        clip_norm: gradient norm limit; 0: none.
        precision: Lightning Fabric's names.
        test_every: epochs between measurements on the test clips; the last epoch is always measured.
        pictures_every: epochs between pictures of what is predicted; 0: none.
        loss: what is minimised.
    """

    frames: Path | None = None
    masks: Path | None = None
    test_frames: Path | None = None
    test_masks: Path | None = None
    held_out: float = Field(0.2, gt=0, lt=1)
    weights: str = "random"
    pixels: int = Field(256, ge=32, le=1024)
    clip_frames: int = Field(5, ge=1, le=64)
    supervise: Literal["all", "middle"] = "all"
    augment: bool = True
    batch: int = Field(1, ge=1)
    epochs: int = Field(50, ge=1)
    lr: float = Field(1e-4, gt=0)
    lr_end: float = Field(1e-6, ge=0)
    clip_norm: float = Field(0.0, ge=0)
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"
    test_every: int = Field(1, ge=1)
    pictures_every: int = Field(10, ge=0)
    loss: MaskLossConfig = MaskLossConfig()
