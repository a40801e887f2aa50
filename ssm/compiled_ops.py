"""The compiled scan and convolution as operators that ``torch.compile`` can carry in a graph.

Dynamo cannot look into ctypes, so ``torch.compile(fullgraph=True)`` needs each of them as one opaque operator that knows the
shapes of its results and its own backward. In eager mode they are called directly, which costs a third. This module is
imported while something is compiled and at no other time: importing it imports Dynamo.

Legend: as in ``ssm.scan``.
"""

from collections.abc import Sequence
from typing import Any

import torch

from .native import library
from .native.conv import _NativeConv
from .native.scan import _NativeScan, _Options, library_chunk
from .order import Order, Walk

# Whether there is a library does not change while a process lives, so a graph may take it for a constant.
torch.compiler.assume_constant_result(library.why_not)


class _Context:
    """What autograd would hand to an autograd function, when an operator calls it instead."""

    def __init__(self, wants_gradient: bool, saved: tuple[torch.Tensor | None, ...] = (), options: Any = None) -> None:
        self.needs_input_grad = (wants_gradient,)
        self.saved_tensors = saved
        self.options = options

    def save_for_backward(self, *tensors: torch.Tensor | None) -> None:
        self.saved_tensors = tensors


def scan(
    u: torch.Tensor,
    delta: torch.Tensor,
    A: torch.Tensor,
    B: torch.Tensor,
    C: torch.Tensor,
    D: torch.Tensor | None,
    z: torch.Tensor | None,
    delta_bias: torch.Tensor | None,
    initial_state: torch.Tensor | None,
    keep_BL: torch.Tensor | None,
    softplus: bool,
    order: Order,
) -> tuple[torch.Tensor, torch.Tensor]:
    """``native.scan.scan`` for a graph."""
    wants = torch.is_grad_enabled()
    walk, frames = order.walk.value, order.frames
    y, last, _ = _scan(u, delta, A, B, C, D, z, delta_bias, initial_state, keep_BL, softplus, walk, frames, wants)
    return y, last


def conv(
    x_BLD: torch.Tensor, weight_DK: torch.Tensor, bias_D: torch.Tensor | None, keep_BL: torch.Tensor | None, silu: bool, order: Order
) -> torch.Tensor:
    """``native.conv.conv`` for a graph."""
    y: torch.Tensor = _conv(x_BLD, weight_DK, bias_D, keep_BL, silu, order.walk.value, order.frames)
    return y


