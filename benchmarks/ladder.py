"""The ladder of item encoders on the demo world, whose truth is known: quality on new clips, time and memory, rung by rung.

    python benchmarks/ladder.py --work DIR [--seeds 3] [--viewers 400] [--world 7] [--out benchmarks/results/ladder.json]

Every rung has the same Mamba user model and begins with the same random nano encoder (its seed is that of the run); validation chooses
the best epoch; each training is a process of its own, which tells its peak memory. ``end-to-end`` rungs begin with the run of ``frozen``
and have half as many epochs. Test HR@10 is given over all questions, and over those whose target nobody watched in training (cold).
With ``--rungs`` some of them alone are measured; a result file that is there already keeps the rows of the others. Each row has the
provenance of its own measurement, as a number into the list of them.
"""

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from vivim.allocator import keep_freed_memory
from vivim.demo.render import render_world
from vivim.demo.run import DemoRow, K, extract_config, world_config
from vivim.demo.viewers import build_world
from vivim.demo.world import WorldConfig, WorldFiles, write_tables
from vivim.extract.frame_recipe import FrameRecipe
from vivim.extract.frame_writer import FrameCacheWriter
from vivim.extract.run import extract_catalogue
from vivim.extract.sources import videos
from vivim.extract.vivim import VivimConfig
from vivim.extract.weights import load_weights
from vivim.progress import SILENT
from vivim.recommend.checkpoint import RunFolder
from vivim.recommend.config import EvaluateConfig, RecommendConfig
from vivim.recommend.evaluation import evaluate_run
from vivim.recommend.readers import read_interactions
from vivim.recommend.train import train_run
from vivim.stage_one import make_recipe
from vivim.store import EmbeddingStore
from vivim.store.provenance import provenance

# rung -> options of its items, trained stages (end-to-end)
RUNGS: dict[str, tuple[dict[str, Any], int]] = {
    "ids": ({"kind": "ids"}, 0),
    "frozen": ({"kind": "frozen"}, 0),
    "ids+frozen": ({"kind": "ids+frozen"}, 0),
    "ids+frozen, neighbours": ({"kind": "ids+frozen", "new": "neighbours", "delta_dropout": 0.0}, 0),
    "ids, neighbours": ({"kind": "ids+frozen", "fusion": "map"}, 0),
    "adapter": ({"kind": "adapter"}, 0),
    "end-to-end, last stage": ({"kind": "end-to-end"}, 1),
    "end-to-end, all": ({"kind": "end-to-end"}, 4),
    "end-to-end, last two": ({"kind": "end-to-end"}, 2),
    "ids+end-to-end, all": ({"kind": "ids+end-to-end"}, 4),
}


def extract(files: WorldFiles, work: Path, seed: int) -> None:
    """Vectors of whole clips and of spans, and the frames, from random weights of this seed."""
    for pooling in ("levels", "frames"):
        config = extract_config()
        config = config.model_copy(update={"encoder": config.encoder.model_copy(update={"pooling": pooling})})
        encoder = load_weights("random", VivimConfig.of_size("nano", config.encoder.pooling), seed=seed)
        recipe = make_recipe(config, encoder, encoder.load_report)
        out = work / f"{pooling}-{seed}.h5"
        if out.exists():
            continue
        keep = FrameCacheWriter(work / "frames", FrameRecipe.of(recipe)) if not (work / "frames").exists() else None
        extract_catalogue(videos(files.videos, config), out, config, encoder, recipe, SILENT, keep=keep)


def configure(rung: str, work: Path, seed: int, epochs: int) -> RecommendConfig:
    options, stages = RUNGS[rung]
    items: dict[str, Any] = dict(options)
    train: dict[str, Any] = {"epochs": epochs, "batch": 128, "lr": 2e-3, "patience": epochs, "schedule": "cosine", "warmup": 0.05}
    if stages:
        train["epochs"] = train["patience"] = epochs // 2
        items["end_to_end"] = {"frames": work / "frames", "size": "nano", "stages": stages, "lr": 5e-4, "clips_at_once": 32}
        items["end_to_end"] |= {"drop_path": 0.0, "checkpointing": False}
        train["init"] = work / f"frozen-{seed}"
    return RecommendConfig.model_validate({"model": {"d_model": 64, "layers": 2, "dropout": 0.3}, "items": items, "train": train})


