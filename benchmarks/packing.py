"""What packing histories into rows gains over padding them, on the history lengths of a data set.

    python benchmarks/packing.py --interactions MicroLens-50k_pairs.tsv [--rounds 5] [--out benchmarks/results/packing.json]

The same batches of the training set are read both ways by the same model with the same weights, taking turns in one process;
times are CPU time of one thread. Parts of a step, forward and backward together: ``model`` (item vectors to user vectors),
``step`` (all of a training step with the optimiser; loss: softmax over the whole catalogue), ``step bf16`` (the same under
bf16-mixed) and ``step in-batch`` (with MicroLens's in-batch loss). Packing shortens only ``model``: the loss looks at the same
predictions either way, so the more of a step the catalogue takes, the less the whole step gains. tokens/s counts items that
stand in histories, never padding. Medians over the batches. Everything is as trained by default, dropout included; the losses of
both ways are compared on every batch without it, since it falls on other places.

``softmax`` is that loss alone, with its gradients, beside its floor: the three products it cannot do without, at the rate
that torch reaches on a product of 1024 x 1024 x 1024 in the same precision, measured between the rounds. ``dropout``: the model's
dropout beside torch's, forward and backward, on what the feed-forward of the largest batch holds.
"""

import argparse
import json
import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from vivim.allocator import keep_freed_memory
from vivim.recommend import build
from vivim.recommend.batches import TrainBatch, train_batches
from vivim.recommend.config import ItemsConfig, LossConfig, ModelConfig, ProtocolConfig
from vivim.recommend.learner import Learner
from vivim.recommend.models.dropout import Dropout
from vivim.recommend.protocol import Split
from vivim.recommend.readers import read_interactions
from vivim.store.provenance import provenance

# The protocol of the benchmark (the newest 13 of each user), and long histories, where padding hurts more.
WINDOWS = {"microlens window": ProtocolConfig(), "last 50": ProtocolConfig(keep_last=52, max_len=50)}
KINDS = ("mamba", "mamba2", "sasrec")
PARTS = ("model", "step", "step bf16", "step in-batch")
PRECISIONS = {"32-true": torch.float32, "bf16-mixed": torch.bfloat16}


def learner_of(split: Split, kind: str, loss: str, max_len: int, **options: float) -> Learner:
    """Ids, default sizes."""
    torch.manual_seed(0)
    model = ModelConfig.model_validate({"kind": kind, **options})
    items = ItemsConfig(kind="ids")
    return Learner(
        build.item_encoder(items, model, len(split.items), None),
        build.user_model(model, max_len),
        build.loss(LossConfig.model_validate({"kind": loss}), items, split),
    )


def parts(learner: Learner, in_batch: Learner, batch: TrainBatch) -> dict[str, Callable[[], None]]:
    """What is timed."""
    d_model = learner.encode(None).vectors_RD.shape[1]
    items_SWD = torch.randn(*batch.inputs_SW.shape, d_model, requires_grad=True)
    grad_PD = torch.randn(len(batch.place_P), d_model)

    def model() -> None:
        hidden_SWD = learner.model(items_SWD, batch.seq_idx_SW)
        hidden_SWD.flatten(0, 1)[batch.place_P].backward(grad_PD)

    def step_of(trained: Learner, dtype: torch.dtype = torch.float32) -> Callable[[], None]:
        # A step of length zero: all of the work, and the next one starts from the same weights.
        optimizer = torch.optim.AdamW(trained.parameters(), lr=0.0, weight_decay=0.0, fused=True)

        def step() -> None:
            optimizer.zero_grad(set_to_none=True)
            with autocast(dtype):
                loss = trained(batch)
            loss.backward()
            optimizer.step()

        return step

    runs = (model, step_of(learner), step_of(learner, torch.bfloat16), step_of(in_batch))
    return dict(zip(PARTS, runs, strict=True))


def autocast(dtype: torch.dtype) -> torch.autocast:
    """What ``train.precision`` does to a step."""
    return torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16)


def softmax_and_floor(split: Split, max_len: int, batch_size: int, rounds: int) -> dict[str, Any]:
    """Milliseconds of the full softmax and of its floor, and how much of the one is the other; medians over ``rounds`` batches."""
    learner = learner_of(split, "mamba", "full", max_len)
    items = learner.encode(None)
    milliseconds: dict[tuple[str, str], list[float]] = defaultdict(list)
    square = torch.randn(1024, 1024)
    for warm, batch in enumerate(islice(train_batches(split.train, batch=batch_size, max_len=max_len, seed=0, epoch=1), rounds + 1)):
        users_PD = torch.randn(len(batch.place_P), items.vectors_RD.shape[1], requires_grad=True)
        for name, dtype in PRECISIONS.items():
            factor = square.to(dtype)
            started = time.process_time()
            for _ in range(8):
                factor @ factor
            between = time.process_time()
            with autocast(dtype):
                loss = learner.loss(users_PD, batch, items)
            loss.backward()
            ended = time.process_time()
            if warm:
                products = 3 * users_PD.numel() * len(items.vectors_RD) / (8 * 1024**3)
                milliseconds[name, "floor"].append(1e3 * (between - started) * products)
                milliseconds[name, "softmax"].append(1e3 * (ended - between))
    rows = {}
    for name in PRECISIONS:
        median = {what: statistics.median(milliseconds[name, what]) for what in ("softmax", "floor")}
        shares = [a / b for a, b in zip(milliseconds[name, "floor"], milliseconds[name, "softmax"], strict=True)]
        rows[name] = {what: round(value, 1) for what, value in median.items()} | {"floor_share": round(statistics.median(shares), 2)}
    return rows


