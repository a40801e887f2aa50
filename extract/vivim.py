"""Vivim: the video encoder, a clip in, four feature levels or one vector out.

Four stages; each embeds overlapping patches, runs SegFormer layers on every frame, then Temporal Mamba Blocks over the whole
clip. The output of stage i is both feature level Fi and the input of stage i + 1. A decoder turns levels into masks.
Source: Yang et al., "Vivim: a Video Vision Mamba" (2024), and its published code, which decides where they differ.

Legend: B clips, T frames, C channels, H and W size of the picture, D width of the embedding.
"""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import torch
import torch.nn.functional as F
from torch import nn

from ..ssm import MambaBlock
from .config import PoolingName
from .decoder import Decoder, Levels
from .load_report import LoadReport
from .mit import DropPath, PatchEmbed, SegFormerLayer, as_map
from .pooling import FramesPooling, LevelsPooling, Pooling, UnifiedPooling
from .temporal import PaperBlock, TemporalMambaBlock

# ImageNet statistics, which every published MiT weight expects.
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)

Size = Literal["nano", "b0", "b1", "b2", "b3", "b4", "b5"]
SIZES: tuple[Size, ...] = get_args(Size)

_B0 = (32, 64, 160, 256)
_B1_UP = (64, 128, 320, 512)
_SIZES: dict[Size, tuple[tuple[int, ...], tuple[int, ...], int]] = {
    # channels, SegFormer layers per stage, decoder width
    "nano": ((16, 32, 64, 128), (1, 1, 1, 1), 64),
    "b0": (_B0, (2, 2, 2, 2), 256),
    "b1": (_B1_UP, (2, 2, 2, 2), 256),
    "b2": (_B1_UP, (3, 4, 6, 3), 768),
    "b3": (_B1_UP, (3, 4, 18, 3), 768),
    "b4": (_B1_UP, (3, 8, 27, 3), 768),
    "b5": (_B1_UP, (3, 6, 40, 3), 768),
}


@dataclass(frozen=True)
class VivimConfig:
    """Everything that decides the shapes and the arithmetic of a ``Vivim``.

    Attributes:
        channels: C of the four stages.
        depths: SegFormer layers of the four stages; in the ``paper`` layout its blocks.
        mamba_depths: Temporal Mamba Blocks of the four stages; the ``paper`` layout has one in every block.
        heads: attention heads per stage.
        reductions: sr of the attention per stage.
        ratio: hidden width of the feed-forwards over C.
        d_state: state per channel of the scans.
        decoder_width: E of the decoder.
        pooling: how levels become one vector.
        norm_eps: of the norms inside SegFormer layers.
        drop_path: largest chance that a frame skips a branch in training; grows linearly over the layers.
        init: initialisation of the Temporal Mamba Blocks, see ``MambaBlock``.
        layout: ``official`` (all SegFormer layers of a stage, then its Temporal Mamba Blocks, as the published code) or ``paper``
            (attention, ST-Mamba and DSF in every block, as the paper's text).
        segmentation: has mask and edge heads, see ``Vivim.segment``.
    """

    channels: tuple[int, ...] = _B0
    depths: tuple[int, ...] = (2, 2, 2, 2)
    mamba_depths: tuple[int, ...] = (2, 2, 2, 2)
    heads: tuple[int, ...] = (1, 2, 5, 8)
    reductions: tuple[int, ...] = (8, 4, 2, 1)
    ratio: int = 4
    d_state: int = 16
    decoder_width: int = 256
    pooling: PoolingName = "levels"
    norm_eps: float = 1e-5
    drop_path: float = 0.1
    init: Literal["mamba", "vivim"] = "mamba"
    layout: Literal["official", "paper"] = "official"
    segmentation: bool = False

    def __post_init__(self) -> None:
        per_stage = (self.channels, self.depths, self.mamba_depths, self.heads, self.reductions)
        if any(len(x) != 4 for x in per_stage):
            raise ValueError(f"Vivim has four stages; give four values each, not {[len(x) for x in per_stage]}")
        if any(c % h for c, h in zip(self.channels, self.heads, strict=True)):
            raise ValueError(f"channels {self.channels} must divide by heads {self.heads}, stage by stage")

    @staticmethod
    def of_size(size: Size, pooling: PoolingName = "levels") -> "VivimConfig":
        """The named size: ``nano`` for tests and the demo, ``b0``..``b5`` after SegFormer's MiT (Vivim itself is b3)."""
        channels, depths, width = _SIZES[size]
        small = size == "nano"
        return VivimConfig(
            channels=channels,
            depths=depths,
            mamba_depths=(1, 1, 1, 1) if small else (2, 2, 2, 2),
            heads=(1, 2, 4, 8) if small else (1, 2, 5, 8),
            decoder_width=width,
            pooling=pooling,
        )

    @property
    def size(self) -> Size | Literal["custom"]:
        """The name of the size with these channels and depths, or ``custom``."""
        for size in SIZES:
            named = VivimConfig.of_size(size)
            depths = (named.depths, self.mamba_depths if self.layout == "paper" else named.mamba_depths)
            if (self.channels, self.depths, self.mamba_depths) == (named.channels, *depths):
                return size
        return "custom"


