# mypy: ignore-errors
# ruff: noqa: RUF005 - Triton grows a tuple by + only
"""The kernels of the Triton scan; ``triton_scan`` launches them. Importing this file needs triton.

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

import triton
import triton.language as tl

LOG2E: tl.constexpr = tl.constexpr(1.4426950408889634)
# Numbers whose divisibility gains nothing: without this every new length of a batch would compile the kernels again.
ANY_NUMBER = (
    "length", "channels", "per_group", "segments", "segment_length", "time_groups", "reverse_groups", "size",
    "u_batch", "u_token", "delta_batch", "delta_token", "z_batch", "z_token", "grad_y_batch", "grad_y_token",
    "starts_batch", "starts_segment", "incoming_batch", "incoming_segment", "x_batch", "x_token",
)  # fmt: skip


def kernel(function):
    """``triton.jit`` that compiles once for all values of ``ANY_NUMBER``."""
    names = function.__code__.co_varnames[: function.__code__.co_argcount]
    return triton.jit(function, do_not_specialize=[name for name in names if name in ANY_NUMBER])


@triton.jit
def token_at(position, length, group, frames, time_groups, reverse_groups):
    """The token at a position of the walk of ``group``; bit g of the masks says how group g walks."""
    bit = tl.minimum(group, 31)
    t = tl.where((time_groups >> bit) & 1 != 0, frames, 1)
    token = (position % t) * (length // t) + position // t
    return tl.where((reverse_groups >> bit) & 1 != 0, length - 1 - token, token).to(tl.int64)


@triton.jit
def sigmoid(x):
    return 1.0 / (1.0 + tl.exp2(-x * LOG2E))


@triton.jit
def softplus(x):
    """max(x, 0) + log1p(e), e = exp(-|x|), by the series of 2 atanh(e / (2 + e)): the hardware's logarithm is not exact near 1."""
    e = tl.exp2(-tl.abs(x) * LOG2E)
    s = e / (2.0 + e)
    q = s * s
    series = 1.0 / 15
    series = series * q + 1.0 / 13
    series = series * q + 1.0 / 11
    series = series * q + 1.0 / 9
    series = series * q + 1.0 / 7
    series = series * q + 1.0 / 5
    series = series * q + 1.0 / 3
    series = series * q + 1.0
    return tl.where(x <= 0, 0.0, x) + 2.0 * s * series


@triton.jit
def step_size(delta_D, bias_D, inside_D, SOFTPLUS: tl.constexpr):
    """Zero outside the segment, which leaves the state alone."""
    x = delta_D + bias_D
    if SOFTPLUS:
        x = softplus(x)
    return tl.where(inside_D, x, 0.0)


