"""The selective scan on GPUs, in our own Triton kernels, as an autograd function.

Legend: as in ``ssm.scan``; S segments of a sequence that are walked side by side.
"""

import importlib
import os
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch.autograd.function import once_differentiable

from .inputs import ScanInputs
from .order import REVERSE, Order, Walk

MAX_STATES = 256
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
INSTALL = "pip install 'vivim[cuda]'"

# Warps that keep a multiprocessor busy; a sequence is cut into segments while there are fewer.
_WARPS_PER_PROCESSOR = 16
_SHORTEST_SEGMENT = 64
_CHAIN_BLOCK = 64
_CHAIN_STEPS = 16


def why_not(device: torch.device) -> str | None:
    """Why there is no Triton scan on ``device``, or None if there is one.

    Triton's interpreter (``TRITON_INTERPRET=1``, set before the first scan) stands in for a GPU on the CPU: slow, for tests.
    """
    interpreted = device.type == "cpu" and os.environ.get("TRITON_INTERPRET") == "1"
    if device.type != "cuda" and not interpreted:
        return f"it works on CUDA devices, not on {device.type}"
    error = _import_error()
    if error is not None:
        return f"triton cannot be imported ({error}). Install it with: {INSTALL}"
    if interpreted:
        return None
    if torch.version.hip is None and torch.cuda.get_device_capability(device) < (8, 0):
        return f"it needs a GPU of compute capability 8.0 or newer, not {torch.cuda.get_device_name(device)}"
    return None


@cache
def _import_error() -> str | None:
    try:
        importlib.import_module("triton")
    except Exception as error:  # a broken install raises anything
        return str(error)
    return None


def unsupported(u: torch.Tensor, A: torch.Tensor) -> str | None:
    """Why the Triton scan cannot take these tensors, or None."""
    if u.dtype not in DTYPES:
        return f"it works in {', '.join(str(d).removeprefix('torch.') for d in DTYPES)}, not {str(u.dtype).removeprefix('torch.')}"
    if A.shape[1] > MAX_STATES:
        return f"it holds at most {MAX_STATES} states per channel, not {A.shape[1]}"
    return why_not(u.device)


