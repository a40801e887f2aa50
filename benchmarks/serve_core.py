"""The core of the service without HTTP: how long a state, a list, an event and a search for items take.

    python benchmarks/serve_core.py [--out benchmarks/results/serve_core.json] [--large]

Weights are random: they cost what trained ones cost. Vectors lie in clusters, as an approximate index finds those of real items.

``steps``    mamba of width 128, 2 layers: a step, the whole history read at once, and step by step, for histories of three lengths
``lists``    top 10 of 19,099 items of 128 numbers, 20 of them seen: torch and FAISS's loop, 1 and 2 threads; approximate with recall@10
``large``    the same of 1.14 million items of 256 numbers (--large: minutes, and 5 GB); one scan beside what reading the vectors takes
``events``   the log: one sender that waits for each event, and 64 of them; events a transaction
``items``    a search for items by title among 19,099 and 1.14 million
"""

# ruff: noqa: B023  what is measured is called at once, before its loop goes on
import argparse
import json
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import torch
from served import clustered
from vivim.recommend import build
from vivim.recommend.config import ModelConfig
from vivim.recommend.retrieval import FaissIndex
from vivim.serve.event_log import EventLog
from vivim.serve.search import Nearness, best, products
from vivim.serve.text_search import TextSearch
from vivim.store.provenance import provenance

WARM = 5
QUERIES = 200


def milliseconds(f: Callable[[], Any], times: int) -> dict[str, float]:
    taken = []
    for n in range(times + WARM):
        began = time.perf_counter()
        f()
        if n >= WARM:
            taken.append((time.perf_counter() - began) * 1000)
    least, p50, p99 = np.percentile(taken, [0, 50, 99])
    return {"least": round(float(least), 3), "p50": round(float(p50), 3), "p99": round(float(p99), 3)}


def steps() -> list[dict[str, Any]]:
    torch.manual_seed(0)
    model = build.user_model(ModelConfig(), 10).eval()
    rows = []
    with torch.inference_mode():
        for length in (10, 100, 1000):
            items_1LD = torch.randn(1, length, 128)
            state = model.read(items_1LD, model.initial_state(1))[1]  # type: ignore[operator]

            def each(items: torch.Tensor = items_1LD) -> None:
                state = model.initial_state(1)  # type: ignore[operator]
                for at in range(items.shape[1]):
                    _, state = model.step(items[:, at], state)  # type: ignore[operator]

            row = {
                "history": length,
                "step_ms": milliseconds(lambda: model.step(items_1LD[:, 0], state), 300),  # type: ignore[operator]
                "read_ms": milliseconds(lambda: model.read(items_1LD, model.initial_state(1)), 50),  # type: ignore[operator]
                "step_by_step_ms": milliseconds(each, 5),
            }
            row |= {name: round(row[f"{name}_ms"]["p50"] / row["step_ms"]["p50"], 1) for name in ("read", "step_by_step")}
            rows.append(row)
            print(row, flush=True)
    return rows


def lists(items: int, width: int, kinds: tuple[str, ...], times: int) -> dict[str, Any]:
    torch.manual_seed(0)
    vectors_ND, queries = clustered(items + QUERIES, width).split([items, QUERIES])  # queries lie among the items
    seen = list(range(0, items, items // 20))[:20]
    flat = FaissIndex("flat", vectors_ND)
    out: dict[str, Any] = {"items": items, "width": width}
    place = iter(range(10**9))
    with torch.inference_mode():
        for threads in (1, 2):
            torch.set_num_threads(threads)
            faiss.omp_set_num_threads(threads)

            def query() -> torch.Tensor:
                return queries[next(place) % QUERIES]

            def by_torch() -> torch.Tensor:
                return (query()[None] @ vectors_ND.T)[0]

            out[f"threads {threads}"] = row = {
                "reading_ms": milliseconds(lambda: vectors_ND.sum(), times),
                "products_torch_ms": milliseconds(by_torch, times),
                "products_ms": milliseconds(lambda: products(vectors_ND, query()), times),
                "list_ms": milliseconds(lambda: best(products(vectors_ND, query()), 10, seen), times),
                "list_faiss_flat_ms": milliseconds(lambda: flat.search(query()[None], 30), times),
            }
            print(items, threads, row, flush=True)
        nearness = Nearness(vectors_ND)
        history = list(range(100))
        out["reasons_of_10_in_100_ms"] = milliseconds(lambda: nearness.reasons(seen[:10], history, 3), times)
        for kind in kinds:
            began = time.perf_counter()
            index = FaissIndex(kind, vectors_ND)  # type: ignore[arg-type]
            made = time.perf_counter() - began
            _, exact = flat.search(queries, 10)
            _, found = index.search(queries, 10)
            recall = float(np.mean([len(np.intersect1d(a, b)) / 10 for a, b in zip(exact, found, strict=True)]))
            faiss.omp_set_num_threads(1)
            row = {
                "made_s": round(made, 1),
                "recall@10": round(recall, 4),
                "ms": milliseconds(lambda: index.search(query()[None], 30), times),
            }
            faiss.omp_set_num_threads(2)
            out[kind] = row
            print(items, kind, row, flush=True)
    return out


def events() -> list[dict[str, Any]]:
    rows = []
    for senders in (1, 64):
        with tempfile.TemporaryDirectory() as folder, EventLog(Path(folder) / "events.sqlite") as log:
            taken: list[float] = []
            count = 2000 // senders

            def send(sender: int) -> None:
                for n in range(count):
                    began = time.perf_counter()
                    log.append(f"u{sender}", str(n), "item")
                    taken.append((time.perf_counter() - began) * 1000)

            began = time.perf_counter()
            with ThreadPoolExecutor(senders) as pool:
                list(pool.map(send, range(senders)))
            p50, p99 = np.percentile(taken, [50, 99])
            row = {
                "senders": senders,
                "events_per_s": round(len(taken) / (time.perf_counter() - began)),
                "events_per_transaction": round(len(taken) / log.commits, 1),
                "ms": {"p50": round(float(p50), 2), "p99": round(float(p99), 2)},
            }
            rows.append(row)
            print(row, flush=True)
    return rows


def item_search(items: int) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    words = ["".join(map(chr, rng.integers(97, 123, length))) for length in rng.integers(3, 9, 5000)]
    titles = [" ".join(words[w] for w in row) for row in rng.integers(0, 5000, (items, 6))]
    began = time.perf_counter()
    search = TextSearch([str(n) for n in range(items)], titles)
    made = time.perf_counter() - began
    queries = {"common": "e", "word": words[7], "absent": "qqqqqqq"}
    return {"items": items, "made_s": round(made, 2)} | {
        name: milliseconds(lambda: search.places(text).slice(0, 50).to_list(), 20) for name, text in queries.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/serve_core.json"))
    parser.add_argument("--large", action="store_true")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    result: dict[str, Any] = {"steps": steps(), "events": events(), "items": [item_search(19_099)]}
    result["lists"] = lists(19_099, 128, ("ivf", "hnsw"), 300)
    if chosen.large:
        result["items"].append(item_search(1_142_528))
        result["large"] = lists(1_142_528, 256, ("ivf",), 15)
    chosen.out.write_text(json.dumps(result | {"provenance": provenance()}, indent=1) + "\n")


if __name__ == "__main__":
    main()
