"""The one door to the selective scan (S6) and its backends.

Names and defaults are mamba-ssm's, the layout is channels-last.
Legend: B batch, L tokens, D channels, N state size, G groups of B and C (a group serves D / G contiguous channels).
"""

import logging
from collections.abc import Callable, Sequence
from enum import Enum
from functools import cache

import torch
import torch.nn.functional as F

from . import mamba_ssm_scan, reference, torch_scan, triton_scan
from .inputs import ScanInputs, orders_of, starts_kept
from .native import library as native_library
from .native import scan as native
from .order import FORWARD, Order

_log = logging.getLogger("vivim.ssm")


class Backend(Enum):
    """Who computes the scan. ``AUTO`` takes the fastest that can.

    ``REFERENCE`` is the plain loop, the definition; ``TORCH`` is chunked plain torch with its own backward; ``NATIVE`` is compiled
    C++ for CPUs, float32; ``TRITON`` is our kernels for GPUs; ``MAMBA_SSM`` is that package's CUDA kernel, forward order only,
    which ``AUTO`` never takes.
    """

    AUTO = "auto"
    REFERENCE = "reference"
    TORCH = "torch"
    NATIVE = "native"
    TRITON = "triton"
    MAMBA_SSM = "mamba_ssm"


# Backends whose parameters and states stay in float32 when tokens have 16 bits.
_MIXED = (Backend.TRITON, Backend.MAMBA_SSM)
# Backends that do step size, skip and gate themselves: modules with ``unsupported(u, A)`` and ``scan(inputs, wants_last)``.
_FUSED = {Backend.NATIVE: native, Backend.TRITON: triton_scan, Backend.MAMBA_SSM: mamba_ssm_scan}


def resolve(backend: Backend, u: torch.Tensor, A: torch.Tensor) -> Backend:
    """The concrete backend that ``backend`` means for these tensors; the choice of AUTO is logged once.

    Raises:
        ValueError: a backend was asked for by name that cannot take them.
    """
    if backend in _FUSED:
        reason = _FUSED[backend].unsupported(u, A)
        if reason is not None:
            raise ValueError(f"the {backend.value} scan cannot be used: {reason}; choose Backend.AUTO or Backend.TORCH")
    if backend is not Backend.AUTO:
        return backend
    if torch.compiler.is_compiling():
        return Backend.NATIVE if native.unsupported(u, A) is None else Backend.TORCH
    if u.device.type == "cuda" and triton_scan.unsupported(u, A) is None:
        chosen = Backend.TRITON
    else:
        chosen = Backend.NATIVE if native.unsupported(u, A) is None else Backend.TORCH
    _log_choice(chosen, u.device, u.dtype)
    return chosen


@cache
def _log_choice(backend: Backend, device: torch.device, dtype: torch.dtype) -> None:
    if device.type != "cpu" and backend is Backend.TORCH:
        _log.warning("selective scan on %s: plain torch, which is slow there (%s)", device.type, triton_scan.why_not(device) or dtype)
    _log.info("selective scan on %s %s: backend %s", device.type, dtype, backend.value)