@dataclass(frozen=True)
class Plan:
    """How a scan is laid over the machine; the result does not depend on it beyond rounding.

    Attributes:
        segments: S; 1: every row is walked from end to end.
        segment_length: tokens of a segment, a multiple of ``steps``.
        steps: tokens read at once, and tokens between two saved states.
        tile: T, channels of a program, a power of two.
        reread: tokens read at once on the way back through ``steps`` of them; divides ``steps``.
        warps: of a program.
    """

    segments: int
    segment_length: int
    steps: int = 4
    tile: int = 32
    reread: int = 4
    warps: int = 1

    def __post_init__(self) -> None:
        assert self.segment_length % self.steps == 0, (self.segment_length, self.steps)
        assert self.steps % self.reread == 0, (self.steps, self.reread)

    @staticmethod
    def of(batch: int, length: int, channels: int, groups: int, states: int, processors: int, **choices: Any) -> "Plan":
        """Enough segments to fill ``processors`` multiprocessors, and none more: a second segment costs every decay twice.

        ``choices`` fixes fields other than the segments.
        """
        padded = _power_of_two(states)
        # Of tile * padded states a thread holds 16.
        choices.setdefault("tile", max(8, min(32, 512 // padded)))
        choices.setdefault("reread", 4 if padded <= 32 else 2)
        choices.setdefault("warps", max(1, choices["tile"] * padded // 512))
        steps = choices.get("steps", Plan.steps)
        programs = batch * groups * -(-(channels // groups) // choices["tile"]) * choices["warps"]
        wanted = -(-_WARPS_PER_PROCESSOR * processors // max(programs, 1))
        segments = max(1, min(wanted, length // _SHORTEST_SEGMENT))
        segment_length = -(-length // (segments * steps)) * steps
        return Plan(-(-length // segment_length), segment_length, **choices)


def scan(x: ScanInputs, wants_last: bool = True, *, plan: Plan | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """The scan, its step size, skip and gate fused; state and arithmetic in fp32 whatever goes in and out.

    Args:
        x: u, delta, B, C and z in float32, bfloat16 or float16; A, D, delta_bias and initial_state may be float32.
        wants_last: changes nothing here: the last state costs next to nothing.
        plan: how it is laid over the machine; chosen by size if None.

    Returns:
        (y (B, L, D) in the dtype of u, last state (B, D, N) in that of A).

    Raises:
        ValueError: orders that do not fit.
    """
    batch, length, channels = x.u.shape
    walks = Walks.of(x.orders, length, x.groups)
    if x.u.numel() == 0:
        nothing = x.A.new_zeros(batch, channels, x.A.shape[1])
        return x.u.new_zeros(x.u.shape), nothing if x.initial_state is None else x.initial_state.to(x.A.dtype)
    plan = plan or Plan.of(batch, length, channels, x.groups, x.A.shape[1], _processors(x.u.device))
    if x.wants_gradient:
        y, last = _TritonScan.apply(plan, walks, *x)  # type: ignore[no-untyped-call]
    else:  # no states for a backward that never comes
        y, last, _ = _Call(x, walks, plan).forward(False)
    return y, last.to(x.A.dtype)


@dataclass(frozen=True)
class Walks:
    """The orders of all groups as the kernels take them: bit g of a mask is group g; 0 and -1 stand for any number of groups."""

    frames: int
    time_groups: int
    reverse_groups: int

    @staticmethod
    def of(orders: tuple[Order, ...], length: int, groups: int) -> "Walks":
        clips = {o.frames for o in orders if o.walk is Walk.TIME_MAJOR}
        if len(clips) > 1:
            raise ValueError(f"all walks along time must have the same number of frames, not {sorted(clips)}")
        frames = clips.pop() if clips else 1
        if length % frames:
            raise ValueError(f"{length} tokens do not divide into {frames} equal frames")
        if len(set(orders)) == 1:
            return Walks(frames, -1 if frames > 1 else 0, -1 if orders[0] == REVERSE else 0)
        if groups > 31:
            raise ValueError(f"at most 31 groups may walk in different orders, not {groups}")
        along = sum(1 << g for g, o in enumerate(orders) if o.walk is Walk.TIME_MAJOR)
        return Walks(frames, along, sum(1 << g for g, o in enumerate(orders) if o == REVERSE))


class _TritonScan(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, plan: Plan, walks: Walks, *arguments: Any) -> tuple[torch.Tensor, torch.Tensor]:
        x = ScanInputs(*arguments)
        y, last, checkpoints = _Call(x, walks, plan).forward(True)
        ctx.save_for_backward(*x.differentiable, x.keep, checkpoints)
        ctx.rest, ctx.how = x[10:], (walks, plan)
        return y, last

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_y: torch.Tensor, grad_last: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        *tensors, checkpoints = ctx.saved_tensors
        call = _Call(ScanInputs(*tensors, *ctx.rest), *ctx.how)
        return (None, None, *call.backward(checkpoints, grad_y, grad_last), None, None, None)


class _Call:
    """The tensors of one scan, made fit for the kernels, and its launches."""

    def __init__(self, x: ScanInputs, walks: Walks, plan: Plan) -> None:
        self.u, self.delta, self.B, self.C = (unit_stride(tensor) for tensor in (x.u, x.delta, x.B, x.C))
        self.z = None if x.z is None else unit_stride(x.z)
        self.A = x.A.contiguous()
        whole = (None if tensor is None else tensor.contiguous() for tensor in (x.D, x.delta_bias, x.initial_state))
        self.D, self.bias, self.start = whole
        self.batch, self.length, self.channels = x.u.shape
        self.groups, self.states = x.B.shape[2:]
        self.plan = plan
        self.keep = None
        if x.keep is not None:
            keep = x.keep if x.keep.ndim == 3 else x.keep[:, None].expand(-1, self.groups, -1)
            self.keep = keep.to(torch.uint8).contiguous()
        self.blocks = -(-(self.channels // self.groups) // plan.tile)
        self.grid = (self.batch * plan.segments, self.groups * self.blocks)
        sizes = (self.length, self.channels, self.channels // self.groups, self.states, plan.segments, plan.segment_length)
        self.sizes = (*sizes, walks.frames, walks.time_groups, walks.reverse_groups)
        self.fixed = {
            "SOFTPLUS": x.softplus,
            "K": plan.steps,
            "T": plan.tile,
            "N": _power_of_two(self.states),
            "num_warps": plan.warps,
        }
        self.u_strides = self.u.stride()[:2]
        self.delta_strides = self.delta.stride()[:2]
        self.B_strides = self.B.stride()[:3]
        self.C_strides = self.C.stride()[:3]
        self.z_strides = (0, 0) if self.z is None else self.z.stride()[:2]

    def forward(self, checkpoint: bool) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        """(y, last state in fp32, states before every K-th token if they are wanted)."""
        k = _kernels()
        y = self.u.new_empty(self.u.shape)
        checkpoints = self._states(-(-self.length // self.plan.steps)) if checkpoint else None
        with torch.cuda.device_of(self.u):
            strides: tuple[int, ...] = (self.channels * self.states, 0)
            if self.plan.segments == 1:
                starts, last = self.start, self._states()
            else:
                ends, decays = self._states(self.plan.segments), self._states(self.plan.segments)
                strides_in = (*self.u_strides, *self.delta_strides, *self.B_strides)
                inputs = (self.u, self.delta, self.A, self.B, self.bias, self.keep)
                k.local_ends[self.grid](*inputs, ends, decays, *self.sizes, *strides_in, **self.fixed)
                starts, last = self._chain(ends, decays, self.start, backward=False), None
                strides = starts.stride()[:2]
            k.outputs[self.grid](
                *(self.u, self.delta, self.A, self.B, self.C, self.D, self.z, self.bias, starts, self.keep),
                *(y, last, checkpoints),
                *self.sizes,
                *(*self.u_strides, *self.delta_strides, *self.B_strides, *self.C_strides, *self.z_strides, *strides),
                **self.fixed,
            )
        if last is None:
            assert starts is not None
            last = starts[:, -1].contiguous()
        return y, last, checkpoints

    def backward(self, checkpoints: torch.Tensor, grad_y: torch.Tensor, grad_last: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Gradients of u, delta, A, B, C, D, z, bias and start."""
        k = _adjoints()
        grad_y, grad_last = unit_stride(grad_y), grad_last.contiguous()
        grad_y_strides = grad_y.stride()[:2]
        parts = (self.batch * self.plan.segments, self.channels)
        grad_u, grad_delta = self.u.new_empty(self.u.shape), self.u.new_empty(self.u.shape)
        grad_z = None if self.z is None else self.u.new_empty(self.u.shape)
        grad_A = self._fp32(*parts, self.states)
        grad_B, grad_C = (self._fp32(self.batch, self.length, self.groups, self.blocks, self.states) for _ in range(2))
        grad_D, grad_bias = (None if x is None else self._fp32(*parts) for x in (self.D, self.bias))
        grad_start = None if self.start is None else self._states()
        with torch.cuda.device_of(self.u):
            incoming_strides: tuple[int, ...] = (self.channels * self.states, 0)
            if self.plan.segments == 1:
                incoming, start_of_first = grad_last, grad_start
            else:
                ends, decays = self._states(self.plan.segments), self._states(self.plan.segments)
                k.local_adjoints[self.grid](
                    *(self.delta, self.A, self.C, self.z, self.bias, self.keep, grad_y, ends, decays),
                    *self.sizes,
                    *(*self.delta_strides, *self.C_strides, *self.z_strides, *grad_y_strides),
                    **self.fixed,
                )
                joined = self._chain(ends, decays, grad_last, backward=True)
                incoming, incoming_strides, start_of_first = joined[:, 1:], joined.stride()[:2], None
                if grad_start is not None:
                    grad_start = joined[:, 0].contiguous()
            k.gradients[self.grid](
                *(self.u, self.delta, self.A, self.B, self.C, self.D, self.z, self.bias, self.keep, checkpoints, grad_y, incoming),
                *(grad_u, grad_delta, grad_z, grad_A, grad_B, grad_C, grad_D, grad_bias, start_of_first),
                *self.sizes,
                *(*self.u_strides, *self.delta_strides, *self.B_strides, *self.C_strides, *self.z_strides),
                *(*grad_y_strides, *incoming_strides),
                **self.fixed,
                Q=self.plan.reread,
            )
        return (
            grad_u,
            grad_delta,
            grad_A.sum(0).to(self.A.dtype),
            _joined(grad_B).to(self.B.dtype),
            _joined(grad_C).to(self.C.dtype),
            None if self.D is None or grad_D is None else grad_D.sum(0).to(self.D.dtype),
            grad_z,
            None if self.bias is None or grad_bias is None else grad_bias.sum(0).to(self.bias.dtype),
            None if self.start is None or grad_start is None else grad_start.to(self.start.dtype),
        )

    def _chain(self, ends: torch.Tensor, decays: torch.Tensor, first: torch.Tensor | None, *, backward: bool) -> torch.Tensor:
        joined = self._states(self.plan.segments + 1)
        size = self.channels * self.states
        grid = (self.batch, -(-size // _CHAIN_BLOCK))
        _kernels().chain[grid](
            *(ends, decays, first, joined, self.plan.segments, size),
            BACKWARD=backward,
            K=_CHAIN_STEPS,
            BLOCK=_CHAIN_BLOCK,
            num_warps=1,
        )
        return joined

    def _states(self, count: int | None = None) -> torch.Tensor:
        """(B, D, N) or (B, count, D, N), unfilled."""
        return self._fp32(self.batch, *(() if count is None else (count,)), self.channels, self.states)

    def _fp32(self, *shape: int) -> torch.Tensor:
        return self.u.new_empty(shape, dtype=torch.float32)


@cache
def _kernels() -> Any:
    return importlib.import_module(".triton_kernels", __package__)


@cache
def _adjoints() -> Any:
    return importlib.import_module(".triton_adjoints", __package__)


@cache
def _processors(device: torch.device) -> int:
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 1


def _power_of_two(states: int) -> int:
    return 1 << max(states - 1, 0).bit_length()


def _joined(parts_BLGPN: torch.Tensor) -> torch.Tensor:
    """Sum over the blocks of channels."""
    return parts_BLGPN[:, :, :, 0] if parts_BLGPN.shape[3] == 1 else parts_BLGPN.sum(3)


def unit_stride(tensor: torch.Tensor) -> torch.Tensor:
    return tensor if tensor.stride(-1) == 1 else tensor.contiguous()
