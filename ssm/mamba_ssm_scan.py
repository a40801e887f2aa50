"""mamba-ssm's CUDA scan behind our interface, for machines where its compiled operation really loads.

A ``pip install mamba-ssm`` may leave that operation out (its repository has done so since July 2026, unless asked); the package then
imports and fails at the first call, so that what is probed here is the operation itself.

Legend: as in ``ssm.scan``.
"""

import importlib
from functools import cache
from typing import Any

import torch

from .inputs import ScanInputs

MAX_STATES = 256
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
INSTALL = "MAMBA_KEEP_CUDA_BUILD=TRUE pip install --no-build-isolation 'vivim[cuda]'"


@cache
def _function() -> tuple[Any, str | None]:
    """(``selective_scan_fn``, None), or (None, the reason)."""
    try:
        importlib.import_module("selective_scan_cuda")
        return importlib.import_module("mamba_ssm.ops.selective_scan_interface").selective_scan_fn, None
    except Exception as error:  # a broken build raises anything: ImportError, OSError, RuntimeError, NameError
        return None, f"mamba-ssm's scan does not load ({type(error).__name__}: {error}). Build it with nvcc: {INSTALL}"


def why_not(device: torch.device) -> str | None:
    """Why mamba-ssm's scan cannot be used on ``device``, or None."""
    if device.type != "cuda":
        return f"it works on CUDA devices, not on {device.type}"
    return _function()[1]


def unsupported(u: torch.Tensor, A: torch.Tensor) -> str | None:
    """Why mamba-ssm's scan cannot take these tensors, or None."""
    if u.dtype not in DTYPES:
        return f"it works in float32, bfloat16 and float16, not {str(u.dtype).removeprefix('torch.')}"
    if A.shape[1] > MAX_STATES:
        return f"it holds at most {MAX_STATES} states per channel, not {A.shape[1]}"
    return why_not(u.device)


def scan(x: ScanInputs, wants_last: bool = True) -> tuple[torch.Tensor, torch.Tensor | None]:
    """(y (B, L, D), last state (B, D, N) or None if it is not wanted). Several directions are groups of B and C: one call of theirs.

    Its kernel reads forward only, so that other orders cost a copy of u, delta, B, C and z, and one of y.

    Raises:
        ValueError: what mamba-ssm cannot do: a reset, an initial state; and, in the backward, a gradient of the last state.
    """
    for what, is_asked in {"seq_idx": x.keep is not None, "initial_state": x.initial_state is not None}.items():
        if is_asked:
            raise ValueError(f"mamba-ssm's scan does not take {what}; choose Backend.TRITON or Backend.TORCH")
    if x.u.numel() == 0:
        return x.u.new_zeros(x.u.shape), x.A.new_zeros(x.u.shape[0], *x.A.shape) if wants_last else None
    function, reason = _function()
    if reason is not None:
        raise ValueError(f"{reason}; or choose Backend.AUTO")
    walked = [x.group(g) for g in range(x.groups)] if len(x.orders) > 1 else [x]

    def gather(name: str) -> torch.Tensor:
        """Tokens of every group in the order of its walk, (B, .., L)."""
        parts = [part.orders[0].apply(getattr(part, name)) for part in walked]
        return (torch.cat(parts, 2) if len(parts) > 1 else parts[0]).movedim(1, -1)

    result = function(
        gather("u"),
        gather("delta"),
        x.A.float(),
        gather("B").contiguous(),
        gather("C").contiguous(),
        None if x.D is None else x.D.float(),
        None if x.z is None else gather("z"),
        None if x.delta_bias is None else x.delta_bias.float(),
        x.softplus,
        wants_last,
    )
    y, last = result if wants_last else (result, None)
    ys = [part.orders[0].undo(own) for part, own in zip(walked, y.transpose(1, 2).chunk(len(walked), 2), strict=True)]
    y = torch.cat(ys, 2) if len(ys) > 1 else ys[0]
    return y, None if last is None else _NoGradient.apply(last).to(x.A.dtype)  # type: ignore[no-untyped-call]


class _NoGradient(torch.autograd.Function):
    """mamba-ssm drops the gradient of the last state in silence; here it is an error."""

    @staticmethod
    def forward(ctx: Any, last: torch.Tensor) -> torch.Tensor:
        return last.clone()

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
        raise ValueError("mamba-ssm's last state has no gradient; choose Backend.TRITON or Backend.TORCH")
