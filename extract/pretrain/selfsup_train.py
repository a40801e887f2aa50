"""Self-supervised pretraining of the encoder on a folder of clips: from clips to encoder.safetensors.

Everything random in epoch e follows from (seed, e): the order of the clips, their views, and which branches the encoder drops. With
the weights and the optimizer after each epoch kept, a resumed run ends with the same weights as an uninterrupted one.

Legend: B clips of a batch, T frames of a view, S its side, D width of the features, E width of the expander.
"""

import math
import shutil
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import lightning_fabric
import numpy as np
import numpy.typing as npt
import torch
from lightning_fabric.loggers.logger import Logger
from torch import nn

from ...errors import Interrupted, VivimError
from ...progress import Progress
from ...store.metric_log import log_metrics
from ..clip import Failure
from ..load_report import LoadReport
from ..stop_signals import stop_on_signals
from ..vivim import Vivim, VivimConfig
from ..weights import load_weights, save_encoder
from .clip_cache import ClipCache, open_cache, source_of
from .selfsup import Expander, spread, vicreg
from .selfsup_config import SelfSupConfig
from .selfsup_run import SelfSupEpoch, SelfSupRun
from .views import draw, plan_pair

COLLAPSED_DEVIATION = 0.05
COLLAPSED_RANK = 3.0
"""Below either the features no longer tell clips apart. A fresh nano encoder has .7 and 60 on 300 clips of the demo's world."""


@dataclass(frozen=True)
class SelfSupResult:
    """What pretraining left.

    Attributes:
        encoder: file of the trained weights.
        size: of the encoder.
        weights: what training began with, in words.
        clips: how many were learned from.
        failures: clips that were left out, and why.
        epochs: the log.
        collapsed: in the last epoch the features hardly told clips apart: the weights are of no use.
    """

    encoder: Path
    size: str
    weights: str
    clips: int
    failures: tuple[Failure, ...]
    epochs: tuple[SelfSupEpoch, ...]
    collapsed: bool


class Losses(NamedTuple):
    """Terms of one step and their weighted sum; ``features_BD`` of the first view are for the collapse watch."""

    total: torch.Tensor
    invariance: torch.Tensor
    variance: torch.Tensor
    covariance: torch.Tensor
    features_BD: torch.Tensor


class SelfSupModel(nn.Module):
    """Encoder and expander, and what is minimised.

    Args:
        encoder: the one that is trained.
        config: weights of the terms, width of the expander.
    """

    def __init__(self, encoder: Vivim, config: SelfSupConfig) -> None:
        super().__init__()
        self.encoder = encoder
        self.expander = Expander(encoder.dim, config.expander)
        self.config = config

    def forward(self, one_BTCHW: torch.Tensor, two_BTCHW: torch.Tensor) -> Losses:
        """Losses of two views of the same clips, RGB in 0..1."""
        config = self.config
        pictures = torch.cat([one_BTCHW, two_BTCHW])
        features = self.encoder.embed((pictures - self.encoder.mean) / self.encoder.std)
        # The terms square and take roots of small numbers; under mixed precision that is done in float32.
        x_BE, y_BE = self.expander(features).float().split(len(one_BTCHW))
        terms = vicreg(x_BE, y_BE)
        total = config.invariance * terms.invariance + config.variance * terms.variance + config.covariance * terms.covariance
        return Losses(total, *terms, features[: len(one_BTCHW)].detach().float())

    def parameter_groups(self, weight_decay: float) -> list[dict[str, Any]]:
        """Matrices decay; norms, biases and what parametrises the state space do not."""
        decayed: list[nn.Parameter] = []
        kept: list[nn.Parameter] = []
        for name, parameter in self.named_parameters():
            if not parameter.requires_grad:
                continue
            state_space = name.rpartition(".")[2] in {"A_log", "D", "dt_bias", "conv_bias"}
            (kept if parameter.ndim < 2 or state_space else decayed).append(parameter)
        return [{"params": decayed, "weight_decay": weight_decay}, {"params": kept, "weight_decay": 0.0}]