def one(rung: str, files: WorldFiles, work: Path, seed: int, epochs: int) -> dict[str, Any]:
    """Train and evaluate a rung in this process."""
    interactions = read_interactions(files.pairs)
    config = configure(rung, work, seed, epochs)
    pooling = "frames" if config.items.kind == "adapter" else "levels"
    run = work / f"{rung.replace(' ', '').replace(',', '-')}-{seed}"
    shutil.rmtree(run, ignore_errors=True)
    began = time.monotonic()
    done = train_run(
        interactions,
        EmbeddingStore.open(work / f"{pooling}-{seed}.h5"),
        config,
        run,
        seed=seed,
        device="cpu",
        resume=False,
        progress=SILENT,
        data_location={"path": files.pairs.name, "user_column": None, "item_column": None, "time_column": None},
    )
    seconds = time.monotonic() - began
    assert done.fit is not None
    report = evaluate_run(RunFolder.open(run), interactions, EvaluateConfig(k=(K,)), splits=("test",), progress=SILENT)
    result = report.splits[0]
    cold = DemoRow(rung, run, result).cold
    return {
        "rung": rung,
        "seed": seed,
        "hit_rate@10": round(result.metrics[f"hit_rate@{K}"].value, 4),
        "cold hit_rate@10": round(cold.value, 4) if cold else None,
        "validation_ndcg@10": round(done.fit.best.ndcg_10, 4),
        "best_epoch": done.fit.best.epoch,
        "epochs": len(done.fit.epochs),
        "seconds_per_epoch": round(done.seconds_per_epoch() or 0, 2),
        "seconds": round(seconds, 1),
        "peak_mb": done.peak_memory_mb,
    }


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Mean and range over the seeds."""
    tables: dict[str, Any] = {}
    for rung in dict.fromkeys(row["rung"] for row in rows):
        mine = [row for row in rows if row["rung"] == rung]
        tables[rung] = {}
        for name in ("hit_rate@10", "cold hit_rate@10", "seconds_per_epoch", "seconds", "peak_mb"):
            values = [row[name] for row in mine]
            tables[rung][name] = {"mean": round(statistics.mean(values), 4), "low": min(values), "high": max(values)}
    return tables


def table(result: dict[str, Any]) -> list[str]:
    """The rows of docs/recommend.md."""

    def share(value: float) -> str:
        return f"{value:.3f}".removeprefix("0") if value else "0"

    lines = []
    for rung, means in result["summary"].items():
        cold = [share(row["cold hit_rate@10"]) for row in result["rows"] if row["rung"] == rung]
        quality = (share(means["hit_rate@10"]["mean"]), f"{share(means['cold hit_rate@10']['mean'])} ({', '.join(cold)})")
        cost = (f"{means['seconds_per_epoch']['mean']:.1f}", f"{means['seconds']['mean']:.0f}", f"{means['peak_mb']['mean']:,.0f}")
        lines.append(f"| `{rung}` | {' | '.join((*quality, *cost))} |")
    return lines


class Results:
    """Rows of a result file; one that is measured anew takes the place of the one before.

    Args:
        path: of the file; its rows are begun with.
        provenance: of what is measured now.
    """

    def __init__(self, path: Path | None, provenance: dict[str, Any]) -> None:
        found = json.loads(path.read_text(encoding="utf-8")) if path and path.exists() else {"rows": [], "provenance": []}
        self.path, self.now = path, provenance
        self.rows = [row | {"provenance": found["provenance"][row["provenance"]]} for row in found["rows"]]

    def add(self, row: dict[str, Any]) -> None:
        """Kept at once: what is measured is not lost with what comes after."""
        key = (row["rung"], row["seed"])
        self.rows = [old for old in self.rows if (old["rung"], old["seed"]) != key] + [row | {"provenance": self.now}]
        self.rows.sort(key=lambda one: (list(RUNGS).index(one["rung"]), one["seed"]))
        if self.path:
            self.path.write_text(json.dumps(self.content(), indent=2) + "\n", encoding="utf-8")

    def content(self) -> dict[str, Any]:
        records: list[dict[str, Any]] = []
        for row in self.rows:
            if row["provenance"] not in records:
                records.append(row["provenance"])
        rows = [row | {"provenance": records.index(row["provenance"])} for row in self.rows]
        return {"summary": summary(self.rows), "rows": rows, "provenance": records}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--viewers", type=int, default=400)
    parser.add_argument("--world", type=int, default=7, help="seed of the world")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rungs", nargs="+", default=list(RUNGS), choices=RUNGS)
    parser.add_argument("--one", nargs=2, metavar=("RUNG", "SEED"), help="train this one alone, and print what came of it")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    keep_freed_memory()  # as the command line does
    torch.set_num_threads(options.threads)
    files = WorldFiles(options.work / f"viewers-{options.viewers}")
    if options.one:
        rung, seed = options.one
        print(json.dumps(one(rung, files, options.work, int(seed), options.epochs)))
        return
    clips = render_world(build_world(world_config(options.world, quick=False)), options.work / "world", progress=SILENT)
    files.folder.mkdir(exist_ok=True)
    write_tables(build_world(WorldConfig(viewers=options.viewers, seed=options.world)), files)
    record = provenance()
    record["command"] = (
        f"ladder.py --seeds {options.seeds} --viewers {options.viewers} --world {options.world} --epochs {options.epochs} "
        f"--threads {options.threads}"
    ) + (f" --rungs {' '.join(map(repr, options.rungs))}" if options.rungs != list(RUNGS) else "")
    results = Results(options.out, record)
    seeds = range(1, options.seeds + 1)
    for seed in seeds:
        extract(clips, options.work, seed)
    for rung in options.rungs:
        for seed in seeds:
            command = [sys.executable, __file__, "--work", str(options.work), "--viewers", str(options.viewers)]
            done = subprocess.run(
                [*command, "--epochs", str(options.epochs), "--threads", str(options.threads), "--one", rung, str(seed)],
                capture_output=True,
                text=True,
            )
            if done.returncode:
                sys.exit(done.stderr)
            results.add(json.loads(done.stdout.splitlines()[-1]))
            print(done.stdout.splitlines()[-1], flush=True)
    print(*table(results.content()), sep="\n")


if __name__ == "__main__":
    main()
