"""Are our frames FFmpeg's? Both decoders against the ffmpeg program, frame by frame at the same timestamps, before resizing.

    python benchmarks/frames.py [--clips DIR] [--ffmpeg PATH] [--count 8]

Clips are made for every codec and oddity in ``KINDS``; those of ``--clips`` come on top. ffmpeg decodes a clip from its start to its
end, turns it upright by itself, picks frames by their timestamps (by number where the container has none) and converts them to
RGB with the same scaler setting as we: bicubic, which matters only for colour planes of half size. The program is ``--ffmpeg``, or
the first found of ``$VIVIM_FFMPEG``, ``ffmpeg`` on the path, and that of the package imageio-ffmpeg.
"""

import argparse
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
from vivim.extract.clip import Clip, ClipRef
from vivim.extract.decord_frames import DoubtError, read_frames
from vivim.extract.probe import Limits, Probe, probe_clip
from vivim.extract.pyav_frames import read_counted, read_timed
from vivim.extract.reader import ClipReader, decoder_versions
from vivim.extract.sampling import Uniform
from vivim.extract.sniff import HEAD_BYTES, container_of
from vivim.store.provenance import provenance

RESULT = Path(__file__).parent / "results" / "frames.json"
Picture = npt.NDArray[np.uint8]


def find_ffmpeg() -> str | None:
    """The ffmpeg program, if there is one."""
    found = os.environ.get("VIVIM_FFMPEG") or shutil.which("ffmpeg")
    if found:
        return found
    try:
        from imageio_ffmpeg import get_ffmpeg_exe
    except ImportError:
        return None
    try:
        return str(get_ffmpeg_exe())
    except RuntimeError:
        return None


@dataclass(frozen=True)
class Kind:
    """A clip to make: 60 frames of a scene that moves, 20 a second.

    Attributes:
        name: file name; its ending chooses the container.
        codec: FFmpeg's name of the encoder.
        options: of the encoder.
        pix_fmt: of the stream.
        size: width and height.
        pts: of frame k, in twentieths of a second.
        degrees: by which players turn the picture.
    """

    name: str
    codec: str
    options: dict[str, str] = field(default_factory=dict)
    pix_fmt: str = "yuv420p"
    size: tuple[int, int] = (176, 144)
    pts: Callable[[int], int] = lambda k: k
    degrees: int = 0


