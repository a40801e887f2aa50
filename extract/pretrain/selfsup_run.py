"""The folder of a self-supervised run: safetensors and JSON only, every file written whole or not at all.

run.json               configuration, seed, what it was trained on, provenance
encoder.safetensors    the trained encoder, for ``vivim extract --weights``
last.safetensors       encoder, expander, optimizer and the log after the newest finished epoch: what resuming needs
previous.safetensors   the one before, for when the newest cannot be read
log.jsonl              one line an epoch
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from ...errors import InputError
from ...progress import Progress
from ...store.provenance import provenance
from ...store.run_folder import RunFolder, pack_optimizer, unpack_optimizer, write_atomically


@dataclass(frozen=True)
class SelfSupEpoch:
    """One line of log.jsonl.

    Attributes:
        epoch: counted from 1.
        loss: weighted sum of the terms, mean over the epoch's steps, as the terms are.
        invariance, variance, covariance: VICReg's terms, before their weights.
        feature_deviation: relative deviation of the features over the clips, see ``spread``; 0 is collapse.
        effective_rank: of the features, see ``spread``; 1 is collapse onto a line.
        lr: at the end of the epoch.
        seconds: of the epoch.
    """

    epoch: int
    loss: float
    invariance: float
    variance: float
    covariance: float
    feature_deviation: float
    effective_rank: float
    lr: float
    seconds: float


class SelfSupRun:
    """Reading and writing the files of one run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.folder = RunFolder(path)

    @staticmethod
    def open(path: Path, resume: bool) -> "SelfSupRun":
        """The folder of a new run, or of one that goes on.

        Raises:
            InputError: the folder is taken, cannot be made, or holds no run to resume.
        """
        if resume:
            if not (path / "run.json").is_file():
                raise InputError(f"{path} holds no run to resume: it has no run.json. Start one without --resume.")
            return SelfSupRun(path)
        if path.exists() and not path.is_dir():
            raise InputError(f"{path} is a file; a run needs a folder. Choose another --out.")
        if RunFolder(path).begun:
            raise InputError(f"{path} holds a run already; add --resume to go on with it, or choose another --out.")
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{path} cannot be made ({error.strerror}); choose another --out.") from error
        return SelfSupRun(path)

    def describe(self, description: dict[str, Any], resume: bool) -> None:
        """Write run.json, or on resuming compare with it.

        Raises:
            InputError: the run was trained in another way or on other clips.
        """
        path = self.path / "run.json"
        if not resume:
            write_atomically(path, json.dumps(description | {"provenance": provenance()}, indent=2) + "\n")
            return
        try:
            before = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise InputError(f"{path} is damaged ({error}); train the run again.") from error
        before.pop("provenance", None)
        old, new = _flat(before), _flat(json.loads(json.dumps(description)))
        differences = [
            f"{key} {old.get(key)} (now {new.get(key)})" for key in sorted(old.keys() | new.keys()) if old.get(key) != new.get(key)
        ]
        if differences:
            raise InputError(
                f"cannot resume {self.path}: it was trained with {'; '.join(differences[:5])}. Use the same, or start a new run."
            )

    def save(self, model: torch.nn.Module, optimizer: torch.optim.Optimizer, log: Sequence[SelfSupEpoch]) -> None:
        """Weights, optimizer and log in one file, so that a kill cannot leave the one without the other."""
        tensors = {f"model.{k}": v for k, v in model.state_dict().items()} | pack_optimizer(optimizer)
        lines = [asdict(epoch) for epoch in log]
        self.folder.save_state(tensors, {"epochs": lines})
        self.folder.write_log(lines)

    def load(self, model: torch.nn.Module, optimizer: torch.optim.Optimizer, progress: Progress) -> list[SelfSupEpoch]:
        """Put back what ``save`` took; an empty list if no epoch was finished.

        Raises:
            InputError: there are checkpoints, and none can be read.
        """
        found = self.folder.load_state(progress)
        if found is None:
            return []
        tensors, state = found
        model.load_state_dict({k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")})
        unpack_optimizer(optimizer, tensors)
        self.folder.write_log(state["epochs"])  # the end may have come between the last checkpoint and its line
        return [SelfSupEpoch(**entry) for entry in state["epochs"]]


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat.update(_flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value})
    return flat
