"""Whether a pretrained encoder's frozen vectors beat those of random weights, on the demo world, whose truth is known.

    python benchmarks/pretraining.py --work DIR [--seeds 3] [--epochs 12] [--world 7] [--out benchmarks/results/pretraining.json]

A category of the world is a look, readable from one frame, times a motion, readable only from several. For every seed the nano encoder
is drawn and frozen (``random``); pretrained on the world's 300 clips without labels (``self-supervised``); or trained to find the
pattern in them, whose masks the world knows (``segmentation``). Clips are extracted as the demo does. The world is not the one on which
the recipe's options were chosen (that was world 0). Then, per kind of weights:

``looks``, ``motions``, ``both``  accuracy of a linear probe (``vivim.demo.probe``), mean over ten ways to halve the clips: six looks
                                  alone, five motions alone, and the thirty categories (five clips of each to learn from).
``neighbours``                    share of a clip's nine nearest others that are of its category: without any labels.
``motions by level``              the probe on F1..F4 alone: where motion is kept.
``recommend``                     test HR@10 of the Mamba recommender with frozen items, over all and on clips that nobody watched in
                                  training (cold), trained with the same seed, on the histories of 150, 400 and 2,000 viewers.

``truth`` is no encoder but the category itself, one-hot: what a recommender could make of vectors that say all there is to know.

The clips of the probes are those of pretraining: that is how it is used, on one's own catalogue. Times are wall-clock and depend on
what else runs.
"""

import argparse
import csv
import json
import shutil
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from vivim.allocator import keep_freed_memory
from vivim.demo.probe import linear_probe
from vivim.demo.render import render_world
from vivim.demo.run import DemoRow, extract_config, recommend_config, world_config
from vivim.demo.scene import Scene
from vivim.demo.viewers import build_world
from vivim.demo.world import World, WorldConfig, WorldFiles, write_tables
from vivim.extract.parts import parts_of
from vivim.extract.pretrain.config import PretrainConfig
from vivim.extract.pretrain.masks import MaskedClip
from vivim.extract.pretrain.selfsup_config import SelfSupConfig
from vivim.extract.pretrain.selfsup_train import pretrain_on_clips
from vivim.extract.pretrain.train import train_on_masks
from vivim.extract.resize import resize
from vivim.extract.run import extract_catalogue
from vivim.extract.sources import videos
from vivim.extract.vivim import VivimConfig
from vivim.extract.weights import load_weights
from vivim.progress import SilentProgress
from vivim.recommend.checkpoint import RunFolder
from vivim.recommend.config import EvaluateConfig
from vivim.recommend.evaluation import evaluate_run
from vivim.recommend.readers import read_interactions
from vivim.recommend.train import train_run
from vivim.stage_one import make_recipe
from vivim.store import EmbeddingStore, Recipe, Rows, write_embeddings
from vivim.store.provenance import provenance

NANO = VivimConfig.of_size("nano")
HALVES = range(10)
VIEWERS = (150, 400, 2000)
MASKS = PretrainConfig(pixels=64, clip_frames=8, batch=4, epochs=6, lr=1e-3, held_out=0.05, test_every=6, pictures_every=6)


class Lines(SilentProgress):
    """What is said, on standard output."""

    def say(self, line: str) -> None:
        print("   ", line, flush=True)


@dataclass(frozen=True)
class Truth:
    """Labels of the clips, in the order of ``ids``."""

    ids: list[str]
    looks: list[str]
    motions: list[str]

    @staticmethod
    def read(files: WorldFiles) -> "Truth":
        with files.truth.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        return Truth(*([row[column] for row in rows] for column in ("id", "appearance", "motion")))

    def probe(self, vectors_ND: np.ndarray) -> dict[str, Any]:
        """All probes of one set of vectors."""

        def accuracy(part_ND: np.ndarray, labels: Sequence[object]) -> float:
            return round(statistics.mean(linear_probe(part_ND, labels, seed) for seed in HALVES), 4)

        both = list(zip(self.looks, self.motions, strict=True))
        found: dict[str, Any] = {
            "looks": accuracy(vectors_ND, self.looks),
            "motions": accuracy(vectors_ND, self.motions),
            "both": accuracy(vectors_ND, both),
            "neighbours": round(neighbours(vectors_ND, both), 4),
        }
        if vectors_ND.shape[1] == sum(NANO.channels):
            levels = np.split(vectors_ND, np.cumsum(NANO.channels)[:-1], axis=1)
            found["motions by level"] = {f"F{level + 1}": accuracy(part, self.motions) for level, part in enumerate(levels)}
        return found


