"""The processes of a training: one, or several that torchrun started.

Every process walks through the same batches and takes every n-th sequence of each; the sum of their gradients is that of one process
with the whole batch. Nothing is wrapped around the model.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal, Protocol, runtime_checkable

import lightning_fabric
import torch
import torch.distributed as dist
from lightning_fabric.loggers.logger import Logger
from lightning_fabric.strategies.ddp import DDPStrategy

from ..errors import InputError
from .torchrun import launched

Precision = Literal["32-true", "bf16-mixed", "16-mixed"]


@dataclass(frozen=True)
class Processes:
    """Which one of how many this is.

    Attributes:
        rank: from 0; the first one writes and speaks.
        count: how many.
    """

    rank: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        return self.rank == 0

    def sum_gradients(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        """Replace every gradient by its sum over the processes; one that is missing counts as zero."""
        if self.count == 1:
            return
        trained = [parameter for parameter in parameters if parameter.requires_grad]
        for parameter in trained:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        gradients = [parameter.grad for parameter in trained if parameter.grad is not None]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        dist.all_reduce(flat)
        for gradient, part in zip(gradients, flat.split([gradient.numel() for gradient in gradients]), strict=True):
            gradient.copy_(part.view_as(gradient))

    def sum(self, value: torch.Tensor) -> torch.Tensor:
        """The sum over the processes."""
        if self.count > 1:
            value = value.clone()
            dist.all_reduce(value)
        return value

    def largest(self, value: torch.Tensor) -> torch.Tensor:
        """The largest over the processes, element by element."""
        if self.count > 1:
            value = value.clone()
            dist.all_reduce(value, dist.ReduceOp.MAX)
        return value

    def gather(self, rows: torch.Tensor, total: int) -> torch.Tensor:
        """(total, D) from rows rank, rank + count, rank + 2 count... of each process; gradients come back summed to whose row it is."""
        if self.count == 1:
            return rows
        gathered: torch.Tensor = _Gather.apply(rows, total, self.rank, self.count)  # type: ignore[no-untyped-call]
        return gathered

    def wait(self) -> None:
        """Until all are here."""
        if self.count > 1:
            dist.barrier()

    def part(self) -> None:
        """Wait for all, then leave them, for good: a process that ends as a member can abort, as its threads still listen."""
        if self.count > 1:
            dist.barrier()
            dist.destroy_process_group()


@runtime_checkable
class SharesWork(Protocol):
    """A part that the processes of a training compute together."""

    processes: Processes


class _Gather(torch.autograd.Function):
    """Every process gets all rows."""

    @staticmethod
    def forward(ctx: Any, rows: torch.Tensor, total: int, rank: int, count: int) -> torch.Tensor:
        ctx.rank, ctx.count = rank, count
        padded = rows.new_zeros(-(-total // count), rows.shape[1])
        padded[: len(rows)] = rows
        parts = [torch.empty_like(padded) for _ in range(count)]
        dist.all_gather(parts, padded)
        return torch.stack(parts, 1).flatten(0, 1)[:total]

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        grad = grad.contiguous().clone()
        dist.all_reduce(grad)
        return grad[ctx.rank :: ctx.count], None, None, None


def start(device: str, precision: Precision, loggers: list[Logger], timeout_seconds: float) -> lightning_fabric.Fabric:
    """Join the other processes, if there are any.

    Args:
        timeout_seconds: a process that does not answer for so long ends the others.

    Raises:
        InputError: more processes than GPUs; a precision that the device does not have.
    """
    if device == "cpu" and precision == "16-mixed":
        raise InputError("train.precision 16-mixed is for GPUs, and this is a CPU; take bf16-mixed, or 32-true.")
    count = launched()
    if count == 1:
        fabric = lightning_fabric.Fabric(accelerator=device, devices=1, precision=precision, loggers=loggers)
    else:
        here = int(os.environ["LOCAL_WORLD_SIZE"])
        if device == "cuda" and here > torch.cuda.device_count():
            gpus = torch.cuda.device_count()
            raise InputError(f"torchrun started {here} processes here, and there are {gpus} GPUs; start at most as many.")
        strategy = DDPStrategy(timeout=timedelta(seconds=timeout_seconds))
        fabric = lightning_fabric.Fabric(
            accelerator=device, devices=here, num_nodes=count // here, strategy=strategy, precision=precision, loggers=loggers
        )
    fabric.launch()
    return fabric
