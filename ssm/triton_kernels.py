# mypy: ignore-errors
# ruff: noqa: RUF005 - Triton grows a tuple by + only
"""The kernels of the Triton scan; ``triton_scan`` launches them, ``triton_adjoints`` has those of the way back. Importing this file needs
triton.

A program is one warp that owns T channels of one row and walks over a segment of the tokens, its states in registers as a tile
(T, N). Triton lays that tile out so that a thread holds several channels and several states of each; both kinds of sum (over
states for y, over channels for the gradients of B and C) are then mostly additions within a thread. Tokens are read ``K`` at a
time, all loads first, because a load is never moved over a store.

Where the rows and channels are too few to fill the machine, a sequence is cut into segments: ``local_ends`` walks every segment
from an empty state, ``chain`` joins the segments, ``outputs`` walks again from the true starts; the backward does the same in
the other direction. All sums run in a fixed order: no atomics.

Legend: B batch, L tokens, D channels, N states, G groups of D / G channels, S segments; K, T see above.
``keep`` is (B, G, L) in walk order; everything else is in token order. Exponentials are of base two: A comes times log2(e).
"""

import triton.language as tl

from .triton_parts import LOG2E, kernel, of_channels, place, sigmoid, step_size, token_at


@kernel
def local_ends(
    u, delta, A, B, bias, keep, ends, decays,
    length, channels, per_group, states, segments, segment_length, frames, time_groups, reverse_groups,
    u_batch, u_token, delta_batch, delta_token, B_batch, B_token, B_group,
    SOFTPLUS: tl.constexpr, K: tl.constexpr, T: tl.constexpr, N: tl.constexpr,
):  # fmt: skip
    """Per segment: the state at its end from an empty start, and what is left of a state that comes in; both (B, S, D, N)."""
    row, segment, group, _, n, d_D, on_D, dn_DN, on_DN = place(segments, per_group, states, T, N)
    A_DN = tl.load(A + dn_DN, on_DN, 0.0).to(tl.float32) * LOG2E
    bias_D = of_channels(bias, d_D, on_D, T)

    h = tl.zeros((T, N), tl.float32)
    total_D = tl.zeros((T,), tl.float32)
    alive = 1.0
    position = segment * segment_length
    end = tl.minimum(position + segment_length, length)
    while position < end:
        us = ()
        deltas = ()
        Bs = ()
        kept = ()
        for k in tl.static_range(K):
            p = position + k
            inside = p < end
            token = token_at(p, length, group, frames, time_groups, reverse_groups)
            us = us + (tl.load(u + row * u_batch + token * u_token + d_D, on_D & inside, 0.0),)
            deltas = deltas + (tl.load(delta + row * delta_batch + token * delta_token + d_D, on_D & inside, 0.0),)
            Bs = Bs + (tl.load(B + row * B_batch + token * B_token + group * B_group + n, (n < states) & inside, 0.0),)
            if keep is not None:
                groups = channels // per_group
                kept = kept + (tl.load(keep + (row * groups + group) * length + p, inside, 1).to(tl.float32),)
        for k in tl.static_range(K):
            dt = step_size(deltas[k].to(tl.float32), bias_D, on_D & (position + k < end), SOFTPLUS)
            a = tl.exp2(dt[:, None] * A_DN)
            if keep is not None:
                a = a * kept[k]
                alive = alive * kept[k]
            x = dt * us[k].to(tl.float32)
            h = a * h + x[:, None] * Bs[k].to(tl.float32)[None, :]
            total_D += dt
        position += K
    at = (row * segments + segment) * channels * states + dn_DN
    tl.store(ends + at, h, on_DN)
    tl.store(decays + at, tl.exp2(total_D[:, None] * A_DN) * alive, on_DN)


