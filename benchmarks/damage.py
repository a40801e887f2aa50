"""What becomes of damaged clips: one byte of a frame inverted, many times, for every codec; by default and with ``strict``.

    python benchmarks/damage.py [--flips 200]

A clip of ``frames.KINDS`` is damaged in one byte of one packet and read twice by the pool, as extraction reads it. Refused: a
failure. Unharmed: the frames are those of the whole clip. Wrong: other frames, accepted; ``mean`` and ``largest`` say how wrong,
in grey levels of 255 of the resized frames. No container tells of such damage; whether a codec can is what this measures.
"""

import argparse
import json
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import av
import numpy as np
from frames import KINDS, Kind, make
from vivim.extract.clip import Clip, ClipRef, Failure
from vivim.extract.decode_pool import DecodePool
from vivim.extract.reader import ClipReader
from vivim.extract.sampling import Uniform
from vivim.store.provenance import provenance

RESULT = Path(__file__).parent / "results" / "damage.json"
CODECS = {
    "h264 (CABAC)": KINDS["h264, B-frames"],
    "h264 (CAVLC)": Kind("b.mp4", "libx264", {"bf": "2", "g": "20", "coder": "0"}),
    "h264 in a transport stream": KINDS["h264 in a transport stream"],
    "hevc": KINDS["hevc"],
    "hevc with picture hashes": Kind("c.mp4", "libx265", {"x265-params": "keyint=20:hash=1:log-level=none"}),
    "vp8": Kind("d.webm", "libvpx", {"g": "20"}),
    "vp9": KINDS["vp9"],
    "av1": KINDS["av1"],
    "mpeg4": KINDS["mpeg4, B-frames"],
}
SKIPPED_BYTES = 16
"""Of a packet, so that what is hit are pictures and not the container's header of the packet."""


def damaged(path: Path, flips: int, folder: Path) -> Iterator[Path]:
    """Copies of a clip, each with one byte of one packet inverted; never of the first packet, which every reader needs."""
    with av.open(str(path)) as file:
        packets = [(p.pos, p.size) for p in file.demux(video=0) if p.size > SKIPPED_BYTES + 1 and p.pos is not None][1:]
    content = path.read_bytes()
    for number in range(flips):
        rng = np.random.default_rng(number)
        position, size = packets[rng.integers(len(packets))]
        changed = bytearray(content)
        changed[position + int(rng.integers(SKIPPED_BYTES, size))] ^= 0xFF
        copy = folder / f"{number:04d}{path.suffix}"
        copy.write_bytes(changed)
        yield copy


def read_all(paths: list[Path], *, strict: bool, workers: int) -> dict[str, Clip | Failure]:
    pool = DecodePool(ClipReader(Uniform(8), 64, strict=strict), workers)
    results = pool.decode([ClipRef(path.stem, path) for path in paths])
    return {result.id: result for result in results if isinstance(result, Clip | Failure)}


def outcome(result: Clip | Failure, whole: Clip) -> Literal["refused", "unharmed", "wrong"]:
    if isinstance(result, Failure):
        return "refused"
    return "unharmed" if (result.frames_TCHW == whole.frames_TCHW).all() else "wrong"


def measure(kind: Kind, flips: int, workers: int) -> dict[str, Any]:
    row: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = make(kind, folder)
        copies = list(damaged(path, flips, folder))
        for label, strict in (("default", False), ("strict", True)):
            whole = read_all([path], strict=strict, workers=1)[path.stem]
            assert isinstance(whole, Clip), whole
            first, second = (read_all(copies, strict=strict, workers=workers) for _ in range(2))
            counts = Counter(outcome(result, whole) for result in first.values())
            harm = [
                np.abs(result.frames_TCHW.astype(int) - whole.frames_TCHW)
                for result in first.values()
                if isinstance(result, Clip) and outcome(result, whole) == "wrong"
            ]
            row[label] = {
                **{name: counts[name] for name in ("refused", "unharmed", "wrong")},
                "mean": round(float(np.mean([h.mean() for h in harm])), 2) if harm else 0.0,
                "largest": round(float(max(h.mean() for h in harm)), 2) if harm else 0.0,
                "kinds": dict(Counter(result.kind for result in first.values() if isinstance(result, Failure))),
                "other_at_second_reading": sum(not same(first[id_], second[id_]) for id_ in first),
            }
    return row


def same(a: Clip | Failure, b: Clip | Failure) -> bool:
    if isinstance(a, Clip) and isinstance(b, Clip):
        return bool((a.frames_TCHW == b.frames_TCHW).all()) and a.times_seconds.tolist() == b.times_seconds.tolist()
    return isinstance(a, Failure) and isinstance(b, Failure) and a.kind == b.kind


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--flips", type=int, default=200)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    rows = {}
    for label, kind in CODECS.items():
        rows[label] = measure(kind, options.flips, options.workers)
        print(label, {way: {k: v for k, v in rows[label][way].items() if k != "kinds"} for way in rows[label]}, flush=True)
    options.out.write_text(json.dumps({"flips": options.flips, "rows": rows, "provenance": provenance()}, indent=2) + "\n")


if __name__ == "__main__":
    main()
