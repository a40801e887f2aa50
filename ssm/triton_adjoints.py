# mypy: ignore-errors
# ruff: noqa: RUF005 - Triton grows a tuple by + only
"""The kernels of the Triton scan's way back. Importing this file needs triton.

As in ``triton_kernels``, where tiles, segments and letters are told, with the walk turned round: ``local_adjoints`` is what a segment
alone sends back, ``triton_kernels.chain`` joins the segments, ``gradients`` walks again from what truly reaches each end.
"""

import triton
import triton.language as tl

from .triton_parts import LOG2E, kernel, of_channels, place, sigmoid, step_size, token_at


@kernel
def local_adjoints(
    delta, A, C, z, bias, keep, grad_y, ends, decays,
    length, channels, per_group, states, segments, segment_length, frames, time_groups, reverse_groups,
    delta_batch, delta_token, C_batch, C_token, C_group, z_batch, z_token, grad_y_batch, grad_y_token,
    SOFTPLUS: tl.constexpr, K: tl.constexpr, T: tl.constexpr, N: tl.constexpr,
):  # fmt: skip
    """``local_ends`` of the adjoint: what a segment alone sends back to the state before it."""
    row, segment, group, _, n, d_D, on_D, dn_DN, on_DN = place(segments, per_group, states, T, N)
    A_DN = tl.load(A + dn_DN, on_DN, 0.0).to(tl.float32) * LOG2E
    bias_D = of_channels(bias, d_D, on_D, T)

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


@triton.jit
def states_of(h, us, deltas, Bs, kept, keep, position, end, bias_D, A_DN, on_D, SOFTPLUS: tl.constexpr, K: tl.constexpr):
    """The state after a tile of K tokens, and that before each of them, from the state before the first."""
    before = ()
    for k in tl.static_range(K):
        dt = step_size(deltas[k].to(tl.float32), bias_D, on_D & (position + k < end), SOFTPLUS)
        a = tl.exp2(dt[:, None] * A_DN)
        if keep is not None:
            a = a * kept[k]
        before = before + (h,)
        x = dt * us[k].to(tl.float32)
        h = a * h + x[:, None] * Bs[k].to(tl.float32)[None, :]
    return h, before


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
    row, segment, group, block, n, d_D, on_D, dn_DN, on_DN = place(segments, per_group, states, T, N)
    blocks = tl.cdiv(per_group, T)
    groups = channels // per_group
    A_DN = tl.load(A + dn_DN, on_DN, 0.0).to(tl.float32) * LOG2E
    bias_D = of_channels(bias, d_D, on_D, T)
    skip_D = of_channels(skip, d_D, on_D, T)
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
        h, before = states_of(h, us, deltas, Bs, kept, keep, position, end, bias_D, A_DN, on_D, SOFTPLUS, K)
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
