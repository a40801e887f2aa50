"""The compiled scan and convolution as operators that ``torch.compile`` can carry in a graph.

Dynamo cannot look into ctypes, so ``torch.compile(fullgraph=True)`` needs each of them as one opaque operator that knows the
shapes of its results and its own backward. In eager mode they are called directly, which costs a third. This module is
imported while something is compiled and at no other time: importing it imports Dynamo.

Legend: as in ``ssm.scan``.
"""

from collections.abc import Sequence
from typing import Any

import torch

from .inputs import ScanInputs
from .native import library
from .native.conv import _NativeConv
from .native.scan import _forward, _NativeScan, checkpoint_floats
from .order import Order, Walk

# Whether there is a library does not change while a process lives, so a graph may take it for a constant.
torch.compiler.assume_constant_result(library.why_not)


class _Context:
    """What autograd would hand to an autograd function, when an operator calls it instead."""

    def __init__(self, **attributes: Any) -> None:
        self.saved_tensors: tuple[torch.Tensor | None, ...] = ()
        self.__dict__.update(attributes)

    def save_for_backward(self, *tensors: torch.Tensor | None) -> None:
        self.saved_tensors = tensors


# An operator takes tensors, numbers and lists of numbers: an order is the place of its walk among all, and its frames.
_INPUTS = (
    "Tensor u, Tensor delta, Tensor A, Tensor B, Tensor C, Tensor? D, Tensor? z, Tensor? delta_bias, Tensor? initial_state, "
    "Tensor? keep, bool softplus, int[] orders"
)


def _packed(x: ScanInputs) -> tuple[Any, ...]:
    return (*x[:11], [number for order in x.orders for number in (list(Walk).index(order.walk), order.frames)])


def _unpacked(*arguments: Any) -> ScanInputs:
    *rest, numbers = arguments
    orders = (Order(list(Walk)[walk], frames) for walk, frames in zip(numbers[::2], numbers[1::2], strict=True))
    return ScanInputs._make([*rest, tuple(orders)])


def scan(x: ScanInputs, wants_last: bool = True) -> tuple[torch.Tensor, torch.Tensor]:
    """``native.scan.scan`` for a graph, which always has the last state: an operator's results are fixed."""
    y, last, _ = _scan(torch.is_grad_enabled(), *_packed(x))
    return y, last


def conv(
    x_BLD: torch.Tensor, weight_DK: torch.Tensor, bias_D: torch.Tensor | None, keep_BL: torch.Tensor | None, silu: bool, order: Order
) -> torch.Tensor:
    """``native.conv.conv`` for a graph."""
    y: torch.Tensor = _conv(x_BLD, weight_DK, bias_D, keep_BL, silu, order.walk.value, order.frames)
    return y


@torch.library.custom_op("vivim::scan", mutates_args=(), schema=f"(bool wants_gradient, {_INPUTS}) -> (Tensor, Tensor, Tensor)")
def _scan(wants_gradient: bool, *arguments: Any) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(y, last state, checkpoints for the backward)."""
    x = _unpacked(*arguments)
    y, last, checkpoints = _forward(x, True, wants_gradient)
    assert last is not None
    return y, last, x.u.new_empty(0) if checkpoints is None else checkpoints


@_scan.register_fake
def _(wants_gradient: bool, *arguments: Any) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    x = _unpacked(*arguments)
    checkpoints = x.u.new_empty(checkpoint_floats(x) if wants_gradient else 0)
    return x.u.new_empty(x.u.shape), x.u.new_empty(x.u.shape[0], *x.A.shape), checkpoints


@torch.library.custom_op(
    "vivim::scan_backward", mutates_args=(), schema=f"(Tensor grad_y, Tensor grad_last, Tensor checkpoints, {_INPUTS}) -> Tensor[]"
)
def _scan_backward(grad_y: torch.Tensor, grad_last: torch.Tensor, checkpoints: torch.Tensor, *arguments: Any) -> list[torch.Tensor]:
    """Gradients of u, delta, A, B, C and of those of D, z, delta_bias and initial_state that there are."""
    x = _unpacked(*arguments)
    context = _Context(saved_tensors=(*x[:10], checkpoints), rest=x[10:])
    return [grad for grad in _NativeScan.backward(context, grad_y, grad_last) if grad is not None]


@_scan_backward.register_fake
def _(grad_y: torch.Tensor, grad_last: torch.Tensor, checkpoints: torch.Tensor, *arguments: Any) -> list[torch.Tensor]:
    return [x.new_empty(x.shape) for x in _unpacked(*arguments).differentiable if x is not None]


def _keep_for_scan(ctx: Any, inputs: tuple[Any, ...], output: tuple[torch.Tensor, ...]) -> None:
    ctx.rest = inputs[11:]
    ctx.save_for_backward(*inputs[1:11], output[2])


def _back_through_scan(ctx: Any, grad_y: torch.Tensor, grad_last: torch.Tensor, _: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
    *tensors, checkpoints = ctx.saved_tensors
    grads = _scan_backward(grad_y, grad_last, checkpoints, *tensors, *ctx.rest)
    return (None, *_spread(grads, tensors[:9]), None, None, None)


_scan.register_autograd(_back_through_scan, setup_context=_keep_for_scan)


@torch.library.custom_op("vivim::conv", mutates_args=())
def _conv(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, keep: torch.Tensor | None, silu: bool, walk: str, frames: int
) -> torch.Tensor:
    return _NativeConv.forward(_Context(), x, weight, bias, keep, silu, Order(Walk(walk), frames))


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
    context = _Context(saved_tensors=(x, weight, bias, keep), options=(silu, Order(Walk(walk), frames)))
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
