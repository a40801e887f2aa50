"""Everything a GPU must confirm about the scan, in one run: first that it is right, then how fast it is.

    python benchmarks/gpu_check.py [--out FOLDER]      on a machine with a GPU, torch and triton; vivim need not be installed
    python benchmarks/gpu_check.py --sweep             the same with other layouts of the kernels, at two shapes, in a run of its own
    python benchmarks/gpu_check.py --dry-run           the same path, tiny, in Triton's interpreter on the CPU

The Triton scan, and mamba-ssm's where it loads, are compared with the reference loop in float64: output, last state and every
gradient, uninitialised memory filled with NaN. Nothing is timed unless all of it is right. Times are medians of
``triton.testing.do_bench``; floors come from the copy bandwidth and the rate of exponentials measured in the same run.
The result goes to FOLDER/gpu_check.json; FOLDER is $OUT, or benchmarks/results.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path
from typing import Any

DRY = "--dry-run" in sys.argv
if DRY:
    os.environ["TRITON_INTERPRET"] = "1"  # triton reads it when a kernel is defined

import torch  # noqa: E402

try:
    import triton
except ImportError as error:
    sys.exit(f"the GPU check needs triton, which cannot be imported ({error}). Install it with: pip install 'vivim[cuda]'")
import triton.language as tl  # noqa: E402
import triton.testing  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]


def _import_checkout() -> None:
    """Make ``import vivim`` find this checkout, installed or not: the repository root is the package."""
    folder = Path(tempfile.mkdtemp())
    (folder / "vivim").symlink_to(ROOT)
    sys.path.insert(0, str(folder))


_import_checkout()

from vivim.extract.vivim import Vivim, VivimConfig  # noqa: E402
from vivim.ssm import FORWARD, REVERSE, VIDEO, Backend, MambaBlock, Order, selective_scan, time_major  # noqa: E402
from vivim.ssm import mamba_ssm_scan as mamba  # noqa: E402
from vivim.ssm import triton_scan as own  # noqa: E402
from vivim.ssm.inputs import ScanInputs, orders_of, starts_kept  # noqa: E402
from vivim.ssm.triton_scan import Plan  # noqa: E402

DEVICE = torch.device("cpu" if DRY else "cuda")
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
SHAPES = (
    (1, 25088, 128, 16), (1, 6272, 256, 16), (1, 1568, 640, 16), (1, 392, 1024, 16),
    (256, 20, 128, 16), (256, 50, 128, 16), (256, 200, 128, 16), (256, 50, 512, 32),
)  # fmt: skip

# Each layout of a sweep is compiled, which takes longer than timing it.
SWEPT = ((1, 25088, 128, 16), (256, 50, 128, 16))


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
    return own.scan(_scan_of(t, case), plan=case.plan())


def with_mamba(case: Case, t: Tensors) -> tuple[torch.Tensor, torch.Tensor]:
    """mamba-ssm's operation."""
    y, last = mamba.scan(_scan_of(t, case))
    assert last is not None
    return y, last


def _scan_of(t: Tensors, case: Case | None = None, orders: Sequence[Order] = (FORWARD,)) -> ScanInputs:
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


def check() -> dict[str, Any]:
    """Every case through every backend; ``ok`` says whether all of ours are within limits."""
    cases = SMALL if DRY else (*SMALL, *LARGE)
    if DRY:
        return judged([row for case in cases for row in compare(case)])
    # Most of the time goes into compiling, which takes one core per kernel.
    with ProcessPoolExecutor(min(12, os.cpu_count() or 1), get_context("spawn")) as pool:
        return judged([row for rows in pool.map(compare, cases) for row in rows])


def judged(rows: list[dict[str, Any]]) -> dict[str, Any]:
    return {"ok": all(row["ok"] for row in rows if row["backend"] == "triton"), "rows": rows}


