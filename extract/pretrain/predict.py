"""Masks of whole clips from a trained model, and a picture of them.

Legend: T frames of the clip, H and W their size.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from ..vivim import Vivim
from .edges import edge_of
from .masks import MaskedClip
from .metrics import MaskMetrics
from .pictures import write_png
from .windows import Supervise, load, windows_of

_GAP = 4


class Prediction(NamedTuple):
    """Probabilities for every frame of a clip.

    Attributes:
        mask_THW: that a pixel is object.
        edge_THW: that it is edge.
    """

    mask_THW: torch.Tensor
    edge_THW: torch.Tensor


@torch.no_grad()
def predict(model: Vivim, clip: MaskedClip, frames: int, supervise: Supervise) -> Prediction:
    """Predict window by window, in evaluation mode, which the model is left in.

    ``middle`` keeps the middle of a window around each frame, as a model trained in this way is good for; ``all`` lays windows end to
    end.
    """
    model.eval()
    masks, edges = (torch.zeros(clip.masks_THW.shape) for _ in range(2))
    for window in windows_of(0, len(clip), frames, supervise):
        logits = model.segment(normalised(model, load(clip, window).frames_BTCHW))
        places = [window.frames[t] for t in window.keep]
        masks[places] = logits.mask_BTHW[0, list(window.keep)].float().sigmoid().cpu()
        edges[places] = logits.edge_BTHW[0, list(window.keep)].float().sigmoid().cpu()
    return Prediction(masks, edges)


def normalised(model: Vivim, frames_BTCHW: torch.Tensor) -> torch.Tensor:
    """Float RGB from 0 to 1 as the encoder wants it, on its device."""
    return (frames_BTCHW.to(model.device, non_blocking=True) - model.mean) / model.std


def measure(clips: Sequence[MaskedClip], predictions: Sequence[Prediction]) -> MaskMetrics:
    """Means over the frames of a clip, then over clips."""
    return MaskMetrics.mean([MaskMetrics.of(p.mask_THW, clip.masks_THW) for clip, p in zip(clips, predictions, strict=True)])


def draw(path: Path, clip: MaskedClip, prediction: Prediction, rows: int = 4) -> None:
    """A PNG: ``rows`` frames spread over the clip; frame, true mask, predicted mask, true edge, predicted edge from left to right."""
    chosen = sorted(set(np.linspace(0, len(clip) - 1, rows).round().astype(int).tolist()))
    true_edge = edge_of(clip.masks_THW)
    lines = []
    for place in chosen:
        grey = [clip.masks_THW[place].float(), prediction.mask_THW[place], true_edge[place].float(), prediction.edge_THW[place]]
        tiles = [clip.frames_TCHW[place].permute(1, 2, 0), *((x * 255).round().to(torch.uint8)[:, :, None].expand(-1, -1, 3) for x in grey)]
        lines.append(torch.cat([_framed(tile) for tile in tiles], 1))
    write_png(path, torch.cat(lines).numpy())


def _framed(tile_HWC: torch.Tensor) -> torch.Tensor:
    height, width, _ = tile_HWC.shape
    framed = torch.full((height + _GAP, width + _GAP, 3), 96, dtype=torch.uint8)
    framed[:height, :width] = tile_HWC
    return framed