@torch.library.custom_op("vivim::scan", mutates_args=())
def _scan(
    u: torch.Tensor,
    delta: torch.Tensor,
    A: torch.Tensor,
    B: torch.Tensor,
    C: torch.Tensor,
    D: torch.Tensor | None,
    z: torch.Tensor | None,
    bias: torch.Tensor | None,
    start: torch.Tensor | None,
    keep: torch.Tensor | None,
    softplus: bool,
    walk: str,
    frames: int,
    wants_gradient: bool,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(y, last state, checkpoints for the backward)."""
    context = _Context(wants_gradient)
    options = _Options(softplus, Order(Walk(walk), frames))
    y, last = _NativeScan.forward(context, u, delta, A, B, C, D, z, bias, start, keep, options)
    checkpoints = context.saved_tensors[-1] if wants_gradient else None
    return y, last, u.new_empty(0) if checkpoints is None else checkpoints


@_scan.register_fake
def _(
    u: torch.Tensor,
    delta: torch.Tensor,
    A: torch.Tensor,
    B: torch.Tensor,
    C: torch.Tensor,
    D: torch.Tensor | None,
    z: torch.Tensor | None,
    bias: torch.Tensor | None,
    start: torch.Tensor | None,
    keep: torch.Tensor | None,
    softplus: bool,
    walk: str,
    frames: int,
    wants_gradient: bool,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    batch, length, channels = u.shape
    chunks = (length + library_chunk() - 1) // library_chunk()
    checkpoints = u.new_empty(batch, chunks, channels, A.shape[1]) if wants_gradient else u.new_empty(0)
    return u.new_empty(u.shape), u.new_empty(batch, channels, A.shape[1]), checkpoints


@torch.library.custom_op("vivim::scan_backward", mutates_args=())
def _scan_backward(
    grad_y: torch.Tensor,
    grad_last: torch.Tensor,
    u: torch.Tensor,
    delta: torch.Tensor,
    A: torch.Tensor,
    B: torch.Tensor,
    C: torch.Tensor,
    D: torch.Tensor | None,
    z: torch.Tensor | None,
    bias: torch.Tensor | None,
    start: torch.Tensor | None,
    keep: torch.Tensor | None,
    checkpoints: torch.Tensor,
    softplus: bool,
    walk: str,
    frames: int,
) -> list[torch.Tensor]:
    """Gradients of u, delta, A, B, C and of those of D, z, bias and start that there are."""
    saved = (u, delta, A, B, C, D, z, bias, start, keep, checkpoints)
    context = _Context(True, saved, _Options(softplus, Order(Walk(walk), frames)))
    return [grad for grad in _NativeScan.backward(context, grad_y, grad_last) if grad is not None]


@_scan_backward.register_fake
def _(
    grad_y: torch.Tensor,
    grad_last: torch.Tensor,
    u: torch.Tensor,
    delta: torch.Tensor,
    A: torch.Tensor,
    B: torch.Tensor,
    C: torch.Tensor,
    D: torch.Tensor | None,
    z: torch.Tensor | None,
    bias: torch.Tensor | None,
    start: torch.Tensor | None,
    keep: torch.Tensor | None,
    checkpoints: torch.Tensor,
    softplus: bool,
    walk: str,
    frames: int,
) -> list[torch.Tensor]:
    return [u.new_empty(x.shape) for x in (u, delta, A, B, C, D, z, bias, start) if x is not None]


def _keep_for_scan(ctx: Any, inputs: tuple[Any, ...], output: tuple[torch.Tensor, ...]) -> None:
    tensors, ctx.options = inputs[:10], inputs[10:13]
    ctx.save_for_backward(*tensors, output[2])


def _back_through_scan(ctx: Any, grad_y: torch.Tensor, grad_last: torch.Tensor, _: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
    saved = ctx.saved_tensors
    grads = _scan_backward(grad_y, grad_last, *saved, *ctx.options)
    return (*_spread(grads, saved[:9]), None, None, None, None, None)


_scan.register_autograd(_back_through_scan, setup_context=_keep_for_scan)


@torch.library.custom_op("vivim::conv", mutates_args=())
def _conv(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, keep: torch.Tensor | None, silu: bool, walk: str, frames: int
) -> torch.Tensor:
    return _NativeConv.forward(_Context(False), x, weight, bias, keep, silu, Order(Walk(walk), frames))


@_conv.register_fake
def _(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, keep: torch.Tensor | None, silu: bool, walk: str, frames: int
) -> torch.Tensor:
    return x.new_empty(x.shape)


@torch.library.custom_op("vivim::conv_backward", mutates_args=())
def _conv_backward(
    grad_y: torch.Tensor,
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    keep: torch.Tensor | None,
    silu: bool,
    walk: str,
    frames: int,
) -> list[torch.Tensor]:
    """Gradients of x, weight and, if there is one, bias."""
    context = _Context(True, (x, weight, bias, keep), (silu, Order(Walk(walk), frames)))
    return [grad for grad in _NativeConv.backward(context, grad_y) if grad is not None]


@_conv_backward.register_fake
def _(
    grad_y: torch.Tensor,
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    keep: torch.Tensor | None,
    silu: bool,
    walk: str,
    frames: int,
) -> list[torch.Tensor]:
    return [tensor.new_empty(tensor.shape) for tensor in (x, weight, bias) if tensor is not None]


def _keep_for_conv(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
    ctx.save_for_backward(*inputs[:4])
    ctx.options = inputs[4:]


def _back_through_conv(ctx: Any, grad_y: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
    grads = _conv_backward(grad_y, *ctx.saved_tensors, *ctx.options)
    return (*_spread(grads, ctx.saved_tensors[:3]), None, None, None, None)


_conv.register_autograd(_back_through_conv, setup_context=_keep_for_conv)


def _spread(grads: Sequence[torch.Tensor], inputs: Sequence[torch.Tensor | None]) -> list[torch.Tensor | None]:
    """None where there was no input: an operator returns tensors only."""
    given = iter(grads)
    return [None if tensor is None else next(given) for tensor in inputs]