@kernel
def chain(ends, decays, first, joined, segments, size, BACKWARD: tl.constexpr, K: tl.constexpr, BLOCK: tl.constexpr):
    """x_0 = first, x_i = decay_i x_{i-1} + end_i over the segments: joined (B, S + 1, size).

    Forward, entry s is the state before segment s and entry S the last state. Backward the segments are met from the last to the
    first; entry s + 1 is then what reaches the end of segment s, and entry 0 what reaches the initial state.
    """
    row = tl.program_id(0).to(tl.int64)
    i = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    on = i < size
    x = tl.zeros((BLOCK,), tl.float32)
    if first is not None:
        x = tl.load(first + row * size + i, on, 0.0).to(tl.float32)
    base = joined + row * (segments + 1) * size + i
    tl.store(base + (segments if BACKWARD else 0) * size, x, on)
    met = 0
    while met < segments:
        decay = ()
        end = ()
        for k in tl.static_range(K):
            s = segments - 1 - met - k if BACKWARD else met + k
            inside = on & (met + k < segments)
            decay = decay + (tl.load(decays + (row * segments + s) * size + i, inside, 1.0),)
            end = end + (tl.load(ends + (row * segments + s) * size + i, inside, 0.0),)
        for k in tl.static_range(K):
            x = decay[k] * x + end[k]
            s = segments - 1 - met - k if BACKWARD else met + k + 1
            tl.store(base + s * size, x, on & (met + k < segments))
        met += K


@kernel
def outputs(
    u, delta, A, B, C, skip, z, bias, starts, keep, y, last, checkpoints,
    length, channels, per_group, states, segments, segment_length, frames, time_groups, reverse_groups,
    u_batch, u_token, delta_batch, delta_token, B_batch, B_token, B_group, C_batch, C_token, C_group, z_batch, z_token,
    starts_batch, starts_segment,
    SOFTPLUS: tl.constexpr, K: tl.constexpr, T: tl.constexpr, N: tl.constexpr,
):  # fmt: skip
    """y, and where they are asked for the last state (B, D, N) and the state before every K-th token (B, ceil(L / K), D, N)."""
    row, segment, group, _, n, d_D, on_D, dn_DN, on_DN = place(segments, per_group, states, T, N)
    A_DN = tl.load(A + dn_DN, on_DN, 0.0).to(tl.float32) * LOG2E
    bias_D = of_channels(bias, d_D, on_D, T)
    skip_D = of_channels(skip, d_D, on_D, T)
    h = tl.zeros((T, N), tl.float32)
    if starts is not None:
        h = tl.load(starts + row * starts_batch + segment * starts_segment + dn_DN, on_DN, 0.0).to(tl.float32)

    position = segment * segment_length
    end = tl.minimum(position + segment_length, length)
    while position < end:
        if checkpoints is not None:
            at = row * tl.cdiv(length, K) + position // K
            tl.store(checkpoints + at * channels * states + dn_DN, h, on_DN)
        us = ()
        deltas = ()
        Bs = ()
        Cs = ()
        zs = ()
        kept = ()
        for k in tl.static_range(K):
            p = position + k
            inside = p < end
            token = token_at(p, length, group, frames, time_groups, reverse_groups)
            us = us + (tl.load(u + row * u_batch + token * u_token + d_D, on_D & inside, 0.0),)
            deltas = deltas + (tl.load(delta + row * delta_batch + token * delta_token + d_D, on_D & inside, 0.0),)
            Bs = Bs + (tl.load(B + row * B_batch + token * B_token + group * B_group + n, (n < states) & inside, 0.0),)
            Cs = Cs + (tl.load(C + row * C_batch + token * C_token + group * C_group + n, (n < states) & inside, 0.0),)
            if z is not None:
                zs = zs + (tl.load(z + row * z_batch + token * z_token + d_D, on_D & inside, 0.0),)
            if keep is not None:
                groups = channels // per_group
                kept = kept + (tl.load(keep + (row * groups + group) * length + p, inside, 1).to(tl.float32),)
        ys = ()
        for k in tl.static_range(K):
            dt = step_size(deltas[k].to(tl.float32), bias_D, on_D & (position + k < end), SOFTPLUS)
            a = tl.exp2(dt[:, None] * A_DN)
            if keep is not None:
                a = a * kept[k]
            u_D = us[k].to(tl.float32)
            x = dt * u_D
            h = a * h + x[:, None] * Bs[k].to(tl.float32)[None, :]
            y_D = tl.sum(h * Cs[k].to(tl.float32)[None, :], 1) + skip_D * u_D
            if z is not None:
                z_D = zs[k].to(tl.float32)
                y_D = y_D * z_D * sigmoid(z_D)
            ys = ys + (y_D,)
        for k in tl.static_range(K):
            token = token_at(position + k, length, group, frames, time_groups, reverse_groups)
            tl.store(y + (row * length + token) * channels + d_D, ys[k], on_D & (position + k < end))
        position += K
    if last is not None and segment == segments - 1:
        tl.store(last + row * channels * states + dn_DN, h, on_DN)