@kernel
def local_ends(
    u, delta, A, B, bias, keep, ends, decays,
    length, channels, per_group, states, segments, segment_length, frames, time_groups, reverse_groups,
    u_batch, u_token, delta_batch, delta_token, B_batch, B_token, B_group,
    SOFTPLUS: tl.constexpr, K: tl.constexpr, T: tl.constexpr, N: tl.constexpr,
):  # fmt: skip
    """Per segment: the state at its end from an empty start, and what is left of a state that comes in; both (B, S, D, N)."""
    row = (tl.program_id(0) // segments).to(tl.int64)
    segment = tl.program_id(0) % segments
    blocks = tl.cdiv(per_group, T)
    group = tl.program_id(1) // blocks
    inner = (tl.program_id(1) % blocks) * T + tl.arange(0, T)
    on_D = inner < per_group
    d_D = group * per_group + inner
    n = tl.arange(0, N)
    on_DN = on_D[:, None] & (n < states)[None, :]
    dn_DN = d_D[:, None] * states + n[None, :]
    A_DN = tl.load(A + dn_DN, on_DN, 0.0).to(tl.float32) * LOG2E
    bias_D = tl.zeros((T,), tl.float32)
    if bias is not None:
        bias_D = tl.load(bias + d_D, on_D, 0.0).to(tl.float32)

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
    row = (tl.program_id(0) // segments).to(tl.int64)
    segment = tl.program_id(0) % segments
    blocks = tl.cdiv(per_group, T)
    group = tl.program_id(1) // blocks
    inner = (tl.program_id(1) % blocks) * T + tl.arange(0, T)
    on_D = inner < per_group
    d_D = group * per_group + inner
    n = tl.arange(0, N)
    on_DN = on_D[:, None] & (n < states)[None, :]
    dn_DN = d_D[:, None] * states + n[None, :]
    A_DN = tl.load(A + dn_DN, on_DN, 0.0).to(tl.float32) * LOG2E
    bias_D = tl.zeros((T,), tl.float32)
    if bias is not None:
        bias_D = tl.load(bias + d_D, on_D, 0.0).to(tl.float32)
    skip_D = tl.zeros((T,), tl.float32)
    if skip is not None:
        skip_D = tl.load(skip + d_D, on_D, 0.0).to(tl.float32)
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


@kernel
def local_adjoints(
    delta, A, C, z, bias, keep, grad_y, ends, decays,
    length, channels, per_group, states, segments, segment_length, frames, time_groups, reverse_groups,
    delta_batch, delta_token, C_batch, C_token, C_group, z_batch, z_token, grad_y_batch, grad_y_token,
    SOFTPLUS: tl.constexpr, K: tl.constexpr, T: tl.constexpr, N: tl.constexpr,
):  # fmt: skip
    """``local_ends`` of the adjoint: what a segment alone sends back to the state before it."""
    row = (tl.program_id(0) // segments).to(tl.int64)
    segment = tl.program_id(0) % segments
    blocks = tl.cdiv(per_group, T)
    group = tl.program_id(1) // blocks
    inner = (tl.program_id(1) % blocks) * T + tl.arange(0, T)
    on_D = inner < per_group
    d_D = group * per_group + inner
    n = tl.arange(0, N)
    on_DN = on_D[:, None] & (n < states)[None, :]
    dn_DN = d_D[:, None] * states + n[None, :]
    A_DN = tl.load(A + dn_DN, on_DN, 0.0).to(tl.float32) * LOG2E
    bias_D = tl.zeros((T,), tl.float32)
    if bias is not None:
        bias_D = tl.load(bias + d_D, on_D, 0.0).to(tl.float32)

    q = tl.zeros((T, N), tl.float32)
    total_D = tl.zeros((T,), tl.float32)
    alive = 1.0
    first = segment * segment_length
    end = tl.minimum(first + segment_length, length)
    position = first + (end - first - 1) // K * K
    while position >= first:
        deltas = ()
        Cs = ()
        zs = ()
        dys = ()
        kept = ()
        for k in tl.static_range(K):
            p = position + k
            inside = p < end
            token = token_at(p, length, group, frames, time_groups, reverse_groups)
            deltas = deltas + (tl.load(delta + row * delta_batch + token * delta_token + d_D, on_D & inside, 0.0),)
            Cs = Cs + (tl.load(C + row * C_batch + token * C_token + group * C_group + n, (n < states) & inside, 0.0),)
            dys = dys + (tl.load(grad_y + row * grad_y_batch + token * grad_y_token + d_D, on_D & inside, 0.0),)
            if z is not None:
                zs = zs + (tl.load(z + row * z_batch + token * z_token + d_D, on_D & inside, 0.0),)
            if keep is not None:
                groups = channels // per_group
                kept = kept + (tl.load(keep + (row * groups + group) * length + p, inside, 1).to(tl.float32),)
        for k in tl.static_range(K - 1, -1, -1):
            dt = step_size(deltas[k].to(tl.float32), bias_D, on_D & (position + k < end), SOFTPLUS)
            a = tl.exp2(dt[:, None] * A_DN)
            if keep is not None:
                a = a * kept[k]
                alive = alive * kept[k]
            dy = dys[k].to(tl.float32)
            if z is not None:
                z_D = zs[k].to(tl.float32)
                dy = dy * z_D * sigmoid(z_D)
            q = a * (q + dy[:, None] * Cs[k].to(tl.float32)[None, :])
            total_D += dt
        position -= K
    at = (row * segments + segment) * channels * states + dn_DN
    tl.store(ends + at, q, on_DN)
    tl.store(decays + at, tl.exp2(total_D[:, None] * A_DN) * alive, on_DN)


@kernel
def gradients(
    u, delta, A, B, C, skip, z, bias, keep, checkpoints, grad_y, incoming,
    grad_u, grad_delta, grad_z, grad_A, grad_B, grad_C, grad_skip, grad_bias, grad_start,
    length, channels, per_group, states, segments, segment_length, frames, time_groups, reverse_groups,
    u_batch, u_token, delta_batch, delta_token, B_batch, B_token, B_group, C_batch, C_token, C_group, z_batch, z_token,
    grad_y_batch, grad_y_token, incoming_batch, incoming_segment,
    SOFTPLUS: tl.constexpr, K: tl.constexpr, Q: tl.constexpr, T: tl.constexpr, N: tl.constexpr,
):  # fmt: skip
    """Every gradient of a segment, from the checkpoints and from what reaches its end.

    Of A, skip and bias: one part per (row, segment); of B and C: one part per block of channels, (B, L, G, blocks, N).
    The K states of a tile fill the registers, so that what else a step needs is read again on the way back, ``Q`` tokens at a time, and
    its decays are taken again.
    """
    row = (tl.program_id(0) // segments).to(tl.int64)
    segment = tl.program_id(0) % segments
    blocks = tl.cdiv(per_group, T)
    group = tl.program_id(1) // blocks
    block = tl.program_id(1) % blocks
    inner = block * T + tl.arange(0, T)
    on_D = inner < per_group
    d_D = group * per_group + inner
    n = tl.arange(0, N)
    on_DN = on_D[:, None] & (n < states)[None, :]
    dn_DN = d_D[:, None] * states + n[None, :]
    groups = channels // per_group
    A_DN = tl.load(A + dn_DN, on_DN, 0.0).to(tl.float32) * LOG2E
    bias_D = tl.zeros((T,), tl.float32)
    if bias is not None:
        bias_D = tl.load(bias + d_D, on_D, 0.0).to(tl.float32)
    skip_D = tl.zeros((T,), tl.float32)
    if skip is not None:
        skip_D = tl.load(skip + d_D, on_D, 0.0).to(tl.float32)
    q = tl.load(incoming + row * incoming_batch + segment * incoming_segment + dn_DN, on_DN, 0.0).to(tl.float32)
    grad_A_DN = tl.zeros((T, N), tl.float32)
    grad_skip_D = tl.zeros((T,), tl.float32)
    grad_bias_D = tl.zeros((T,), tl.float32)

    first = segment * segment_length
    end = tl.minimum(first + segment_length, length)
    position = first + (end - first - 1) // K * K
    while position >= first:
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
                kept = kept + (tl.load(keep + (row * groups + group) * length + p, inside, 1).to(tl.float32),)
        at = row * tl.cdiv(length, K) + position // K
        h = tl.load(checkpoints + at * channels * states + dn_DN, on_DN, 0.0)
        before = ()
        for k in tl.static_range(K):
            dt = step_size(deltas[k].to(tl.float32), bias_D, on_D & (position + k < end), SOFTPLUS)
            a = tl.exp2(dt[:, None] * A_DN)
            if keep is not None:
                a = a * kept[k]
            before = before + (h,)
            x = dt * us[k].to(tl.float32)
            h = a * h + x[:, None] * Bs[k].to(tl.float32)[None, :]
        for part in tl.static_range(K // Q):
            us = ()
            deltas = ()
            Bs = ()
            Cs = ()
            zs = ()
            dys = ()
            for k in tl.static_range(Q):
                p = position + K - 1 - part * Q - k
                inside = p < end
                token = token_at(p, length, group, frames, time_groups, reverse_groups)
                us = us + (tl.load(u + row * u_batch + token * u_token + d_D, on_D & inside, 0.0),)
                deltas = deltas + (tl.load(delta + row * delta_batch + token * delta_token + d_D, on_D & inside, 0.0),)
                Bs = Bs + (tl.load(B + row * B_batch + token * B_token + group * B_group + n, (n < states) & inside, 0.0),)
                Cs = Cs + (tl.load(C + row * C_batch + token * C_token + group * C_group + n, (n < states) & inside, 0.0),)
                dys = dys + (tl.load(grad_y + row * grad_y_batch + token * grad_y_token + d_D, on_D & inside, 0.0),)
                if z is not None:
                    zs = zs + (tl.load(z + row * z_batch + token * z_token + d_D, on_D & inside, 0.0),)
            for k in tl.static_range(Q):
                p = position + K - 1 - part * Q - k
                inside = on_D & (p < end)
                token = token_at(p, length, group, frames, time_groups, reverse_groups)
                to = (row * length + token) * channels + d_D
                u_D = us[k].to(tl.float32)
                delta_D = deltas[k].to(tl.float32)
                C_N = Cs[k].to(tl.float32)
                dt = step_size(delta_D, bias_D, inside, SOFTPLUS)
                a = tl.exp2(dt[:, None] * A_DN)
                if keep is not None:
                    a = a * kept[K - 1 - part * Q - k]
                dy = dys[k].to(tl.float32)
                if z is not None:
                    z_D = zs[k].to(tl.float32)
                    open_D = sigmoid(z_D)
                    ungated = tl.sum(h * C_N[None, :], 1) + skip_D * u_D
                    tl.store(grad_z + to, dy * ungated * open_D * (1.0 + z_D * (1.0 - open_D)), inside)
                    dy = dy * z_D * open_D
                grad_skip_D += dy * u_D
                g = q + dy[:, None] * C_N[None, :]
                x = dt * u_D
                on_N = (n < states) & (p < end)
                to_N = (((row * length + token) * groups + group) * blocks + block) * states + n
                tl.store(grad_C + to_N, tl.sum(h * dy[:, None], 0), on_N)
                tl.store(grad_B + to_N, tl.sum(g * x[:, None], 0), on_N)
                along_B = tl.sum(g * Bs[k].to(tl.float32)[None, :], 1)
                h = before[K - 1 - part * Q - k]
                q = a * g
                through = q * h
                grad_A_DN += through * dt[:, None]
                grad_dt = u_D * along_B + tl.sum(through * A_DN, 1) * (1.0 / LOG2E)
                if SOFTPLUS:
                    grad_dt = grad_dt * sigmoid(delta_D + bias_D)
                grad_dt = tl.where(inside, grad_dt, 0.0)
                grad_bias_D += grad_dt
                tl.store(grad_u + to, dy * skip_D + dt * along_B, inside)
                tl.store(grad_delta + to, grad_dt, inside)
        position -= K
    at = row * segments + segment
    tl.store(grad_A + at * channels * states + dn_DN, grad_A_DN, on_DN)
    if skip is not None:
        tl.store(grad_skip + at * channels + d_D, grad_skip_D, on_D)
    if bias is not None:
        tl.store(grad_bias + at * channels + d_D, grad_bias_D, on_D)
    if grad_start is not None and segment == 0:
        tl.store(grad_start + row * channels * states + dn_DN, q, on_DN)
