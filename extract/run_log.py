"""How long the runs of an extraction took, a line each beside the shards: for whoever looks at the vectors later."""

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..progress import Progress
from .parts import parts_of
from .summary import ExtractSummary

NAME = "runs.jsonl"


def note_run(folder: Path, done: ExtractSummary, progress: Progress) -> None:
    """Append what a run did to ``folder``, that of its shards; a run that embedded nothing says nothing.

    A disk that is full costs the line, not the run: its vectors are written.
    """
    if not done.embedded:
        return
    line = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "total": done.total,
        "embedded": done.embedded,
        "unchanged": done.unchanged,
        "failed": len(done.failures),
        "seconds": round(done.seconds, 3),
        "clips_per_second": round(done.clips_per_second, 3),
        "decoders": done.decoders,
        "verdict": done.verdict.as_dict() if done.verdict else None,
    }
    try:
        with (folder / NAME).open("ab+") as file:
            if file.tell() and (file.seek(-1, os.SEEK_END), file.read(1))[1] != b"\n":
                file.write(b"\n")  # after a line that was cut off
            file.write(json.dumps(line).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        progress.say(f"how long this took could not be noted in {folder / NAME}: {error.strerror}")


def noted_runs(out: Path) -> list[dict[str, Any]]:
    """What the runs that made the embedding file ``out`` have noted, the oldest first; a line that was cut off is passed over."""
    lines = []
    for path in sorted(parts_of(out).glob(f"*/{NAME}")):
        for text in path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                line = json.loads(text)
            except json.JSONDecodeError:
                continue
            lines.append(line)
    return sorted(lines, key=lambda line: str(line["date"]))
