"""How long evaluation takes, beside RecBole 1.2.1's evaluator on the same scores in the same run, and beside the bare product.

    python benchmarks/evaluation.py [--users 50000] [--items 19220] [--recbole PYTHON] [--out benchmarks/results/evaluation.json]

Made-up vectors of users and items, and targets near their users, so that a tenth of them are hits; 4 to 12 items of each user are
masked. Scores are products of these vectors, computed batch by batch, here and there; who trains what plays no part.

``floor``      the products alone, into memory that is there
``ranks``      exact ranks of all targets, ties counted
``metrics``    HR@K, NDCG@K and MRR with their intervals
``both``       ranks and exact top-K lists from the same scores
``flat``       the same lists through FAISS
``beside``     coverage, Gini and mean popularity of the lists
``diversity``  of the lists, which RecBole has not

RecBole, in a process of its own, with batches of 4,096 as it takes them by default: its collector and evaluator for Hit, NDCG and MRR,
and once more for these with coverage, Gini and average popularity. Each round is floor, ours, RecBole's; what is given is the median
over rounds. The run ends with an error if the two do not agree on the metrics.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("GOMP_SPINCOUNT", "10000")  # before torch is loaded, as the command line does

import faiss
import numpy as np
import torch
from vivim.allocator import keep_freed_memory
from vivim.recommend.metrics import accuracy, coverage, gini, intra_list_diversity, mean_popularity
from vivim.recommend.ranker import rank_and_list, rank_questions
from vivim.recommend.retrieval import FaissIndex, faiss_top_k
from vivim.recommend.scorers import TableScorer
from vivim.recommend.sequences import Questions, Sequences
from vivim.store.provenance import provenance

KS = (10, 20)
NEAR = 2.0  # standard deviations of a user's score that its target's is above the mean: a tenth of the targets become hits
AGREE = 1e-4  # two builds of torch round scores differently, which may exchange neighbours of a ranking


@dataclass(frozen=True)
class World:
    """What is scored.

    Attributes:
        users_UD, items_ND: float32.
        questions: one for each user.
        counts_N: made-up training interactions of each item.
    """

    users_UD: torch.Tensor
    items_ND: torch.Tensor
    questions: Questions
    counts_N: np.ndarray

    def save(self, folder: Path) -> None:
        """For RecBole's process."""
        seen = self.questions.seen
        arrays = {"users": self.users_UD.numpy(), "items": self.items_ND.numpy(), "targets": self.questions.targets}
        arrays |= {"seen_offsets": seen.offsets, "seen_items": seen.items, "counts": self.counts_N}
        for name, array in arrays.items():
            np.save(folder / f"{name}.npy", array)


def made(users: int, items: int, width: int, seed: int = 0) -> World:
    """A world of this size."""
    rng = np.random.default_rng(seed)
    items_ND = rng.normal(size=(items, width)).astype(np.float32)
    targets = rng.integers(0, items, users).astype(np.int32)
    near = NEAR / np.sqrt(width)  # of a vector of length sqrt(width)
    users_UD = (rng.normal(size=(users, width)) + near * items_ND[targets]).astype(np.float32)
    lengths = rng.integers(4, 13, users)
    seen = rng.integers(0, items, lengths.sum()).astype(np.int32)
    owner = np.repeat(np.arange(users), lengths)
    seen[seen == targets[owner]] = (targets[owner][seen == targets[owner]] + 1) % items
    histories = Sequences(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64), seen)
    questions = Questions(np.arange(users, dtype=np.int32), histories, targets, histories)
    return World(torch.from_numpy(users_UD), torch.from_numpy(items_ND), questions, rng.integers(0, 100, items))


def seconds_of(work: Callable[[], Any]) -> tuple[float, Any]:
    began = time.perf_counter()
    result = work()
    return time.perf_counter() - began, result


def floor_seconds(world: World, batch: int) -> float:
    """The products of all users with all items, nothing looked at."""
    out = torch.empty(batch, len(world.items_ND))
    items_DN = world.items_ND.T

    def work() -> None:
        for part in world.users_UD.split(batch):
            torch.mm(part, items_DN, out=out[: len(part)])

    return seconds_of(work)[0]


def ours(world: World, batch: int) -> dict[str, Any]:
    """Seconds of each part, and the metrics."""
    scorer, n, k = TableScorer(world.users_UD, world.items_ND), len(world.items_ND), max(KS)
    spent = {}
    spent["ranks"], ranks = seconds_of(lambda: rank_questions(scorer, world.questions, num_items=n, batch=batch))
    spent["metrics"], metrics = seconds_of(lambda: accuracy(ranks, KS))
    spent["both"], (again, lists) = seconds_of(lambda: rank_and_list(scorer, world.questions, k, num_items=n, batch=batch))
    assert np.array_equal(again.rank, ranks.rank)
    spent["flat"], flat = seconds_of(lambda: faiss_top_k(FaissIndex("flat", world.items_ND), scorer, world.questions, k, batch=batch))
    spent["beside"], beside = seconds_of(
        lambda: {
            f"{name}@{at}": value
            for at in KS
            for name, value in (
                ("coverage", coverage(lists, at)),
                ("gini", gini(lists, at)),
                ("popularity", mean_popularity(lists, at, world.counts_N)),
            )
        }
    )
    spent["diversity"], diversity = seconds_of(lambda: {f"diversity@{at}": intra_list_diversity(lists, at, world.items_ND) for at in KS})
    values = {name.replace("hit_rate", "hit"): estimate.value for name, estimate in metrics.items() if name != "mrr"}
    share = float((lists.items == flat.items).mean())
    return {"seconds": spent, "metrics": values | beside | diversity, "flat_equals_exact": share}


