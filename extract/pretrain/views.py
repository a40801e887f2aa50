"""Two views of a clip: another span of time, another cut, other colours; always the same direction of time, never mirrored.

A view is planned on the CPU from numbers that follow from (seed, epoch, clip) alone, and drawn wherever the frames are. One plan holds
for all frames of a view (Qian et al., "Spatiotemporal Contrastive Video Representation Learning", 2021, section 3.3): a cut or a colour
that changed from frame to frame would bury the motion. Mirroring is left out because it turns left into right.

Legend: B views, F frames in the cache, T frames of a view, H, W size in the cache, S side of a view.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from .selfsup_config import ViewsConfig

_LUMA = np.array([0.299, 0.587, 0.114])
_BRIGHTEST = 0.8  # mean grey to which a view may be brightened


@dataclass(frozen=True)
class ViewPlan:
    """What one view shows.

    Attributes:
        frames_T: positions in the cached frames, ascending.
        box: left, top, right, bottom of the cut, as shares of the picture.
        colour_33: linear map of (R, G, B): saturation and hue.
        contrast: factor about the view's own mean grey.
        brightness: factor of everything, after the others; less where it would burn out the view.
    """

    frames_T: npt.NDArray[np.int64]
    box: tuple[float, float, float, float]
    colour_33: npt.NDArray[np.float64]
    contrast: float = 1.0
    brightness: float = 1.0


def plan_pair(seed: int, epoch: int, clip: int, cached_frames: int, frames: int, config: ViewsConfig) -> tuple[ViewPlan, ViewPlan]:
    """The two views of clip number ``clip`` in an epoch; the same arguments always give the same plans."""
    one, two = (_plan(np.random.default_rng([seed, epoch, clip, view]), cached_frames, frames, config) for view in (0, 1))
    return one, two


def _plan(rng: np.random.Generator, cached_frames: int, frames: int, config: ViewsConfig) -> ViewPlan:
    return ViewPlan(_span(rng, cached_frames, frames, config.min_span), _box(rng, config.min_area), *_colour(rng, config))


def _span(rng: np.random.Generator, cached: int, frames: int, min_span: float) -> npt.NDArray[np.int64]:
    """T frames, evenly over a span of the clip that is at least ``min_span`` of it: the centres of T equal parts, as ``Uniform`` has them.

    Spans of different length make motion faster and slower, but never turn it round.
    """
    length = rng.uniform(min_span, 1) * cached
    start = rng.uniform(0, cached - length)
    centres = start + (np.arange(frames) + 0.5) / frames * length
    return np.minimum(centres.astype(np.int64), cached - 1)


def _box(rng: np.random.Generator, min_area: float) -> tuple[float, float, float, float]:
    side = math.sqrt(rng.uniform(min_area, 1))
    left, top = rng.uniform(0, 1 - side, 2)
    return float(left), float(top), float(left + side), float(top + side)


def _colour(rng: np.random.Generator, config: ViewsConfig) -> tuple[npt.NDArray[np.float64], float, float]:
    """Saturation and hue as one linear map, contrast, brightness; each by a random amount up to ``jitter``, or grey."""
    if config.jitter == 0 and config.grey == 0:
        return np.eye(3), 1.0, 1.0
    brightness, contrast, saturation = (1 + rng.uniform(-config.jitter, config.jitter, 3)).tolist()
    angle = rng.uniform(-config.jitter, config.jitter) * math.pi
    grey = rng.random() < config.grey
    luma = np.ones((3, 1)) * _LUMA
    return luma if grey else luma + saturation * (_rotation_about_grey(angle) - luma), contrast, brightness


def _rotation_about_grey(angle: float) -> npt.NDArray[np.float64]:
    """Turns hues by ``angle`` radians about the axis (1, 1, 1); greys stay as they are (Rodrigues' formula)."""
    axis = np.full(3, 3**-0.5)
    cross = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    return np.eye(3) + math.sin(angle) * cross + (1 - math.cos(angle)) * (cross @ cross)


def draw(frames_BFCHW: torch.Tensor, plans: Sequence[ViewPlan], size: int) -> torch.Tensor:
    """The views, (B, T, 3, S, S) float32 in 0..1.

    Args:
        frames_BFCHW: uint8 RGB, one clip per plan; the views are made on its device.
        plans: one per view, all with the same T.
        size: S.
    """
    device = frames_BFCHW.device
    at_BT = torch.from_numpy(np.stack([plan.frames_T for plan in plans])).to(device)
    box_B4 = torch.tensor([plan.box for plan in plans], dtype=torch.float32, device=device)
    colour_B33 = torch.from_numpy(np.stack([plan.colour_33 for plan in plans])).float().to(device)
    contrast_B, brightness_B = torch.tensor([[plan.contrast, plan.brightness] for plan in plans], device=device).T
    clips = torch.arange(len(plans), device=device)[:, None]
    picked = frames_BFCHW[clips, at_BT].float().div_(255)
    views, frames = picked.shape[:2]
    cut = F.grid_sample(picked.flatten(1, 2), _grid(box_B4, size), mode="bilinear", padding_mode="border", align_corners=False)
    cut = cut.unflatten(1, (frames, 3))
    coloured = torch.einsum("bij,btjhw->btihw", colour_B33, cut)
    # About the mean of the view, not a fixed grey: then no contrast can turn a dark clip black or a bright one white all over.
    mean_B = torch.einsum("j,btjhw->b", torch.from_numpy(_LUMA).float().to(device), cut) / (frames * size**2)
    brightness_B = torch.minimum(brightness_B, (_BRIGHTEST / mean_B.clamp(min=1e-6)).clamp(min=1))
    mean, contrast, brightness = (x_B[:, None, None, None, None] for x_B in (mean_B, contrast_B, brightness_B))
    view = brightness * (mean + contrast * (coloured - mean))
    assert view.shape == (views, frames, 3, size, size)
    return view.clamp_(0, 1)


def _grid(box_B4: torch.Tensor, size: int) -> torch.Tensor:
    """Where each pixel of the cut lies in the picture, (B, S, S, 2) as x, y in -1..1."""
    centres = (torch.arange(size, device=box_B4.device) + 0.5) / size
    x = box_B4[:, None, 0] + centres * (box_B4[:, None, 2] - box_B4[:, None, 0])
    y = box_B4[:, None, 1] + centres * (box_B4[:, None, 3] - box_B4[:, None, 1])
    x, y = torch.broadcast_tensors(x[:, None, :], y[:, :, None])
    return 2 * torch.stack([x, y], -1) - 1
