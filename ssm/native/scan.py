"""The compiled scan as an autograd function.

Legend: as in ``ssm.scan``.
"""

import ctypes
from dataclasses import dataclass
from typing import Any

import torch

from ..order import FORWARD, Order
from . import library
from .tensors import pointer, tokens_of, unit_stride


class _Arguments(ctypes.Structure):
    """``struct Scan`` of scan.cpp, field by field."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in ("batch", "length", "channels", "states", "groups")),
        *((name, ctypes.c_void_p) for name in ("u", "delta", "A", "B", "C", "skip", "z", "bias", "start", "tokens", "keep")),
        *((name, ctypes.c_int64) for name in ("u_batch", "u_token", "delta_batch", "delta_token", "B_batch", "B_token", "B_group")),
        *((name, ctypes.c_int64) for name in ("C_batch", "C_token", "C_group", "z_batch", "z_token")),
        *((name, ctypes.c_int32) for name in ("softplus", "threads")),
        *((name, ctypes.c_void_p) for name in ("y", "last", "checkpoints", "grad_y", "grad_last")),
        *((name, ctypes.c_void_p) for name in ("grad_u", "grad_delta", "grad_z", "grad_A", "grad_skip", "grad_bias", "grad_start")),
        *((name, ctypes.c_void_p) for name in ("grad_B", "grad_C")),
    )


@dataclass(frozen=True)
class _Options:
    """What is not a tensor."""

    softplus: bool
    order: Order


def unsupported(u: torch.Tensor, A: torch.Tensor) -> str | None:
    """Why the compiled scan cannot take these tensors, or None."""
    if u.device.type != "cpu":
        return f"it works on the CPU, not on {u.device.type}"
    if u.dtype != torch.float32:
        return f"it works in float32, not {u.dtype}"
    if A.shape[1] > 64:
        return f"it holds at most 64 states per channel, not {A.shape[1]}"
    return library.why_not()


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
    """(y (B, L, D), last state (B, D, N)); arguments as ``selective_scan``, with B and C (B, L, G, N) and ``keep_BL`` in walk order."""
    options = _Options(softplus, order)
    y, last = _NativeScan.apply(u, delta, A, B, C, D, z, delta_bias, initial_state, keep_BL, options)  # type: ignore[no-untyped-call]
    return y, last


class _NativeScan(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        u: torch.Tensor,
        delta: torch.Tensor,
        A: torch.Tensor,
        B: torch.Tensor,
        C: torch.Tensor,
        D: torch.Tensor | None,
        z: torch.Tensor | None,
        delta_bias: torch.Tensor | None,
        start: torch.Tensor | None,
        keep: torch.Tensor | None,
        options: _Options,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        inputs = _Inputs(u, delta, A, B, C, D, z, delta_bias, start, keep, options)
        batch, length, channels = u.shape
        y = u.new_empty(u.shape)
        last = u.new_empty(batch, channels, A.shape[1])
        wants_gradient = any(ctx.needs_input_grad)
        checkpoints = u.new_empty(batch, -(-length // library_chunk()), channels, A.shape[1]) if wants_gradient else None
        inputs.call("vivim_scan_forward", y=y, last=last, checkpoints=checkpoints)
        if wants_gradient:
            ctx.save_for_backward(u, delta, A, B, C, D, z, delta_bias, start, keep, checkpoints)
            ctx.options = options
        return y, last

    @staticmethod
    def backward(ctx: Any, grad_y: torch.Tensor, grad_last: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        u, delta, A, B, C, D, z, bias, start, keep, checkpoints = ctx.saved_tensors
        inputs = _Inputs(u, delta, A, B, C, D, z, bias, start, keep, ctx.options)
        grads = {
            "grad_u": u.new_empty(u.shape),
            "grad_delta": u.new_empty(u.shape),
            "grad_A": u.new_empty(A.shape),
            "grad_B": u.new_empty(B.shape),
            "grad_C": u.new_empty(C.shape),
            "grad_skip": None if D is None else u.new_empty(D.shape),
            "grad_z": None if z is None else u.new_empty(u.shape),
            "grad_bias": None if bias is None else u.new_empty(bias.shape),
            "grad_start": None if start is None else u.new_empty(start.shape),
        }
        inputs.call("vivim_scan_backward", checkpoints=checkpoints, grad_y=grad_y.contiguous(), grad_last=grad_last.contiguous(), **grads)
        return (*grads.values(), None, None)


def library_chunk() -> int:
    """Positions between two checkpoints."""
    found = library.load()
    assert found is not None
    return int(found.vivim_scan_chunk())


class _Inputs:
    """Tensors as pointers and strides; what has no unit stride over channels or states is copied."""

    def __init__(
        self,
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
        options: _Options,
    ) -> None:
        batch, length, channels = u.shape
        groups = B.shape[2]
        u, delta, B, C = (unit_stride(x) for x in (u, delta, B, C))
        z = None if z is None else unit_stride(z)
        tokens = None if options.order == FORWARD else tokens_of(options.order, length).expand(groups, length).contiguous()
        if keep is not None:
            keep = keep.to(torch.uint8)[:, None].expand(batch, groups, length).contiguous()
        pointers = {"u": u, "delta": delta, "A": A.contiguous(), "B": B, "C": C, "z": z, "tokens": tokens, "keep": keep}
        pointers |= {"skip": _whole(D), "bias": _whole(bias), "start": _whole(start)}
        # Held so that copies made here outlive the call.
        self.tensors = pointers
        strides = {"u": u, "delta": delta, "z": z}
        self.arguments = _Arguments(
            batch=batch,
            length=length,
            channels=channels,
            states=A.shape[1],
            groups=groups,
            softplus=options.softplus,
            threads=torch.get_num_threads(),
            **{name: pointer(x) for name, x in pointers.items()},
            **{f"{name}_batch": x.stride(0) for name, x in strides.items() if x is not None},
            **{f"{name}_token": x.stride(1) for name, x in strides.items() if x is not None},
            **{f"{name}_{axis}": x.stride(i) for name, x in (("B", B), ("C", C)) for i, axis in enumerate(("batch", "token", "group"))},
        )

    def call(self, function: str, **tensors: torch.Tensor | None) -> None:
        """Run ``function`` with further pointers set."""
        found = library.load()
        assert found is not None
        assert found.vivim_scan_struct_bytes() == ctypes.sizeof(_Arguments)
        for name, tensor in tensors.items():
            setattr(self.arguments, name, pointer(tensor))
        code = getattr(found, function)(ctypes.byref(self.arguments))
        assert code == 0, code


def _whole(tensor: torch.Tensor | None) -> torch.Tensor | None:
    return None if tensor is None else tensor.contiguous()
