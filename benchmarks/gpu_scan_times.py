"""How fast the scan is on a GPU, beside floors from rates measured in the same run, and in three directions."""

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
import triton
import triton.language as tl
from gpu_machine import DEVICE, DRY, forget_peak, milliseconds, peak_gib
from gpu_scan import Tensors, inputs, leaves, scan_of
from triton.testing import do_bench_cudagraph
from vivim.ssm import FORWARD, REVERSE, time_major
from vivim.ssm import mamba_ssm_scan as mamba
from vivim.ssm import triton_scan as own
from vivim.ssm.inputs import ScanInputs
from vivim.ssm.triton_scan import Plan

SHAPES = (
    (1, 25088, 128, 16), (1, 6272, 256, 16), (1, 1568, 640, 16), (1, 392, 1024, 16),
    (256, 20, 128, 16), (256, 50, 128, 16), (256, 200, 128, 16), (256, 50, 512, 32),
)  # fmt: skip

# Each layout of a sweep is compiled, which takes longer than timing it.
SWEPT = ((1, 25088, 128, 16), (256, 50, 128, 16))


@triton.jit
def _exponentials(out, rounds, BLOCK: tl.constexpr, CHAINS: tl.constexpr):
    """``rounds * CHAINS`` exponentials per thread with nothing else to wait for."""
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    x = tl.zeros((CHAINS, BLOCK), tl.float32) - 0.01 * i[None, :]
    done = 0
    while done < rounds:
        for _ in tl.static_range(16):
            x = tl.exp2(x)
        done += 16
    tl.store(out + i, tl.sum(x, 0))


@cache
def ceilings() -> dict[str, float]:
    """What the machine can do: bytes per second of a copy (read + written), exponentials per second."""
    source = torch.randn((1 << 10) if DRY else (1 << 28), device=DEVICE)
    target = torch.empty_like(source)
    copy_ms = milliseconds(lambda: target.copy_(source))
    programs, rounds, block, chains = (1, 16, 32, 2) if DRY else (132 * 32, 1024, 128, 8)
    out = torch.empty(programs * block, device=DEVICE)
    exp_ms = milliseconds(lambda: _exponentials[(programs,)](out, rounds, BLOCK=block, CHAINS=chains, num_warps=1 if DRY else 4))
    return {
        "copy_bytes_per_second": 2e3 * source.numel() * 4 / copy_ms,
        "exp_per_second": 1e3 * programs * block * chains * rounds / exp_ms,
    }


def floor_ms(size: tuple[int, int, int, int], item_bytes: int, limit: dict[str, float], backward: bool) -> float:
    """The larger of bytes over bandwidth and exponentials over their rate: every input read once, every output written once; the
    backward takes every exponential once more."""
    batch, length, channels, states = size
    wide, narrow = batch * length * channels * item_bytes, batch * length * states * item_bytes
    bytes_moved = (4 * wide + 2 * narrow) + backward * (7 * wide + 4 * narrow)
    exps = (2 if backward else 1) * batch * length * channels * states
    return 1e3 * max(bytes_moved / limit["copy_bytes_per_second"], exps / limit["exp_per_second"])


def plans(size: tuple[int, int, int, int], sweep: bool) -> dict[str, Plan]:
    """The chosen plan, and with ``sweep`` its neighbours."""
    batch, length, channels, states = size
    processors = own._processors(DEVICE)
    found = {"triton": Plan.of(batch, length, channels, 1, states, processors)}
    if not sweep:
        return found
    for tile, steps, reread in (
        (32, 8, 2),
        (32, 8, 4),
        (32, 8, 1),
        (32, 4, 2),
        (32, 4, 4),
        (16, 8, 2),
        (16, 8, 4),
        (16, 16, 2),
        (64, 4, 2),
    ):
        for warps in (1, 2):
            for fill in (1, 2):
                plan = Plan.of(batch, length, channels, 1, states, processors * fill, tile=tile, steps=steps, reread=reread, warps=warps)
                found[f"triton tile={tile} steps={steps} reread={reread} warps={warps} segments={plan.segments}"] = plan
    return found


def device_ms(f: Callable[[], Any]) -> float:
    """Device time without what launching costs, from a replayed graph; in a dry run, one wall time."""
    return milliseconds(f) if DRY else float(do_bench_cudagraph(f, rep=50))


