# mypy: ignore-errors
"""What the kernels of the Triton scan have in common. Importing this file needs triton.

Legend: D channels, N states, T channels of a program.
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


@triton.jit
def place(segments, per_group, states, T: tl.constexpr, N: tl.constexpr):
    """What is this program's: row, segment, group and its block of T channels; states (N,), channels (T,) and both (T, N), the last two
    with whether they are there."""
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
    return row, segment, group, block, n, d_D, on_D, dn_DN, on_DN


@triton.jit
def of_channels(pointer, d_D, on_D, T: tl.constexpr):
    """A number for each channel, zeros of None."""
    found_D = tl.zeros((T,), tl.float32)
    if pointer is not None:
        found_D = tl.load(pointer + d_D, on_D, 0.0).to(tl.float32)
    return found_D
