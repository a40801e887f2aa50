"""Everything a GPU must confirm, in one run: first that it is right, then how fast it is.

    python benchmarks/gpu_check.py [--out FOLDER]      on a machine with a GPU, torch and triton; vivim need not be installed
    python benchmarks/gpu_check.py --sweep             other layouts of the scan's kernels, at two shapes, in a run of its own
    python benchmarks/gpu_check.py --dry-run           the same path, tiny, in Triton's interpreter on the CPU

``gpu_scan``      the Triton scan and convolution, and mamba-ssm's scan where it loads, against the reference in float64
``gpu_scan_times``  times against floors from the copy bandwidth and the rate of exponentials measured in the same run
``gpu_peer``      the Triton scan and mamba-ssm's in turn, where that loads (``mamba_ssm_build.py`` builds it)
``gpu_models``    the encoder's vectors against the CPU's; clips/s forward and in training
``gpu_training``  losses of a training and places of new clips against the CPU's; an end-to-end step, epochs of a recommender at the
                  size of MicroLens-100K, and the softmax over a million items

Nothing is timed unless all of it is right. The result goes to FOLDER/gpu_check.json; FOLDER is $OUT, or benchmarks/results.
"""

import argparse
import json
import os
import subprocess
import sys
import traceback
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import gpu_models
import gpu_peer
import gpu_scan
import gpu_scan_times
import gpu_training
import torch
import triton
from gpu_machine import DEVICE, DRY, ROOT  # first: it finds vivim and chooses Triton's interpreter
from vivim.ssm import mamba_ssm_scan as mamba
from vivim.ssm import triton_scan as own


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


# What must be right before anything is timed.
CHECKS: dict[str, Callable[[], Any]] = {
    "correctness": gpu_scan.check,
    "vectors": gpu_models.check_vectors,
    "losses": gpu_training.check_training,
    "places": gpu_training.check_places,
}
TIMES: dict[str, Callable[[], Any]] = {
    "end_to_end": gpu_training.time_end_to_end,
    "epochs": gpu_training.time_epochs,
    "plans": lambda: {str(size): asdict(gpu_scan_times.plans(size, False)["triton"]) for size in gpu_scan_times.SHAPES},
    "scans": gpu_scan_times.time_shapes,
    "against_mamba_ssm": gpu_peer.time_shapes,
    "forecast": gpu_training.check_forecast,
    "models": gpu_models.time_models,
    "directions": gpu_scan_times.time_directions,
    "softmax": gpu_training.time_softmax,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, default=Path(os.environ.get("OUT", ROOT / "benchmarks" / "results")))
    parser.add_argument("--sweep", action="store_true", help="time other layouts of the kernels, at two shapes, instead of all shapes")
    parser.add_argument("--dry-run", action="store_true", help="tiny, in Triton's interpreter on the CPU; times mean nothing")
    parser.add_argument("--only", nargs="+", choices=[*CHECKS, *TIMES], help="these parts alone; the others were confirmed elsewhere")
    args = parser.parse_args()
    reason = own.why_not(DEVICE) if DRY or torch.cuda.is_available() else "torch sees no GPU; try --dry-run"
    if reason is not None:
        print(f"nothing to check: {reason}", file=sys.stderr)
        return 2
    args.out.mkdir(parents=True, exist_ok=True)
    path = args.out / ("gpu_check_dry_run.json" if DRY else "gpu_check.json")
    report: dict[str, Any] = {"about": about()}

    def wanted(parts: dict[str, Callable[[], Any]]) -> bool:
        """Run what is asked for, and keep each at once: a run that is stopped later has not measured for nothing."""
        ended_well = True
        for name, part in parts.items():
            if args.only and name not in args.only:
                continue
            try:
                report[name] = part()
            except Exception:  # the machine is lent: what else it can tell is wanted too, and the run ends with 1
                report[name] = {"ok": False, "error": traceback.format_exc()}
                print(f"FAILED {name}: {traceback.format_exc()}", flush=True)
            path.write_text(json.dumps(report, indent=1, default=list) + "\n")
            rows = report[name] if isinstance(report[name], list) else [report[name]]
            ended_well &= all(row.get("ok", True) for row in rows)
        return ended_well

    if not wanted(CHECKS):
        print(f"not timed: results are wrong; written: {path}")
        return 1
    if not wanted({"scans": lambda: gpu_scan_times.time_shapes(True)} if args.sweep else TIMES):
        print(f"a part failed; written: {path}")
        return 1
    print(f"written: {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
