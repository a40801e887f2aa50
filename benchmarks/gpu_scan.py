"""The scan and the convolution before it on a GPU: are they right? ``gpu_scan_times`` says how fast.

Both are compared with the reference in float64: output, last state and every gradient, uninitialised memory filled with NaN.
"""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any

import torch
from gpu_machine import DEVICE, DRY
from vivim.ssm import FORWARD, REVERSE, Backend, Order, selective_scan, time_major
from vivim.ssm import mamba_ssm_scan as mamba
from vivim.ssm import triton_scan as own
from vivim.ssm.conv import causal_conv1d
from vivim.ssm.inputs import ScanInputs, orders_of, starts_kept
from vivim.ssm.triton_scan import Plan

GRADS = ("u", "delta", "A", "B", "C", "D", "z", "delta_bias", "initial_state")
# Relative L2 against float64: (output and last state, gradients). With 16 bits the reference reads the same rounded inputs.
LIMITS = {torch.float32: (2e-6, 5e-6), torch.bfloat16: (1e-2, 2e-2), torch.float16: (1e-2, 2e-2)}
Tensors = dict[str, torch.Tensor | None]


@dataclass(frozen=True)
class Case:
    """One comparison.

    Attributes:
        size: B, L, D, N, G.
        orders: one, or one per group.
        reset: a new sequence every so many tokens; 0: never.
        dtype: of u, delta, B, C and z; the rest is float32.
        segments: forced; 0: as ``Plan.of`` chooses.
        scale: of delta; large: the decay underflows.
        bare: without skip, gate, bias, softplus and initial state.
    """

    size: tuple[int, int, int, int, int]
    orders: tuple[Order, ...] = (FORWARD,)
    reset: int = 0
    dtype: torch.dtype = torch.float32
    segments: int = 0
    scale: float = 1.0
    bare: bool = False

    def __str__(self) -> str:
        walks = "/".join(order.walk.value for order in self.orders)
        extra = [f"reset {self.reset}"] * bool(self.reset) + [f"{self.segments} segments"] * bool(self.segments) + ["bare"] * self.bare
        return " ".join(
            [str(self.size), str(self.dtype).removeprefix("torch."), walks, *extra, *([f"dt x{self.scale:g}"] * (self.scale != 1))]
        )

    def plan(self) -> Plan | None:
        if not self.segments:
            return None
        batch, length, channels, states, groups = self.size
        plan = Plan.of(batch, length, channels, groups, states, 1)
        segment_length = -(-length // (self.segments * plan.steps)) * plan.steps
        return Plan(-(-length // segment_length), segment_length, plan.steps, plan.tile, plan.reread, plan.warps)


SMALL = (
    Case((2, 7, 5, 1, 1)),
    Case((1, 1, 24, 8, 3)),
    Case((1, 63, 5, 16, 1), (REVERSE,), reset=5),
    Case((2, 9, 6, 32, 2), reset=1),
    Case((1, 24, 6, 8, 3), (FORWARD, REVERSE, time_major(4)), segments=3),
    Case((1, 22, 5, 16, 1), reset=9, segments=3),
    Case((1, 20, 35, 4, 1), (time_major(5),), segments=2),
    Case((1, 10, 5, 2, 1), bare=True),
    Case((1, 17, 3, 16, 1), (REVERSE,), segments=3, bare=True),
    Case((1, 24, 4, 16, 1), segments=3, scale=200.0),
    Case((1, 12, 5, 16, 1), dtype=torch.bfloat16),
    Case((1, 9, 5, 16, 1), dtype=torch.float16),
)
LARGE = (
    *(Case((3, length, channels, states, 1)) for length in (1, 7, 63, 1000) for channels in (5, 24, 500) for states in (1, 8, 16, 32)),
    *(Case((2, 63, 24, states, 1)) for states in (64, 100, 128, 256)),
    *(Case((2, 63, 36, 16, 3), reset=every) for every in range(1, 64, 7)),
    Case((1, 5000, 32, 16, 1), reset=700),
    Case((1, 5000, 32, 16, 1), (REVERSE,)),
    Case((1, 6272, 256, 16, 1), (time_major(8),)),
    Case((1, 1568, 384, 16, 3), (FORWARD, REVERSE, time_major(8))),
    Case((1, 1568, 384, 16, 3), (FORWARD, REVERSE, time_major(8)), dtype=torch.bfloat16),
    Case((64, 50, 128, 16, 1), dtype=torch.bfloat16),
    Case((64, 50, 128, 16, 1), dtype=torch.float16),
)


def inputs(size: tuple[int, int, int, int, int], dtype: torch.dtype, scale: float = 1.0, bare: bool = False) -> Tensors:
    """Random float64 tensors that hold what ``dtype`` can hold."""
    batch, length, channels, states, groups = size
    g = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=g, dtype=torch.float64)

    tensors: Tensors = {
        "u": normal(batch, length, channels),
        "delta": normal(batch, length, channels) * scale,
        "A": -torch.rand(channels, states, generator=g, dtype=torch.float64) - 0.1,
        "B": normal(batch, length, groups, states),
        "C": normal(batch, length, groups, states),
        "D": normal(channels),
        "z": normal(batch, length, channels),
        "delta_bias": normal(channels),
        "initial_state": normal(batch, channels, states),
    }
    if bare:
        assert tensors["delta"] is not None
        tensors |= {"delta": tensors["delta"].abs(), "D": None, "z": None, "delta_bias": None, "initial_state": None}
    return {k: None if v is None else v.to(_dtype_of(k, dtype)).double().to(DEVICE) for k, v in tensors.items()}


def _dtype_of(name: str, dtype: torch.dtype) -> torch.dtype:
    return dtype if name in {"u", "delta", "B", "C", "z"} else torch.float32


def leaves(exact: Tensors, dtype: torch.dtype | None) -> Tensors:
    """Fresh leaves of ``exact``, in float64 if ``dtype`` is None."""
    return {
        k: None if v is None else v.detach().clone().to(torch.float64 if dtype is None else _dtype_of(k, dtype)).requires_grad_()
        for k, v in exact.items()
    }


def results(
    run: Callable[[Tensors], tuple[torch.Tensor, torch.Tensor]], t: Tensors, *, last_gradient: bool = True
) -> dict[str, torch.Tensor]:
    """Output, last state and every gradient of a fixed random functional of them."""
    y, last = run(t)
    g = torch.Generator().manual_seed(9)
    loss = (y * torch.randn(y.shape, generator=g, dtype=torch.float64).to(y)).sum(dtype=torch.float64)
    if last_gradient:
        loss = loss + (last * torch.randn(last.shape, generator=g, dtype=torch.float64).to(last)).sum(dtype=torch.float64)
    wanted = {k: v for k, v in t.items() if v is not None}
    grads = torch.autograd.grad(loss, list(wanted.values()))
    return {"y": y.detach(), "last": last.detach(), **dict(zip(wanted, grads, strict=True))}


def reference(case: Case, t: Tensors) -> tuple[torch.Tensor, torch.Tensor]:
    """The plain loop."""
    tensors = [t[name] for name in GRADS]
    start = tensors.pop()
    result = selective_scan(
        *tensors,  # type: ignore[arg-type]
        not case.bare,
        True,
        order=case.orders,
        seq_idx=_sequences(case),
        initial_state=start,
        backend=Backend.REFERENCE,
    )
    assert isinstance(result, tuple)
    return result


def _sequences(case: Case) -> torch.Tensor | None:
    batch, length, *_ = case.size
    return (torch.arange(length, device=DEVICE) // case.reset).expand(batch, length) if case.reset else None


def with_triton(case: Case, t: Tensors) -> tuple[torch.Tensor, torch.Tensor]:
    """Our kernels."""
    return own.scan(scan_of(t, case), plan=case.plan())


def with_mamba(case: Case, t: Tensors) -> tuple[torch.Tensor, torch.Tensor]:
    """mamba-ssm's operation."""
    y, last = mamba.scan(scan_of(t, case))
    assert last is not None
    return y, last


def scan_of(t: Tensors, case: Case | None = None, orders: Sequence[Order] = (FORWARD,)) -> ScanInputs:
    tensors: Any = [t[name] for name in GRADS]
    if case is None:
        return ScanInputs(*tensors, softplus=True, orders=tuple(orders))
    walks = orders_of(case.orders, case.size[4])
    sequences = _sequences(case)
    return ScanInputs(*tensors, None if sequences is None else starts_kept(sequences, walks), not case.bare, walks)


def errors(got: dict[str, torch.Tensor], want: dict[str, torch.Tensor]) -> dict[str, float]:
    """Relative L2 of each; NaN counts as infinite."""
    found = {k: float((got[k].double() - want[k]).norm() / want[k].norm().clamp_min(1e-30)) for k in want}
    return {k: v if v == v else float("inf") for k, v in found.items()}


CONVOLUTIONS: tuple[tuple[tuple[int, int, int, int], Order, int, torch.dtype], ...] = (
    ((2, 24, 5, 4), FORWARD, 0, torch.float32),
    ((1, 40, 70, 4), time_major(4), 5, torch.float32),
    ((1, 12, 36, 8), REVERSE, 1, torch.float32),
    ((1, 9, 16, 1), REVERSE, 0, torch.bfloat16),
    ((3, 120, 128, 4), time_major(8), 7, torch.bfloat16),
)


def compare_convolution(size: tuple[int, int, int, int], order: Order, reset: int, dtype: torch.dtype) -> dict[str, Any]:
    """Bias and SiLU included; the reference reads the same rounded inputs."""
    batch, length, channels, taps = size
    g = torch.Generator().manual_seed(0)
    shapes = {"x": (batch, length, channels), "weight": (channels, taps), "bias": (channels,)}
    kept = {"x": dtype, "weight": torch.float32, "bias": torch.float32}
    exact = {k: torch.randn(*s, generator=g, dtype=torch.float64).to(kept[k]).double().to(DEVICE) for k, s in shapes.items()}
    probe = torch.randn(*shapes["x"], generator=g, dtype=torch.float64).to(DEVICE)
    sequences = (torch.arange(length, device=DEVICE) // reset).expand(batch, length) if reset else None
    found = []
    for backend in (Backend.TORCH, Backend.TRITON):
        t = {k: v.clone().to(torch.float64 if backend is Backend.TORCH else kept[k]).requires_grad_() for k, v in exact.items()}
        y = causal_conv1d(t["x"], t["weight"], t["bias"], silu=True, order=order, seq_idx=sequences, backend=backend)
        grads = torch.autograd.grad((y * probe.to(y)).sum(dtype=torch.float64), list(t.values()))
        found.append({"y": y.detach(), **dict(zip(t, grads, strict=True))})
    wrong = errors(found[1], found[0])
    limit = LIMITS[dtype]
    ok = all(e <= (limit[0] if k == "y" else limit[1]) for k, e in wrong.items())
    case = f"convolution {size} {dtype} {order.walk.value} reset {reset}"
    print(f"{'within' if ok else 'WRONG '} triton {case}: worst {max(wrong.values()):.1e}", flush=True)
    return {"backend": "triton", "case": case, "errors": wrong, "ok": ok}


def check() -> dict[str, Any]:
    """Every case through every backend; ``ok`` says whether all of ours are within limits."""
    convolutions = [compare_convolution(*case) for case in CONVOLUTIONS]
    scans = check_scans()
    return {
        "ok": all(row["ok"] for row in (*scans["rows"], *convolutions) if row["backend"] == "triton"),
        **scans,
        "convolutions": convolutions,
    }


def check_scans() -> dict[str, Any]:
    cases = SMALL if DRY else (*SMALL, *LARGE)
    if DRY:
        return {"rows": [row for case in cases for row in compare(case)]}
    # Most of the time goes into compiling, which takes one core per kernel.
    with ProcessPoolExecutor(min(12, os.cpu_count() or 1), get_context("spawn")) as pool:
        return {"rows": [row for rows in pool.map(compare, cases) for row in rows]}


def compare(case: Case) -> list[dict[str, Any]]:
    """One case through every backend that can."""
    torch.use_deterministic_algorithms(True, warn_only=True)  # and with it, new memory is NaN
    torch.utils.deterministic.fill_uninitialized_memory = True
    exact = inputs(case.size, case.dtype, case.scale, case.bare)
    rows = [compare_one(case, "triton", with_triton, exact)]
    if mamba.why_not(DEVICE) is None and not case.reset and not case.segments:
        rows.append(compare_one(case, "mamba_ssm", with_mamba, exact | {"initial_state": None}))
    torch.use_deterministic_algorithms(False)
    return rows


def compare_one(case: Case, name: str, run: Any, given: Tensors) -> dict[str, Any]:
    ours = name == "triton"  # mamba-ssm's last state has no gradient, and its sums over channels are atomic
    want = results(lambda t: reference(case, t), leaves(given, None), last_gradient=ours)
    got = results(lambda t: run(case, t), leaves(given, case.dtype), last_gradient=ours)
    again = results(lambda t: run(case, t), leaves(given, case.dtype)) if ours and not DRY else got
    found = errors(got, want)
    for_y, for_grad = LIMITS[case.dtype]
    # The decay of a large step is an exponential of a large number, whose rounding the reference does not see.
    slack = 2.0 if case.scale > 1 else 1.0
    within = all(e <= slack * (for_y if k in {"y", "last"} else for_grad) for k, e in found.items())
    same = all(torch.equal(got[k], again[k]) for k in got)
    worst = max(found, key=lambda k: found[k])
    print(
        f"{'within' if within else 'WRONG '} {name} {case}: worst {worst} {found[worst]:.1e}{'' if same else ', CHANGES'}",
        flush=True,
    )
    return {"backend": name, "case": str(case), "errors": found, "ok": within and same, "deterministic": same}
