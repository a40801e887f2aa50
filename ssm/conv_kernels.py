# mypy: ignore-errors
# ruff: noqa: RUF005 - Triton grows a tuple by + only
"""The kernels of the causal convolution on GPUs; ``triton_conv`` launches them. Importing this file needs triton.

A program owns W positions of one row's walk and T channels. A neighbour's place is worked out, not permuted; what neighbours share is
read again from the cache. Sums over positions leave as one part per program and are added up outside: no atomics.

Legend: B batch, L tokens, D channels, K taps. ``keep`` is (B, L) in walk order; everything else is in token order.
"""

import triton
import triton.language as tl

from .triton_parts import kernel, sigmoid, token_at


@triton.jit
def read(x, row, position, length, frames, time_groups, reverse_groups, batch, token_stride, d_T, on_T):
    """(W, T) float32 at positions of the walk; zero beyond its ends."""
    inside = (position >= 0) & (position < length)
    token = token_at(position, length, 0, frames, time_groups, reverse_groups)
    at = row * batch + token[:, None] * token_stride + d_T[None, :]
    return tl.load(x + at, inside[:, None] & on_T[None, :], 0.0).to(tl.float32)


@kernel
def conv_forward(
    x, weight, bias, keep, y,
    length, channels, frames, time_groups, reverse_groups, x_batch, x_token,
    SILU: tl.constexpr, K: tl.constexpr, W: tl.constexpr, T: tl.constexpr,
):  # fmt: skip
    tiles = tl.cdiv(length, W)
    row = (tl.program_id(0) // tiles).to(tl.int64)
    position = (tl.program_id(0) % tiles) * W + tl.arange(0, W)
    d_T = tl.program_id(1) * T + tl.arange(0, T)
    on_T = d_T < channels
    y_WT = tl.zeros((W, T), tl.float32)
    if bias is not None:
        y_WT += tl.load(bias + d_T, on_T, 0.0).to(tl.float32)[None, :]
    same_W = tl.full((W,), 1.0, tl.float32)
    for back in tl.static_range(K):
        before = position - back
        x_WT = read(x, row, before, length, frames, time_groups, reverse_groups, x_batch, x_token, d_T, on_T)
        tap_T = tl.load(weight + d_T * K + (K - 1 - back), on_T, 0.0).to(tl.float32)
        y_WT += x_WT * tap_T[None, :] * same_W[:, None]
        if keep is not None:
            same_W *= tl.load(keep + row * length + before, (before >= 0) & (before < length), 0).to(tl.float32)
    if SILU:
        y_WT = y_WT * sigmoid(y_WT)
    token = token_at(position, length, 0, frames, time_groups, reverse_groups)
    at = (row * length + token[:, None]) * channels + d_T[None, :]
    tl.store(y + at, y_WT, (position < length)[:, None] & on_T[None, :])


@kernel
def conv_backward(
    x, weight, bias, keep, grad_y, grad_x, grad_weight, grad_bias,
    length, channels, frames, time_groups, reverse_groups, x_batch, x_token,
    SILU: tl.constexpr, K: tl.constexpr, W: tl.constexpr, T: tl.constexpr,
):  # fmt: skip
    """``grad_weight`` (programs, D, K) and ``grad_bias`` (programs, D): a part per (row, W positions)."""
    tiles = tl.cdiv(length, W)
    row = (tl.program_id(0) // tiles).to(tl.int64)
    position = (tl.program_id(0) % tiles) * W + tl.arange(0, W)
    d_T = tl.program_id(1) * T + tl.arange(0, T)
    on_T = d_T < channels
    bias_T = tl.zeros((T,), tl.float32)
    if bias is not None:
        bias_T = tl.load(bias + d_T, on_T, 0.0).to(tl.float32)
    taps = ()
    for k in tl.static_range(K):
        taps = taps + (tl.load(weight + d_T * K + k, on_T, 0.0).to(tl.float32),)
    # Inputs at position - (K - 1) .. position + (K - 1), and whether the sequence goes on there.
    xs = ()
    on = ()
    for i in tl.static_range(2 * K - 1):
        p = position + (i - (K - 1))
        xs = xs + (read(x, row, p, length, frames, time_groups, reverse_groups, x_batch, x_token, d_T, on_T),)
        if keep is not None:
            on = on + (tl.load(keep + row * length + p, (p >= 0) & (p < length), 0).to(tl.float32),)
    grad_x_WT = tl.zeros((W, T), tl.float32)
    parts = ()
    for ahead in tl.static_range(K):  # the output at position + ahead, which a tap connects with the input at position
        p = position + ahead
        g_WT = read(grad_y, row, p, length, frames, time_groups, reverse_groups, length * channels, channels, d_T, on_T)
        if SILU:
            y_WT = tl.zeros((W, T), tl.float32) + bias_T[None, :]
            same_W = tl.full((W,), 1.0, tl.float32)
            for back in tl.static_range(K):
                y_WT += xs[K - 1 + ahead - back] * taps[K - 1 - back][None, :] * same_W[:, None]
                if keep is not None:
                    same_W *= on[K - 1 + ahead - back]
            open_WT = sigmoid(y_WT)
            g_WT = g_WT * open_WT * (1.0 + y_WT * (1.0 - open_WT))
        reached_W = tl.full((W,), 1.0, tl.float32)
        if keep is not None:
            for back in tl.static_range(ahead):
                reached_W *= on[K - 1 + ahead - back]
        grad_x_WT += g_WT * taps[K - 1 - ahead][None, :] * reached_W[:, None]
        if ahead == 0:
            same_W = tl.full((W,), 1.0, tl.float32)
            for back in tl.static_range(K):
                parts = parts + (tl.sum(g_WT * xs[K - 1 - back] * same_W[:, None], 0),)
                if keep is not None:
                    same_W *= on[K - 1 - back]
            if bias is not None:
                tl.store(grad_bias + tl.program_id(0).to(tl.int64) * channels + d_T, tl.sum(g_WT, 0), on_T)
    for back in tl.static_range(K):
        at = (tl.program_id(0).to(tl.int64) * channels + d_T) * K + (K - 1 - back)
        tl.store(grad_weight + at, parts[back], on_T)
    token = token_at(position, length, 0, frames, time_groups, reverse_groups)
    at = (row * length + token[:, None]) * channels + d_T[None, :]
    tl.store(grad_x + at, grad_x_WT, (position < length)[:, None] & on_T[None, :])
