"""Tensor names of the official Vivim code, and the same tensors under ours.

Official layout: scott-yjyang/Vivim, whose per-frame half carries Hugging Face 4.x SegFormer names.
"""

import re
from collections.abc import Mapping

import torch

# (official pattern, ours); the first that matches whole decides.
_RENAMES: tuple[tuple[str, str], ...] = (
    (r"encoder\.downsample_layers\.patch_embeddings\.(\d)\.proj\.(\w+)", r"stages.\1.patch_embed.proj.\2"),
    (r"encoder\.downsample_layers\.patch_embeddings\.(\d)\.layer_norm\.(\w+)", r"stages.\1.patch_embed.norm.\2"),
    (r"encoder\.downsample_layers\.block\.(\d)\.(\d+)\.layer_norm_([12])\.(\w+)", r"stages.\1.layers.\2.norm\3.\4"),
    (r"encoder\.downsample_layers\.block\.(\d)\.(\d+)\.attention\.self\.query\.(\w+)", r"stages.\1.layers.\2.attn.q.\3"),
    (r"encoder\.downsample_layers\.block\.(\d)\.(\d+)\.attention\.self\.key\.(\w+)", r"stages.\1.layers.\2.attn.k.\3"),
    (r"encoder\.downsample_layers\.block\.(\d)\.(\d+)\.attention\.self\.value\.(\w+)", r"stages.\1.layers.\2.attn.v.\3"),
    (r"encoder\.downsample_layers\.block\.(\d)\.(\d+)\.attention\.self\.sr\.(\w+)", r"stages.\1.layers.\2.attn.sr.\3"),
    (r"encoder\.downsample_layers\.block\.(\d)\.(\d+)\.attention\.self\.layer_norm\.(\w+)", r"stages.\1.layers.\2.attn.sr_norm.\3"),
    (r"encoder\.downsample_layers\.block\.(\d)\.(\d+)\.attention\.output\.dense\.(\w+)", r"stages.\1.layers.\2.attn.out.\3"),
    (r"encoder\.downsample_layers\.block\.(\d)\.(\d+)\.mlp\.dense([12])\.(\w+)", r"stages.\1.layers.\2.ffn.fc\3.\4"),
    (r"encoder\.downsample_layers\.block\.(\d)\.(\d+)\.mlp\.dwconv\.dwconv\.(\w+)", r"stages.\1.layers.\2.ffn.dwconv.\3"),
    (r"encoder\.stages\.(\d)\.(\d+)\.0\.norm([12])\.(\w+)", r"stages.\1.temporal.\2.norm\3.\4"),
    (r"encoder\.stages\.(\d)\.(\d+)\.0\.mlp\.(fc[12])\.(\w+)", r"stages.\1.temporal.\2.ffn.\3.\4"),
    (r"encoder\.stages\.(\d)\.(\d+)\.0\.mlp\.dwconv\.dwconv\.(\w+)", r"stages.\1.temporal.\2.ffn.dwconv.\3"),
    (r"encoder\.stages\.(\d)\.(\d+)\.0\.mamba\.(in_proj|out_proj)\.weight", r"stages.\1.temporal.\2.mixer.\3.weight"),
    (r"decoder\.linear_c\.(\d)\.proj\.(\w+)", r"decoder.linear.\1.\2"),
    (r"decoder\.linear_fuse\.weight", r"decoder.fuse.weight"),
    (r"decoder\.batch_norm\.(\w+)", r"decoder.norm.\1"),
    (r"out\.(\w+)", r"mask_head.\1"),
    (r"edgeocr_cls_head\.(\w+)", r"edge_head.\1"),
)

# Our mixer stacks the three directions; official names differ by a suffix: none, _b, _s.
_MIXER = re.compile(r"encoder\.stages\.(\d)\.(\d+)\.0\.mamba\.A_log")
_STACKED = {
    "conv_weight": "conv1d{}.weight",
    "conv_bias": "conv1d{}.bias",
    "x_proj": "x_proj{}.weight",
    "dt_proj": "dt_proj{}.weight",
    "dt_bias": "dt_proj{}.bias",
    "A_log": "A{}_log",
    "D": "D{}",
}
_SUFFIXES = ("", "_b", "_s")


def rename(official: Mapping[str, torch.Tensor]) -> tuple[dict[str, torch.Tensor], list[str]]:
    """Official tensors under our names, and the official names that have no place here.

    The stage layer norms and the 150-class classifier belong to the latter: the official model never applies them.
    """
    ours: dict[str, torch.Tensor] = {}
    used: set[str] = set()
    for name, tensor in official.items():
        for pattern, replacement in _RENAMES:
            match = re.fullmatch(pattern, name)
            if match:
                ours[match.expand(replacement)] = tensor
                used.add(name)
                break
        mixer = _MIXER.fullmatch(name)
        if mixer:
            ours_prefix = f"stages.{mixer[1]}.temporal.{mixer[2]}.mixer."
            official_prefix = name.removesuffix("A_log")
            stacked, names = _stack(official, official_prefix)
            ours.update({ours_prefix + key: value for key, value in stacked.items()})
            used |= names
    return ours, sorted(set(official) - used)


def _stack(official: Mapping[str, torch.Tensor], prefix: str) -> tuple[dict[str, torch.Tensor], set[str]]:
    stacked, names = {}, set()
    for key, pattern in _STACKED.items():
        per_direction = [prefix + pattern.format(suffix) for suffix in _SUFFIXES]
        value = torch.stack([official[n] for n in per_direction])
        stacked[key] = value[:, :, 0] if key == "conv_weight" else value
        names.update(per_direction)
    return stacked, names