def theirs(folder: Path, python: str, threads: int, *, lists: bool) -> dict[str, Any]:
    """RecBole's seconds and metrics."""
    script = Path(__file__).with_name("recbole_evaluation.py")
    # Threads wait as torch's do by default: what our command line sets is ours. So are our packages.
    without = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "PYTHONPATH")
    environment = {name: value for name, value in os.environ.items() if name not in without}
    command = [python, str(script), str(folder), "--threads", str(threads), *["--lists"] * lists, "--k", *map(str, KS)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stderr}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def disagreement(ours: dict[str, float], theirs: dict[str, float]) -> dict[str, tuple[float, float]]:
    """Metrics that both have and in which they differ; of average popularity by a thousandth."""
    return {
        name: (ours[name], value)
        for name, value in theirs.items()
        if name in ours and abs(ours[name] - value) > (AGREE * max(1.0, 10 * ours[name]) if name.startswith("popularity") else AGREE)
    }


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """All rounds, and their medians."""
    world = made(options.users, options.items, options.width)
    rounds: list[dict[str, float]] = []
    last: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        world.save(Path(folder))
        for _ in range(options.rounds):
            spent = {"floor": floor_seconds(world, options.batch)}
            last = ours(world, options.batch)
            spent |= last["seconds"]
            for name, lists in (("recbole", False), ("recbole with lists", True)) if options.recbole else ():
                found = theirs(Path(folder), options.recbole, options.threads, lists=lists)
                spent[name] = found["seconds"]
                if different := disagreement(last["metrics"], found["metrics"]):
                    sys.exit(f"{name} and ours do not agree: {different}")
            rounds.append({name: round(value, 4) for name, value in spent.items()})
            print(rounds[-1], flush=True)
    seconds = {name: statistics.median(each[name] for each in rounds) for name in rounds[0]}
    result = {"seconds": seconds, "rounds": rounds, "metrics": last["metrics"], "flat_equals_exact": last["flat_equals_exact"]}
    return result | {"ratios": ratios(seconds)}


def ratios(seconds: dict[str, float]) -> dict[str, float]:
    """Ours over the floor, and RecBole's over ours, which computes as much."""
    accurate = seconds["ranks"] + seconds["metrics"]
    found = {"ranks over floor": seconds["ranks"] / seconds["floor"]}
    if "recbole" in seconds:
        found["recbole over ranks and metrics"] = seconds["recbole"] / accurate
        with_lists = seconds["both"] + seconds["metrics"] + seconds["beside"]
        found["recbole with lists over ours with lists"] = seconds["recbole with lists"] / with_lists
    return {name: round(value, 3) for name, value in found.items()}


LINES = (
    ("floor", "the products of users and items alone, the floor", None, ""),
    ("ranks", "exact ranks", "ranks over floor", "times the floor"),
    ("metrics", "HR, NDCG, MRR and their intervals", None, ""),
    ("recbole", "RecBole: Hit, NDCG, MRR", "recbole over ranks and metrics", "times ranks and metrics"),
    ("both", "exact ranks and top-20 lists at once", None, ""),
    ("flat", "top-20 lists by FAISS, flat", None, ""),
    ("beside", "coverage, Gini and mean views of the lists", None, ""),
    ("diversity", "their diversity, which RecBole has not", None, ""),
    (
        "recbole with lists",
        "RecBole: Hit, NDCG, MRR, coverage, Gini, average popularity",
        "recbole with lists over ours with lists",
        "times ours of the same",
    ),
)
"""Of the table: key of the seconds, what it is, key of its ratio, against what."""


def table(result: dict[str, Any]) -> list[str]:
    """The table of docs/benchmark.md, and where it is from."""
    seconds, ratios, origin = result["seconds"], result["ratios"], result["provenance"]
    rows = [
        f"| {what} | {seconds[key]:.2f} | {f'{ratios[ratio]:.2f} {words}' if ratio else ''} |"
        for key, what, ratio, words in LINES
        if key in seconds
    ]
    measured = f"{origin['date'][:10]}, commit {origin['commit']}, {origin['hardware']}"
    return [
        "| | seconds | against |",
        "|---|---|---|",
        *rows,
        "",
        f"Medians of {len(result['rounds'])} rounds; {measured} (`benchmarks/evaluation.py`).",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=50_000)
    parser.add_argument("--items", type=int, default=19_220)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--recbole", help="an interpreter with recbole 1.2.1; without it ours alone")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    keep_freed_memory()  # as the command line does
    torch.set_num_threads(options.threads)
    faiss.omp_set_num_threads(options.threads)
    record = provenance()
    record["command"] = f"evaluation.py --users {options.users} --items {options.items} --width {options.width} --rounds {options.rounds}"
    sizes = {name: getattr(options, name) for name in ("users", "items", "width", "batch", "threads")}
    result = {"sizes": sizes, "k": list(KS), **measure(options), "provenance": record}
    print(json.dumps({name: result[name] for name in ("metrics", "flat_equals_exact")}, indent=2))
    print("\n".join(table(result)))
    if options.out:
        options.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
