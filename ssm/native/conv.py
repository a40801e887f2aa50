"""The compiled causal convolution as an autograd function.

Legend: as in ``ssm.conv``.
"""

import ctypes
from typing import Any

import torch

from ..order import FORWARD, Order
from . import library
from .tensors import pointer, tokens_of, unit_stride

MAX_TAPS = 8


class _Arguments(ctypes.Structure):
    """``struct Conv`` of scan.cpp, field by field."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in ("batch", "length", "channels", "taps")),
        *((name, ctypes.c_void_p) for name in ("x", "weight", "bias", "tokens", "keep")),
        *((name, ctypes.c_int64) for name in ("x_batch", "x_token")),
        *((name, ctypes.c_int32) for name in ("silu", "threads")),
        *((name, ctypes.c_void_p) for name in ("y", "grad_y", "grad_x", "grad_weight", "grad_bias")),
    )


def unsupported(x: torch.Tensor, weight: torch.Tensor) -> str | None:
    """Why the compiled convolution cannot take these tensors, or None."""
    if x.device.type != "cpu" or x.dtype != torch.float32 or weight.dtype != torch.float32:
        return f"it works on the CPU in float32, not on {x.device.type} in {x.dtype}"
    if weight.shape[1] > MAX_TAPS:
        return f"it has at most {MAX_TAPS} taps, not {weight.shape[1]}"
    return library.why_not()


def conv(
    x_BLD: torch.Tensor, weight_DK: torch.Tensor, bias_D: torch.Tensor | None, keep_BL: torch.Tensor | None, silu: bool, order: Order
) -> torch.Tensor:
    """(B, L, D) in token order; ``keep_BL`` is in walk order."""
    result: torch.Tensor = _NativeConv.apply(x_BLD, weight_DK, bias_D, keep_BL, silu, order)  # type: ignore[no-untyped-call]
    return result


class _NativeConv(torch.autograd.Function):
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
        y = x.new_empty(x.shape)
        _call("vivim_conv_forward", x, weight, bias, keep, silu, order, y=y)
        ctx.save_for_backward(x, weight, bias, keep)
        ctx.options = (silu, order)
        return y

    @staticmethod
    def backward(ctx: Any, grad_y: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, weight, bias, keep = ctx.saved_tensors
        grad_x, grad_weight = x.new_empty(x.shape), weight.new_empty(weight.shape)
        grad_bias = None if bias is None else bias.new_empty(bias.shape)
        grads = {"grad_y": grad_y.contiguous(), "grad_x": grad_x, "grad_weight": grad_weight, "grad_bias": grad_bias}
        _call("vivim_conv_backward", x, weight, bias, keep, *ctx.options, **grads)
        return grad_x, grad_weight, grad_bias, None, None, None


def _call(
    function: str,
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    keep: torch.Tensor | None,
    silu: bool,
    order: Order,
    **outputs: torch.Tensor | None,
) -> None:
    found = library.load()
    assert found is not None
    assert found.vivim_conv_struct_bytes() == ctypes.sizeof(_Arguments)
    batch, length, channels = x.shape
    x, weight = unit_stride(x), weight.contiguous()
    bias = None if bias is None else bias.contiguous()
    tokens = None if order == FORWARD else tokens_of(order, length)
    keep = None if keep is None else keep.to(torch.uint8).contiguous()
    arguments = _Arguments(
        batch=batch,
        length=length,
        channels=channels,
        taps=weight.shape[1],
        x=pointer(x),
        weight=pointer(weight),
        bias=pointer(bias),
        tokens=pointer(tokens),
        keep=pointer(keep),
        x_batch=x.stride(0),
        x_token=x.stride(1),
        silu=silu,
        threads=torch.get_num_threads(),
        **{name: pointer(tensor) for name, tensor in outputs.items()},
    )
    code = getattr(found, function)(ctypes.byref(arguments))
    assert code == 0, code
