"""The per-frame half of the encoder: SegFormer's Mix Transformer (MiT).

Source: Xie et al., "SegFormer" (2021), section 3.1; eq. 1-3 of the Vivim paper.
Legend: F frames (B clips x T), C channels, H height, W width, N = H * W tokens in raster order.
"""

import torch
import torch.nn.functional as F
from torch import nn


class PatchEmbed(nn.Module):
    """Overlapping patches: strided convolution, then layer norm over channels.

    Args:
        channels_in: channels of the input map.
        channels: C.
        kernel: side of a patch.
        stride: distance of patches.
    """

    def __init__(self, channels_in: int, channels: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(channels_in, channels, kernel, stride, kernel // 2)
        self.norm = nn.LayerNorm(channels)

    def forward(self, x_FCHW: torch.Tensor) -> tuple[torch.Tensor, tuple[int, int]]:
        """Tokens (F, N, C) and the size (H, W) of their map."""
        x_FCHW = self.proj(x_FCHW)
        return self.norm(x_FCHW.flatten(2).transpose(1, 2)), (x_FCHW.shape[2], x_FCHW.shape[3])


class EfficientAttention(nn.Module):
    """Self-attention of a frame whose keys and values come from a map reduced ``reduction`` times per side."""

    def __init__(self, channels: int, heads: int, reduction: int) -> None:
        super().__init__()
        self.heads = heads
        self.q = nn.Linear(channels, channels)
        self.k = nn.Linear(channels, channels)
        self.v = nn.Linear(channels, channels)
        self.out = nn.Linear(channels, channels)
        self.sr = nn.Conv2d(channels, channels, reduction, reduction) if reduction > 1 else None
        self.sr_norm = nn.LayerNorm(channels) if reduction > 1 else None

    def forward(self, x_FNC: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        """(F, N, C) -> (F, N, C)."""
        source = x_FNC
        if self.sr is not None and self.sr_norm is not None:
            source = self.sr_norm(self.sr(as_map(x_FNC, size)).flatten(2).transpose(1, 2))
        q, k, v = (
            linear(x).unflatten(2, (self.heads, -1)).transpose(1, 2) for linear, x in ((self.q, x_FNC), (self.k, source), (self.v, source))
        )
        return self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class MixFFN(nn.Module):
    """Feed-forward with a depthwise 3x3 convolution between its layers, which is what knows about position."""

    def __init__(self, channels: int, ratio: int) -> None:
        super().__init__()
        hidden = ratio * channels
        self.fc1 = nn.Linear(channels, hidden)
        self.dwconv = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden)
        self.fc2 = nn.Linear(hidden, channels)

    def forward(self, x_FNC: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        """(F, N, C) -> (F, N, C)."""
        hidden = self.dwconv(as_map(self.fc1(x_FNC), size)).flatten(2).transpose(1, 2)
        return self.fc2(F.gelu(hidden))


class SegFormerLayer(nn.Module):
    """x += attention(norm x); x += mix-ffn(norm x), frame by frame.

    Args:
        channels: C.
        heads: attention heads; head h owns channels h * C / heads on.
        reduction: sr, see ``EfficientAttention``.
        ratio: hidden width of the feed-forward over C.
        eps: of the two layer norms (1e-5 in Hugging Face's SegFormer, 1e-6 in NVlabs').
        drop_path: chance that a frame skips a branch in training.
    """

    def __init__(self, channels: int, heads: int, reduction: int, ratio: int, eps: float, drop_path: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(channels, eps=eps)
        self.attn = EfficientAttention(channels, heads, reduction)
        self.norm2 = nn.LayerNorm(channels, eps=eps)
        self.ffn = MixFFN(channels, ratio)
        self.drop_path = DropPath(drop_path)

    def forward(self, x_FNC: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        """(F, N, C) -> (F, N, C)."""
        x_FNC = x_FNC + self.drop_path(self.attn(self.norm1(x_FNC), size))
        return x_FNC + self.drop_path(self.ffn(self.norm2(x_FNC), size))


class DropPath(nn.Module):
    """Drops whole samples of a residual branch in training and rescales the others (stochastic depth)."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training or self.rate == 0:
            return x
        keep = torch.rand(x.shape[:1] + (1,) * (x.ndim - 1), device=x.device, dtype=x.dtype) >= self.rate
        return x * keep / (1 - self.rate)


def as_map(x_FNC: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Tokens in raster order to a map: (F, N, C) -> (F, C, H, W)."""
    return x_FNC.transpose(1, 2).unflatten(2, size)