def dropout(split: Split, max_len: int, batch_size: int, rounds: int) -> dict[str, float]:
    """Milliseconds of ours and of torch's, taking turns; medians over ``rounds``."""
    batch = max(train_batches(split.train, batch=batch_size, max_len=max_len, seed=0, epoch=1), key=lambda batch: batch.inputs_SW.numel())
    inner_SWI = torch.randn(*batch.inputs_SW.shape, 4 * ModelConfig().d_model, requires_grad=True)
    grad_SWI = torch.randn_like(inner_SWI)
    layers = {"ours": Dropout(0.5), "torch": torch.nn.Dropout(0.5)}
    milliseconds: dict[str, list[float]] = defaultdict(list)
    for warm in range(rounds + 1):
        for name, layer in layers.items():
            started = time.process_time()
            layer(inner_SWI).backward(grad_SWI)
            if warm:
                milliseconds[name].append(1e3 * (time.process_time() - started))
    median = {name: statistics.median(times) for name, times in milliseconds.items()}
    return {name: round(value, 2) for name, value in median.items()} | {"torch_over_ours": round(median["torch"] / median["ours"], 2)}


def measure(split: Split, kind: str, max_len: int, batch_size: int, rounds: int) -> dict[str, Any]:
    """Medians over ``rounds`` batches, both ways of reading each taking turns."""
    learner, in_batch = (learner_of(split, kind, loss, max_len).train() for loss in ("full", "in-batch"))
    sure, sure_in_batch = (learner_of(split, kind, loss, max_len, dropout=0.0) for loss in ("full", "in-batch"))
    compared = {"step": (sure, torch.float32), "step bf16": (sure, torch.bfloat16), "step in-batch": (sure_in_batch, torch.float32)}
    seconds: dict[tuple[str, str], list[float]] = defaultdict(list)
    difference = dict.fromkeys(compared, 0.0)
    tokens, places = [], defaultdict(list)
    # The first batch warms up and is not counted.
    for warm, packed in enumerate(islice(train_batches(split.train, batch=batch_size, max_len=max_len, seed=0, epoch=1), rounds + 1)):
        ways = {"packed": packed, "padded": TrainBatch.padded(packed.sequences)}
        runs = {way: parts(learner, in_batch, batch) for way, batch in ways.items()}
        for part in PARTS:
            for way in ways if warm % 2 else reversed(ways):
                started = time.process_time()
                runs[way][part]()
                if warm:
                    seconds[part, way].append(time.process_time() - started)
        for part, (same, dtype) in compared.items():
            with torch.no_grad(), autocast(dtype):
                one, other = (float(same(batch)) for batch in ways.values())
            difference[part] = max(difference[part], abs(one - other) / abs(other))
        if warm:
            tokens.append(len(packed.place_P))
            for way, batch in ways.items():
                places[way].append(batch.inputs_SW.numel())
    rows = {}
    for part in PARTS:
        median = {way: statistics.median(seconds[part, way]) for way in ("packed", "padded")}
        ratios = [a / b for a, b in zip(seconds[part, "padded"], seconds[part, "packed"], strict=True)]
        rows[part] = {
            "packed_tokens_per_second": round(statistics.median(tokens) / median["packed"]),
            "padded_tokens_per_second": round(statistics.median(tokens) / median["padded"]),
            "ratio": round(statistics.median(ratios), 2),
        }
    return {
        "places_per_token": {way: round(sum(places[way]) / sum(tokens), 3) for way in ("packed", "padded")},
        "largest_relative_difference_of_the_loss": max(difference["step"], difference["step in-batch"]),
        "largest_relative_difference_of_the_loss_bf16": difference["step bf16"],
        "parts": rows,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--interactions", type=Path, required=True)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    keep_freed_memory()  # as the command line does
    torch.set_num_threads(1)
    interactions = read_interactions(options.interactions)
    results, softmax, masks = [], {}, {}
    for window, config in WINDOWS.items():
        split = build.protocol_of(config).split(interactions)
        softmax[window] = softmax_and_floor(split, config.max_len, options.batch, options.rounds)
        for precision, values in softmax[window].items():
            print(f"{window}, softmax {precision}: {values['softmax']} ms, floor {values['floor']} ms", flush=True)
        masks[window] = dropout(split, config.max_len, options.batch, options.rounds)
        print(f"{window}, dropout: {masks[window]['ours']} ms, torch's {masks[window]['torch']} ms", flush=True)
        for kind in KINDS:
            row = {"window": window, "model": kind} | measure(split, kind, config.max_len, options.batch, options.rounds)
            results.append(row)
            shown = ", ".join(f"{part} {values['ratio']:.2f}x" for part, values in row["parts"].items())
            print(f"{window}, {kind}: {shown}; loss differs by {row['largest_relative_difference_of_the_loss']:.1e}", flush=True)
    if options.out:
        run = provenance()
        run["command"] = f"packing.py --interactions {options.interactions.name} --batch {options.batch} --rounds {options.rounds}"
        options.out.write_text(
            json.dumps({"batch": options.batch, "softmax": softmax, "dropout": masks, "rows": results, "provenance": run}, indent=2) + "\n"
        )


if __name__ == "__main__":
    main()