def pretrain_on_clips(
    videos: Path,
    config: SelfSupConfig,
    encoder_config: VivimConfig | None,
    out: Path,
    progress: Progress,
    *,
    seed: int,
    device: str,
    resume: bool,
    manifest: Path | None = None,
    frames: Path | None = None,
    loggers: Sequence[Logger] = (),
) -> SelfSupResult:
    """Train an encoder on clips without labels and leave it in ``out/encoder.safetensors``.

    Args:
        videos: folder of the clips, or of the frames that extraction kept of them; unused with a manifest.
        encoder_config: shapes of the encoder; None: those of the weights it begins with, b0 if they are random.
        out: folder of the run.
        seed: of the weights, the order, the views.
        device: ``cpu`` or ``cuda``.
        resume: go on with the run in ``out``; clips and configuration must be the same.
        manifest: CSV with the columns id,path, see ``read_manifest``.
        frames: folder of the decoded frames, which is kept for other runs; None: inside ``out``, removed after the last epoch.
        loggers: told the metrics of every epoch, beside log.jsonl.

    Raises:
        InputError: no clips or only one that can be learned from; weights that do not fit; a folder that is taken or cannot be resumed.
        Interrupted: Ctrl-C or SIGTERM; finished epochs are kept.
        VivimError: the loss became NaN or infinite; finished epochs are kept.
    """
    encoder = load_weights(config.weights, encoder_config, seed=seed)
    weights = encoder.load_report
    source = source_of(videos, manifest, config, progress)
    with stop_on_signals():
        log: list[SelfSupEpoch] = []
        try:
            run = SelfSupRun.open(out, resume)  # first: decoding may take hours
            cache = open_cache(source, frames or out / "frames", config, progress)
            run.describe(_description(config, encoder.config, weights, cache, seed), resume)
            if len(cache) < config.batch:
                progress.say(f"warning: {len(cache)} clips are fewer than a batch ({config.batch}); what is learned from so few is little")
            with torch.random.fork_rng():
                torch.manual_seed(seed)
                model = SelfSupModel(encoder.train(), config)
                _fit(model, cache, config, run, log, loggers, seed=seed, device=device, resume=resume, progress=progress)
            save_encoder(model.encoder, out / "encoder.safetensors", weights.licence)
        except KeyboardInterrupt as stop:
            raise Interrupted(f"stopped; {len(log)} of {config.epochs} epochs are saved in {out}. Add --resume to go on.") from stop
    if frames is None:
        shutil.rmtree(out / "frames", ignore_errors=True)
    return SelfSupResult(
        encoder=out / "encoder.safetensors",
        size=weights.size,
        weights=weights.beginning,
        clips=len(cache),
        failures=cache.failures,
        epochs=tuple(log),
        collapsed=_collapsed(log[-1]),
    )


def _description(config: SelfSupConfig, encoder: VivimConfig, weights: LoadReport, cache: ClipCache, seed: int) -> dict[str, Any]:
    """All that decides the weights. Where and how fast the clips are decoded does not."""
    settings = config.model_dump(mode="json", exclude={"workers", "timeout_seconds"})
    return {
        "task": "clips",
        "config": settings,
        "encoder": asdict(encoder),
        "start_sha256": weights.sha256,
        "clips": len(cache),
        "clips_sha256": cache.sha256,
        "seed": seed,
    }


def _fit(
    model: SelfSupModel,
    cache: ClipCache,
    config: SelfSupConfig,
    run: SelfSupRun,
    log: list[SelfSupEpoch],
    loggers: Sequence[Logger],
    *,
    seed: int,
    device: str,
    resume: bool,
    progress: Progress,
) -> None:
    """Train until ``config.epochs``; every finished epoch is saved and appended to ``log``."""
    fabric = lightning_fabric.Fabric(accelerator=device, devices=1, precision=config.precision, loggers=list(loggers))
    fabric.launch()
    # Fabric cannot clip the gradients of a fused optimizer that a loss scaler feeds.
    fused = config.precision != "16-mixed"
    optimizer = torch.optim.AdamW(model.parameter_groups(config.weight_decay), lr=config.lr, fused=fused)
    if resume:
        log.extend(run.load(model, optimizer, progress))
    module, fabric_optimizer = fabric.setup(model, optimizer)
    for epoch in range(len(log) + 1, config.epochs + 1):
        log.append(_one_epoch(fabric, module, fabric_optimizer, cache, config, seed, epoch, progress))
        run.save(model, optimizer, log)
        log_metrics(fabric, asdict(log[-1]))
        if _collapsed(log[-1]):
            progress.say(
                f"WARNING: the features have collapsed (deviation {log[-1].feature_deviation:.3f}, effective rank "
                f"{log[-1].effective_rank:.1f}): all clips look alike to the encoder, and its weights are of no use. "
                "Lower lr, raise variance, or bring clips that differ."
            )


