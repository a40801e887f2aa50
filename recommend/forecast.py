"""What a training will take, from steps that are run before it begins.

Steps of growing size, forward and backward: the last of them is a whole one, unless it might not fit. No weight is touched. Several
processes go by the slowest and the fullest of them: all run the same steps, and all are refused or none.

Legend: B sequences of a batch.
"""

import gc
import math
import time
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch

from ..errors import InputError
from ..store import memory
from .batches import TrainBatch, num_batches, train_batches
from .config import TrainConfig
from .learner import Trainable
from .processes import Processes
from .sequences import Sequences
from .torchrun import on_this_host

_STATES = 2  # numbers that AdamW keeps of every weight
_ROOM = 0.95  # of what is free; the rest is left to the system
_ALONE = Processes()
_WORST = 4.0  # times what the last doubling of a batch added, if it grows with the square


@dataclass(frozen=True)
class Forecast:
    """Of one process; of several, the most that any needs and the least that any may take.

    Attributes:
        seconds_per_epoch: of its steps, without validation.
        peak_bytes: of memory: of the GPU, or of the process.
        free_bytes: what it may take in all, beside the others of its machine; None: not known.
        processes: that need as much each.
    """

    seconds_per_epoch: float
    peak_bytes: int
    free_bytes: int | None
    processes: int = 1

    @property
    def line(self) -> str:
        free = "" if self.free_bytes is None else f", {self.free_bytes / 2**30:.1f} GiB are there{self._for_it}"
        needed = f"{self.peak_bytes / 2**30:.2f} GiB of memory{self._each}{free}"
        return f"expected: {_duration(self.seconds_per_epoch)} an epoch without its validation, {needed}"

    @property
    def _each(self) -> str:
        return f" for each of {self.processes} processes" if self.processes > 1 else ""

    @property
    def _for_it(self) -> str:
        return " for it" if self.processes > 1 else ""

    def require_room(self) -> None:
        """Refuse what cannot fit.

        Raises:
            InputError: more memory would be needed than is there.
        """
        if self.free_bytes is not None and self.peak_bytes > _ROOM * self.free_bytes:
            raise InputError(
                f"training would need about {self.peak_bytes / 2**30:.1f} GiB of memory{self._each}, and {self.free_bytes / 2**30:.1f} GiB "
                f"are there{self._for_it}. Lower train.batch, loss.chunk_mb or loss.negatives; with end-to-end items also "
                "items.end_to_end.clips_at_once or stages, or keep items.end_to_end.checkpointing; or take a smaller model.d_model."
            )


def forecast(
    learner: Trainable, train: Sequences, config: TrainConfig, *, max_len: int, seed: int, processes: Processes = _ALONE
) -> Forecast:
    """Run steps over an eighth, a quarter, half of a batch and a whole one, and say what whole ones take.

    A size is left out, and those above it, when memory that grows with the square of the batch (in-batch negatives) would not hold it;
    then the whole is told from the curve through those that were run.

    Args:
        learner: on its device.
        processes: that share every batch; all of them must call this.
    """
    whole = -(-min(config.batch, num_batches(train, 1, max_len, learner.first_target)) // processes.count)
    sizes = sorted({max(1, whole // 8), max(1, whole // 4), max(1, whole // 2), whole})
    device = next(learner.parameters()).device
    free = _least(_free_bytes(device), processes, device)
    seconds: list[float] = []
    peaks: list[float] = []
    learner.train()
    for size in sizes[:2]:  # what is done once, such as compiling a kernel, is no step's cost
        _step(learner, _batch(learner, train, size, max_len, seed, device), config)
    for size in sizes:
        if free is not None and len(peaks) > 1 and peaks[-1] + _WORST * (peaks[-1] - peaks[-2]) > _ROOM * free:
            break
        batch = _batch(learner, train, size, max_len, seed, device)
        _reset_peak(device)
        began = time.perf_counter()
        _step(learner, batch, config)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        took = torch.tensor([time.perf_counter() - began, _peak_bytes(device)], dtype=torch.float64, device=device)
        worst_seconds, worst_peak = processes.largest(took).tolist()
        seconds.append(worst_seconds)
        peaks.append(worst_peak)
    trained = sum(parameter.numel() * parameter.element_size() for parameter in learner.parameters() if parameter.requires_grad)
    kept = (_STATES + bool(config.ema)) * trained
    step_seconds, peak = _extended(sizes, seconds, whole), int(_extended(sizes, peaks, whole)) + kept
    return Forecast(step_seconds * num_batches(train, config.batch, max_len, learner.first_target), peak, free, processes.count)


def _step(learner: Trainable, batch: TrainBatch, config: TrainConfig) -> None:
    device = batch.place_P.device.type
    types = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}
    with torch.autocast(device, types.get(config.precision), enabled=config.precision in types):
        loss = learner(batch)
    loss.backward()
    learner.zero_grad(set_to_none=True)


def _batch(learner: Trainable, train: Sequences, size: int, max_len: int, seed: int, device: torch.device) -> TrainBatch:
    batches = train_batches(train, batch=size, max_len=max_len, seed=seed, epoch=0, first_target=learner.first_target)
    return next(islice(batches, 1)).to(device)


def _extended(sizes: list[int], values: list[float], to: int) -> float:
    """What was measured last if it is ``to``; else along the curve through the last three, where it rises faster than the line."""
    done = len(values)
    sizes = sizes[:done]
    if sizes[-1] == to:
        return values[-1]
    if done == 1:
        return values[0] * to / sizes[0]
    slope = max(0.0, (values[-1] - values[-2]) / (sizes[-1] - sizes[-2]))
    line = values[-1] + slope * (to - sizes[-1])
    if done == 2:
        return line
    return max(line, float(np.polyval(np.polyfit(sizes[-3:], values[-3:], 2), to)))


def _reset_peak(device: torch.device) -> None:
    gc.collect()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    else:
        memory.begin_peak_anew()


def _peak_bytes(device: torch.device) -> int:
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else memory.peak_bytes()


def _free_bytes(device: torch.device) -> int | None:
    """What training may hold in all."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device)
    return memory.free_bytes(on_this_host())


def _least(free: int | None, processes: Processes, device: torch.device) -> int | None:
    """The least over the processes, so that each decides alike; None: nobody knows."""
    negative = torch.tensor(-math.inf if free is None else -free, dtype=torch.float64, device=device)
    least = -float(processes.largest(negative))
    return None if math.isinf(least) else int(least)


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
