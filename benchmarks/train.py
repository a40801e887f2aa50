"""How fast and how good training is, beside RecBole 1.2.1's on the same interactions, with the same loss, in one run.

    python benchmarks/train.py --data DIR --recbole PYTHON --work DIR [--sets ml-100k microlens-50k] [--out benchmarks/results/train.json]

``ml-100k``        RecBole's own example: all interactions, the last of each user tested, the one before validated, histories of 50; as
                   RecBole ranks what was watched before, so does ours
``microlens-50k``  the windows of MicroLens's protocol (last 13 kept), histories of 10; what was watched before ranked too. For speed
``microlens-50k-whole``  the same, apart, to train all of them to their best: in ours the settings of the suite microlens-50k-id

Ours: Mamba, SASRec and GRU4Rec over ids, full softmax at every position of packed histories, trained until validation no longer
rises, with ``--seeds`` seeds (GRU4Rec with one), in each of ``--precisions``; RecBole computes in float32. RecBole, equally wide (64 on
ml-100k, 128 on microlens-50k): SASRec and GRU4Rec as shipped (importing its models leaves torch's anomaly detection on) and with that
off: ``--recbole-epochs`` epochs are timed, or, with that off, the models of ``--whole`` on the sets of ``--whole-sets`` are trained until
validation no longer rises, and tested. Each is a process of its own.

A file that is there already keeps what it has of other sets. With ``--resume`` it keeps the rows that it has of these sets too, and what is
missing is measured: a set takes hours, most of them RecBole's. ``provenance`` of a row is its place among those of its set.

``interactions_per_second``  training interactions (targets) over the seconds of an epoch's steps
``seconds_to_common_ndcg``   [x, seconds of training until validation NDCG@10 is x], x being what every model trained to its best reaches
``floor``                    (microlens-50k, ours) the three matrix products of the full softmax, at the rate of a large product
                             measured in the same run: what no implementation without sampling can go below
"""

import argparse
import itertools
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("GOMP_SPINCOUNT", "10000")  # before torch is loaded, as the command line does

import torch
from vivim.allocator import keep_freed_memory
from vivim.progress import SILENT
from vivim.recommend.build import protocol_of
from vivim.recommend.checkpoint import RunFolder
from vivim.recommend.config import EvaluateConfig, ProtocolConfig, RecommendConfig
from vivim.recommend.evaluation import evaluate_run
from vivim.recommend.readers import read_interactions
from vivim.recommend.sequences import Interactions
from vivim.recommend.train import train_run
from vivim.store.provenance import provenance

MICROLENS = ("microlens-50k/MicroLens-50k_pairs.tsv", ProtocolConfig(seen="kept"), 128)
SETS = {
    "ml-100k": ("ml-100k/ml-100k.inter", ProtocolConfig(name="leave-one-out", max_len=50, seen="kept"), 64),
    "microlens-50k": MICROLENS,
    "microlens-50k-whole": MICROLENS,
}
MICROLENS_TRAIN = {"batch": 256, "lr": 2e-3, "schedule": "cosine", "warmup": 0.05, "weight_decay": 0.1}
OURS = ("mamba", "sasrec", "gru4rec")
PRECISIONS = {"32-true": torch.float32, "bf16-mixed": torch.bfloat16}
THEIRS = ("SASRec", "GRU4Rec")


def settings(name: str, kind: str) -> tuple[float, dict[str, Any]]:
    """Of ours on a set: dropout, and how it is trained. On MicroLens-50K those of the suite microlens-50k-id."""
    if name == "ml-100k":
        return 0.3, {"batch": 64, "weight_decay": 0.01}
    return (0.3, MICROLENS_TRAIN | {"lr": 4e-3}) if kind == "gru4rec" else (0.5, MICROLENS_TRAIN)


def write_inter(interactions: Interactions, protocol: ProtocolConfig, folder: Path, name: str) -> Path:
    """The interactions that the protocol keeps, for RecBole."""
    path = folder / name / f"{name}.inter"
    path.parent.mkdir(parents=True, exist_ok=True)
    kept = slice(-protocol.keep_last, None) if protocol.name == "microlens" else slice(None)
    with path.open("w", encoding="utf-8") as file:
        file.write("user_id:token\titem_id:token\ttimestamp:float\n")
        for user, history in enumerate(interactions.histories):
            for place, item in enumerate(history[kept]):
                file.write(f"{user}\t{item}\t{place}\n")
    return path


