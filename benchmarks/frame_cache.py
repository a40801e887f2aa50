"""What cached frames and thumbnails cost, and what JPEG loses, on real clips.

    python benchmarks/frame_cache.py --videos shared/data/clips [--out benchmarks/results/frame_cache.json]

Every clip is decoded to 8 frames of 224 x 224, as ``vivim extract`` does by default, cached raw and as JPEG, and read back in
another order. Times are CPU time of this process, one thread, per clip; ``write_wall_ms`` also waits for the disk. ``error`` is
the mean absolute difference of pixels, in grey levels of 255. ``vector_error`` is how far JPEG moves the vector of a ``b0`` with
random weights, as a share of what tells clips apart: its distance from the mean vector; median and worst of every fourth clip.
Thumbnails are of each clip's middle frame in full size; ``file_wall_ms`` also waits for the disk.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from vivim.extract.clip import Clip, ClipRef
from vivim.extract.clips import find_clips
from vivim.extract.config import EncoderConfig
from vivim.extract.frame_cache import FrameCache
from vivim.extract.frame_format import FrameFormat, Jpeg, Raw
from vivim.extract.frame_recipe import FrameRecipe
from vivim.extract.frame_writer import FrameCacheWriter
from vivim.extract.reader import ClipReader, decoder_versions
from vivim.extract.sampling import Uniform
from vivim.extract.thumbnails import thumbnail_webp, write_thumbnail
from vivim.extract.weights import make_encoder
from vivim.store.provenance import provenance

FORMATS: dict[str, FrameFormat] = {"raw": Raw(), **{f"jpeg qscale {q}": Jpeg(qscale=q) for q in (1, 2, 4)}}
RECIPE = FrameRecipe(
    frames={"sampler": "uniform", "count": 8}, preprocessing={"image_size": 224, "resize": "crop"}, decoder=dict(decoder_versions("auto"))
)
VECTORS_OF_EVERY = 4


def timed(work: Callable[[], Any]) -> tuple[Any, float, float]:
    """What ``work`` returns, and its CPU and wall time in seconds."""
    cpu, wall = time.process_time(), time.perf_counter()
    return work(), time.process_time() - cpu, time.perf_counter() - wall


def vectors(clips: list[Clip]) -> np.ndarray:
    """(N, D) of every fourth clip."""
    encoder = make_encoder(EncoderConfig(size="b0"), 1)
    with torch.inference_mode():
        return np.concatenate([encoder.embed_uint8(torch.from_numpy(clip.frames_TCHW)[None]).numpy() for clip in clips[::VECTORS_OF_EVERY]])


def measure_format(format: FrameFormat, clips: list[Clip], plain_ND: np.ndarray) -> dict[str, float]:
    """One row of the result."""
    with tempfile.TemporaryDirectory() as folder:

        def write() -> None:
            with FrameCacheWriter(folder, RECIPE, format) as writer:
                for clip in clips:
                    writer.add(clip)

        _, write_cpu, write_wall = timed(write)
        cache = FrameCache.open(folder)
        order = np.random.default_rng(0).permutation(len(clips))
        _, read_cpu, _ = timed(lambda: [cache.read(clips[k].id) for k in order])
        back = [cache.read(clip.id) for clip in clips]
    errors = [float(np.abs(a.frames_TCHW.astype(int) - b.frames_TCHW).mean()) for a, b in zip(clips, back, strict=True)]
    moved = np.linalg.norm(vectors(back) - plain_ND, axis=1) / np.linalg.norm(plain_ND - plain_ND.mean(0), axis=1)
    return {
        "bytes_per_clip": round(cache.size_bytes / len(clips)),
        "write_cpu_ms": round(1e3 * write_cpu / len(clips), 2),
        "write_wall_ms": round(1e3 * write_wall / len(clips), 2),
        "read_cpu_ms": round(1e3 * read_cpu / len(clips), 2),
        "error_mean": round(statistics.mean(errors), 3),
        "error_of_worst_clip": round(max(errors), 3),
        "vector_error_median": round(float(np.median(moved)), 4),
        "vector_error_worst": round(float(moved.max()), 4),
    }


def measure_thumbnails(refs: list[ClipRef]) -> dict[str, float]:
    """Bytes and times of a thumbnail."""
    pictures = [middle_frame(ref.path) for ref in refs]
    files, cpu, _ = timed(lambda: [thumbnail_webp(picture) for picture in pictures])
    with tempfile.TemporaryDirectory() as folder:
        _, _, wall = timed(
            lambda: [write_thumbnail(Path(folder), ref.id, thumbnail_webp(picture)) for ref, picture in zip(refs, pictures, strict=True)]
        )
    return {
        "megapixels_of_frames": round(statistics.mean(picture.shape[0] * picture.shape[1] for picture in pictures) / 1e6, 2),
        "bytes": round(statistics.mean(len(file) for file in files)),
        "bytes_of_largest": max(len(file) for file in files),
        "cpu_ms": round(1e3 * cpu / len(files), 2),
        "file_wall_ms": round(1e3 * wall / len(files), 2),
    }


def middle_frame(path: Path) -> np.ndarray:
    """(H, W, 3), of the frames that decode from the start."""
    with av.open(str(path)) as file:
        count = sum(1 for _ in file.decode(video=0))
    with av.open(str(path)) as file:
        return next(frame for k, frame in enumerate(file.decode(video=0)) if k == count // 2).to_ndarray(format="rgb24")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=Path, required=True)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    refs = list(find_clips(options.videos).refs)
    reader = ClipReader(Uniform(8), 224)
    clips, decode_cpu, _ = timed(lambda: [reader(ref) for ref in refs])
    plain_ND = vectors(clips)
    result: dict[str, Any] = {"clips": len(clips), "decode_cpu_ms": round(1e3 * decode_cpu / len(clips), 1), "formats": {}}
    for name, format in FORMATS.items():
        result["formats"][name] = measure_format(format, clips, plain_ND)
        print(name, result["formats"][name], flush=True)
    result["thumbnails"] = measure_thumbnails(refs)
    print(result["thumbnails"], f"decode {result['decode_cpu_ms']} ms", flush=True)
    if options.out:
        run = provenance()
        run["command"] = f"frame_cache.py --videos {options.videos.name}"
        options.out.write_text(json.dumps(result | {"provenance": run}, indent=2) + "\n")


if __name__ == "__main__":
    main()
