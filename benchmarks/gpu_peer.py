"""Our Triton scan beside mamba-ssm's CUDA scan: one process, in turn, the same numbers.

mamba-ssm's is built by ``mamba_ssm_build.py``; that both are right is ``gpu_scan``'s matter. Its layout is (B, D, L), ours (B, L, D): its
kernel is timed on its own layout, and on ours as our adapter calls it, with copies of u, delta, B, C and z, and of the gradient of y.
"""

import importlib
import statistics
from collections.abc import Callable
from typing import Any

import torch
from gpu_machine import DEVICE, forget_peak
from gpu_scan import Tensors, errors, inputs, leaves, scan_of
from gpu_scan_times import SHAPES, plans
from triton.testing import do_bench, do_bench_cudagraph
from vivim.ssm import mamba_ssm_scan as mamba
from vivim.ssm import triton_scan as own

ROUNDS = 3
# What a backward returns, in each one's order; theirs without None for the initial state.
OURS = ("u", "delta", "A", "B", "C", "D", "z", "delta_bias")
THEIRS = ("u", "delta", "A", "B", "C", "D", "delta_bias", "z")
Ways = dict[str, Callable[[], Any]]


def time_shapes() -> list[dict[str, Any]]:
    """One row per shape and dtype: ms and GiB of either, and how far their results are apart.

    ``forward`` and ``backward`` are device time of the kernels without launching; ``_keeping``: ours with the states written that a
    backward reads, as a training does (theirs always keeps its own); ``_moved``: theirs with what our layout costs it; ``_called``: as
    called from Python; ``both_gib``: memory that forward and backward take beside their inputs.
    """
    reason = mamba.why_not(DEVICE)
    if reason is not None:
        return [{"skipped": reason}]
    return [_row(size, dtype) for size in SHAPES for dtype in (torch.float32, torch.bfloat16)]


def _row(size: tuple[int, int, int, int], dtype: torch.dtype) -> dict[str, Any]:
    batch, length, channels, states = size
    t = leaves(inputs((batch, length, channels, states, 1), dtype), dtype)
    t["initial_state"] = None
    grad_y = torch.randn_like(t["u"].detach())  # type: ignore[union-attr]
    found: dict[str, dict[str, Any]] = {"triton": {"both_gib": _gib(_both_ours(t, grad_y))}}
    found["mamba_ssm"] = {"both_gib": _gib(_both_theirs(t, grad_y))}
    kernels = {"triton": _ours(t, size, grad_y), "mamba_ssm": _theirs(t, grad_y)}
    apart = _apart(kernels["triton"], kernels["mamba_ssm"])
    x = scan_of({k: None if v is None else v.detach() for k, v in t.items()})
    called: dict[str, Ways] = {
        "triton": {"forward_called": lambda: own.scan(x), "both_called": _both_ours(t, grad_y)},
        "mamba_ssm": {"forward_called": lambda: mamba.scan(x, False), "both_called": _both_theirs(t, grad_y)},
    }
    measured: dict[tuple[str, str], list[float]] = {}
    for _ in range(ROUNDS):
        for name in found:
            for way, run in kernels[name].items():
                measured.setdefault((name, way), []).append(do_bench_cudagraph(run, rep=10))
            for way, run in called[name].items():
                measured.setdefault((name, way), []).append(do_bench(run, warmup=20, rep=60, return_mode="median"))
    for (name, way), times in measured.items():
        found[name][f"{way}_ms"] = statistics.median(times)
    print(f"{size} {dtype}: {found}, apart {max(apart.values()):.1e}", flush=True)
    return {"shape": size, "dtype": str(dtype).removeprefix("torch."), **found, "apart": apart}


def _ours(t: Tensors, size: tuple[int, int, int, int], grad_y: torch.Tensor) -> Ways:
    x = scan_of({k: None if v is None else v.detach() for k, v in t.items()})
    call = own._Call(x, own.Walks.of(x.orders, size[1], 1), plans(size, False)["triton"])
    _, last, kept = call.forward(True)
    assert kept is not None
    grad_last = torch.zeros_like(last)
    return {
        "forward": lambda: call.forward(False),
        "forward_keeping": lambda: call.forward(True),
        "backward": lambda: call.backward(kept, grad_y, grad_last),
    }


def _theirs(t: Tensors, grad_y: torch.Tensor) -> Ways:
    cuda = importlib.import_module("selective_scan_cuda")
    x = scan_of({k: None if v is None else v.detach() for k, v in t.items()})
    assert x.z is not None
    u, delta, B, C, z, grad = (tensor.movedim(1, -1).contiguous() for tensor in (x.u, x.delta, x.B, x.C, x.z, grad_y))
    tensors = (u, delta, x.A, B, C, x.D, z, x.delta_bias)
    y, kept, _ = cuda.fwd(*tensors, True)

    def backward(grad: torch.Tensor) -> Any:
        return cuda.bwd(*tensors, grad, kept, y, None, True, False)

    return {
        "forward": lambda: cuda.fwd(*tensors, True),
        "backward": lambda: backward(grad),
        "forward_moved": lambda: mamba.scan(x, False),
        "backward_moved": lambda: backward(grad_y.movedim(1, -1).contiguous()),
    }


def _both_ours(t: Tensors, grad_y: torch.Tensor) -> Callable[[], Any]:
    wanted = [v for v in t.values() if v is not None]
    return lambda: torch.autograd.grad(own.scan(scan_of(t))[0], wanted, grad_y)


def _both_theirs(t: Tensors, grad_y: torch.Tensor) -> Callable[[], Any]:
    wanted = [v for v in t.values() if v is not None]
    return lambda: torch.autograd.grad(mamba.scan(scan_of(t), wants_last=False)[0], wanted, grad_y)


def _gib(run: Callable[[], Any]) -> float:
    """The most that ``run`` holds beyond what was there before."""
    run()
    forget_peak()
    before = torch.cuda.memory_allocated()
    run()
    return (torch.cuda.max_memory_allocated() - before) / 2**30


def _apart(ours: Ways, theirs: Ways) -> dict[str, float]:
    """Relative L2 between the two, of y and every gradient."""
    want = {"y": theirs["forward"]()[2].transpose(1, 2), **dict(zip(THEIRS, theirs["backward"](), strict=True))}
    want |= {name: want[name].movedim(-1, 1) for name in ("u", "delta", "B", "C", "z")}
    got = {"y": ours["forward"]()[0], **dict(zip(OURS, ours["backward"](), strict=False))}
    return errors(got, {name: tensor.double() for name, tensor in want.items()})