KINDS = {
    "h264, no B-frames": Kind("a.mp4", "libx264", {"bf": "0", "g": "20"}),
    "h264, B-frames": Kind("b.mp4", "libx264", {"bf": "3", "g": "20"}),
    "h264, open groups": Kind("c.mkv", "libx264", {"bf": "3", "g": "20", "x264-params": "open-gop=1"}),
    "h264 in a transport stream": Kind("d.ts", "libx264", {"bf": "2", "g": "20"}),
    "h264, variable rate": Kind("e.mkv", "libx264", {"bf": "2", "g": "20"}, pts=lambda k: k + (k // 7) * 5),
    "h264, starts at 20 s": Kind("f.mkv", "libx264", {"bf": "2", "g": "20"}, pts=lambda k: k + 400),
    "h264, turned by 90": Kind("g.mp4", "libx264", {"g": "20"}, degrees=90),
    "h264, turned by 180": Kind("h.mp4", "libx264", {"g": "20"}, degrees=180),
    "h264, turned by 270": Kind("i.mp4", "libx264", {"g": "20"}, degrees=270),
    "h264, odd size 4:4:4": Kind("j.mp4", "libx264", {"g": "20"}, pix_fmt="yuv444p", size=(175, 143)),
    "h264, 10 bit": Kind("k.mp4", "libx264", {"g": "20"}, pix_fmt="yuv420p10le"),
    "hevc": Kind("l.mp4", "libx265", {"x265-params": "keyint=20:log-level=none"}),
    "vp9": Kind("m.webm", "libvpx-vp9", {"g": "20"}),
    "av1": Kind("n.mp4", "libsvtav1", {"g": "20", "preset": "10"}),
    "mpeg4, B-frames": Kind("o.mp4", "mpeg4", {"bf": "2", "g": "12"}),
    "mpeg4 in AVI (no timestamps)": Kind("p.avi", "mpeg4", {"bf": "2", "g": "12"}),
}


def scene(k: int, width: int, height: int) -> Picture:
    """Frame k: soft colours, a grating that travels, and noise that stands still; no two frames are equal."""
    y, x = np.mgrid[:height, :width]
    wave = np.sin((x + 3 * k) / 9) * np.cos((y - 2 * k) / 11)
    base = np.stack([x * 255 / width, y * 255 / height, 128 + 100 * wave], axis=-1)
    grain = np.random.default_rng(1).normal(0, 6, (height, width, 1))
    return np.clip(base + 40 * wave[..., None] + grain, 0, 255).astype(np.uint8)


@contextmanager
def same_priority() -> Iterator[None]:
    """What the thread had before, it has afterwards: run by root, SVT-AV1 makes the thread that encodes a real-time one, of the highest
    priority, and leaves it so; whatever that process does and starts later would keep all others from the cores."""
    if not hasattr(os, "sched_getscheduler"):
        yield
        return
    policy, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        os.sched_setscheduler(0, policy, parameters)


@same_priority()
def make(kind: Kind, folder: Path, frames: int = 60) -> Path:
    """Encode a clip of this kind."""
    path = folder / kind.name
    width, height = kind.size
    with av.open(str(path), "w") as file:
        stream = file.add_stream(kind.codec, rate=20, options=kind.options)
        stream.width, stream.height, stream.pix_fmt = width, height, kind.pix_fmt
        stream.codec_context.thread_count = 1  # with more, x264 does not always write the same file
        if kind.degrees:
            stream.set_display_rotation(kind.degrees)
        for k in range(frames):
            frame = av.VideoFrame.from_ndarray(scene(k, width, height), format="rgb24")
            frame.pts = kind.pts(k)
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return path


def ffmpeg_frames(ffmpeg: str, path: Path, probe: Probe, wanted: Iterable[int], shape: tuple[int, ...]) -> dict[int, Picture]:
    """The wanted frames, as ffmpeg gives them: by timestamp, or by number where there are none.

    Raises:
        RuntimeError: ffmpeg failed or gave another number of frames or pixels.
    """
    ordered = sorted(wanted)
    if probe.timed:
        gap = float(np.diff(probe.times_seconds).min()) if len(probe.pts) > 1 else 1.0
        terms = [f"lt(abs(t-({float(probe.times_seconds[k])!r})),{gap / 3!r})" for k in ordered]
    else:
        terms = [f"eq(n,{k})" for k in ordered]
    command = [ffmpeg, "-v", "error", "-nostdin", "-copyts", "-threads", "1", "-f", probe.container, "-i", f"file:{path.absolute()}"]
    command += ["-map", f"0:{probe.stream_index}", "-vf", f"select='{'+'.join(terms)}'", "-fps_mode", "passthrough"]
    command += ["-sws_flags", "bicubic", "-pix_fmt", "rgb24", "-f", "rawvideo", "pipe:1"]
    done = subprocess.run(command, capture_output=True, timeout=300, check=False)
    expected = len(ordered) * int(np.prod(shape))
    if done.returncode or len(done.stdout) != expected:
        raise RuntimeError(f"{path.name}: {len(done.stdout)} bytes instead of {expected}; {done.stderr.decode(errors='replace')[-300:]}")
    pictures = np.frombuffer(done.stdout, np.uint8).reshape(len(ordered), *shape)
    return dict(zip(ordered, pictures, strict=True))


def our_frames(path: Path, probe: Probe, wanted: set[int]) -> Iterator[tuple[str, dict[int, Picture]]]:
    """(decoder, frames) for each of our decoders that reads this clip."""
    if not probe.timed:
        yield "pyav", read_counted(path, probe, wanted)[0]
        return
    yield "pyav", dict(read_timed(path, probe, wanted))
    try:
        yield "decord", dict(read_frames(path, probe, wanted))
    except DoubtError:
        return


def compare(ffmpeg: str, path: Path, count: int) -> dict[str, Any]:
    """Mean absolute difference to ffmpeg's frames, in grey levels of 255, by decoder; and facts about the clip."""
    probe = probe_clip(path, container_of(path.read_bytes()[:HEAD_BYTES]), Limits())
    wanted = {int(k) for k in Uniform(count).pick(probe.times_seconds, probe.end_seconds)}
    row: dict[str, Any] = {"codec": probe.codec, "frames": len(wanted)}
    theirs: dict[int, Picture] = {}
    for decoder, ours in our_frames(path, probe, wanted):
        theirs = theirs or ffmpeg_frames(ffmpeg, path, probe, wanted, next(iter(ours.values())).shape)
        differences = [np.abs(ours[k].astype(int) - theirs[k]) for k in ours]
        row[decoder] = {
            "mean": round(float(np.mean([d.mean() for d in differences])), 4),
            "worst_frame": round(float(max(d.mean() for d in differences)), 4),
            "largest": int(max(d.max() for d in differences)),
        }
    return row


def measure(ffmpeg: str, paths: Iterable[tuple[str, Path]], count: int) -> dict[str, Any]:
    rows = {}
    for label, path in paths:
        rows[label] = compare(ffmpeg, path, count)
        print(label, rows[label], flush=True)
    return rows


def summary(rows: dict[str, Any]) -> dict[str, Any]:
    """By decoder: clips read, frames compared, clips equal in every pixel, and the worst clip."""
    found = {}
    for decoder in ("pyav", "decord"):
        read = {label: row for label, row in rows.items() if decoder in row}
        if read:
            worst = max(read, key=lambda label: read[label][decoder]["mean"])
            found[decoder] = {
                "clips": len(read),
                "frames": sum(row["frames"] for row in read.values()),
                "equal": sum(row[decoder]["largest"] == 0 for row in read.values()),
                "worst_mean": read[worst][decoder]["mean"],
                "worst_clip": worst if read[worst][decoder]["mean"] else None,
            }
    return found


def seek_cost(paths: list[Path], count: int) -> dict[str, float]:
    """CPU seconds to read all clips, hashing and resizing included, with each way to seek; and clips whose frames repeat."""
    found: dict[str, float] = {}
    for seek in ("exact", "keyframe"):
        reader = ClipReader(Uniform(count), decoder="pyav", seek=seek)
        started = time.process_time()
        clips = [reader(ClipRef(path.name, path)) for path in paths]
        found[f"{seek}_cpu_seconds"] = round(time.process_time() - started, 2)
        found[f"{seek}_short_clips"] = sum(isinstance(clip, Clip) and clip.short for clip in clips)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=Path)
    parser.add_argument("--ffmpeg", default=find_ffmpeg())
    parser.add_argument("--count", type=int, default=8)
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    if not options.ffmpeg:
        parser.error("no ffmpeg found: install the program or the package imageio-ffmpeg, or give --ffmpeg")
    with tempfile.TemporaryDirectory() as folder:
        generated = measure(options.ffmpeg, ((label, make(kind, Path(folder))) for label, kind in KINDS.items()), options.count)
    real: dict[str, Any] = {}
    cost: dict[str, float] = {}
    if options.clips:
        files = sorted(path for path in options.clips.iterdir() if path.suffix != ".csv")
        real = measure(options.ffmpeg, ((path.name, path) for path in files), options.count)
        cost = seek_cost(files, options.count)
    shown = subprocess.run([options.ffmpeg, "-version"], capture_output=True, text=True, check=True).stdout.split()[2]
    result = {
        "ffmpeg": shown,
        "decoders": decoder_versions("auto"),
        "summary": {"generated": summary(generated), "real": summary(real)},
        "seek_cost_real": cost,
        "generated": generated,
        "real": real,
        "provenance": provenance(),
    }
    options.out.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result["summary"], indent=2))


if __name__ == "__main__":
    main()
