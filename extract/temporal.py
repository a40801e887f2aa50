"""The across-time half of the encoder: Vivim's Temporal Mamba Block.

Source: Yang et al., "Vivim" (2024), eq. 4 (ST-Mamba), eq. 5 (detail-specific feed-forward), eq. 9 (three scans); where text and
official code differ, this is the code (docs/extract.md has the table).
Legend: B clips, T frames, N = H * W tokens of a frame, L = T * N tokens frame after frame, C channels.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import nn

from ..ssm import VIDEO, MambaBlock
from .mit import DropPath, EfficientAttention


class DetailFFN(nn.Module):
    """Detail-specific feed-forward: linear, depthwise 3x3x3 convolution over (T, H, W), GELU, linear."""

    def __init__(self, channels: int, ratio: int) -> None:
        super().__init__()
        hidden = ratio * channels
        self.fc1 = nn.Linear(channels, hidden)
        self.dwconv = nn.Conv3d(hidden, hidden, 3, padding=1, groups=hidden)
        self.fc2 = nn.Linear(hidden, channels)

    def forward(self, x_BLC: torch.Tensor, size: tuple[int, int, int]) -> torch.Tensor:
        """(B, L, C) -> (B, L, C); ``size`` is (T, H, W)."""
        hidden_BCL = self.fc1(x_BLC).transpose(1, 2)
        # Tokens are a channels-last map already, but a 3-D convolution takes them so only if its weight says the same; else it
        # copies in and out and, on a CPU, runs a kernel several times slower. On a GPU the copies are worth it: cuDNN's channels-last
        # kernel takes 10 times as long, and 20 times for the gradients in bfloat16 (H200, 16 clips of stage 1).
        on_cpu = self.dwconv.weight.device.type == "cpu"
        layout = torch.channels_last_3d if on_cpu else torch.contiguous_format
        weight = self.dwconv.weight.to(memory_format=layout)
        hidden_BCTHW = hidden_BCL.unflatten(2, size).contiguous(memory_format=layout)
        # Under a CPU's autocast torch's gradient of this weight reads memory that nobody has written (2.13, oneDNN, bfloat16,
        # channels-last, depthwise, 3-D); in float32 it does not.
        exact = weight.requires_grad and torch.is_grad_enabled() and on_cpu
        with torch.autocast(weight.device.type, enabled=torch.is_autocast_enabled(weight.device.type) and not exact):
            hidden_BCTHW = hidden_BCTHW.to(weight.dtype) if exact else hidden_BCTHW
            hidden_BCTHW = F.conv3d(hidden_BCTHW, weight, self.dwconv.bias, padding=1, groups=len(weight))
        return self.fc2(F.gelu(hidden_BCTHW.flatten(2).transpose(1, 2)))


class TemporalMambaBlock(nn.Module):
    """x += ST-Mamba(norm x); x += DSF(norm x), over all tokens of a clip.

    Args:
        channels: C.
        d_state: state per channel of the scans.
        ratio: hidden width of the feed-forward over C.
        init: see ``MambaBlock`` and ``reset_parameters``.
    """

    def __init__(self, channels: int, d_state: int, ratio: int, init: Literal["mamba", "vivim"]) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(channels)
        self.mixer = MambaBlock(channels, d_state=d_state, directions=VIDEO, init=init)
        self.norm2 = nn.LayerNorm(channels)
        self.ffn = DetailFFN(channels, ratio)
        self.reset_parameters(init)

    @torch.no_grad()
    def reset_parameters(self, init: Literal["mamba", "vivim"]) -> None:
        """Fresh mixer and feed-forward.

        ``mamba`` draws the feed-forward's linears at the scale of their fan-in: at standard deviation .02 their branch is so small and
        so nearly linear that an untrained block does not see motion (demo world, linear probe of five motions: .16 against .68).
        ``vivim`` draws them at .02, as the official code does.
        """
        self.mixer.reset_parameters(init)
        for linear in (self.ffn.fc1, self.ffn.fc2):
            nn.init.trunc_normal_(linear.weight, std=0.02 if init == "vivim" else linear.in_features**-0.5)
            nn.init.zeros_(linear.bias)

    def forward(self, x_BLC: torch.Tensor, size: tuple[int, int, int]) -> torch.Tensor:
        """(B, L, C) -> (B, L, C); ``size`` is (T, H, W)."""
        x_BLC = x_BLC + self.mixer(self.norm1(x_BLC), frames=size[0])
        return x_BLC + self.ffn(self.norm2(x_BLC), size)


class PaperBlock(nn.Module):
    """The Temporal Mamba Block as the paper's text has it: attention within each frame (eq. 3), ST-Mamba (eq. 4), DSF (eq. 5).

    Args:
        channels: C.
        heads: attention heads.
        reduction: sr, see ``EfficientAttention``.
        eps: of the attention's layer norm.
        drop_path: chance that a frame skips the attention in training.
        d_state, ratio, init: see ``TemporalMambaBlock``.
    """

    def __init__(
        self,
        channels: int,
        heads: int,
        reduction: int,
        eps: float,
        drop_path: float,
        d_state: int,
        ratio: int,
        init: Literal["mamba", "vivim"],
    ) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels, eps=eps)
        self.attn = EfficientAttention(channels, heads, reduction)
        self.drop_path = DropPath(drop_path)
        self.temporal = TemporalMambaBlock(channels, d_state, ratio, init)

    def forward(self, x_FNC: torch.Tensor, frames: int, size: tuple[int, int]) -> torch.Tensor:
        """(F, N, C) -> (F, N, C); ``size`` is (H, W)."""
        x_FNC = x_FNC + self.drop_path(self.attn(self.norm(x_FNC), size))
        x_BLC = x_FNC.unflatten(0, (-1, frames)).flatten(1, 2)
        return self.temporal(x_BLC, (frames, *size)).unflatten(1, (frames, -1)).flatten(0, 1)