def compare(case: Case) -> list[dict[str, Any]]:
    """One case through every backend that can."""
    torch.use_deterministic_algorithms(True, warn_only=True)  # and with it, new memory is NaN
    torch.utils.deterministic.fill_uninitialized_memory = True
    rows = []
    exact = inputs(case.size, case.dtype, case.scale, case.bare)
    runs: list[tuple[str, Any, Tensors]] = [("triton", with_triton, exact)]
    if mamba.why_not(DEVICE) is None and not case.reset and not case.segments:
        runs.append(("mamba_ssm", with_mamba, exact | {"initial_state": None}))
    for name, run, given in runs:
        ours = name == "triton"  # mamba-ssm's last state has no gradient, and its sums over channels are atomic
        want = results(lambda t, c=case: reference(c, t), leaves(given, None), last_gradient=ours)
        got = results(lambda t, c=case, r=run: r(c, t), leaves(given, case.dtype), last_gradient=ours)
        again = results(lambda t, c=case, r=run: r(c, t), leaves(given, case.dtype)) if ours and not DRY else got
        found = errors(got, want)
        for_y, for_grad = LIMITS[case.dtype]
        # The decay of a large step is an exponential of a large number, whose rounding the reference does not see.
        slack = 2.0 if case.scale > 1 else 1.0
        within = all(e <= slack * (for_y if k in {"y", "last"} else for_grad) for k, e in found.items())
        same = all(torch.equal(got[k], again[k]) for k in got)
        rows.append({"backend": name, "case": str(case), "errors": found, "ok": within and same, "deterministic": same})
        worst = max(found, key=lambda k: found[k])
        print(
            f"{'within' if within else 'WRONG '} {name} {case}: worst {worst} {found[worst]:.1e}{'' if same else ', CHANGES'}",
            flush=True,
        )
    torch.use_deterministic_algorithms(False)
    return rows


def milliseconds(f: Callable[[], Any]) -> float:
    """Median device time; in a dry run, one wall time."""
    if DRY:
        start = time.perf_counter()
        f()
        return 1e3 * (time.perf_counter() - start)
    return float(triton.testing.do_bench(f, warmup=50, rep=200, return_mode="median"))


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
    """The larger of bytes over bandwidth and exponentials over their rate: every input read once, every output written once."""
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


def time_shapes(limit: dict[str, float], sweep: bool) -> list[dict[str, Any]]:
    """Forward, and forward with backward, of one scan per shape and dtype."""
    rows = []
    for size in ((1, 16, 8, 4),) if DRY else SWEPT if sweep else SHAPES:
        batch, length, channels, states = size
        for dtype in (torch.bfloat16,) if sweep else (torch.float32, torch.bfloat16):
            t = leaves(inputs((batch, length, channels, states, 1), dtype), dtype)
            t["initial_state"] = None
            candidates: dict[str, Callable[[], tuple[torch.Tensor, torch.Tensor]]] = {
                name: lambda p=plan, t=t: own.scan(_scan_of(t), plan=p) for name, plan in plans(size, sweep).items()
            }
            if mamba.why_not(DEVICE) is None:
                candidates["mamba_ssm"] = lambda t=t: mamba.scan(_scan_of(t), wants_last=False)
            rows += [_time_one(name, run, t, size, dtype, limit) for name, run in candidates.items()]
    return rows


