"""The weights of a training and what moves them: gradients, optimizer, running mean; and all of it as tensors, for a checkpoint."""

import math
from typing import Any

import lightning_fabric
import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ..store.run_folder import pack_optimizer, unpack_optimizer
from .config import TrainConfig
from .gradient_norms import GradientNorms, clip
from .learner import Trainable
from .processes import Processes


class Optimisation:
    """A learner, and how its weights are moved.

    A step has two halves, ``backward`` and ``move``, so that gradients can be looked at before any weight is touched.

    Args:
        fabric: launched.
        learner: what is trained, on its device.
        config: how.
        processes: that sum their gradients.

    Attributes:
        norms: of the gradients of the epoch that is under way.
    """

    def __init__(self, fabric: lightning_fabric.Fabric, learner: Trainable, config: TrainConfig, processes: Processes) -> None:
        self.fabric, self.learner, self.config, self.processes = fabric, learner, config, processes
        optimizer_type = torch.optim.AdamW if config.optimizer == "adamw" else torch.optim.Adam
        # One pass over the tables instead of eight. Fabric cannot clip the gradients of a fused optimizer that a loss scaler feeds.
        fused = config.precision != "16-mixed"
        self.optimizer = optimizer_type(learner.parameter_groups(config.lr, config.weight_decay), lr=config.lr, fused=fused)
        scaled = fabric.setup_optimizers(self.optimizer)
        assert not isinstance(scaled, tuple)
        self.scaled = scaled
        self.average = AveragedModel(learner, multi_avg_fn=get_ema_multi_avg_fn(config.ema)) if config.ema else None
        self.norms = GradientNorms(fabric.device)

    @property
    def judged(self) -> Trainable:
        """What is validated and kept: the running mean of the weights where there is one."""
        if self.average is None:
            return self.learner
        assert isinstance(self.average.module, Trainable)
        return self.average.module

    def begin_epoch(self) -> None:
        """Forget the norms of the epoch before."""
        self.norms = GradientNorms(self.fabric.device)

    def set_rate(self, share: float) -> None:
        """Share of the peak of every learning rate, for the next step."""
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak"] * share

    def backward(self, loss: torch.Tensor) -> torch.Tensor:
        """Gradients of a loss, summed over the processes and clipped; returns their norm before, (), not waited for."""
        self.optimizer.zero_grad(set_to_none=True)
        self.fabric.backward(loss)
        self.processes.sum_gradients(self.learner.parameters())
        norm = clip(self.fabric, self.learner, self.optimizer, self.config.clip_norm)
        self.norms.add(norm)
        return norm

    def move(self) -> None:
        """Move the weights along the gradients, and their running mean after them."""
        self.scaled.step()
        if self.average is not None:
            self.average.update_parameters(self.learner)

    def tensors(self) -> dict[str, torch.Tensor]:
        """What a checkpoint keeps, beside ``scaler``."""
        tensors = {f"learner.{k}": v for k, v in self.learner.state_dict().items()} | pack_optimizer(self.optimizer)
        tensors["gradient_norms"] = self.norms.sums
        if self.average is not None:
            tensors |= {f"average.{k}": v for k, v in self.average.state_dict().items()}
        return tensors

    def scaler(self) -> dict[str, Any]:
        """How far a loss scaler has come (16-mixed), which begins far too high; empty without one."""
        return self.fabric.strategy.precision.state_dict()

    def restore(self, tensors: dict[str, torch.Tensor], scaler: dict[str, Any] | None) -> None:
        """Put back what ``tensors`` and ``scaler`` gave.

        Raises:
            KeyError, ValueError, RuntimeError: they are of other weights, or of another optimizer.
        """
        self.learner.load_state_dict(_under("learner.", tensors))
        if self.average is not None:
            self.average.load_state_dict(_under("average.", tensors))
        unpack_optimizer(self.optimizer, tensors)
        if "gradient_norms" in tensors:  # earlier versions did not look
            self.norms.sums.copy_(tensors["gradient_norms"])
        if scaler:
            self.fabric.strategy.precision.load_state_dict(scaler)


def rate_at(step: int, total: int, config: TrainConfig) -> float:
    """Share of the learning rate's peak at a step of ``total``, counted from 0."""
    rising = math.ceil(config.warmup * total)
    if step < rising:
        return (step + 1) / rising
    if config.schedule == "constant":
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(total - rising, 1)))


def _under(prefix: str, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
