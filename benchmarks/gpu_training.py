"""Training on a GPU: its losses beside the CPU's, an end-to-end step, epochs of a recommender, the softmax over a million items."""

import shutil
import tempfile
import time
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gpu_machine import DEVICE, DRY, forget_peak, matrix_rate, milliseconds, peak_gib, wait
from vivim.extract.cost import cost_of
from vivim.extract.vivim import VivimConfig
from vivim.extract.weights import load_weights
from vivim.progress import SilentProgress
from vivim.recommend import build, cut_cross_entropy
from vivim.recommend.batches import train_batches
from vivim.recommend.config import EndToEndConfig, ItemsConfig, LossConfig, ModelConfig, ProtocolConfig, RecommendConfig
from vivim.recommend.content import CatalogueVectors
from vivim.recommend.end_to_end import EndToEndItems
from vivim.recommend.forecast import forecast
from vivim.recommend.learner import Learner
from vivim.recommend.sequences import Interactions, Sequences
from vivim.recommend.train import train_run
from vivim.store import ItemIndex


def interactions(users: int, items: int, total: int, seed: int = 0) -> Interactions:
    """Histories of at least three, items drawn with the popularity of a power law."""
    rng = np.random.default_rng(seed)
    lengths = 3 + rng.geometric(1 / max(total / users - 3 + 1, 1.001), users) - 1
    weights = 1 / np.arange(1, items + 1) ** 0.8
    watched = rng.choice(items, int(lengths.sum()), p=weights / weights.sum()).astype(np.int32)
    histories = Sequences(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64), watched)
    names = [ItemIndex(f"{kind}{k:07d}" for k in range(count)) for kind, count in (("u", users), ("i", items))]
    return Interactions(names[0], names[1], histories, None, "made up", "0" * 64)