def available_backends() -> dict[str, str]:
    """Backend name -> ``"ok"`` or the reason why it cannot be used here; for ``vivim doctor``."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return {
        Backend.REFERENCE.value: "ok",
        Backend.TORCH.value: "ok",
        Backend.NATIVE.value: native_library.why_not() or "ok",
        Backend.TRITON.value: triton_scan.why_not(device) or "ok",
        Backend.MAMBA_SSM.value: mamba_ssm_scan.why_not(device) or "ok",
    }


def selective_scan(
    u: torch.Tensor,
    delta: torch.Tensor,
    A: torch.Tensor,
    B: torch.Tensor,
    C: torch.Tensor,
    D: torch.Tensor | None = None,
    z: torch.Tensor | None = None,
    delta_bias: torch.Tensor | None = None,
    delta_softplus: bool = False,
    return_last_state: bool = False,
    *,
    order: Order | Sequence[Order] = FORWARD,
    seq_idx: torch.Tensor | None = None,
    initial_state: torch.Tensor | None = None,
    backend: Backend = Backend.AUTO,
) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
    """Selective scan: dt = softplus(delta + bias); h_t = exp(dt_t A) h_{t-1} + dt_t u_t B_t; y_t = (<h_t, C_t> + D u_t) silu(z_t).

    Source: Gu and Dao, "Mamba" (2023), Algorithm 2; eq. 9 of the Vivim paper sums three of these over three orders.

    Args:
        u: input, (B, L, D).
        delta: step size before bias and softplus, (B, L, D).
        A: state matrix, (D, N), negative. It, ``D``, ``delta_bias`` and ``initial_state`` may be float32 beside tokens of 16 bits on a GPU.
        B: input projection, (B, L, N) or (B, L, G, N).
        C: output projection, same shape as ``B``.
        D: skip, (D,).
        z: gate, (B, L, D).
        delta_bias: (D,).
        delta_softplus: apply softplus to ``delta + delta_bias``.
        return_last_state: also return the state after the last token of the walk.
        order: in which order the tokens are visited; inputs and output are in token order. One for all channels, or one per group of
            B and C, so that walks in several directions, each with parameters of its own, are one call.
        seq_idx: (B, L) integers, one value per sequence packed into a row; where the walk meets another value the state is emptied.
        initial_state: (B, D, N) state before the first token; zeros if None.
        backend: who computes it.

    Returns:
        y (B, L, D), or (y, last state (B, D, N)); every tensor argument gets a gradient, the last state passes one too.

    Raises:
        ValueError: shapes, dtypes or devices that do not fit together.
    """
    B, C = _check(u, delta, A, B, C, D, z, delta_bias, seq_idx, initial_state)
    orders = orders_of(order, B.shape[2])
    keep = None if seq_idx is None else starts_kept(seq_idx, orders)
    inputs = ScanInputs(u, delta, A, B, C, D, z, delta_bias, initial_state, keep, delta_softplus, orders)
    if torch.compiler.is_compiling():
        from . import compiled_ops  # makes library.why_not a constant of the graph; imports Dynamo, so only here
    chosen = resolve(backend, u, A)
    if chosen not in _MIXED:
        for name, tensor in (("A", A), ("D", D), ("delta_bias", delta_bias), ("initial_state", initial_state)):
            _require_dtype(name, tensor, u.dtype)
    if chosen in _FUSED:
        run_fused = _FUSED[chosen].scan
        if chosen is Backend.NATIVE and torch.compiler.is_compiling():
            run_fused = compiled_ops.scan
        y, last = run_fused(inputs, return_last_state)
    else:
        y, last = _unfused(reference.scan if chosen is Backend.REFERENCE else torch_scan.scan, inputs)
    if not return_last_state:
        return y
    assert last is not None
    return y, last


def _unfused(run: Callable[..., tuple[torch.Tensor, torch.Tensor]], x: ScanInputs) -> tuple[torch.Tensor, torch.Tensor]:
    """Step size, walk, skip and gate in plain torch around the recurrence ``run``."""
    if len(x.orders) > 1:
        parts = [_unfused(run, x.group(g)) for g in range(x.groups)]
        return torch.cat([y for y, _ in parts], 2), torch.cat([last for _, last in parts], 1)
    order, groups = x.orders[0], x.groups
    dt = x.delta if x.delta_bias is None else x.delta + x.delta_bias
    if x.softplus:
        dt = F.softplus(dt)
    state_shape = (x.u.shape[0], groups, x.u.shape[2] // groups, x.A.shape[1])
    y, last = run(
        order.apply(x.u).unflatten(2, (groups, -1)),
        order.apply(dt).unflatten(2, (groups, -1)),
        x.A.unflatten(0, (groups, -1)),
        order.apply(x.B),
        order.apply(x.C),
        x.u.new_zeros(state_shape) if x.initial_state is None else x.initial_state.reshape(state_shape),
        x.keep,
    )
    y = order.undo(y.flatten(2))
    if x.D is not None:
        y = y + x.D * x.u
    if x.z is not None:
        y = y * F.silu(x.z)
    return y, last.flatten(1, 2)


def _check(
    u: torch.Tensor,
    delta: torch.Tensor,
    A: torch.Tensor,
    B: torch.Tensor,
    C: torch.Tensor,
    D: torch.Tensor | None,
    z: torch.Tensor | None,
    delta_bias: torch.Tensor | None,
    seq_idx: torch.Tensor | None,
    initial_state: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Refuse what does not fit; returns B and C with a group axis."""
    if u.ndim != 3:
        raise ValueError(f"u must be (B, L, D), not {tuple(u.shape)}")
    batch, length, channels = u.shape
    if A.ndim != 2 or A.shape[0] != channels:
        raise ValueError(f"A must be ({channels}, N) for u of {channels} channels, not {tuple(A.shape)}")
    B = B[:, :, None] if B.ndim == 3 else B
    C = C[:, :, None] if C.ndim == 3 else C
    if B.ndim != 4 or B.shape[2] < 1 or channels % B.shape[2]:
        raise ValueError(f"B must be (B, L, N) or (B, L, G, N) with G dividing {channels} channels, not {tuple(B.shape)}")
    groups, state = B.shape[2], A.shape[1]
    wanted: dict[str, tuple[torch.Tensor | None, tuple[int, ...]]] = {
        "delta": (delta, (batch, length, channels)),
        "B": (B, (batch, length, groups, state)),
        "C": (C, (batch, length, groups, state)),
        "D": (D, (channels,)),
        "z": (z, (batch, length, channels)),
        "delta_bias": (delta_bias, (channels,)),
        "seq_idx": (seq_idx, (batch, length)),
        "initial_state": (initial_state, (batch, channels, state)),
    }
    for name, (tensor, shape) in wanted.items():
        if tensor is None:
            continue
        if tuple(tensor.shape) != shape:
            raise ValueError(f"{name} must be {shape} to fit u {tuple(u.shape)} and A {tuple(A.shape)}, not {tuple(tensor.shape)}")
        if tensor.device != u.device:
            raise ValueError(f"{name} is on {tensor.device} but u is on {u.device}; move them to one device")
        if name in {"delta", "B", "C", "z"} or tensor.dtype != torch.float32:
            _require_dtype(name, tensor, u.dtype)
    if A.device != u.device:
        raise ValueError(f"A is on {A.device} but u is on {u.device}; move them to one device")
    if A.dtype != torch.float32:
        _require_dtype("A", A, u.dtype)
    if not u.is_floating_point():
        raise ValueError(f"the scan works on floating-point tensors, not {u.dtype}")
    return B, C


def _require_dtype(name: str, tensor: torch.Tensor | None, dtype: torch.dtype) -> None:
    if tensor is not None and name != "seq_idx" and tensor.dtype != dtype:
        raise ValueError(f"{name} is {tensor.dtype} but u is {dtype}; cast them to one dtype")
