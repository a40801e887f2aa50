"""What a set of tensors says of the encoder it belongs to: channels, depths, reductions and widths, from shapes alone.

Two things no shape tells: how many heads an attention has, and the epsilon of its norms.
"""

import re
from collections.abc import Mapping
from dataclasses import replace

import torch

from ..errors import InputError
from .config import PoolingName
from .vivim import SIZES, VivimConfig

_PART = re.compile(r"stages\.([0-3])\.(layers|blocks|temporal)\.(\d+)\..+")


def config_of(
    tensors: Mapping[str, torch.Tensor],
    source: str,
    *,
    pooling: PoolingName = "levels",
    segmentation: bool = False,
    norm_eps: float = 1e-5,
    heads: tuple[int, ...] | None = None,
) -> VivimConfig:
    """The configuration of the encoder that these tensors are of.

    Args:
        tensors: under our names.
        source: what messages call the file.
        pooling, segmentation, norm_eps: as of ``VivimConfig``; not to be read off shapes.
        heads: attention heads per stage. None: those of the named sizes with these channels: 1, 2, 4, 8 for ``nano``, else
            1, 2, 5, 8, which is 32 channels a head for ``b0`` and 64 for ``b1`` to ``b5``.

    Raises:
        InputError: a tensor is missing that tells a width, or the heads cannot be known.
    """

    def width(name: str, axis: int, otherwise: int | None = None) -> int:
        tensor = tensors.get(name)
        if tensor is None and otherwise is not None:
            return otherwise
        if tensor is None or tensor.ndim <= axis:
            found = "is missing" if tensor is None else f"is {tuple(tensor.shape)}"
            raise InputError(f"weights: {source} does not tell its size: {name} (our name) {found}. Export the whole encoder again.")
        return max(1, int(tensor.shape[axis]))  # an empty tensor is refused later, by its name

    channels = tuple(width(f"stages.{stage}.patch_embed.proj.weight", 0) for stage in range(4))
    counted: dict[str, list[set[int]]] = {kind: [set() for _ in range(4)] for kind in ("layers", "blocks", "temporal")}
    for name in tensors:
        if match := _PART.fullmatch(name):
            counted[match[2]][int(match[1])].add(int(match[3]))
    paper = any(counted["blocks"])
    kind = "blocks" if paper else "layers"
    depths = tuple(len(numbers) for numbers in counted[kind])
    heads = heads or _known_heads(channels)
    if heads is None:
        _refuse_odd_channels(tensors, channels, source)
        raise InputError(
            f"weights: {source} has {_listed(channels)} channels, and how many attention heads share them is in no tensor. Load it in "
            "Python and say so: load_weights(source, heads=(1, 2, 5, 8))."
        )
    if len(heads) != 4 or any(count < 1 or channel % count for channel, count in zip(channels, heads, strict=False)):
        raise InputError(
            f"weights: {source} has {_listed(channels)} channels, which {heads} heads cannot share; give four divisors of them."
        )
    mixed = "blocks.0.temporal" if paper else "temporal.0"
    ffn = "blocks.0.temporal.ffn" if paper else "layers.0.ffn"
    found = VivimConfig(
        channels=channels,
        depths=depths,
        mamba_depths=tuple(len(numbers) for numbers in counted["temporal"]),
        heads=heads,
        reductions=tuple(width(f"stages.{stage}.{kind}.0.attn.sr.weight", 2, 1) for stage in range(4)),
        ratio=max(1, width(f"stages.0.{ffn}.fc1.weight", 0) // channels[0]),
        d_state=width(f"stages.0.{mixed}.mixer.A_log", 2, 16),
        pooling=pooling,
        norm_eps=norm_eps,
        layout="paper" if paper else "official",
        segmentation=segmentation,
    )
    found = _with_blocks(found)
    usual = VivimConfig().decoder_width if found.size == "custom" else VivimConfig.of_size(found.size).decoder_width
    return replace(found, decoder_width=width("decoder.linear.0.weight", 0, usual))


def describe(config: VivimConfig) -> str:
    """``b0 (channels 32, 64, 160, 256; SegFormer layers 2, 2, 2, 2)``."""
    layers = "blocks" if config.layout == "paper" else "SegFormer layers"
    return f"{config.size} (channels {_listed(config.channels)}; {layers} {_listed(config.depths)})"


def _with_blocks(config: VivimConfig) -> VivimConfig:
    """Give a per-frame encoder the Temporal Mamba Blocks that its size has."""
    if any(config.mamba_depths) or config.layout == "paper":
        return config if config.layout == "official" else replace(config, mamba_depths=(2, 2, 2, 2))
    for size in SIZES:
        named = VivimConfig.of_size(size)
        if (named.channels, named.depths) == (config.channels, config.depths):
            return replace(config, mamba_depths=named.mamba_depths)
    return replace(config, mamba_depths=(2, 2, 2, 2))


def _refuse_odd_channels(tensors: Mapping[str, torch.Tensor], channels: tuple[int, ...], source: str) -> None:
    """Of channels that no named size has: a single damaged tensor is named, not taken for a size."""
    for stage, count in enumerate(channels):
        name, other = (f"stages.{stage}.patch_embed.{part}.weight" for part in ("proj", "norm"))
        if other in tensors and tensors[other].shape != (count,):
            shapes = f"{name} (our name) is {tuple(tensors[name].shape)}, and {other} {tuple(tensors[other].shape)}"
            raise InputError(f"weights: {source} does not tell its size: {shapes}; these must agree. Export it again.")


def _known_heads(channels: tuple[int, ...]) -> tuple[int, ...] | None:
    named = (VivimConfig.of_size(size) for size in SIZES)
    return next((config.heads for config in named if config.channels == channels), None)


def _listed(numbers: tuple[int, ...]) -> str:
    return ", ".join(map(str, numbers))
