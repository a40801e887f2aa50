"""How fast the selective scan is, against the plain loop, against plain torch, and against what the machine could do.

    python benchmarks/scan.py [--interactions MicroLens-50k_pairs.tsv] [--rounds 3] [--quick] [--out benchmarks/results/scan.json]
    python benchmarks/scan.py docs       # benchmarks/results/scan.json -> the table in docs/ssm.md

All candidates take turns in one process, so that a noisy neighbour hurts them alike. ``cpu`` is the CPU time of one thread, the
smallest of the rounds; ``wall`` is the elapsed time with all threads. Candidates:

- ``reference``: the plain loop of this package, one token after another with the state (B, D, N) in the cache;
- ``published``: the loop that mamba-ssm publishes as its reference (``selective_scan_ref``, restated here), which first writes the
  decays and inputs of all tokens out as (B, D, L, N);
- ``torch``: plain torch, in chunks, with a backward of its own; ``native``: compiled C++.

The floor is measured in the same run: the arithmetic of the scan alone with its operands in registers (one exponential and three
multiply-adds per state forward; the same again and eight more backward), or its tensors once through memory at copy speed (a
tensor that is written is read first), whichever is longer. Memory is what forward and backward need beyond and with their inputs
and outputs, over these.
"""

import argparse
import ctypes
import json
import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from vivim.allocator import keep_freed_memory
from vivim.recommend.batches import TrainBatch, train_batches
from vivim.recommend.build import protocol_of
from vivim.recommend.config import ProtocolConfig
from vivim.recommend.readers import read_interactions
from vivim.ssm import FORWARD, REVERSE, Backend, Order, available_backends, selective_scan, time_major
from vivim.ssm.native import library
from vivim.store.provenance import provenance

RESULT = Path(__file__).parent / "results" / "scan.json"
DOCS = Path(__file__).resolve().parents[1] / "docs" / "ssm.md"
BEGIN, END = "<!-- scan:begin -->", "<!-- scan:end -->"
# A candidate slower than this runs once.
SLOW_SECONDS = 2.0


@dataclass(frozen=True)
class Case:
    """One shape.

    Attributes:
        name: what it is.
        shape: batch, length, channels, states.
        orders: one, or one per group of channels.
        seq_idx: sequences packed into the rows.
    """

    name: str
    shape: tuple[int, int, int, int]
    orders: tuple[Order, ...] = (FORWARD,)
    seq_idx: torch.Tensor | None = None


CASES = (
    Case("Vivim stage 1", (1, 25088, 128, 16)),
    Case("Vivim stage 2", (1, 6272, 256, 16)),
    Case("Vivim stage 3", (1, 1568, 640, 16)),
    Case("Vivim stage 4", (1, 392, 1024, 16)),
    Case("histories of 20", (256, 20, 128, 16)),
    Case("histories of 50", (256, 50, 128, 16)),
    Case("histories of 200", (256, 200, 128, 16)),
    Case("histories of 50, wide", (256, 50, 512, 32)),
    Case("stage 1, reverse", (1, 25088, 128, 16), (REVERSE,)),
    Case("stage 1, along time", (1, 25088, 128, 16), (time_major(8),)),
    Case("stage 1, three walks in one call", (1, 25088, 384, 16), (FORWARD, REVERSE, time_major(8))),
)
QUICK = (Case("quick", (1, 392, 64, 16)), Case("quick, three walks", (2, 24, 48, 16), (FORWARD, REVERSE, time_major(8))))


def packed_case(interactions: Path) -> Case:
    """A training batch of 256 histories as the recommender packs it, at its inner width."""
    split = protocol_of(ProtocolConfig()).split(read_interactions(interactions))
    batch: TrainBatch = next(iter(train_batches(split.train, batch=256, max_len=10, seed=0, epoch=1)))
    assert batch.seq_idx_SW is not None
    rows, places = batch.inputs_SW.shape
    return Case("packed MicroLens-50K histories", (rows, places, 256, 16), seq_idx=batch.seq_idx_SW)


def inputs(case: Case) -> dict[str, torch.Tensor]:
    """Tensors as a fresh model makes them: steps between .001 and .1, A from -1 to -N."""
    batch, length, channels, states = case.shape
    g = torch.Generator().manual_seed(0)

    def normal(*sizes: int) -> torch.Tensor:
        return torch.randn(*sizes, generator=g)

    dt = torch.exp(torch.rand(channels, generator=g) * (math.log(0.1) - math.log(1e-3)) + math.log(1e-3))
    return {
        "u": normal(batch, length, channels),
        "delta": 0.1 * normal(batch, length, channels),
        "A": -torch.arange(1.0, states + 1).expand(channels, states).contiguous(),
        "B": normal(batch, length, len(case.orders), states),
        "C": normal(batch, length, len(case.orders), states),
        "D": normal(channels),
        "z": normal(batch, length, channels),
        "delta_bias": dt + torch.log(-torch.expm1(-dt)),
    }


