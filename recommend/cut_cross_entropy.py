"""The full softmax in the kernels of the package cut-cross-entropy, which never write logits to memory.

Source: Wijmans et al., "Cut Your Losses in Large-Vocabulary Language Models" (2024). Needs a CUDA device and 16-bit products. Its
gradients are summed in 16 bits and in no fixed order; ``losses.FullSoftmax`` sums them in float32, in one.

Legend: P valid positions, N items, D model width.
"""

import importlib
from functools import cache

import torch

INSTALL = "pip install 'vivim[cuda]'"


def why_not(device: torch.device) -> str | None:
    """Why it cannot be used on ``device``, or None."""
    if device.type != "cuda":
        return f"it works on CUDA devices, not on {device.type}"
    error = _import_error()
    return None if error is None else f"cut_cross_entropy cannot be imported ({error}). Install it with: {INSTALL}"


@cache
def _import_error() -> str | None:
    try:
        importlib.import_module("cut_cross_entropy")
    except Exception as error:  # a broken install raises anything
        return str(error)
    return None


def cross_entropy(users_PD: torch.Tensor, items_ND: torch.Tensor, targets_P: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Mean cross-entropy of users @ items.T; the products are in ``dtype``, of 16 bits. No gradient is left out for being small."""
    package = importlib.import_module("cut_cross_entropy")
    loss: torch.Tensor = package.linear_cross_entropy(users_PD.to(dtype), items_ND.to(dtype), targets_P, filter_eps=None, impl="cce")
    return loss.float()
