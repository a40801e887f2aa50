"""The whole encoder on a CPU: seconds per clip with each scan backend, where the time goes, and the floor.

    python benchmarks/encoder.py [--size b0] [--frames 8] [--pixels 224] [--rounds 3]

The floor is the encoder's multiply-adds at the float32 GEMM rate of the same threads, measured in the same run (a bfloat16 rate
is measured beside it). Backends take turns in one process.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode
from vivim.extract.vivim import Vivim, VivimConfig
from vivim.recommend.provenance import provenance
from vivim.ssm import Backend, MambaBlock, available_backends


def gemm_rate(dtype: torch.dtype, size: int = 1024) -> float:
    """Floating-point operations per second of a square matrix product, best of a few."""
    a, b = torch.randn(size, size).to(dtype), torch.randn(size, size).to(dtype)
    best = 0.0
    for _ in range(5):
        started = time.perf_counter()
        a @ b
        best = max(best, 2 * size**3 / (time.perf_counter() - started))
    return best


def set_backend(encoder: Vivim, backend: Backend) -> None:
    for module in encoder.modules():
        if isinstance(module, MambaBlock):
            module.backend = backend


def seconds(encoder: Vivim, frames: torch.Tensor) -> tuple[float, float]:
    """(wall, CPU) seconds of one clip."""
    wall, cpu = time.perf_counter(), time.process_time()
    encoder.embed_uint8(frames)
    return time.perf_counter() - wall, time.process_time() - cpu


def shares(encoder: Vivim, frames: torch.Tensor) -> dict[str, float]:
    """Share of the operator time by operator, largest first."""
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        encoder.embed_uint8(frames)
    times = {event.key: event.self_cpu_time_total for event in profiled.key_averages()}
    total = sum(times.values())
    return {key: value / total for key, value in sorted(times.items(), key=lambda item: -item[1])[:12]}


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="b0")
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--pixels", type=int, default=224)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "encoder.json")
    options = parser.parse_args()
    encoder = Vivim(VivimConfig.of_size(options.size)).eval()
    frames = torch.randint(0, 255, (1, options.frames, 3, options.pixels, options.pixels), dtype=torch.uint8)
    backends = [Backend.TORCH] + ([Backend.NATIVE] if available_backends()["native"] == "ok" else [])
    with FlopCounterMode(display=False) as counter:
        set_backend(encoder, Backend.TORCH)
        encoder.embed_uint8(frames)
    best: dict[str, dict[str, float]] = {b.value: {"wall": float("inf"), "cpu": float("inf")} for b in backends}
    for _ in range(options.rounds):
        for backend in backends:
            set_backend(encoder, backend)
            wall, cpu = seconds(encoder, frames)
            best[backend.value] = {"wall": min(wall, best[backend.value]["wall"]), "cpu": min(cpu, best[backend.value]["cpu"])}
    rates = {str(dtype): gemm_rate(dtype) for dtype in (torch.float32, torch.bfloat16)}
    flops = counter.get_total_flops()
    result: dict[str, Any] = {
        "provenance": provenance(),
        "encoder": {"size": options.size, "frames": options.frames, "pixels": options.pixels, "gemm_and_conv_flops": flops},
        "seconds": best,
        "gemm_flops_per_second": rates,
        "floor_seconds": {dtype: flops / rate for dtype, rate in rates.items()},
        "shares": shares(encoder, frames),
    }
    options.out.write_text(json.dumps(result, indent=2) + "\n")
    for name, spent in best.items():
        floor = result["floor_seconds"]["torch.float32"] / spent["wall"]
        what = f"{options.size} T={options.frames} {options.pixels} px, scan {name}"
        print(f"{what}: {spent['wall']:.2f} s wall, {spent['cpu']:.2f} s cpu, {floor:.0%} of the float32 floor")
    for key, share in result["shares"].items():
        print(f"  {share:5.1%} {key}")


if __name__ == "__main__":
    main()