def ours(kind: str, name: str, data: Path, work: Path, epochs: int, patience: int, seed: int, precision: str = "32-true") -> dict[str, Any]:
    """Train and evaluate in this process."""
    file, protocol, width = SETS[name]
    interactions = read_interactions(str(data / file))
    dropout, how = settings(name, kind)
    model = {"kind": kind, "d_model": width, "layers": 1 if kind == "gru4rec" else 2, "dropout": dropout}
    train = {"epochs": epochs, "patience": patience, "precision": precision} | how
    config = RecommendConfig.model_validate({"protocol": protocol, "items": {"kind": "ids"}, "model": model, "train": train})
    run = work / f"{name}-{kind}-{seed}"
    shutil.rmtree(run, ignore_errors=True)
    done = train_run(interactions, None, config, run, seed=seed, device="cpu", resume=False, progress=SILENT, data_location={"path": file})
    assert done.fit is not None
    report = evaluate_run(RunFolder.open(run), interactions, EvaluateConfig(k=(10,)), progress=SILENT)
    seconds = done.seconds_per_epoch() or 0.0
    positions = done.fit.best.positions
    row: dict[str, Any] = {
        "model": kind,
        "seed": seed,
        "precision": precision,
        "seconds_per_epoch": round(seconds, 2),
        "interactions_per_second": round(positions / seconds),
        "epochs": len(done.fit.epochs),
        "best_epoch": done.fit.best.epoch,
        "seconds_to_best": round(sum(log.train_seconds for log in done.fit.epochs[: done.fit.best.epoch]), 1),
        "peak_mb": done.peak_memory_mb,
        "curve": curve([(log.train_seconds, log.ndcg_10) for log in done.fit.epochs]),
    }
    for split in report.splits:
        row[split.name] = {key: round(split.metrics[key].value, 4) for key in ("hit_rate@10", "ndcg@10")}
        row[split.name]["hit_rate@10 interval"] = [
            round(split.metrics["hit_rate@10"].low, 4),
            round(split.metrics["hit_rate@10"].high, 4),
        ]
    row["floor_seconds"] = round(floor_seconds(positions, len(done.split.items), width, PRECISIONS[precision]), 2)
    row["of_floor"] = round(row["floor_seconds"] / seconds, 3)
    return row


def curve(epochs: list[tuple[float, float]]) -> list[list[float]]:
    """Seconds of training until then and validation NDCG@10, after each epoch."""
    total = itertools.accumulate(seconds for seconds, _ in epochs)
    return [[round(seconds, 1), round(ndcg, 4)] for seconds, (_, ndcg) in zip(total, epochs, strict=True)]


def seconds_to_common(rows: list[dict[str, Any]]) -> None:
    """Seconds until the validation NDCG@10 that all of ``rows`` with a curve reach: the least of their best."""
    measured = [row for row in rows if row.get("curve")]
    if measured:
        common = min(max(ndcg for _, ndcg in row["curve"]) for row in measured)
        for row in measured:
            row["seconds_to_common_ndcg"] = [common, next(seconds for seconds, ndcg in row["curve"] if ndcg >= common)]


def floor_seconds(positions: int, items: int, width: int, dtype: torch.dtype) -> float:
    """Three products of (P, D) by (D, N), at the rate of a large square product."""
    square = torch.randn(2048, 2048, dtype=dtype)
    square @ square
    began = time.perf_counter()
    for _ in range(5):
        square @ square
    per_flop = (time.perf_counter() - began) / (5 * 2 * 2048**3)
    return per_flop * 3 * 2 * positions * items * width


def one(options: argparse.Namespace, kind: str, name: str, seed: int, precision: str) -> dict[str, Any]:
    command = [sys.executable, __file__, "--data", str(options.data), "--work", str(options.work), "--one", kind, name]
    command += ["--epochs", str(options.epochs), "--patience", str(options.patience), "--seed", str(seed)]
    return last_line([*command, "--precisions", precision])


def last_line(command: list[str], without: tuple[str, ...] = ()) -> dict[str, Any]:
    environment = {name: value for name, value in os.environ.items() if name not in without}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stderr}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def recbole_name(model: str, *, anomaly: bool) -> str:
    """Of a row."""
    return f"RecBole {model}" + (", anomaly detection on (as shipped)" if anomaly else "")


