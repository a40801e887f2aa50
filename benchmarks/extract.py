"""How fast extraction is, against what limits it and against a plain script.

    python benchmarks/extract.py --clips DIR --work DIR [--count 2000] [--sample 500] [--sizes nano b0] [--out FILE.json]

For each set of clips (``real``: those of a folder, linked under new names until there are ``--count``; ``10s`` and ``160s``: generated,
720p, 30 frames/s, a keyframe every 250 frames) and each encoder, in one run, one after another:

``decode``   the decoding processes alone, nothing done with the frames: the limit where decoding binds
``encode``   the encoder alone, over frames that are there: the limit where encoding binds
``vivim``    the whole extraction: processes, shards, ledger, merge; its own split of the time
``plain``    a script as one writes it: one process, decord, the same frames, the same encoder, torch.save at the end

Where decoding and encoding share the cores, nobody can be faster than one clip's decoding and encoding one after another on all of them:
``limit`` is 1 / (1 / decode + 1 / encode) on a CPU, and the smaller of the two with a GPU. Clips that the plain script cannot read are
left out for all. ``decode`` and ``plain`` are rates over the first ``--sample`` clips of the set, whose clips come round again and again;
``vivim`` runs over all.
"""

import argparse
import json
import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch is loaded, as the command line does
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from vivim.allocator import keep_freed_memory
from vivim.extract.clip import Clip, ClipRef
from vivim.extract.clips import Catalogue, find_clips
from vivim.extract.config import EncoderConfig, ExtractConfig
from vivim.extract.decode_pool import DecodePool
from vivim.extract.reader import make_reader
from vivim.extract.resize import resize
from vivim.extract.run import extract_catalogue
from vivim.extract.sampling import make_sampler
from vivim.extract.sources import Source
from vivim.extract.vivim import Vivim
from vivim.extract.weights import make_encoder
from vivim.progress import SILENT
from vivim.stage_one import make_recipe
from vivim.store.provenance import provenance


def generate(path: Path, seconds: int, seed: int) -> Path:
    """A 720p clip whose picture drifts over a noisy field, so that it costs what a filmed one does."""
    if path.exists():
        return path
    rng = np.random.default_rng(seed)
    field = np.kron(rng.integers(0, 256, (40, 60, 3)), np.ones((40, 40, 1))).astype(np.uint8)
    field = np.clip(field.astype(np.int16) + rng.integers(-12, 13, field.shape), 0, 255).astype(np.uint8)
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=30, options={"preset": "veryfast", "g": "250"})
        stream.width, stream.height, stream.pix_fmt = 1280, 720, "yuv420p"
        for number in range(30 * seconds):
            y, x = (number * 2) % (1600 - 720), (number * 3) % (2400 - 1280)
            file.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(field[y : y + 720, x : x + 1280]), format="rgb24")))
        file.mux(stream.encode(None))
    return path