class Said(SilentProgress):
    """Keeps what a training said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


def fit(data: Interactions, device: str, **sections: Any) -> tuple[list[float], list[float], str]:
    """Losses and seconds of each epoch, and what was expected."""
    work, said = Path(tempfile.mkdtemp()), Said()
    config = RecommendConfig.model_validate({"items": {"kind": "ids"}, **sections})
    try:
        done = train_run(
            data, None, config, work / "run", seed=1, device=device, resume=False, progress=said, data_location={"path": "made up"}
        )
    finally:
        shutil.rmtree(work, ignore_errors=True)
    assert done.fit is not None
    expected = next((line for line in said.lines if line.startswith("expected")), "")
    return [log.loss for log in done.fit.epochs], [log.train_seconds for log in done.fit.epochs], expected


def check_training() -> list[dict[str, Any]]:
    """Three epochs without dropout on the device and on the CPU: the losses agree."""
    rows = []
    data = interactions(60, 40, 400) if DRY else interactions(2000, 500, 14000)
    for kind in ("mamba",) if DRY else ("mamba", "mamba2", "sasrec", "gru4rec", "nextitnet"):
        sections = {
            "model": {"kind": kind, "d_model": 16 if DRY else 64, "layers": 1, "dropout": 0.0},
            "train": {"epochs": 1 if DRY else 3, "patience": 9, "batch": 128, "lr": 3e-3},
        }
        want, got = (fit(data, device, **sections)[0] for device in ("cpu", DEVICE.type))
        error = max(abs(a - b) / a for a, b in zip(want, got, strict=True))
        rows.append({"model": kind, "cpu": want, "device": got, "error": error, "ok": error <= 1e-4})
        print(f"{'within' if error <= 1e-4 else 'WRONG '} losses of {kind}: {error:.1e}", flush=True)
    return rows


def check_places() -> list[dict[str, Any]]:
    """Clips that nobody watched, amid watched ones of similar content: the device puts them where the CPU does."""
    data = interactions(60, 80, 400) if DRY else interactions(2000, 6000, 14000)
    rows = []
    for kind in ("mamba", "lightgcn"):
        sections: dict[str, Any] = {"model": {"kind": kind, "d_model": 16 if DRY else 64}, "protocol": {"full_catalogue": True}}
        sections["items"] = {"kind": "ids+frozen", "new": "neighbours"}
        config = build.resolved(RecommendConfig.model_validate(sections), has_vectors=True)
        split = build.protocol_of(config.protocol).split(data)
        torch.manual_seed(0)
        looks_NV = torch.randn(40, 32)[torch.randint(40, (len(split.items),))] + 0.3 * torch.randn(len(split.items), 32)
        learner = build.learner(config, split, CatalogueVectors(looks_NV, torch.ones(len(looks_NV), dtype=torch.bool), ""), 1)
        torch.nn.init.normal_(learner.encoder.delta.table)  # type: ignore[union-attr, arg-type]
        new_N = build.train_counts(split) == 0
        want, got = (learner.to(device).scorer().items_ND[new_N.to(device)].cpu() for device in ("cpu", DEVICE))
        error = float((want - got).abs().max() / want.abs().max())
        rows.append({"model": kind, "placed": int(new_N.sum()), "error": error, "ok": error <= 1e-4})
        print(f"{'within' if rows[-1]['ok'] else 'WRONG '} places of {int(new_N.sum())} new items, {kind}: {error:.1e}", flush=True)
    return rows


class MadeUpFrames:
    """Frames of every item of a catalogue, in memory: what a disk could not deliver is not measured here."""

    def __init__(self, items: int, frames: int, pixels: int) -> None:
        self.present_N = torch.ones(items, dtype=torch.bool)
        self.clips = torch.randint(0, 256, (64, frames, 3, pixels, pixels), dtype=torch.uint8, pin_memory=not DRY)

    def __call__(self, rows_B: Sequence[int]) -> torch.Tensor:
        return self.clips[torch.tensor(rows_B) % len(self.clips)]

    def __deepcopy__(self, memo: dict[int, Any]) -> "MadeUpFrames":
        return self


# (encoder, sequences of a step, clips encoded side by side, checkpointing)
STEPS = (
    ("b0", 16, 64, False), ("b0", 64, 64, True), ("b2", 16, 64, False), ("b3", 16, 64, False), ("b3", 64, 64, True),
)  # fmt: skip


def time_end_to_end() -> list[dict[str, Any]]:
    """One step of the whole: distinct clips through the encoder in bfloat16, user model, in-batch softmax, backward, AdamW; and the
    encoder's forward alone. MFU counts the encoder's multiplications, three times for a step, over the rate of a large product."""
    matrix = matrix_rate(torch.bfloat16)
    rows: list[dict[str, Any]] = [{"matrix_flops_bfloat16": matrix}]
    frames, pixels = (2, 32) if DRY else (5, 224)
    data = interactions(40, 30, 300) if DRY else interactions(2000, 5000, 14000)
    split = build.protocol_of(ProtocolConfig()).split(data)
    for size, batch, at_once, checkpointing in (("nano", 4, 4, True),) if DRY else STEPS:
        encoder = load_weights("random", VivimConfig.of_size(size), seed=1, segmentation=False)  # type: ignore[arg-type]
        config = EndToEndConfig(clips_at_once=at_once, checkpointing=checkpointing)
        items = EndToEndItems(encoder, MadeUpFrames(len(split.items), frames, pixels), 64, config).to(DEVICE)  # type: ignore[arg-type]
        model = build.user_model(ModelConfig(d_model=64, layers=2), 10)
        learner = Learner(items, model, build.loss(LossConfig(kind="in-batch"), ItemsConfig(kind="end-to-end"), split)).to(DEVICE)
        optimizer = torch.optim.AdamW(learner.parameter_groups(1e-3, 0.1), lr=1e-3, fused=True)
        batches = [b.to(DEVICE) for b in islice(train_batches(split.train, batch=batch, max_len=10, seed=1, epoch=0), 4)]
        clips = [len(b.slots_M.unique()) for b in batches]
        forget_peak()
        seconds = []
        for b in (*batches, *batches):  # the first time round, kernels are compiled for these sizes
            wait()
            began = time.perf_counter()
            with torch.autocast(DEVICE.type, torch.bfloat16):
                loss = learner(b)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            wait()
            seconds.append(time.perf_counter() - began)
        with torch.inference_mode(), torch.autocast(DEVICE.type, torch.bfloat16):
            items.eval()
            some = torch.arange(at_once)
            forward = at_once / milliseconds(lambda items=items, some=some: items.clip_vectors(some)) * 1e3
        training = sum(clips) / sum(seconds[len(batches) :])
        macs = cost_of(VivimConfig.of_size(size), frames, pixels).encoder_macs  # type: ignore[arg-type]
        row = {
            "encoder": size, "frames": frames, "pixels": pixels, "checkpointing": checkpointing, "clips_of_a_step": clips[-1],
            "training_clips_per_second": training, "forward_clips_per_second": forward, "peak_gib": peak_gib(),
            "mfu_training": 6 * macs * training / matrix, "mfu_forward": 2 * macs * forward / matrix,
        }  # fmt: skip
        rows.append(row)
        print(
            f"end to end {size}, {frames} frames of {pixels}, {'again' if checkpointing else 'kept'}: step of {clips[-1]} clips, "
            f"{training:.0f} clips/s in training (MFU {row['mfu_training']:.1%}), {forward:.0f} forward ({row['mfu_forward']:.1%}), "
            f"{row['peak_gib']:.1f} GiB",
            flush=True,
        )
    return rows


def time_epochs() -> list[dict[str, Any]]:
    """Second epoch over as many interactions as MicroLens-100K has, full softmax."""
    rows = []
    data = interactions(60, 40, 400) if DRY else interactions(100_000, 19_738, 719_405)
    runs = ((("mamba", "32-true", "chunked"),)) if DRY else (
        ("mamba", "32-true", "chunked"), ("mamba", "bf16-mixed", "chunked"), ("sasrec", "bf16-mixed", "chunked"),
        ("gru4rec", "bf16-mixed", "chunked"), ("mamba", "bf16-mixed", "cut-cross-entropy"),
    )  # fmt: skip
    for kind, precision, kernel in runs:
        if kernel == "cut-cross-entropy" and cut_cross_entropy.why_not(DEVICE):
            continue
        forget_peak()
        sections = {
            "model": {"kind": kind, "d_model": 8 if DRY else 128, "layers": 1 if kind == "gru4rec" else 2},
            "loss": {"kind": "full", "kernel": kernel, "chunk_mb": 1 if DRY else 1024},
            "train": {"epochs": 2, "patience": 9, "batch": 1024, "precision": precision},
        }
        losses, seconds, expected = fit(data, DEVICE.type, **sections)
        row = {"model": kind, "precision": precision, "kernel": kernel, "seconds": seconds, "losses": losses, "peak_gib": peak_gib()}
        rows.append(row | {"expected": expected, "users": len(data.users), "items": len(data.items)})
        print(f"epoch of {kind}, {precision}, {kernel}: {seconds[-1]:.2f} s, {peak_gib():.2f} GiB; {expected}", flush=True)
    return rows


def time_softmax() -> list[dict[str, Any]]:
    """The softmax over 1.14 million items, 256 wide, 4096 positions: ours and cut-cross-entropy's."""
    rows = []
    positions, count, width = (8, 50, 16) if DRY else (4096, 1_140_000, 256)
    g = torch.Generator(DEVICE).manual_seed(0)
    users, items = (torch.randn(n, width, device=DEVICE, generator=g) / width**0.5 for n in (positions, count))
    targets = torch.randint(0, count, (positions,), device=DEVICE, generator=g)
    exact = None
    for name, dtype in (("chunked", torch.float32), ("chunked", torch.bfloat16), ("cut-cross-entropy", torch.bfloat16)):
        if name == "cut-cross-entropy" and cut_cross_entropy.why_not(DEVICE):
            continue
        u, i = users.clone().requires_grad_(), items.clone().requires_grad_()

        def run(name: str = name, dtype: torch.dtype = dtype, u: torch.Tensor = u, i: torch.Tensor = i) -> tuple[torch.Tensor, ...]:
            if name == "chunked":
                from vivim.recommend.losses import _ChunkedCrossEntropy

                loss = _ChunkedCrossEntropy.apply(u, i, targets, max(1, 2**30 // (dtype.itemsize * count)), dtype)  # type: ignore[no-untyped-call]
            else:
                loss = cut_cross_entropy.cross_entropy(u, i, targets, dtype)
            return (loss.detach(), *torch.autograd.grad(loss, (u, i)))

        forget_peak()
        found = run()
        exact = exact or found
        errors = [float((a - b).norm() / b.norm()) for a, b in zip(found, exact, strict=True)]
        row = {"kernel": name, "dtype": str(dtype), "milliseconds": milliseconds(run), "errors": errors, "peak_gib": peak_gib()}
        rows.append(row)
        print(
            f"softmax over {count} items, {name} {dtype}: {row['milliseconds']:.0f} ms, errors {errors}, {row['peak_gib']:.1f} GiB",
            flush=True,
        )
    return rows


def check_forecast() -> list[dict[str, Any]]:
    """A step of 512 sequences over 1.14 million items of 256 numbers, sampled: memory foretold and taken."""
    users, items = (60, 200) if DRY else (2000, 1_140_000)
    data = interactions(users, items, 7 * users)
    config = RecommendConfig.model_validate(
        {
            "protocol": {"full_catalogue": True}, "items": {"kind": "ids"}, "model": {"d_model": 8 if DRY else 256},
            "loss": {"kind": "sampled"}, "train": {"batch": 16 if DRY else 512},
        }
    )  # fmt: skip
    split = build.protocol_of(config.protocol).split(data)
    forget_peak()
    learner = Learner(
        build.item_encoder(config.items, config.model, len(split.items), None), build.user_model(config.model, 10),
        build.loss(config.loss, config.items, split),
    ).to(DEVICE)  # fmt: skip
    expected = forecast(learner, split.train, config.train, max_len=10, seed=1)
    optimizer = torch.optim.AdamW(learner.parameter_groups(1e-3, 0.1), lr=1e-3, fused=True)
    forget_peak()
    for batch in islice(train_batches(split.train, batch=config.train.batch, max_len=10, seed=1, epoch=0), 2):
        optimizer.zero_grad(set_to_none=True)
        learner(batch.to(DEVICE)).backward()
        optimizer.step()
    row = {"items": len(split.items), "expected_gib": expected.peak_bytes / 2**30, "taken_gib": peak_gib()}
    print(f"sampled step over {row['items']} items: expected {row['expected_gib']:.2f} GiB, taken {row['taken_gib']:.2f}", flush=True)
    return [row]