def neighbours(vectors_ND: np.ndarray, labels: Sequence[object]) -> float:
    """Share of a clip's nine nearest others (cosine, dimensions standardised) that have its label; a category has ten clips."""
    numbers = {label: number for number, label in enumerate(dict.fromkeys(labels))}
    y = np.array([numbers[label] for label in labels])
    X = (vectors_ND - vectors_ND.mean(0)) / np.maximum(vectors_ND.std(0), 1e-6)
    X /= np.linalg.norm(X, axis=1, keepdims=True)
    similarity = X @ X.T
    np.fill_diagonal(similarity, -np.inf)
    return float((y[np.argsort(-similarity, axis=1)[:, :9]] == y[:, None]).mean())


def extract(files: WorldFiles, weights: str, seed: int, out: Path) -> EmbeddingStore:
    """The clips' vectors, made as the demo makes them."""
    config = extract_config()
    encoder = load_weights(weights, NANO, seed=seed)
    info = encoder.load_report
    out.unlink(missing_ok=True)
    shutil.rmtree(parts_of(out), ignore_errors=True)
    extract_catalogue(videos(files.videos, config), out, config, encoder, make_recipe(config, encoder, info), Lines())
    return EmbeddingStore.open(out)


def masked_clips(world: World) -> list[MaskedClip]:
    """The world's clips with the true mask of the pattern, squeezed to the encoder's square."""
    side = (MASKS.pixels, MASKS.pixels)
    clips = []
    for row, clip in enumerate(world.clips):
        scene = Scene.of(world.config, clip, row)
        times = [(number, number / world.config.fps) for number in range(world.config.frames)]
        frames = torch.stack([torch.from_numpy(resize(scene.frame(*time), MASKS.pixels, "squash")) for time in times])
        masks = torch.stack([torch.from_numpy(scene.mask(*time)) for time in times])
        small = F.interpolate(masks[:, None].float(), side, mode="bilinear", antialias=True)[:, 0] >= 0.5
        clips.append(MaskedClip(clip.id, frames, small))
    return clips


def pretrain_on_masks(clips: Sequence[MaskedClip], seed: int, run: Path) -> tuple[Path, dict[str, Any]]:
    """Weights trained to find the pattern, and what the last epoch says of them."""
    begun = (run / "run.json").exists()
    done = train_on_masks(clips, None, MASKS, "nano", run, seed=seed, device="cpu", resume=begun, progress=Lines())
    last = done.epochs[-1]
    assert last.test is not None
    seconds = round(sum(epoch.train_seconds for epoch in done.epochs))
    return run / "encoder.safetensors", {"pretrain_seconds": seconds, "clips": len(clips), "dice": round(last.test["dice"], 4)}


def write_truth(truth: Truth, out: Path) -> EmbeddingStore:
    """Vectors that name the category of each clip and say nothing else."""
    categories = list(zip(truth.looks, truth.motions, strict=True))
    numbers = {category: number for number, category in enumerate(dict.fromkeys(categories))}
    vectors_ND = np.eye(len(numbers), dtype=np.float32)[[numbers[category] for category in categories]]
    count = len(truth.ids)
    rows = Rows(truth.ids, vectors_ND, ["0" * 64] * count, np.zeros((count, 1)), ["none"] * count, np.zeros(count, bool))
    made: dict[str, Any] = {"encoder": {"kind": "truth"}, "weights": {"source": "none"}}
    write_embeddings(out, Recipe(**made, frames={}, preprocessing={}, decoder={}, dtype="float32"), rows, [])
    return EmbeddingStore.open(out)


