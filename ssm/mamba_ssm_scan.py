"""mamba-ssm's CUDA scan behind our interface, for machines where its compiled operation really loads.

Since July 2026 ``pip install mamba-ssm`` no longer builds that operation; the package then imports and fails at the first call,
so that what is probed here is the operation itself.

Legend: as in ``ssm.scan``.
"""

import importlib
from functools import cache
from typing import Any

import torch

from .order import FORWARD, Order

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
    """(y (B, L, D), last state (B, D, N)); arguments as ``triton_scan.scan``. Several directions are groups of B and C.

    Raises:
        ValueError: what mamba-ssm cannot do: an order, a reset, an initial state; and, in the backward, a gradient of the last state.
    """
    asked = {"an order other than forward": order != FORWARD, "seq_idx": keep_BL is not None, "initial_state": initial_state is not None}
    for what, is_asked in asked.items():
        if is_asked:
            raise ValueError(f"mamba-ssm's scan does not take {what}; choose Backend.TRITON or Backend.TORCH")
    if u.numel() == 0:
        return u.new_zeros(u.shape), A.new_zeros(u.shape[0], u.shape[2], A.shape[1])
    function, reason = _function()
    if reason is not None:
        raise ValueError(f"{reason}; or choose Backend.AUTO")
    y, last = function(
        u.transpose(1, 2),
        delta.transpose(1, 2),
        A.float(),
        B.permute(0, 2, 3, 1).contiguous(),
        C.permute(0, 2, 3, 1).contiguous(),
        None if D is None else D.float(),
        None if z is None else z.transpose(1, 2),
        None if delta_bias is None else delta_bias.float(),
        softplus,
        True,
    )
    return y.transpose(1, 2), _NoGradient.apply(last).to(A.dtype)  # type: ignore[no-untyped-call]


class _NoGradient(torch.autograd.Function):
    """mamba-ssm drops the gradient of the last state in silence; here it is an error."""

    @staticmethod
    def forward(ctx: Any, last: torch.Tensor) -> torch.Tensor:
        return last.clone()

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
        raise ValueError("mamba-ssm's last state has no gradient; choose Backend.TRITON or Backend.TORCH")
