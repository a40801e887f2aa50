"""What ``vivim report`` takes, and what its file weighs: on the demo world, and on a run over MicroLens-50K.

    python benchmarks/report.py --work DIR --microlens RUN [--demo DIR] [--out benchmarks/results/report.json]

Each report is made by the command, in a process of its own, from a run that has been measured; processor seconds are those of the process
and its children. ``--demo`` is the folder of ``vivim demo``; it is made in ``--work`` where none is given. Pictures are made beforehand by
a first report, so that no clip is decoded for one in the report that counts; frames of the contact sheet are read in it. Names of titles
and clips beside the interactions are found as always.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from outcome import show_and_exit
from vivim.recommend.checkpoint import RunFolder
from vivim.store.provenance import provenance

MOST_BYTES = 10_000_000
VIVIM = (sys.executable, "-c", "import sys; from vivim.cli import main; sys.exit(main())")


def vivim(work: Path, *args: str) -> dict[str, Any]:
    """What the command says about what it has done, with ``cpu_seconds``."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    said = subprocess.run([*VIVIM, *args, "--json"], cwd=work, check=True, stdout=subprocess.PIPE).stdout
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    told: dict[str, Any] = json.loads(said)
    return told | {"cpu_seconds": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime}


def of_run(work: Path, name: str, run: Path) -> dict[str, Any]:
    """The second report of ``run``: the first has left its pictures."""
    out = work / f"{name}.html"
    for _ in range(2):
        began = time.monotonic()
        told = vivim(work, "report", "--run", str(run), "--out", str(out))
        seconds = time.monotonic() - began
    folder = RunFolder.open(run)
    assert told["size_bytes"] == out.stat().st_size
    return {
        "items": len(folder.catalogue()[0]),
        "questions": folder.read_json("results.json")["splits"]["test"]["questions"],
        "pictures": told["pictures"],
        "size_bytes": told["size_bytes"],
        "seconds": round(seconds, 1),
        "cpu_seconds": round(told["cpu_seconds"], 1),
        "load_average": round(os.getloadavg()[0], 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--microlens", type=Path, required=True, help="a run, measured on its test")
    parser.add_argument("--demo", type=Path)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    work: Path = options.work
    work.mkdir(parents=True, exist_ok=True)
    where = provenance() | {"command": "report.py"}
    demo: Path = (options.demo or work / "demo").resolve()
    if not (demo / "runs").is_dir():
        vivim(work, "demo", "--out", str(demo))
    runs = {"demo": demo / "runs" / "ids+video", "microlens-50k": options.microlens.resolve()}
    result: dict[str, Any] = {name: of_run(work, name, run) for name, run in runs.items()}
    result |= {"small": all(row["size_bytes"] < MOST_BYTES for row in result.values()), "provenance": where}
    show_and_exit(result, options.out, good=result["small"])


if __name__ == "__main__":
    main()
