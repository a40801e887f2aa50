"""Whether the memory of an extraction stays flat over a long catalogue.

    python benchmarks/memory.py --clips DIR --work DIR [--count 20000] [--size nano] [--out benchmarks/results/memory.json]

Hard links of the clips of a folder that are under ``--largest`` kB, again and again until there are ``--count``, through ``vivim extract``
as a user runs it. Every second the proportional set size of its process and of its children is read (Linux): what they hold, with shared
pages counted once. Flat is: the second half of the run holds what the first held once it had read a tenth.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from vivim.extract.clips import find_clips
from vivim.store import EmbeddingStore
from vivim.store.provenance import provenance

MB = 1 << 20


@dataclass(frozen=True)
class Sample:
    """What was held at a moment, in bytes; ``rows``: the shards that were there."""

    seconds: float
    main: int
    children: int
    shards: int


def proportional_bytes(pid: int) -> int:
    """0: the process is gone."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
    except (OSError, ProcessLookupError):
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), 0)


def children_of(pid: int) -> list[int]:
    """Children and theirs."""
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            own = [int(word) for word in task.read_text(encoding="ascii").split()]
        except OSError:
            continue
        found += own + [other for child in own for other in children_of(child)]
    return found


def watch(process: "subprocess.Popen[bytes]", out: Path) -> list[Sample]:
    """Once a second until the process ends."""
    began, samples = time.monotonic(), []
    while process.poll() is None:
        main, children = proportional_bytes(process.pid), sum(map(proportional_bytes, children_of(process.pid)))
        shards = len(list(Path(f"{out}.parts").glob("*/shards/*.h5")))
        samples.append(Sample(time.monotonic() - began, main, children, shards))
        time.sleep(1)
    return samples


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--count", type=int, default=20000)
    parser.add_argument("--size", default="nano")
    parser.add_argument("--largest", type=int, default=150)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    work: Path = options.work
    shutil.rmtree(work, ignore_errors=True)
    for folder in ("sources", "linked"):
        (work / folder).mkdir(parents=True)
    small = [ref.path for ref in find_clips(options.clips).refs if ref.path.stat().st_size < options.largest * 1000]
    sources = [Path(shutil.copy2(path, work / "sources" / path.name)) for path in small]
    for number in range(options.count):
        source = sources[number % len(sources)]
        os.link(source, work / "linked" / f"{number:06d}{source.suffix}")
    out = work / "clips.h5"
    command = [sys.executable, "-m", "vivim.cli", "extract", "--videos", str(work / "linked"), "--out", str(out)]
    command += ["--set", f"extract.encoder.size={options.size}", "--max-fail-rate", "1"]
    process = subprocess.Popen(command, cwd=work)
    samples = watch(process, out)
    assert process.returncode == 0, process.returncode
    rows = len(EmbeddingStore.open(out))
    total = np.array([sample.main + sample.children for sample in samples])
    tenth, half = (next(k for k, sample in enumerate(samples) if sample.shards >= part * samples[-1].shards) for part in (0.1, 0.5))
    record = {
        "clips": options.count,
        "rows": rows,
        "size": options.size,
        "seconds": round(samples[-1].seconds),
        "peak_mb": {
            "all processes": round(int(total.max()) / MB),
            "main process": round(max(sample.main for sample in samples) / MB),
            "decoding processes": round(max(sample.children for sample in samples) / MB),
        },
        "median_mb": {
            "from a tenth to half": round(float(np.median(total[tenth:half])) / MB),
            "second half": round(float(np.median(total[half:])) / MB),
        },
        "every_50th_mb": [round(int(value) / MB) for value in total[:: max(1, len(total) // 50)]],
    }
    print(json.dumps(record, indent=2))
    if options.out:
        flags = f"--count {options.count} --size {options.size} --largest {options.largest}"
        where = provenance() | {"command": f"memory.py {flags}"}
        options.out.write_text(json.dumps(record | {"provenance": where}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