def _time_one(
    name: str,
    run: Callable[[], tuple[torch.Tensor, torch.Tensor]],
    t: Tensors,
    size: tuple[int, int, int, int],
    dtype: torch.dtype,
    limit: dict[str, float],
) -> dict[str, Any]:
    wanted = [v for v in t.values() if v is not None]
    probe = torch.randn_like(t["u"].detach()) if t["u"] is not None else None

    def both() -> Any:
        return torch.autograd.grad(run()[0], wanted, probe)

    def forward() -> Any:
        with torch.no_grad():
            return run()

    row: dict[str, Any] = {"backend": name, "shape": size, "dtype": str(dtype).removeprefix("torch.")}
    try:
        row |= {"forward_ms": milliseconds(forward), "both_ms": milliseconds(both)}
    except Exception as error:  # one plan of a sweep may need more than the machine has; the others still count
        print(f"FAILED {name} {size}: {error}")
        return row | {"error": str(error)[:300]}
    item = dtype.itemsize
    row["forward_of_floor"] = floor_ms(size, item, limit, False) / row["forward_ms"]
    row["both_of_floor"] = floor_ms(size, item, limit, True) / row["both_ms"]
    if not DRY:
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        both()
        row["peak_over_inputs_and_outputs"] = (torch.cuda.max_memory_allocated() - before) / (9 * probe.nbytes if probe is not None else 1)
    print(
        f"{name:10s} {size} {row['dtype']}: forward {row['forward_ms']:.3f} ms ({row['forward_of_floor']:.0%} of the floor), "
        f"forward and backward {row['both_ms']:.3f} ms ({row['both_of_floor']:.0%})",
        flush=True,
    )
    return row


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
            "one call, three groups": lambda t=t, orders=orders: own.scan(_scan_of(t, orders=orders))[0],
            "three calls": lambda parts=parts, orders=orders: [
                own.scan(_scan_of(p, orders=(order,)))[0] for p, order in zip(parts, orders, strict=True)
            ],
        }
        if mamba.why_not(DEVICE) is None:
            ways["mamba-ssm, one call, tokens moved"] = lambda t=t, orders=orders: mamba.scan(_scan_of(t, orders=orders), False)[0]
            ways["mamba-ssm, three calls, tokens moved"] = lambda parts=parts, orders=orders: [
                mamba.scan(_scan_of(p, orders=(order,)), False)[0] for p, order in zip(parts, orders, strict=True)
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


def time_models() -> list[dict[str, Any]]:
    """A Vivim block of stage one, and whole encoders, with our scan and with plain torch."""
    names = [name for name in ("TRITON", "TORCH") if hasattr(Backend, name)]
    if DRY:
        names = ["TORCH"]
    rows = []
    for name in names:
        backend = getattr(Backend, name)
        for amp in (False, True):
            frames, tokens, width = (2, 4, 8) if DRY else (8, 3136, 64)
            block = MambaBlock(width, directions=VIDEO, backend=backend).to(DEVICE)
            x = torch.randn(1, frames * tokens, width, device=DEVICE)
            rows.append(_model_row("block, stage 1", name, amp, 1, lambda b=block, x=x, f=frames: b(x, frames=f)))
            for size, clips in (("nano", 1),) if DRY else (("b0", 1), ("b0", 16), ("b3", 1), ("b3", 16)):
                model = Vivim(VivimConfig.of_size(size)).to(DEVICE).eval()
                for module in model.modules():
                    if isinstance(module, MambaBlock):
                        module.backend = backend
                clip = torch.rand(clips, *((2, 3, 32, 32) if DRY else (8, 3, 224, 224)), device=DEVICE)
                rows.append(_model_row(f"encoder {size}", name, amp, clips, lambda m=model, c=clip: m.embed(c)))
    return rows


def _model_row(what: str, backend: str, amp: bool, clips: int, run: Callable[[], torch.Tensor]) -> dict[str, Any]:
    def mixed() -> torch.Tensor:
        with torch.autocast(DEVICE.type, torch.bfloat16, enabled=amp):
            return run()

    def train() -> None:
        mixed().float().square().mean().backward()

    with torch.inference_mode():
        forward_ms = milliseconds(mixed)
    both_ms = milliseconds(train)
    row = {"what": what, "backend": backend, "autocast": amp, "clips": clips, "forward_ms": forward_ms, "both_ms": both_ms}
    print(
        f"{what} ({backend}{', bf16' * amp}) {clips} clips: {1e3 * clips / forward_ms:.1f} clips/s, training {1e3 * clips / both_ms:.1f}",
        flush=True,
    )
    return row | {"clips_per_second": 1e3 * clips / forward_ms, "training_clips_per_second": 1e3 * clips / both_ms}


def about() -> dict[str, Any]:
    """Where and with what this was measured."""
    head = subprocess.run(["git", "-C", str(ROOT), "rev-parse", "HEAD"], capture_output=True, text=True)
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": head.stdout.strip() or os.environ.get("COMMIT", "unknown"),
        "command": " ".join(["python", *sys.argv]),
        "device": "cpu, Triton's interpreter" if DRY else torch.cuda.get_device_name(),
        "python": sys.version.split()[0],
        "torch": torch.__version__,
        "triton": triton.__version__,
        "mamba_ssm": mamba.why_not(DEVICE) or "ok",
        "dry_run": DRY,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, default=Path(os.environ.get("OUT", ROOT / "benchmarks" / "results")))
    parser.add_argument("--sweep", action="store_true", help="time other layouts of the kernels, at two shapes, instead of all shapes")
    parser.add_argument("--dry-run", action="store_true", help="tiny, in Triton's interpreter on the CPU; times mean nothing")
    args = parser.parse_args()
    reason = own.why_not(DEVICE) if DRY or torch.cuda.is_available() else "torch sees no GPU; try --dry-run"
    if reason is not None:
        print(f"nothing to check: {reason}", file=sys.stderr)
        return 2
    args.out.mkdir(parents=True, exist_ok=True)
    path = args.out / ("gpu_check_dry_run.json" if DRY else "gpu_check.json")
    report: dict[str, Any] = {"about": about()}

    def add(name: str, value: Any) -> None:
        """Kept at once: a run that is stopped later has not measured for nothing."""
        report[name] = value
        path.write_text(json.dumps(report, indent=1, default=list) + "\n")

    add("correctness", check())
    if not report["correctness"]["ok"]:
        print(f"not timed: results are wrong; written: {path}")
        return 1
    add("plans", {str(size): asdict(plans(size, False)["triton"]) for size in SHAPES})
    add("ceilings", ceilings())
    add("scans", time_shapes(report["ceilings"], args.sweep))
    add("directions", time_directions())
    add("models", time_models())
    print(f"written: {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