def recommend(files: WorldFiles, store: EmbeddingStore, seed: int, run: Path) -> dict[str, Any]:
    """Test HR@10 of the recommender that sees nothing but the stored vectors."""
    interactions = read_interactions(files.pairs)
    shutil.rmtree(run, ignore_errors=True)
    train_run(
        interactions,
        store,
        recommend_config("frozen video", quick=False),
        run,
        seed=seed,
        device="cpu",
        resume=False,
        progress=Lines(),
        data_location={"path": files.pairs.name, "user_column": None, "item_column": None, "time_column": None},
    )
    report = evaluate_run(RunFolder.open(run), interactions, EvaluateConfig(k=(10,)), splits=("test",), device="cpu", progress=Lines())
    result = report.splits[0]
    cold = DemoRow("frozen video", run, result).cold
    return {"hit_rate@10": result.metrics["hit_rate@10"].as_dict(), "cold hit_rate@10": cold.as_dict()}


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Mean and range over the seeds, per kind of weights."""
    tables = {}
    for kind in dict.fromkeys(row["weights"] for row in rows):
        mine = [row for row in rows if row["weights"] == kind]
        columns = {name: [row["probe"][name] for row in mine] for name in ("looks", "motions", "both", "neighbours")}
        columns |= {
            f"{name}, {viewers} viewers": [row["recommend"][str(viewers)][name]["value"] for row in mine]
            for viewers in VIEWERS
            for name in ("hit_rate@10", "cold hit_rate@10")
        }
        tables[kind] = {
            name: {"mean": round(statistics.mean(values), 4), "low": round(min(values), 4), "high": round(max(values), 4)}
            for name, values in columns.items()
        }
    return tables


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for clips, weights and vectors; what is there is used again")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--image-size", type=int, default=48, help="side of a view; extraction reads 64 pixels")
    parser.add_argument("--world", type=int, default=7, help="seed of the world")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    keep_freed_memory()  # as the command line does
    torch.set_num_threads(options.threads)
    world = build_world(world_config(options.world, quick=False))
    files = render_world(world, options.work / "world", progress=Lines())
    truth = Truth.read(files)
    masked = masked_clips(world)
    audiences = {}
    for viewers in VIEWERS:
        audiences[str(viewers)] = audience = WorldFiles(options.work / f"viewers-{viewers}")
        audience.folder.mkdir(exist_ok=True)
        write_tables(build_world(WorldConfig(viewers=viewers, seed=options.world)), audience)
    config = SelfSupConfig(epochs=options.epochs, image_size=options.image_size)
    rows = []
    for seed in range(options.seeds):
        run = options.work / f"selfsup-{seed}"
        started = time.monotonic()
        trained = pretrain_on_clips(
            files.videos,
            config,
            NANO,
            run,
            Lines(),
            seed=seed,
            device="cpu",
            resume=(run / "run.json").exists(),
            frames=options.work / "frames",
        )
        seconds = round(sum(epoch.seconds for epoch in trained.epochs))
        print(f"seed {seed}: pretrained in {seconds} s ({time.monotonic() - started:.0f} s in this run)", flush=True)
        by_masks, masks_facts = pretrain_on_masks(masked, seed, options.work / f"masks-{seed}")
        kinds = {"random": "random", "self-supervised": str(trained.encoder), "segmentation": str(by_masks), "truth": ""}
        for kind, weights in kinds.items():
            name = f"{kind}-{seed}"
            vectors = options.work / f"{name}.h5"
            store = extract(files, weights, seed, vectors) if weights else write_truth(truth, vectors)
            vectors_ND, present = store.lookup(truth.ids)
            assert present.all()
            row: dict[str, Any] = {"weights": kind, "seed": seed, "probe": truth.probe(vectors_ND)}
            row["recommend"] = {
                viewers: recommend(audience, store, seed, options.work / "runs" / name) for viewers, audience in audiences.items()
            }
            if kind == "self-supervised":
                row |= {"pretrain_seconds": seconds, "clips": trained.clips, "collapsed": trained.collapsed}
                row["last_epoch"] = {
                    key: round(value, 4)
                    for key, value in vars(trained.epochs[-1]).items()
                    if isinstance(value, float) and key not in {"lr", "seconds"}
                }
            if kind == "segmentation":
                row |= masks_facts
            rows.append(row)
            shown = ", ".join(f"{what} {row['probe'][what]:.3f}" for what in ("looks", "motions", "both", "neighbours"))
            rates = ", ".join(
                f"{viewers} viewers {rate['hit_rate@10']['value']:.3f} (cold {rate['cold hit_rate@10']['value']:.3f})"
                for viewers, rate in row["recommend"].items()
            )
            print(f"{name}: {shown}; {rates}", flush=True)
    if options.out:
        record = provenance()
        flags = f"--seeds {options.seeds} --epochs {options.epochs} --image-size {options.image_size} --world {options.world}"
        record["command"] = f"pretraining.py {flags}"
        result = {
            "config": config.model_dump(mode="json"),
            "masks_config": MASKS.model_dump(mode="json"),
            "summary": summary(rows),
            "rows": rows,
            "provenance": record,
        }
        options.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
