"""Tensors as the compiled code sees them."""

from functools import lru_cache

import torch

from ..order import Order


@lru_cache(maxsize=64)
def tokens_of(order: Order, length: int) -> torch.Tensor:
    """(L,) int32, the token at each position of the walk. Kept, because a model asks for the same few again and again."""
    return order.apply(torch.arange(length, dtype=torch.int32)[None])[0].contiguous()


def pointer(tensor: torch.Tensor | None) -> int | None:
    """Address of the first element."""
    return None if tensor is None else tensor.data_ptr()


def unit_stride(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor, copied if its last axis is not contiguous."""
    return tensor if tensor.stride(-1) == 1 else tensor.contiguous()