def _one_epoch(
    fabric: lightning_fabric.Fabric,
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    cache: ClipCache,
    config: SelfSupConfig,
    seed: int,
    epoch: int,
    progress: Progress,
) -> SelfSupEpoch:
    started = time.monotonic()
    torch.manual_seed(seed * 1_000_003 + epoch)
    module.train()
    batches = list(_batches(len(cache), config.batch, seed, epoch))
    sums: Counter[str] = Counter()
    features = []
    lr = 0.0
    progress.start(f"epoch {epoch}", len(batches), "batches")
    for number, clips_B in enumerate(batches):
        lr = learning_rate((epoch - 1) * len(batches) + number, config.epochs * len(batches), config)
        for group in optimizer.param_groups:
            group["lr"] = lr
        one, two = _views(cache, clips_B, config, seed, epoch, fabric.device)
        with fabric.autocast():
            losses = module(one, two)
        values = {name: float(value.detach()) for name, value in losses._asdict().items() if name != "features_BD"}
        _require_finite(values, [cache.ids[clip] for clip in clips_B[:3]], epoch)
        optimizer.zero_grad(set_to_none=True)
        fabric.backward(losses.total)
        if config.clip_norm:
            fabric.clip_gradients(module, optimizer, max_norm=config.clip_norm, error_if_nonfinite=False)
        optimizer.step()
        sums.update(values)
        features.append(losses.features_BD.cpu())
        progress.advance(1, f"loss {sums['total'] / (number + 1):.3f}")
    progress.finish()
    means = {name: value / len(batches) for name, value in sums.items()}
    deviation, rank = spread(torch.cat(features))
    log = SelfSupEpoch(
        epoch=epoch,
        loss=means["total"],
        invariance=means["invariance"],
        variance=means["variance"],
        covariance=means["covariance"],
        feature_deviation=deviation,
        effective_rank=rank,
        lr=lr,
        seconds=round(time.monotonic() - started, 3),
    )
    progress.say(
        f"epoch {epoch}: loss {log.loss:.3f}, invariance {log.invariance:.3f}, variance {log.variance:.3f}, covariance "
        f"{log.covariance:.3f}; features: deviation {deviation:.2f}, effective rank {rank:.1f}; {log.seconds:.1f} s"
    )
    return log


def _batches(clips: int, batch: int, seed: int, epoch: int) -> Iterator[npt.NDArray[np.int64]]:
    """Clips in random order, in full batches; what is left over waits for another epoch. Fewer clips than a batch make one batch."""
    order = np.random.default_rng([seed, epoch]).permutation(clips)
    size = min(batch, clips)
    for start in range(0, clips - size + 1, size):
        yield order[start : start + size]


def _views(
    cache: ClipCache, clips_B: npt.NDArray[np.int64], config: SelfSupConfig, seed: int, epoch: int, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Both views of some clips, each (B, T, 3, S, S) in 0..1; drawn on the device, to which the frames go as bytes."""
    frames = torch.from_numpy(cache.frames(clips_B)).to(device)
    pairs = [plan_pair(seed, epoch, int(clip), config.cached_frames, config.frames, config.views) for clip in clips_B]
    one, two = (draw(frames, [pair[view] for pair in pairs], config.image_size) for view in (0, 1))
    return one, two


def learning_rate(step: int, steps: int, config: SelfSupConfig) -> float:
    """Rises linearly for ``config.warmup`` of the steps, then falls along a cosine, which reaches 0 after the last."""
    warmup = config.warmup * steps
    if step < warmup:
        return config.lr * (step + 1) / (warmup + 1)
    return config.lr * 0.5 * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup)))


def _require_finite(values: dict[str, float], clips: list[str], epoch: int) -> None:
    if not math.isfinite(values["total"]):
        shown = ", ".join(f"{name} {value:.3g}" for name, value in values.items())
        raise VivimError(
            f"the loss became {values['total']} in epoch {epoch} ({shown}; clips {', '.join(clips)}, ...); the weights were not touched by "
            "this batch. Lower lr, or set precision to 32-true and start a new run; finished epochs are kept."
        )


def _collapsed(epoch: SelfSupEpoch) -> bool:
    return epoch.feature_deviation < COLLAPSED_DEVIATION or epoch.effective_rank < COLLAPSED_RANK
