"""A training run's folder: safetensors and JSON only, every file written atomically.

run.json               what was trained, on what, with what; ``finished`` once it is
last.safetensors       the newest checkpoint, weights, optimizer and how far it came: --resume continues exactly
previous.safetensors   the one before, for when the newest cannot be read
log.jsonl              one line an epoch
lock                   held by the run that writes here
"""

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from ..errors import InputError
from ..progress import Progress
from .durable import replacing, sync
from .failpoints import failpoint
from .locks import locked
from .tensor_files import hash_tensors, kind_of

_LOCK = "lock"
_BEFORE = (_LOCK, "run.json.tmp")  # of a run that was killed as it began
_STATES = ("last.safetensors", "previous.safetensors")
_STATE_FORMAT = 1  # of checkpoints; those of earlier versions do not say it


class RunFolder:
    """Reading and writing the files of one run; a room that keeps more in it derives its own."""

    command: ClassVar[str] = ""  # that makes such runs, for messages

    def __init__(self, path: Path) -> None:
        self.path = path
        self._unreadable: set[str] = set()  # checkpoints that were passed over

    @classmethod
    def create(cls, path: Path) -> Self:
        """A fresh folder for a new run. Only a run that never finished an epoch is replaced.

        Raises:
            InputError: the path is a file, cannot be a folder, holds another run, or holds something other than a run.
        """
        if os.path.exists(path) and not path.is_dir():
            raise InputError(f"{path} is a file; --out needs a folder for the run.")
        try:
            path.mkdir(parents=True, exist_ok=True)
            empty = not any(entry.name not in _BEFORE for entry in path.iterdir())
        except OSError as error:
            raise InputError(f"{path} cannot be a folder for the run ({error.strerror}); choose another --out.") from error
        if not os.access(path, os.W_OK | os.X_OK):
            raise InputError(f"{path} may not be written to; choose another --out.")
        if empty:
            return cls(path)
        if not (path / "run.json").exists():
            raise InputError(f"{path} holds files but no run.json, so it is not a run; choose another --out.")
        run = cls(path)
        if run.info().get("finished"):
            raise InputError(f"{path} already holds a finished run; choose another --out, or delete it first.")
        if run.begun:
            raise InputError(f"{path} holds an interrupted run; add --resume to go on with it, or choose another --out.")
        return run

    @classmethod
    def open(cls, path: Path) -> Self:
        """An existing run.

        Raises:
            InputError: there is none.
        """
        if not os.path.isfile(path / "run.json"):
            raise InputError(f"{path} is not a run: it has no run.json. Train one with `{cls.command} --out {path}`.")
        return cls(path)

    def locked(self) -> AbstractContextManager[int]:
        """Hold the folder while a run writes into it.

        Raises:
            InputError: another one does.
        """
        return locked(self.path / _LOCK)

    def write_json(self, name: str, content: Any) -> None:
        write_atomically(self.path / name, json.dumps(content, indent=2, ensure_ascii=False) + "\n")

    def read_json(self, name: str) -> Any:
        path = self.path / name
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise InputError(f"the run {self.path} lacks {name}; train it again.") from error
        except (ValueError, RecursionError) as error:
            raise InputError(f"{path} is damaged ({error}); train the run again.") from error
        except OSError as error:
            raise InputError(f"{path} cannot be read ({error.strerror}).") from error

    def write_tensors(self, name: str, tensors: Mapping[str, torch.Tensor]) -> None:
        """Atomic safetensors file; CPU copies."""
        with replacing(self.path / name) as temporary:
            save_file({k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}, temporary)

    def read_tensors(self, name: str) -> dict[str, torch.Tensor]:
        path = self.path / name
        if not path.is_file():
            raise InputError(f"the run {self.path} lacks {name}; train it again.")
        try:
            tensors = load_file(path)
        except SafetensorError as error:
            kind = kind_of(path)
            if kind is not None and kind.runs_code:
                raise InputError(
                    f"{path} is no safetensors file: it is {kind.value}, which can run code when it is read. A run's files are never read "
                    "as that; train the run again."
                ) from error
            raise InputError(f"{path} is damaged ({error}); train the run again.") from error
        bad = [k for k, v in tensors.items() if v.is_floating_point() and not torch.isfinite(v).all()]
        if bad:
            raise InputError(f"{path} holds NaN or infinite values in {', '.join(bad[:3])}; train the run again.")
        return tensors

    @property
    def begun(self) -> bool:
        """Whether there is a checkpoint to go on from."""
        return any((self.path / name).exists() for name in _STATES)

    def save_state(self, tensors: Mapping[str, torch.Tensor], state: Mapping[str, Any]) -> None:
        """A checkpoint, in one file. Killed at any moment, this or the one before is there and whole."""
        newest, before = (self.path / name for name in _STATES)
        temporary = self.path / f"{newest.name}.tmp"
        copies = {k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}
        text = json.dumps(state)
        save_file(copies, temporary, metadata={"state": text, "state_format": str(_STATE_FORMAT), "sha256": _hash_state(copies, text)})
        sync(temporary)
        failpoint("state.synced")
        if newest.exists() and newest.name not in self._unreadable:  # which would take the place of the only one that can be read
            newest.replace(before)
        failpoint("state.kept")
        temporary.replace(newest)
        sync(self.path)
        self._unreadable.clear()

    def load_state(
        self, progress: Progress, restore: Callable[[dict[str, torch.Tensor], dict[str, Any]], None] | None = None
    ) -> tuple[dict[str, torch.Tensor], dict[str, Any]] | None:
        """The newest checkpoint that can be read, and what was said of it; None: there is none.

        Args:
            restore: puts one back where it came from; one over which it raises ``InputError`` counts as one that cannot be read.

        Raises:
            InputError: there are some, and none can be read.
        """
        there = [self.path / name for name in _STATES if (self.path / name).exists()]
        problems = []
        for path in there:
            try:
                tensors, state = self._read_state(path)
                if restore is not None:
                    restore(tensors, state)
            except InputError as error:
                problems.append(f"{path.name}: {error}")
                self._unreadable.add(path.name)
                continue
            if problems:
                progress.say(f"the newest checkpoint cannot be read ({problems[0]}); going on from {path.name}, the one before")
            return tensors, state
        if problems:
            raise InputError(f"no checkpoint in {self.path} can be read: {'; '.join(problems)}. Train anew into another folder.")
        return None

    def _read_state(self, path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        """A checkpoint and what was said of it.

        Raises:
            InputError: it is damaged, another kind of file, of a newer version, or other bytes than were saved.
        """
        try:
            tensors = self.read_tensors(path.name)
            with safe_open(path, "pt") as file:
                kept = file.metadata() or {}
            found, text = int(kept.get("state_format", _STATE_FORMAT)), kept.get("state", "")
            state = json.loads(text) if text else None
        except (SafetensorError, OSError, ValueError) as error:
            raise InputError(f"it is damaged ({error})") from error
        if found > _STATE_FORMAT:
            raise InputError(f"it is of a newer version of vivim (format {found}; this one reads {_STATE_FORMAT}): update vivim")
        if not isinstance(state, dict):
            raise InputError("it does not say how far the training came: it is of another version of vivim")
        if "sha256" in kept and kept["sha256"] != _hash_state(tensors, text):
            raise InputError("its bytes are not those that were saved (sha256 differs)")
        return tensors, state

    def write_log(self, lines: Sequence[Mapping[str, Any]]) -> None:
        """log.jsonl, as a whole: a run that was killed and resumed has every line once."""
        write_atomically(self.path / "log.jsonl", "".join(json.dumps(line) + "\n" for line in lines))

    def read_log(self) -> list[dict[str, Any]]:
        """The lines of log.jsonl; none where there is no log.

        Raises:
            InputError: it is damaged.
        """
        path = self.path / "log.jsonl"
        if not path.is_file():
            return []
        try:
            return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        except (ValueError, RecursionError) as error:
            raise InputError(f"{path} is damaged ({error}); train the run again, or delete the file to go without its curves.") from error

    def info(self) -> dict[str, Any]:
        """The content of run.json."""
        info = self.read_json("run.json")
        if not isinstance(info, dict):
            raise InputError(f"{self.path / 'run.json'} is not a run description; train the run again.")
        return info


def _hash_state(tensors: Mapping[str, torch.Tensor], text: str) -> str:
    return hashlib.sha256(f"{hash_tensors(tensors)}\n{text}".encode()).hexdigest()


def write_atomically(path: Path, text: str) -> None:
    """Write to a temporary name, flush to disk, rename; of what could not be written nothing is left."""
    # A name that is no UTF-8 becomes \udcxx, which JSON reads back as the same name.
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", errors="backslashreplace") as file:
        file.write(text)


def pack_optimizer(optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """The optimizer's state as flat named tensors."""
    state = optimizer.state_dict()["state"]
    return {f"optimizer.{index}.{key}": torch.as_tensor(value) for index, entry in state.items() for key, value in entry.items()}


def unpack_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, torch.Tensor]) -> None:
    """Put back what ``pack_optimizer`` took."""
    state: dict[int, dict[str, torch.Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith("optimizer."):
            _, index, key = name.split(".")
            state.setdefault(int(index), {})[key] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