def published(t: dict[str, torch.Tensor]) -> torch.Tensor:
    """The loop of mamba-ssm's ``selective_scan_ref`` on its own layout, (B, D, L)."""
    u, delta, z, B, C = (
        t[name].squeeze(2).transpose(1, 2) if t[name].ndim == 4 else t[name].transpose(1, 2) for name in ["u", "delta", "z", "B", "C"]
    )
    delta = F.softplus(delta + t["delta_bias"][:, None])
    decay = torch.exp(torch.einsum("bdl,dn->bdln", delta, t["A"]))
    enters = torch.einsum("bdl,bnl,bdl->bdln", delta, B, u)
    state = u.new_zeros(*decay.shape[:2], decay.shape[3])
    ys = []
    for i in range(u.shape[2]):
        state = decay[:, :, i] * state + enters[:, :, i]
        ys.append(torch.einsum("bdn,bn->bd", state, C[:, :, i]))
    return (torch.stack(ys, 2) + u * t["D"][:, None]) * F.silu(z)


def candidates_of(case: Case) -> dict[str, Callable[[], Any]]:
    """Forward of each backend, and forward with backward of those that have a backward worth the name."""
    tensors = inputs(case)
    leaves = {name: tensor.clone().requires_grad_() for name, tensor in tensors.items()}
    grad = torch.ones_like(tensors["u"])

    def scan(t: dict[str, torch.Tensor], backend: Backend) -> torch.Tensor:
        y = selective_scan(**t, delta_softplus=True, order=case.orders, seq_idx=case.seq_idx, backend=backend)  # type: ignore[arg-type]
        assert isinstance(y, torch.Tensor)
        return y

    def forward(run: Callable[[], Any]) -> Callable[[], Any]:
        return torch.no_grad()(run)

    fast = [Backend.TORCH] + ([Backend.NATIVE] if available_backends()["native"] == "ok" else [])
    found = {f"{b.value} forward": forward(lambda b=b: scan(tensors, b)) for b in (Backend.REFERENCE, *fast)}
    if case.orders == (FORWARD,) and case.seq_idx is None:
        found["published forward"] = forward(lambda: published(tensors))
    found |= {f"{b.value} both": lambda b=b: torch.autograd.grad(scan(leaves, b), list(leaves.values()), grad) for b in fast}
    return found


def floor_seconds() -> dict[str, float]:
    """Seconds per state element of the bare arithmetic, forward and backward, and per byte of a copy; one thread."""
    found = library.load()
    assert found is not None
    sink = ctypes.c_float()
    elements = {}

    def arithmetic(backward: bool) -> None:
        elements[backward] = found.vivim_scan_floor(50_000, backward, ctypes.byref(sink))

    source, target = torch.ones(1 << 24), torch.empty(1 << 24)
    seconds = {backward: cpu_seconds(lambda b=backward: arithmetic(b)) for backward in (False, True)}  # type: ignore[misc]
    copy = cpu_seconds(lambda: target.copy_(source))
    # A copy moves three bytes for one: read, read for ownership, written.
    return {"forward": seconds[False] / elements[False], "backward": seconds[True] / elements[True], "byte": copy / (3 * 4 * (1 << 24))}


def cpu_seconds(run: Callable[[], Any]) -> float:
    """Of this thread alone: those that an earlier candidate used may still be spinning."""
    started = time.thread_time()
    run()
    return time.thread_time() - started


def measure(candidates: dict[str, Callable[[], Any]], rounds: int, threads: int) -> dict[str, dict[str, float]]:
    """Smallest CPU seconds of one thread and wall seconds of all, taking turns; slow candidates get one round."""
    results = {name: {"cpu": math.inf, "wall": math.inf} for name in candidates}
    for attempt in range(rounds):
        for name, run in candidates.items():
            if attempt and results[name]["cpu"] > SLOW_SECONDS:
                continue
            # Twice each, the better counts: the first call after another candidate finds its memory cold.
            for _ in range(2):
                torch.set_num_threads(1)
                results[name]["cpu"] = min(results[name]["cpu"], cpu_seconds(run))
                if results[name]["cpu"] > SLOW_SECONDS:
                    break
            torch.set_num_threads(threads)
            for _ in range(2):
                started = time.perf_counter()
                run()
                results[name]["wall"] = min(results[name]["wall"], time.perf_counter() - started)
                if results[name]["wall"] > SLOW_SECONDS:
                    break
    return results


