"""The short causal convolution that precedes the scan.

Legend: B batch, L tokens, D channels, K taps.
"""

import torch
import torch.nn.functional as F

from . import triton_conv
from .inputs import starts_kept
from .native import conv as native
from .order import FORWARD, Order
from .scan import Backend


def causal_conv1d(
    x_BLD: torch.Tensor,
    weight_DK: torch.Tensor,
    bias_D: torch.Tensor | None = None,
    *,
    silu: bool = False,
    order: Order = FORWARD,
    seq_idx: torch.Tensor | None = None,
    backend: Backend = Backend.AUTO,
) -> torch.Tensor:
    """Depthwise causal convolution along a walk: y_p = bias + sum_k weight_k x_{p-K+1+k}, zeros before the first token.

    Args:
        x_BLD: input.
        weight_DK: taps, oldest first.
        bias_D: added to every token.
        silu: apply SiLU to the result.
        order: in which order the tokens follow each other; input and output are in token order.
        seq_idx: (B, L) integers; taps do not reach across a change of value.
        backend: ``REFERENCE`` and ``TORCH`` both mean plain torch here.

    Returns:
        (B, L, D).
    """
    keep_BL = None if seq_idx is None else starts_kept(seq_idx, (order,))
    native_conv = native.conv
    if torch.compiler.is_compiling():
        from . import compiled_ops  # imports Dynamo, so only where something is being compiled

        native_conv = compiled_ops.conv
    if backend in (Backend.AUTO, Backend.NATIVE) and native.unsupported(x_BLD, weight_DK) is None:
        return native_conv(x_BLD, weight_DK, bias_D, keep_BL, silu, order)
    if _in_triton(backend, x_BLD, weight_DK):
        return triton_conv.conv(x_BLD, weight_DK, bias_D, keep_BL, silu, order)
    y = order.undo(_in_torch(order.apply(x_BLD), weight_DK, bias_D, keep_BL))
    return F.silu(y) if silu else y


def _in_triton(backend: Backend, x_BLD: torch.Tensor, weight_DK: torch.Tensor) -> bool:
    wanted = backend is Backend.TRITON or (backend is Backend.AUTO and x_BLD.device.type == "cuda" and not torch.compiler.is_compiling())
    return wanted and triton_conv.unsupported(x_BLD, weight_DK) is None


def _in_torch(x_BLD: torch.Tensor, weight_DK: torch.Tensor, bias_D: torch.Tensor | None, keep_BL: torch.Tensor | None) -> torch.Tensor:
    taps, length = weight_DK.shape[1], x_BLD.shape[1]
    y = x_BLD * weight_DK[:, -1]
    if bias_D is not None:
        y = y + bias_D
    # Number of the sequence that a position belongs to; taps stay inside it.
    sequence_BL = None if keep_BL is None else (~keep_BL.bool()).cumsum(1)
    for back in range(1, min(taps, length)):
        reached = F.pad(x_BLD[:, : length - back], (0, 0, back, 0))
        if sequence_BL is not None:
            same = F.pad(sequence_BL[:, back:] == sequence_BL[:, : length - back], (back, 0))
            reached = reached * same[..., None]
        y = y + reached * weight_DK[:, taps - 1 - back]
    return y


def conv_step(
    x_BD: torch.Tensor, before_BKD: torch.Tensor, taps_KD: torch.Tensor, bias_D: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """One more token: (its output (B, D), the K - 1 newest inputs (B, K - 1, D)).

    Args:
        x_BD: the token.
        before_BKD: the K - 1 inputs before it, oldest first.
        taps_KD: of the convolution, oldest first.
        bias_D: added.
    """
    window_BKD = torch.cat([before_BKD, x_BD[:, None]], 1)
    return (window_BKD * taps_KD).sum(1) + bias_D, window_BKD[:, 1:]
