"""What an encoder costs: parameters, multiply-adds (MACs) and memory, by formula, so that b5 costs nothing to ask about.

A MAC is one multiplication and one addition of a convolution or a matrix product. A scan takes 9 operations per token, channel and
state (Gu and Dao, "Mamba", 2023, appendix) and 2 more per token and channel; two operations count as one MAC. Norms, activations
and upsampling are not counted.

Legend: T frames, N tokens of a frame, M keys of a frame, L = T * N, C channels, D = 2 * C inner width, E decoder width.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch

from .load_report import part_of
from .vivim import Vivim, VivimConfig

_WALKS, _TAPS = 3, 4
_FLOAT_BYTES = 4


@dataclass(frozen=True)
class Cost:
    """Of an encoder, and of one clip passing it.

    Attributes:
        parameters: part of the encoder -> numbers to learn; decoder and heads are there only for masks, or for pooling ``unified``.
        macs: kind of work -> MACs for one clip; ``decoder`` is the part that vectors by pooling ``levels`` do not need.
        weights_bytes: memory of the parameters without decoder and heads, float32.
        clip_bytes: memory that one clip needs on its way, float32, without gradients; a rough guide.
        decoder_clip_bytes: the same with the decoder.
    """

    parameters: Mapping[str, int]
    macs: Mapping[str, int]
    weights_bytes: int
    clip_bytes: int
    decoder_clip_bytes: int

    @property
    def encoder_parameters(self) -> int:
        """Without decoder and heads."""
        return sum(count for part, count in self.parameters.items() if not _optional(part))

    @property
    def encoder_macs(self) -> int:
        """Without the decoder."""
        return sum(count for kind, count in self.macs.items() if kind != "decoder")


def cost_of(config: VivimConfig, frames: int, pixels: int) -> Cost:
    """The cost of an encoder with this configuration for clips of ``frames`` square frames, ``pixels`` wide."""
    with torch.device("meta"):
        encoder = Vivim(replace(config, segmentation=True))
    parameters: Counter[str] = Counter()
    for name, parameter in encoder.named_parameters():
        parameters[part_of(name)] += parameter.numel()
    macs: Counter[str] = Counter()
    side, channels_in = pixels, 3
    tokens = []
    for stage, C in enumerate(config.channels):
        kernel, stride = (7, 4) if stage == 0 else (3, 2)
        side = -(-side // stride)
        tokens.append(side * side)
        macs["patch embedding"] += frames * side * side * C * channels_in * kernel**2
        macs.update(_stage_macs(config, stage, frames, side))
        channels_in = C
    E = config.decoder_width
    per_frame = sum(N * C * E for N, C in zip(tokens, config.channels, strict=True))
    macs["decoder"] = frames * (per_frame + tokens[0] * (4 * E * E + E))
    # The first stage has most tokens. Its feed-forwards hold 4 C a token in, as much out, and copies in another layout; measured on
    # a CPU, whole encoders need 17 C (b1, 160 pixels) to 27 C (b0, 224). The decoder holds four maps, what they are concatenated
    # to, and what comes of it.
    clip_bytes = 24 * config.channels[0] * frames * tokens[0] * _FLOAT_BYTES
    decoder_bytes = (10 * E + sum(config.channels)) * frames * tokens[0] * _FLOAT_BYTES
    weights = sum(count for part, count in parameters.items() if not _optional(part))
    return Cost(dict(parameters), dict(macs), weights * _FLOAT_BYTES, clip_bytes, max(clip_bytes, decoder_bytes))


def _stage_macs(config: VivimConfig, stage: int, frames: int, side: int) -> dict[str, int]:
    C, reduction = config.channels[stage], config.reductions[stage]
    D, hidden, states = 2 * C, config.ratio * C, config.d_state
    rank = -(-C // 16)
    N, M = side * side, (side // reduction) ** 2
    L = frames * N
    layers = config.depths[stage] * frames
    blocks = config.depths[stage] if config.layout == "paper" else config.mamba_depths[stage]
    reducing = M * C * C * reduction**2 if reduction > 1 else 0
    return {
        "attention, linear": layers * (2 * (N + M) * C * C + reducing),
        "attention, products": layers * 2 * N * M * C,
        "feed-forward per frame": 0 if config.layout == "paper" else layers * N * hidden * (2 * C + 9),
        "Mamba, linear": blocks * L * (3 * C * D + _WALKS * D * (2 * rank + 2 * states)),
        "Mamba, convolution": blocks * L * _WALKS * D * _TAPS,
        "Mamba, scan": blocks * L * _WALKS * D * (9 * states + 2) // 2,
        "feed-forward over time": blocks * L * hidden * (2 * C + 27),
    }


def _optional(part: str) -> bool:
    return part == "decoder" or part.endswith("head")