def peak_over_inputs_and_outputs(case: Case, run: Callable[[], Any]) -> float:
    """Resident memory that forward and backward add, plus their inputs, over inputs and outputs."""
    batch, length, channels, states = case.shape
    tokens = batch * length
    # u, delta, z, the gradient of y, B and C; y and a gradient of each input.
    inputs_bytes = 4 * tokens * (4 * channels + 2 * len(case.orders) * states)
    outputs_bytes = 4 * tokens * (4 * channels + 2 * len(case.orders) * states)
    ctypes.CDLL(None).malloc_trim(0)  # what earlier candidates freed must not serve this one
    Path("/proc/self/clear_refs").write_text("5")
    before = _status("VmRSS")
    run()
    return (inputs_bytes + _status("VmHWM") - before) / (inputs_bytes + outputs_bytes)


def _status(field: str) -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return 1024 * int(line.split()[1])


def measure_case(case: Case, rounds: int, threads: int) -> dict[str, Any]:
    candidates = candidates_of(case)
    torch.set_num_threads(1)
    floors = [floor_seconds() for _ in range(3)]
    floor = {key: min(f[key] for f in floors) for key in floors[0]}
    memory = {b: peak_over_inputs_and_outputs(case, candidates[f"{b} both"]) for b in ("native", "torch") if f"{b} both" in candidates}
    results = measure(candidates, rounds, threads)
    elements, wide = math.prod(case.shape), 4 * math.prod(case.shape[:3])
    # Forward reads u, delta and z and writes y; backward reads them and y's gradient and writes three gradients.
    forward = max(elements * floor["forward"], 5 * wide * floor["byte"])
    backward = max(elements * floor["backward"], 10 * wide * floor["byte"])
    return {
        "name": case.name,
        "shape": case.shape,
        "floor_cpu": {"forward": forward, "both": forward + backward},
        "peak_over_inputs_and_outputs": memory,
        "results": results,
    }


def ratios(row: dict[str, Any]) -> dict[str, float]:
    """What the table says of one case: milliseconds, times faster, share of the floor."""
    r, floor = row["results"], row["floor_cpu"]
    forward, both = r["native forward"]["cpu"], r["native both"]["cpu"]
    return {
        "forward ms": 1e3 * forward,
        "x reference": r["reference forward"]["cpu"] / forward,
        "x published": r["published forward"]["cpu"] / forward if "published forward" in r else math.nan,
        "forward of floor": floor["forward"] / forward,
        "both ms": 1e3 * both,
        "x torch": r["torch both"]["cpu"] / both,
        "both of floor": floor["both"] / both,
        "backward of floor": (floor["both"] - floor["forward"]) / (both - forward),
        "forward wall ms": 1e3 * r["native forward"]["wall"],
        "both wall ms": 1e3 * r["native both"]["wall"],
        "memory": row["peak_over_inputs_and_outputs"]["native"],
    }


def table(result: dict[str, Any]) -> list[str]:
    """Markdown lines."""
    lines = [
        "| case | B, L, D, N | forward, ms | of the floor | over `reference` | over the published loop | with backward, ms "
        "| of the floor | over `torch` | memory |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in result["rows"]:
        x = ratios(row)
        published_loop = "-" if math.isnan(x["x published"]) else f"{x['x published']:.0f}x"
        lines.append(
            f"| {row['name']} | {', '.join(map(str, row['shape']))} | {x['forward ms']:.1f} | {x['forward of floor']:.0%} "
            f"| {x['x reference']:.1f}x | {published_loop} | {x['both ms']:.1f} | {x['both of floor']:.0%} | {x['x torch']:.1f}x "
            f"| {x['memory']:.1f}x |"
        )
    run = result["provenance"]
    where = f"{run['hardware'].split(',')[0]}, {run['date'][:10]}, commit {run['commit']}"
    return [*lines, "", f"CPU time of one thread, {where}: `python benchmarks/{run['command']}`."]


def write_docs() -> None:
    """Replace what stands between the markers of the page."""
    before, _, rest = DOCS.read_text().partition(BEGIN)
    after = rest.partition(END)[2]
    DOCS.write_text(f"{before}{BEGIN}\n" + "\n".join(table(json.loads(RESULT.read_text()))) + f"\n{END}{after}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--interactions", type=Path, help="MicroLens-50K pairs, for the packed case")
    parser.add_argument("--quick", action="store_true", help="two small shapes: checks that the script runs")
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    keep_freed_memory()  # as the command line does
    if available_backends()["native"] != "ok":
        raise SystemExit(f"there is nothing to measure: {available_backends()['native']}")
    threads = torch.get_num_threads()
    cases = [*(QUICK if options.quick else CASES), *([packed_case(options.interactions)] if options.interactions else [])]
    rows = []
    for case in cases:
        rows.append(measure_case(case, options.rounds, threads))
        print(f"{case.name} {case.shape}: " + ", ".join(f"{key} {value:.3g}" for key, value in ratios(rows[-1]).items()), flush=True)
    run = provenance() | {"command": " ".join(["scan.py", *(Path(word).name for word in sys.argv[1:])])}
    options.out.write_text(json.dumps({"provenance": run, "threads": threads, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    write_docs() if sys.argv[1:] == ["docs"] else main()
