"""The compiled scan as an autograd function.

Legend: as in ``ssm.scan``.
"""

import ctypes
from typing import Any

import torch

from ..inputs import ScanInputs
from ..order import FORWARD
from . import library
from .tensors import pointer, tokens_of, unit_stride

MAX_STATES = 256


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


def unsupported(u: torch.Tensor, A: torch.Tensor) -> str | None:
    """Why the compiled scan cannot take these tensors, or None."""
    if u.device.type != "cpu":
        return f"it works on the CPU, not on {u.device.type}"
    if u.dtype != torch.float32:
        return f"it works in float32, not {u.dtype}"
    if A.shape[1] > MAX_STATES:
        return f"it holds at most {MAX_STATES} states per channel, not {A.shape[1]}"
    return library.why_not()


def scan(x: ScanInputs, wants_last: bool = True) -> tuple[torch.Tensor, torch.Tensor | None]:
    """(y (B, L, D), last state (B, D, N) or None if it is not wanted)."""
    if x.wants_gradient:
        y, last = _NativeScan.apply(wants_last, *x)  # type: ignore[no-untyped-call]
        return y, last
    # An autograd function costs a third of a small call.
    return _forward(x, wants_last, wants_gradient=False)[:2]


def _forward(x: ScanInputs, wants_last: bool, wants_gradient: bool) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]:
    """(y, last state, checkpoints), the latter two where they are wanted."""
    y = x.u.new_empty(x.u.shape)
    last = x.u.new_empty(x.u.shape[0], *x.A.shape) if wants_last else None
    checkpoints = x.u.new_empty(checkpoint_floats(x)) if wants_gradient else None
    _Call(x).run("vivim_scan_forward", y=y, last=last, checkpoints=checkpoints)
    return y, last, checkpoints


class _NativeScan(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, wants_last: bool, *arguments: Any) -> tuple[torch.Tensor, torch.Tensor | None]:
        x = ScanInputs(*arguments)
        y, last, checkpoints = _forward(x, wants_last, wants_gradient=True)
        ctx.save_for_backward(*x.differentiable, x.keep, checkpoints)
        ctx.rest = x[10:]
        ctx.set_materialize_grads(False)
        return y, last

    @staticmethod
    def backward(ctx: Any, grad_y: torch.Tensor | None, grad_last: torch.Tensor | None) -> tuple[torch.Tensor | None, ...]:
        *tensors, checkpoints = ctx.saved_tensors
        x = ScanInputs(*tensors, *ctx.rest)
        grads = [None if tensor is None else tensor.new_empty(tensor.shape) for tensor in x.differentiable]
        names = ("u", "delta", "A", "B", "C", "skip", "z", "bias", "start")
        _Call(x).run(
            "vivim_scan_backward",
            checkpoints=checkpoints,
            grad_y=x.u.new_zeros(x.u.shape) if grad_y is None else grad_y.contiguous(),
            grad_last=None if grad_last is None else grad_last.contiguous(),
            **{f"grad_{name}": grad for name, grad in zip(names, grads, strict=True)},
        )
        return (None, *grads, None, None, None)


def checkpoint_floats(x: ScanInputs) -> int:
    """Size of what the forward keeps for the backward: the states at the start of every chunk, laid out as the kernel likes them."""
    found = library.load()
    assert found is not None
    lanes, padded = found.vivim_scan_lanes(), found.vivim_scan_padded_states(int(x.A.shape[1]))
    batch, length, channels = x.u.shape
    chunks, blocks = -(-length // found.vivim_scan_chunk()), x.groups * -(-(channels // x.groups) // lanes)
    return batch * chunks * blocks * padded * lanes


class _Call:
    """Tensors as pointers and strides; what has no unit stride over channels or states is copied."""

    def __init__(self, x: ScanInputs) -> None:
        batch, length, channels = x.u.shape
        strided = {"u": x.u, "delta": x.delta, "B": x.B, "C": x.C, "z": x.z}
        strided = {name: None if tensor is None else unit_stride(tensor) for name, tensor in strided.items()}
        whole = {"A": x.A, "skip": x.D, "bias": x.delta_bias, "start": x.initial_state}
        whole = {name: None if tensor is None else tensor.contiguous() for name, tensor in whole.items()}
        # Held so that copies made here outlive the call.
        self.tensors = strided | whole | {"tokens": _tokens(x), "keep": _keep(x)}
        self.arguments = _Arguments(
            batch=batch,
            length=length,
            channels=channels,
            states=x.A.shape[1],
            groups=x.groups,
            softplus=x.softplus,
            threads=torch.get_num_threads(),
            **{name: pointer(tensor) for name, tensor in self.tensors.items()},
            **{
                f"{name}_{axis}": stride
                for name, tensor in strided.items()
                if tensor is not None
                for axis, stride in zip(("batch", "token", "group"), tensor.stride()[:-1], strict=False)
            },
        )

    def run(self, function: str, **tensors: torch.Tensor | None) -> None:
        """Call ``function`` with further pointers set."""
        found = library.load()
        assert found is not None
        assert found.vivim_scan_struct_bytes() == ctypes.sizeof(_Arguments)
        for name, tensor in tensors.items():
            setattr(self.arguments, name, pointer(tensor))
        code = getattr(found, function)(ctypes.byref(self.arguments))
        assert code == 0, code


def _tokens(x: ScanInputs) -> torch.Tensor | None:
    """(G, L) int32, the token at each position of each group's walk; None: all forward."""
    if x.orders == (FORWARD,):
        return None
    walks = [tokens_of(order, x.u.shape[1]) for order in x.orders]
    return torch.stack(walks) if len(walks) > 1 else walks[0].expand(x.groups, -1).contiguous()


def _keep(x: ScanInputs) -> torch.Tensor | None:
    """(B, G, L) uint8."""
    if x.keep is None:
        return None
    keep = x.keep if x.keep.ndim == 3 else x.keep[:, None].expand(-1, x.groups, -1)
    return keep.to(torch.uint8).contiguous()