def linked(sources: Sequence[Path], count: int, folder: Path) -> Catalogue:
    """``count`` clips: the sources again and again under new names."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for number in range(count):
        source = sources[number % len(sources)]
        os.link(source, folder / f"{number:05d}{source.suffix}")
    return find_clips(folder)


def plain_frames(refs: Sequence[ClipRef], config: ExtractConfig) -> Iterator[np.ndarray]:
    """(T, 3, S, S) of each clip, by decord in this process."""
    import decord

    sampler = make_sampler(config.frames)
    for ref in refs:
        reader = decord.VideoReader(str(ref.path), ctx=decord.cpu(0), num_threads=1)
        spans = reader.get_frame_timestamp(range(len(reader)))
        picked = sampler.pick(spans[:, 0].astype(np.float64), float(spans[-1, 1]))
        distinct = np.unique(picked)
        pictures = dict(zip(distinct.tolist(), reader.get_batch(distinct).asnumpy(), strict=True))
        squares = {k: resize(picture, config.image_size, config.resize) for k, picture in pictures.items()}
        yield np.stack([squares[int(k)] for k in picked])


def plain(refs: Sequence[ClipRef], config: ExtractConfig, encoder: Vivim, out: Path) -> float:
    began = time.monotonic()
    vectors, batch = [], []
    for number, frames in enumerate(plain_frames(refs, config), 1):
        batch.append(torch.from_numpy(frames))
        if len(batch) == config.batch_clips or number == len(refs):
            with torch.inference_mode():
                vectors.append(encoder.embed_uint8(torch.stack(batch)).half())
            batch = []
    torch.save({"ids": [ref.id for ref in refs], "vectors": torch.cat(vectors)}, out)
    return time.monotonic() - began


def decode_only(refs: Sequence[ClipRef], config: ExtractConfig) -> float:
    began = time.monotonic()
    pool = DecodePool(make_reader(config), config.workers, config.timeout_seconds, ahead=2 * config.batch_clips)
    assert all(isinstance(result, Clip) for result in pool.decode(refs))
    return time.monotonic() - began


def encode_rate(config: ExtractConfig, encoder: Vivim, batches: int = 8) -> float:
    """Clips per second of the encoder alone."""
    frames = torch.randint(0, 256, (config.batch_clips, config.frames.count, 3, config.image_size, config.image_size), dtype=torch.uint8)
    began = time.monotonic()
    with torch.inference_mode():
        for _ in range(batches):
            encoder.embed_uint8(frames)
    return batches * config.batch_clips / (time.monotonic() - began)


def readable(sources: Sequence[Path], config: ExtractConfig) -> list[Path]:
    """Those that our reader and the plain script both read."""
    refs = [ClipRef(str(number), path) for number, path in enumerate(sources)]
    ours = {result.id for result in DecodePool(make_reader(config), config.workers).decode(refs) if isinstance(result, Clip)}
    kept = []
    for ref in refs:
        if ref.id in ours:
            try:
                next(plain_frames([ref], config))
                kept.append(ref.path)
            except Exception as error:  # whatever decord throws; said, and the clip left out
                print(f"the plain script cannot read {ref.path.name}: {str(error).splitlines()[0][:80]}", flush=True)
    return kept


def measure(name: str, catalogue: Catalogue, size: str, work: Path, sample: int) -> dict[str, Any]:
    config = ExtractConfig(encoder=EncoderConfig(size=size), workers=len(os.sched_getaffinity(0)))
    encoder = make_encoder(config.encoder, 1)
    weights = encoder.load_report
    count = len(catalogue.refs)
    some = catalogue.refs[:sample]
    rate = {"decode": len(some) / decode_only(some, config), "encode": encode_rate(config, encoder)}
    out = work / f"{name}-{size}.h5"
    for old in work.glob(f"{name}-{size}*"):
        shutil.rmtree(old) if old.is_dir() else old.unlink()
    done = extract_catalogue(Source(catalogue, make_reader(config)), out, config, encoder, make_recipe(config, encoder, weights), SILENT)
    assert done.embedded == count, done.first_line()
    rate["vivim"] = count / done.seconds
    rate["plain"] = len(some) / plain(some, config, encoder, work / "plain.pt")
    limit = 1 / (1 / rate["decode"] + 1 / rate["encode"])
    row = {
        "clips": name,
        "count": count,
        "sample": len(some),
        "size": size,
        "clips_per_second": {key: round(value, 3) for key, value in rate.items()},
        "limit": round(limit, 3),
        "vivim_of_limit": round(rate["vivim"] / limit, 3),
        "vivim_of_the_slower_stage": round(rate["vivim"] / min(rate["decode"], rate["encode"]), 3),
        "vivim_of_plain": round(rate["vivim"] / rate["plain"], 3),
        "seconds": {
            "all": round(done.seconds, 2),
            "decode_wait": round(done.decode_wait_seconds, 2),
            "encode": round(done.encode_seconds, 2),
        },
    }
    print(json.dumps(row), flush=True)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True, help="on the same disk as the clips, or they are copied")
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--sample", type=int, default=500)
    parser.add_argument("--generated", type=int, default=100, help="of each length")
    parser.add_argument("--sizes", nargs="+", default=["nano", "b0"])
    parser.add_argument("--sets", nargs="+", default=["real", "10s", "160s"])
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    keep_freed_memory()  # as the command line does
    work = options.work
    (work / "sources").mkdir(parents=True, exist_ok=True)
    rows = []
    for name in options.sets:
        if name == "real":
            found = [ref.path for ref in find_clips(options.clips).refs]
            copies = [Path(shutil.copy2(path, work / "sources")) if path.stat().st_dev != work.stat().st_dev else path for path in found]
            sources, count = readable(copies, ExtractConfig()), options.count
        else:
            seconds = int(name.removesuffix("s"))
            sources, count = [generate(work / "sources" / f"{name}-{k}.mp4", seconds, k) for k in range(3)], options.generated
        catalogue = linked(sources, count, work / "linked")
        rows += [measure(name, catalogue, size, work, options.sample) for size in options.sizes]
    if options.out:
        flags = f"--count {options.count} --sample {options.sample} --generated {options.generated} --sizes {' '.join(options.sizes)}"
        flags += f" --sets {' '.join(options.sets)}"
        record = provenance() | {"command": f"extract.py {flags}"}
        options.out.write_text(json.dumps({"rows": rows, "provenance": record}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