def recbole(options: argparse.Namespace, file: Path, model: str, name: str, *, anomaly: bool, evaluate: bool) -> dict[str, Any]:
    script = Path(__file__).with_name("recbole_side.py")
    _, protocol, width = SETS[name]
    epochs = options.epochs if evaluate else options.recbole_epochs
    command = [
        options.recbole,
        str(script),
        model,
        str(file),
        "--epochs",
        str(epochs),
        "--max-len",
        str(protocol.max_len),
        "--width",
        str(width),
    ]
    # Threads wait as torch's do by default: what our command line sets is ours.
    found = last_line([*command, *["--anomaly"] * anomaly, *["--evaluate"] * evaluate], without=("GOMP_SPINCOUNT", "OMP_WAIT_POLICY"))
    times = sorted(epoch["seconds"] for epoch in found["epochs"])
    seconds = times[len(times) // 2]
    best = max((e for e in found["epochs"] if "validation" in e), key=lambda e: e["validation"]["ndcg@10"], default=None)
    return {
        "model": recbole_name(model, anomaly=anomaly),
        "seconds_per_epoch": round(seconds, 2),
        "interactions_per_second": round(found["train_rows"] / seconds),
        "epochs": len(found["epochs"]),
        "best_epoch": best and best["epoch"],
        "seconds_to_best": best and round(sum(e["seconds"] for e in found["epochs"][: best["epoch"]]), 1),
        "peak_mb": found["peak_mb"],
        "curve": curve([(e["seconds"], e["validation"]["ndcg@10"]) for e in found["epochs"] if "validation" in e]),
        "validation": best and {"hit_rate@10": best["validation"]["hit@10"], "ndcg@10": best["validation"]["ndcg@10"]},
        "test": found["test_of_best"] and {"hit_rate@10": found["test_of_best"]["hit@10"], "ndcg@10": found["test_of_best"]["ndcg@10"]},
    }


def key_of(row: dict[str, Any]) -> tuple[str, int | None, str]:
    """What there is one of in a set."""
    return row["model"], row.get("seed"), row.get("precision", "32-true")


def kept(path: Path | None) -> dict[str, Any]:
    """What a result file holds, set by set: ``{set: {"rows": [...], "provenance": [...]}}``; nothing where there is none."""
    if path is None or not path.exists():
        return {}
    sets: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))["sets"]
    return sets


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--recbole", help="an interpreter with recbole 1.2.1; without it ours alone")
    parser.add_argument("--recbole-epochs", type=int, default=1)
    parser.add_argument("--whole", nargs="*", default=list(THEIRS), choices=THEIRS, help="of RecBole's, those trained to their best")
    parser.add_argument("--whole-sets", nargs="*", default=["ml-100k"], choices=SETS, help="on which they are")
    parser.add_argument("--not-as-shipped", action="store_true", help="of RecBole's, only those with anomaly detection off")
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--patience", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1, help="of --one")
    parser.add_argument("--sets", nargs="+", default=["ml-100k", "microlens-50k"], choices=SETS)
    parser.add_argument("--precisions", nargs="+", default=["32-true"], choices=PRECISIONS, help="of ours")
    parser.add_argument("--one", nargs=2, metavar=("MODEL", "SET"), help="train this one alone, and print what came of it")
    parser.add_argument("--resume", action="store_true", help="rows that --out has are not measured again")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    keep_freed_memory()  # as the command line does
    options.work.mkdir(parents=True, exist_ok=True)
    if options.one:
        limits = (options.epochs, options.patience, options.seed, *options.precisions)
        print(json.dumps(ours(*options.one, options.data, options.work, *limits)))
        return
    record = provenance()
    record["command"] = (
        f"train.py --sets {' '.join(options.sets)} --epochs {options.epochs} --patience {options.patience} --seeds {options.seeds} "
        f"--precisions {' '.join(options.precisions)} --recbole-epochs {options.recbole_epochs} --whole {' '.join(options.whole)} "
        f"--whole-sets {' '.join(options.whole_sets)}{' --not-as-shipped' * options.not_as_shipped}"
    )
    sets = kept(options.out)
    for name in options.sets:
        of_set = sets.setdefault(name, {"rows": [], "provenance": []})
        if not options.resume:
            of_set.update(rows=[], provenance=[])
        of_set["provenance"].append(record)

    def add(name: str, model: str, seed: int | None, precision: str, measure: Callable[[], dict[str, Any]]) -> None:
        """Kept at once: what is measured is not lost with what comes after."""
        key = (model, seed, precision)
        if any(key_of(row) == key for row in sets[name]["rows"]):
            return
        row = measure() | {"provenance": len(sets[name]["provenance"]) - 1}
        assert key_of(row) == key
        sets[name]["rows"].append(row)
        seconds_to_common(sets[name]["rows"])
        print(name, json.dumps(row), flush=True)
        if options.out:
            options.out.write_text(json.dumps({"sets": sets}, indent=2) + "\n", encoding="utf-8")

    for name in options.sets:
        for precision, kind in itertools.product(options.precisions, OURS):
            add(name, kind, 1, precision, partial(one, options, kind, name, 1, precision))
        if options.recbole:
            file, protocol, _ = SETS[name]
            interactions = read_interactions(str(options.data / file))
            split = protocol_of(protocol).split(interactions)
            assert len(split.users) == len(interactions.users), "RecBole would train on users that the protocol leaves out"
            inter = write_inter(interactions, protocol, options.work / "recbole", name)
            for model in THEIRS:
                for anomaly in (False,) if options.not_as_shipped else (False, True):
                    evaluate = name in options.whole_sets and model in options.whole and not anomaly
                    measure = partial(recbole, options, inter, model, name, anomaly=anomaly, evaluate=evaluate)
                    add(name, recbole_name(model, anomaly=anomaly), None, "32-true", measure)
        for seed in range(2, options.seeds + 1):
            for precision, kind in itertools.product(options.precisions, ("mamba", "sasrec")):
                add(name, kind, seed, precision, partial(one, options, kind, name, seed, precision))


if __name__ == "__main__":
    main()