def _patch_embed(config: VivimConfig, stage: int) -> PatchEmbed:
    channels_in = 3 if stage == 0 else config.channels[stage - 1]
    return PatchEmbed(channels_in, config.channels[stage], *((7, 4) if stage == 0 else (3, 2)))


class OfficialStage(nn.Module):
    """Patch embedding, SegFormer layers per frame, Temporal Mamba Blocks over the clip."""

    def __init__(self, config: VivimConfig, stage: int, drop_paths: list[float]) -> None:
        super().__init__()
        channels = config.channels[stage]
        self.patch_embed = _patch_embed(config, stage)
        self.layers = nn.ModuleList(
            SegFormerLayer(channels, config.heads[stage], config.reductions[stage], config.ratio, config.norm_eps, p) for p in drop_paths
        )
        self.temporal = nn.ModuleList(
            TemporalMambaBlock(channels, config.d_state, config.ratio, config.init) for _ in range(config.mamba_depths[stage])
        )

    def forward(self, x_FCHW: torch.Tensor, frames: int) -> torch.Tensor:
        """(B*T, Cin, h, w) -> (B*T, C, H, W)."""
        x_FNC, size = self.patch_embed(x_FCHW)
        for layer in self.layers:
            x_FNC = layer(x_FNC, size)
        x_BLC = x_FNC.unflatten(0, (-1, frames)).flatten(1, 2)
        for block in self.temporal:
            x_BLC = block(x_BLC, (frames, *size))
        return as_map(x_BLC.unflatten(1, (frames, -1)).flatten(0, 1), size)


class PaperStage(nn.Module):
    """Patch embedding, then blocks of attention per frame, ST-Mamba and DSF over the clip."""

    def __init__(self, config: VivimConfig, stage: int, drop_paths: list[float]) -> None:
        super().__init__()
        channels = config.channels[stage]
        self.patch_embed = _patch_embed(config, stage)
        attention = (config.heads[stage], config.reductions[stage], config.norm_eps)
        self.blocks = nn.ModuleList(PaperBlock(channels, *attention, p, config.d_state, config.ratio, config.init) for p in drop_paths)

    def forward(self, x_FCHW: torch.Tensor, frames: int) -> torch.Tensor:
        """(B*T, Cin, h, w) -> (B*T, C, H, W)."""
        x_FNC, size = self.patch_embed(x_FCHW)
        for block in self.blocks:
            x_FNC = block(x_FNC, frames, size)
        return as_map(x_FNC, size)


_STAGES: dict[str, type[OfficialStage] | type[PaperStage]] = {"official": OfficialStage, "paper": PaperStage}