def time_shapes(sweep: bool = False) -> list[dict[str, Any]]:
    """Forward and backward of one scan per shape and dtype: on the device, and both as called from Python."""
    limit = ceilings()
    rows: list[dict[str, Any]] = [{"ceilings": limit}]
    for size in ((1, 16, 8, 4),) if DRY else SWEPT if sweep else SHAPES:
        batch, length, channels, states = size
        for dtype in (torch.bfloat16,) if sweep else (torch.float32, torch.bfloat16):
            t = leaves(inputs((batch, length, channels, states, 1), dtype), dtype)
            t["initial_state"] = None
            for name, plan in plans(size, sweep).items():
                rows.append(_time_ours(name, plan, t, size, dtype, limit))
    return rows


def _time_ours(
    name: str, plan: Plan, t: Tensors, size: tuple[int, int, int, int], dtype: torch.dtype, limit: dict[str, float]
) -> dict[str, Any]:
    x = ScanInputs(*(None if v is None else v.detach() for v in t.values()), softplus=True, orders=(FORWARD,))  # type: ignore[arg-type]
    call = own._Call(x, own.Walks.of(x.orders, size[1], 1), plan)
    forget_peak()
    y, last, checkpoints = call.forward(True)
    assert checkpoints is not None
    grad_y, grad_last = torch.randn_like(y), torch.randn_like(last)
    call.backward(checkpoints, grad_y, grad_last)
    row: dict[str, Any] = {"backend": name, "shape": size, "dtype": str(dtype).removeprefix("torch."), "peak_gib": peak_gib()}
    row["forward_ms"] = device_ms(lambda: call.forward(False))
    row["backward_ms"] = device_ms(lambda: call.backward(checkpoints, grad_y, grad_last))
    row["both_called_ms"] = _called_ms(lambda: own.scan(scan_of(t), plan=plan)[0], t)
    item = dtype.itemsize
    forward, both = (floor_ms(size, item, limit, backward) for backward in (False, True))
    row |= {"forward_of_floor": forward / row["forward_ms"], "backward_of_floor": (both - forward) / row["backward_ms"]}
    print(
        f"{name} {size} {row['dtype']}: forward {row['forward_ms']:.3f} ms ({row['forward_of_floor']:.0%} of the floor), backward "
        f"{row['backward_ms']:.3f} ms ({row['backward_of_floor']:.0%}), both as called {row['both_called_ms']:.3f} ms",
        flush=True,
    )
    return row


def _called_ms(run: Callable[[], torch.Tensor], t: Tensors) -> float:
    wanted = [v for v in t.values() if v is not None]
    probe = torch.randn_like(run().detach())
    return milliseconds(lambda: torch.autograd.grad(run(), wanted, probe))


def time_directions() -> list[dict[str, Any]]:
    """The three scans of a Vivim block, on channels-last activations: three calls, one call, and mamba-ssm's way with copies."""
    rows = []
    for size, frames in (((1, 8, 8, 4), 2),) if DRY else (((1, 25088, 128, 16), 8), ((8, 25088, 128, 16), 8), ((1, 392, 1024, 16), 8)):
        batch, length, channels, states = size
        orders = (FORWARD, REVERSE, time_major(frames))
        t = leaves(inputs((batch, length, 3 * channels, states, 3), torch.bfloat16), torch.bfloat16)
        t["initial_state"] = None
        parts = [{k: _third(k, v, i, channels) for k, v in t.items()} for i in range(3)]
        ways: dict[str, Callable[[], Any]] = {
            "one call, three groups": lambda t=t, orders=orders: own.scan(scan_of(t, orders=orders))[0],
            "three calls": lambda parts=parts, orders=orders: [
                own.scan(scan_of(p, orders=(order,)))[0] for p, order in zip(parts, orders, strict=True)
            ],
        }
        if mamba.why_not(DEVICE) is None:
            ways["mamba-ssm, one call, tokens moved"] = lambda t=t, orders=orders: mamba.scan(scan_of(t, orders=orders), False)[0]
            ways["mamba-ssm, three calls, tokens moved"] = lambda parts=parts, orders=orders: [
                mamba.scan(scan_of(p, orders=(order,)), False)[0] for p, order in zip(parts, orders, strict=True)
            ]
        for name, run in ways.items():
            with torch.no_grad():
                row = {"way": name, "shape": size, "frames": frames, "dtype": "bfloat16", "forward_ms": milliseconds(run)}
            rows.append(row)
            print(f"three directions, {name} {size}: forward {row['forward_ms']:.3f} ms", flush=True)
    return rows


def _third(name: str, v: torch.Tensor | None, i: int, channels: int) -> torch.Tensor | None:
    if v is None:
        return None
    if name in {"B", "C"}:
        return v[:, :, i : i + 1]
    s = slice(i * channels, (i + 1) * channels)
    return v[s] if v.ndim <= 2 else v[..., s]
