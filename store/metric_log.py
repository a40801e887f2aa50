"""What a run measures after each epoch, to loggers that draw curves: TensorBoard, or any of Lightning Fabric's."""

import importlib.util
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import lightning_fabric
from lightning_fabric.loggers.logger import Logger
from lightning_fabric.loggers.tensorboard import TensorBoardLogger

from ..errors import MissingExtra


def tensorboard(run: Path) -> Logger:
    """Event files in ``run/tensorboard``, written from the first epoch on.

    Raises:
        MissingExtra: the package tensorboard is not installed.
    """
    if importlib.util.find_spec("tensorboard") is None:
        raise MissingExtra("tensorboard", extra="viz", why="tensorboard: true")
    return TensorBoardLogger(run, name="tensorboard", version="")


def log_metrics(fabric: lightning_fabric.Fabric, line: Mapping[str, Any]) -> None:
    """Tell the loggers of ``fabric`` the numbers in a line of log.jsonl, at its epoch; what is nested becomes ``test/dice``."""
    for logger in fabric.loggers:
        logger.log_metrics(dict(_numbers(line)), step=line["epoch"])
        logger.save()  # else a killed run loses minutes of them


def _numbers(line: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    for name, value in line.items():
        if isinstance(value, Mapping):
            yield from _numbers(value, f"{prefix}{name}/")
        elif isinstance(value, int | float) and name != "epoch":
            yield prefix + name, float(value)