@contextmanager
def _whole_float32() -> Iterator[None]:
    """Convolutions on a GPU without TF32, which torch allows: a vector would be off by 2e-4 of its length, without it by 2e-7 (H200)."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


class SegmentLogits(NamedTuple):
    """What ``Vivim.segment`` sees, before the sigmoid.

    Attributes:
        mask_BTHW: the object.
        edge_BTHW: its edge.
    """

    mask_BTHW: torch.Tensor
    edge_BTHW: torch.Tensor


class Vivim(nn.Module):
    """The encoder.

    Args:
        config: see ``VivimConfig``.
    """

    load_report: LoadReport  # set by ``weights``
    training_options: dict[str, float]  # set by who trains it along with something else
    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, config: VivimConfig) -> None:
        super().__init__()
        self.config = config
        total = sum(config.depths)
        rates = [config.drop_path * layer / max(total - 1, 1) for layer in range(total)]
        starts = [sum(config.depths[:i]) for i in range(4)]
        stage = _STAGES[config.layout]
        self.stages = nn.ModuleList(stage(config, i, rates[starts[i] : starts[i] + config.depths[i]]) for i in range(4))
        self.decoder = Decoder(config.channels, config.decoder_width) if config.segmentation or config.pooling == "unified" else None
        self.pooling: Pooling = FramesPooling(config.channels) if config.pooling == "frames" else LevelsPooling(config.channels)
        if config.pooling == "unified":
            assert self.decoder is not None
            self.pooling = UnifiedPooling(self.decoder)
        self.mask_head = nn.Conv2d(config.decoder_width, 1, 1) if config.segmentation else None
        self.edge_head = nn.Conv2d(config.channels[0], 1, 1) if config.segmentation else None
        self.register_buffer("mean", torch.tensor(MEAN)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(STD)[:, None, None], persistent=False)
        self.apply(_init_weights)
        # Temporal Mamba Blocks have an initialisation of their own, which the general rule above must not overwrite.
        for module in self.modules():
            if isinstance(module, TemporalMambaBlock):
                module.reset_parameters(config.init)

    @classmethod
    def empty(cls, config: VivimConfig) -> "Vivim":
        """In evaluation mode, with arbitrary values: for weights that are about to be loaded, as drawing b5's takes many seconds."""
        with torch.device("meta"):
            encoder = cls(config).eval()
        encoder.to_empty(device="cpu")
        encoder.mean.copy_(torch.tensor(MEAN)[:, None, None])
        encoder.std.copy_(torch.tensor(STD)[:, None, None])
        return encoder

    @torch.no_grad()
    def draw(self, names: Collection[str]) -> None:
        """Fresh values, by the rules of ``__init__``, for the modules all of whose tensors are in ``names``."""
        for path, module in self.named_modules():
            own = [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]
            if own and all(f"{path}.{name}" in names for name, _ in own) and not isinstance(module, MambaBlock):
                module.reset_parameters()
                _init_weights(module)
        for path, module in self.named_modules():
            if isinstance(module, TemporalMambaBlock) and f"{path}.mixer.D" in names:
                module.reset_parameters(self.config.init)

    def set_drop_path(self, largest: float) -> None:
        """Another ``VivimConfig.drop_path``."""
        drops = [module for module in self.modules() if isinstance(module, DropPath)]  # one in each layer, in their order
        for layer, drop in enumerate(drops):
            drop.rate = largest * layer / max(len(drops) - 1, 1)

    @property
    def dim(self) -> int:
        """D, the width of ``embed``'s vectors."""
        return self.pooling.dim

    @property
    def device(self) -> torch.device:
        return self.mean.device

    def forward_features(self, clip_BTCHW: torch.Tensor, frozen_stages: int = 0) -> Levels:
        """Feature levels F1..F4, each (B*T, Ci, H / 4 / 2^i, W / 4 / 2^i) rounded up.

        Args:
            clip_BTCHW: normalised RGB; any T, H and W of at least 32.
            frozen_stages: no gradient is taken through the first so many.

        Raises:
            ValueError: a shape the encoder cannot take.
        """
        if clip_BTCHW.ndim != 5 or clip_BTCHW.shape[2] != 3:
            raise ValueError(f"a clip is (B, T, 3, H, W), not {tuple(clip_BTCHW.shape)}")
        if min(clip_BTCHW.shape[3:]) < 32:
            raise ValueError(f"frames must be at least 32 x 32 pixels, not {clip_BTCHW.shape[3]} x {clip_BTCHW.shape[4]}; resize them")
        frames = clip_BTCHW.shape[1]
        x = clip_BTCHW.flatten(0, 1)
        levels = []
        for number, stage in enumerate(self.stages):
            with torch.set_grad_enabled(torch.is_grad_enabled() and number >= frozen_stages):
                x = stage(x, frames)
            levels.append(x)
        return levels[0], levels[1], levels[2], levels[3]

    def embed(self, clip_BTCHW: torch.Tensor, frozen_stages: int = 0) -> torch.Tensor:
        """One vector per clip, (B, D); input as ``forward_features``."""
        return self.pooling(self.forward_features(clip_BTCHW, frozen_stages), len(clip_BTCHW))

    def segment(self, clip_BTCHW: torch.Tensor) -> SegmentLogits:
        """Where the object and its edge are, at the size of the frames; input as ``forward_features``.

        Eq. 7-8 of the paper in the order of the published code: heads at a quarter of the size, then bilinear upsampling of logits.

        Raises:
            ValueError: the encoder was made without heads, or a shape it cannot take.
        """
        if self.decoder is None or self.mask_head is None or self.edge_head is None:
            raise ValueError("this encoder has no heads for masks; make it with VivimConfig(segmentation=True)")
        levels = self.forward_features(clip_BTCHW)
        lowres = self.mask_head(self.decoder(levels)), self.edge_head(levels[0])
        mask, edge = (F.interpolate(x, clip_BTCHW.shape[3:], mode="bilinear", align_corners=False) for x in lowres)
        clips = clip_BTCHW.shape[:2]
        return SegmentLogits(mask[:, 0].unflatten(0, clips), edge[:, 0].unflatten(0, clips))

    @_whole_float32()
    def embed_uint8(self, frames_BTCHW: torch.Tensor, frozen_stages: int = 0) -> torch.Tensor:
        """One vector per clip, (B, D) float32, from uint8 RGB; moved to the encoder's device and normalised there."""
        frames = frames_BTCHW.to(self.device, non_blocking=True).float().div_(255)
        return self.embed((frames - self.mean) / self.std, frozen_stages).float()


def _init_weights(module: nn.Module) -> None:
    """SegFormer's rule: linears truncated-normal .02, convolutions normal by fan-out, biases zero."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Conv2d | nn.Conv3d):
        fan_out = module.out_channels * module.weight[0, 0].numel() // module.groups
        nn.init.normal_(module.weight, std=(2.0 / fan_out) ** 0.5)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
