"""The short causal convolution that precedes the scan.

Legend: B batch, L tokens, D channels, K taps.
"""

import torch
import torch.nn.functional as F


def causal_conv1d(
    x_BLD: torch.Tensor,
    weight_DK: torch.Tensor,
    bias_D: torch.Tensor | None = None,
    *,
    seq_idx: torch.Tensor | None = None,
    initial_BKD: torch.Tensor | None = None,
) -> torch.Tensor:
    """Depthwise causal convolution: y_l = bias + sum_k weight_k x_{l-K+1+k}, zeros before the first token.

    Args:
        x_BLD: input.
        weight_DK: taps, oldest first.
        bias_D: added to every token.
        seq_idx: (B, L) integers; taps do not reach across a change of value.
        initial_BKD: the K - 1 inputs before the first token, oldest first; zeros if None.

    Returns:
        (B, L, D).
    """
    taps = weight_DK.shape[1]
    length = x_BLD.shape[1]
    padded = F.pad(x_BLD, (0, 0, taps - 1, 0)) if initial_BKD is None else torch.cat([initial_BKD, x_BLD], 1)
    y = x_BLD * weight_DK[:, -1]
    if bias_D is not None:
        y = y + bias_D
    for back in range(1, taps):
        reached = padded[:, taps - 1 - back : taps - 1 - back + length]
        if seq_idx is not None:
            same = F.pad(seq_idx[:, back:] == seq_idx[:, : length - back], (min(back, length), 0))
            reached = reached * same[..., None]
        y = y + reached * weight_DK[:, taps - 1 - back]
    return y
