"""The causal convolution on GPUs, in our own Triton kernels, as an autograd function.

Bias and SiLU are fused, tokens are read where they lie, whatever the walk. Legend: as in ``ssm.conv``.
"""

import importlib
from functools import cache
from typing import Any

import torch
from torch.autograd.function import once_differentiable

from .order import FORWARD, Order
from .triton_scan import DTYPES, Walks, unit_stride, why_not

MAX_TAPS = 8
_POSITIONS = 16
_CHANNELS = 64


def unsupported(x: torch.Tensor, weight: torch.Tensor) -> str | None:
    """Why the Triton convolution cannot take these tensors, or None."""
    if x.dtype not in DTYPES:
        return f"it works in {', '.join(str(d).removeprefix('torch.') for d in DTYPES)}, not {str(x.dtype).removeprefix('torch.')}"
    if weight.shape[1] > MAX_TAPS:
        return f"it has at most {MAX_TAPS} taps, not {weight.shape[1]}"
    return why_not(x.device)


def conv(
    x_BLD: torch.Tensor,
    weight_DK: torch.Tensor,
    bias_D: torch.Tensor | None = None,
    keep_BL: torch.Tensor | None = None,
    silu: bool = False,
    order: Order = FORWARD,
) -> torch.Tensor:
    """(B, L, D) in token order, in the dtype of ``x_BLD``; what is summed is float32. ``keep_BL`` is in walk order."""
    if x_BLD.numel() == 0:
        return x_BLD.new_zeros(x_BLD.shape)
    result: torch.Tensor = _TritonConv.apply(x_BLD, weight_DK, bias_D, keep_BL, silu, order)  # type: ignore[no-untyped-call]
    return result


class _TritonConv(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        keep: torch.Tensor | None,
        silu: bool,
        order: Order,
    ) -> torch.Tensor:
        x, y = unit_stride(x), x.new_empty(x.shape)
        keep = None if keep is None else keep.to(torch.uint8).contiguous()
        _launch("conv_forward", x, weight, bias, keep, silu, order, y)
        ctx.save_for_backward(x, weight, bias, keep)
        ctx.options = (silu, order)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_y: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, weight, bias, keep = ctx.saved_tensors
        grad_x = x.new_empty(x.shape)
        parts = x.shape[0] * -(-x.shape[1] // _POSITIONS)
        grad_weight = weight.new_empty(parts, *weight.shape, dtype=torch.float32)
        grad_bias = None if bias is None else bias.new_empty(parts, len(bias), dtype=torch.float32)
        _launch("conv_backward", x, weight, bias, keep, *ctx.options, grad_y.contiguous(), grad_x, grad_weight, grad_bias)
        sums = (grad_weight.sum(0).to(weight.dtype), None if bias is None or grad_bias is None else grad_bias.sum(0).to(bias.dtype))
        return grad_x, *sums, None, None, None


def _launch(
    name: str,
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    keep: torch.Tensor | None,
    silu: bool,
    order: Order,
    *rest: torch.Tensor | None,
) -> None:
    batch, length, channels = x.shape
    walks = Walks.of((order,), length, 1)
    grid = (batch * -(-length // _POSITIONS), -(-channels // _CHANNELS))
    with torch.cuda.device_of(x):
        getattr(_kernels(), name)[grid](
            *(x, weight.contiguous(), bias, keep, *rest),
            *(length, channels, walks.frames, walks.time_groups, walks.reverse_groups, *x.stride()[:2]),
            SILU=silu,
            K=weight.shape[1],
            W=_POSITIONS,
            T=_CHANNELS,
            num_warps=4,
        )


@cache
def _kernels() -> Any:
    return importlib.import_module(".conv_kernels", __package__)
