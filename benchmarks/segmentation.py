"""Does the affine constraint across frames help? Dice on another clip, with it and without it, over several seeds.

    python benchmarks/segmentation.py --data VTUS

VTUS holds Train/0002, Train_GT/0002, Test/0004 and Test_GT/0004. Each run trains the nano encoder from random weights on the one
clip and measures on the other after the last epoch: choosing the best one would choose by the clip that is measured. Small runs
of one clip: they show whether the term works, not what it is worth. Runs that the result file already holds are kept if they were
made with the same settings, so that a long measurement may be stopped and taken up, or more seeds be added.
"""

import argparse
import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

import torch
from vivim.allocator import keep_freed_memory
from vivim.extract.pretrain.config import MaskLossConfig, PretrainConfig
from vivim.extract.pretrain.masks import MaskedClip, read_clips
from vivim.extract.pretrain.train import train_on_masks
from vivim.progress import SILENT
from vivim.store.provenance import provenance

RESULT = Path(__file__).parent / "results" / "segmentation.json"
LOSSES = {
    "without the affine term": MaskLossConfig(affine=0.0),
    "with the affine term": MaskLossConfig(),
    "official": MaskLossConfig(kind="official"),
}


def measure(train: list[MaskedClip], test: list[MaskedClip], config: PretrainConfig, seed: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        done = train_on_masks(train, test, config, "nano", Path(folder) / "run", seed=seed, device="cpu", resume=False, progress=SILENT)
    last = done.epochs[-1]
    assert last.test is not None
    return {
        "seed": seed,
        **{name: round(value, 4) for name, value in last.test.items()},
        "loss_terms": last.terms,
        "seconds_per_epoch": statistics.median(log.train_seconds for log in done.epochs),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--pixels", type=int, default=128)
    parser.add_argument("--clip-frames", type=int, default=3)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--losses", nargs="+", choices=list(LOSSES), default=list(LOSSES)[:2])
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    keep_freed_memory()  # as the command line does
    torch.set_num_threads(1)  # one is faster than two at this size when the cores are shared
    train, test = (
        read_clips(options.data / part / clip, options.data / f"{part}_GT" / clip, options.pixels, SILENT)
        for part, clip in (("Train", "0002"), ("Test", "0004"))
    )
    rows = _measured(options)
    run = provenance()
    for seed in range(1, options.seeds + 1):  # losses side by side, so that a busy machine is busy for both
        for name in options.losses:
            if any((row["loss"], row["seed"]) == (name, seed) for row in rows):
                continue
            config = PretrainConfig(
                pixels=options.pixels,
                clip_frames=options.clip_frames,
                epochs=options.epochs,
                lr=options.lr,
                pictures_every=0,
                test_every=options.epochs,
                loss=LOSSES[name],
            )
            row = {"loss": name} | measure(train, test, config, seed)
            rows.append(row)
            print(
                f"{name}, seed {seed}: Dice {row['dice']}, boundary F {row['boundary_f']}, {row['seconds_per_epoch']} s/epoch", flush=True
            )
            _write(options, rows, run)


SETTINGS = ("epochs", "pixels", "clip_frames", "lr")


def _measured(options: argparse.Namespace) -> list[dict[str, Any]]:
    before = json.loads(options.out.read_text()) if options.out.is_file() else {}
    return before["rows"] if before and all(before[name] == getattr(options, name) for name in SETTINGS) else []


def _write(options: argparse.Namespace, rows: list[dict[str, Any]], run: dict[str, Any]) -> None:
    summary = {}
    for name in dict.fromkeys(row["loss"] for row in rows):
        mine = [row for row in rows if row["loss"] == name]
        summary[name] = {
            metric: {
                "mean": round(statistics.mean(row[metric] for row in mine), 4),
                "deviation": round(statistics.stdev(row[metric] for row in mine), 4) if len(mine) > 1 else None,
            }
            for metric in ("dice", "iou", "mae", "boundary_f")
        }
    settings = {name: getattr(options, name) for name in SETTINGS}
    flags = " ".join(f"--{name.replace('_', '-')} {value}" for name, value in {"seeds": options.seeds, **settings}.items())
    run["command"] = f"segmentation.py --data VTUS {flags}"
    content = {"train": "Train/0002", "test": "Test/0004", "size": "nano", **settings, "summary": summary, "rows": rows, "provenance": run}
    options.out.write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main()
