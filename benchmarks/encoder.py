"""The whole encoder on a CPU: clips/s with each scan backend and in bfloat16, where the time goes, and the floor.

    python benchmarks/encoder.py [--size b0] [--frames 8] [--pixels 224] [--rounds 5] [--threads 2]

The floor is the encoder's multiply-adds at the GEMM rate, float32 or bfloat16, of the same threads, measured in the same run.
Runs take turns in one process; each reports the best of its rounds. Vector errors are against float32 with the plain-torch scan.
"""

import argparse
import json
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode
from vivim.allocator import keep_freed_memory
from vivim.extract.precision import MixedPrecision
from vivim.extract.vivim import Vivim, VivimConfig
from vivim.ssm import Backend, MambaBlock, available_backends, selective_scan
from vivim.ssm import block as mamba_block
from vivim.store.provenance import provenance


def gemm_rate(dtype: torch.dtype, size: int = 1024) -> float:
    """Floating-point operations per second of a square matrix product, best of a few."""
    a, b = torch.randn(size, size).to(dtype), torch.randn(size, size).to(dtype)
    best = 0.0
    for _ in range(5):
        started = time.perf_counter()
        a @ b
        best = max(best, 2 * size**3 / (time.perf_counter() - started))
    return best


@dataclass
class Run:
    """One way to compute the vectors, and the best of its rounds so far."""

    encoder: Vivim | MixedPrecision
    blocks: list[MambaBlock]
    backend: Backend
    wall_seconds: float = float("inf")
    cpu_seconds: float = float("inf")

    def embed(self, frames: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            block.backend = self.backend
        return self.encoder.embed_uint8(frames)

    def time(self, frames: torch.Tensor) -> None:
        wall, cpu = time.perf_counter(), time.process_time()
        self.embed(frames)
        self.wall_seconds = min(self.wall_seconds, time.perf_counter() - wall)
        self.cpu_seconds = min(self.cpu_seconds, time.process_time() - cpu)

    def shares(self, frames: torch.Tensor) -> dict[str, float]:
        """Share of the operator time by operator, largest first."""
        with profile(activities=[ProfilerActivity.CPU]) as profiled:
            self.embed(frames)
        times = {event.key: event.self_cpu_time_total for event in profiled.key_averages()}
        total = sum(times.values())
        return {key: value / total for key, value in sorted(times.items(), key=lambda item: -item[1])}

    def scan_share(self, frames: torch.Tensor, rounds: int = 5) -> float:
        """Share of the elapsed time that is spent in ``selective_scan``; the median of ``rounds`` clips."""
        seconds = 0.0

        def timed(*arguments: Any, **options: Any) -> Any:
            nonlocal seconds
            started = time.perf_counter()
            result = selective_scan(*arguments, **options)
            seconds += time.perf_counter() - started
            return result

        shares = []
        for _ in range(rounds):
            seconds, started = 0.0, time.perf_counter()
            with mock.patch.object(mamba_block, "selective_scan", timed):
                self.embed(frames)
            shares.append(seconds / (time.perf_counter() - started))
        return statistics.median(shares)

    def report(self, frames: torch.Tensor, exact_D: torch.Tensor, floors: dict[str, float]) -> dict[str, Any]:
        vector_D, shares = self.embed(frames)[0], self.shares(frames)
        return {
            "wall_seconds": self.wall_seconds,
            "cpu_seconds": self.cpu_seconds,
            "clips_per_second": len(frames) / self.wall_seconds,
            "fraction_of_floor": {dtype: seconds / self.wall_seconds for dtype, seconds in floors.items()},
            "relative_error": float((vector_D - exact_D).norm() / exact_D.norm()),
            "one_minus_cosine": 1 - float(torch.cosine_similarity(vector_D.double(), exact_D.double(), dim=0)),
            "scan_share": self.scan_share(frames),
            "shares_outside_the_compiled_scan": dict(list(shares.items())[:12]),
        }


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="b0")
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--pixels", type=int, default=224)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "encoder.json")
    options = parser.parse_args()
    keep_freed_memory()  # as the command line does
    torch.set_num_threads(options.threads)
    torch.manual_seed(1)
    encoder = Vivim(VivimConfig.of_size(options.size)).eval()
    frames = torch.randint(0, 255, (1, options.frames, 3, options.pixels, options.pixels), dtype=torch.uint8)
    blocks = [module for module in encoder.modules() if isinstance(module, MambaBlock)]
    best = Backend.NATIVE if available_backends()["native"] == "ok" else Backend.TORCH
    runs = {f"{backend.value}, float32": Run(encoder, blocks, backend) for backend in dict.fromkeys((Backend.TORCH, best))}
    runs[f"{best.value}, bf16-mixed"] = Run(MixedPrecision(encoder), blocks, best)
    with FlopCounterMode(display=False) as counter:
        exact_D = Run(encoder, blocks, Backend.TORCH).embed(frames)[0]
    for run in runs.values():
        run.embed(frames)  # kernels and memory are warm before the clock starts
    for _ in range(options.rounds):
        for run in runs.values():
            run.time(frames)
    rates = {str(dtype): gemm_rate(dtype) for dtype in (torch.float32, torch.bfloat16)}
    flops = counter.get_total_flops()
    floors = {dtype: flops / rate for dtype, rate in rates.items()}
    result: dict[str, Any] = {
        "provenance": provenance(),
        "encoder": {"size": options.size, "frames": options.frames, "pixels": options.pixels, "gemm_and_conv_flops": flops},
        "gemm_flops_per_second": rates,
        "floor_seconds": floors,
        "runs": {name: run.report(frames, exact_D, floors) for name, run in runs.items()},
    }
    options.out.write_text(json.dumps(result, indent=2) + "\n")
    print(f"{options.size} T={options.frames} {options.pixels} px, {options.threads} threads")
    for name, told in result["runs"].items():
        of_floor = ", ".join(f"{fraction:.0%} of the {dtype} floor" for dtype, fraction in told["fraction_of_floor"].items())
        print(f"scan {name}: {told['clips_per_second']:.2f} clips/s, {told['wall_seconds']:.3f} s wall, {told['cpu_seconds']:.3f} s cpu")
        print(f"  {of_floor}; vector error {told['relative_error']:.1e}, 1 - cosine {told['one_minus_cosine']:.1e}")
        print(f"  the scan takes {told['scan_share']:.1%}; of the rest, by operator: " + _listed(told["shares_outside_the_compiled_scan"]))


def _listed(shares: dict[str, float]) -> str:
    return ", ".join(f"{share:.1%} {key}" for key, share in shares.items())


if __name__ == "__main__":
    main()
