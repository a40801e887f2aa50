"""What the commands remember between each other, so that they work one after another without arguments.

    runs/
    ├── embeddings.h5                       default output of ``vivim extract``
    ├── last_embeddings                     path of the embedding file made last
    ├── 20260131-101500-mamba-ids/          one folder per training run
    └── latest                              path of the run made last

Remembered paths are relative to the runs folder when they lie inside it, so that the folder can be moved.
"""

import json
import os
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from .errors import InputError


class Workspace:
    """The runs folder. Nothing is created before something is written."""

    def __init__(self, runs: Path) -> None:
        self.runs = runs

    def embeddings_path(self) -> Path:
        """Where ``vivim extract`` writes when it is given no ``--out``."""
        return self.runs / "embeddings.h5"

    def remember_embeddings(self, path: Path) -> None:
        self._remember("last_embeddings", path)

    def has_embeddings(self) -> bool:
        """Is there an embedding file that is remembered and still there?"""
        path = self._recall("last_embeddings")
        return path is not None and path.is_file()

    def last_embeddings(self) -> Path:
        """The embedding file made last.

        Raises:
            InputError: there is none, or it is gone; says which command to run first.
        """
        path = self._recall("last_embeddings")
        if path is None:
            raise InputError(f"no embedding file is remembered in {self.runs}/; run 'vivim extract' first, or give --embeddings FILE.h5.")
        if not path.is_file():
            raise InputError(f"the embedding file made last, {path}, is gone; run 'vivim extract' again, or give --embeddings FILE.h5.")
        return path

    def new_run(self, name: str) -> Path:
        """Make an empty folder ``<runs>/<date>-<time>-<name>``."""
        stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
        for attempt in range(1, 1000):
            folder = self.runs / (f"{stamp}-{name}" if attempt == 1 else f"{stamp}-{name}-{attempt}")
            try:
                folder.mkdir(parents=True)
            except FileExistsError:
                if self.runs.is_dir():
                    continue
                raise InputError(f"{self.runs} is a file; the runs folder must be a folder (option runs).") from None
            except OSError as error:
                raise InputError(f"cannot make the folder {folder}: {error.strerror}.") from None
            return folder
        raise AssertionError("a thousand runs within one second")

    def remember_run(self, path: Path) -> None:
        self._remember("latest", path)

    def last_run(self, say: Callable[[str], None]) -> Path:
        """The run made last; where that is not remembered or gone, the newest finished one in the runs folder.

        Args:
            say: told if it is not the one made last.

        Raises:
            InputError: there is none; says which command to run first.
        """
        path = self._recall("latest")
        if path is not None and (path / "run.json").is_file():
            return path
        problem, again = f"no run is remembered in {self.runs}/", "first"
        if path is not None:
            problem, again = f"the run made last, {path}, {'is no run' if path.exists() else 'is gone'}", "again"
        newest = self._newest_run()
        if newest is None:
            raise InputError(f"{problem}; run 'vivim train-rec' {again}, or give --run RUN.")
        say(f"{problem}; taking {newest}, the newest finished run there (--run RUN takes another)")
        return newest

    def _newest_run(self) -> Path | None:
        """Of the finished recommenders directly in the runs folder, the one that was finished last."""
        found = [path for path in self.runs.glob("*/run.json") if _is_finished_recommender(path)]
        return max(found, key=lambda path: (path.stat().st_mtime_ns, path)).parent if found else None

    def _remember(self, name: str, path: Path) -> None:
        runs = self.runs.resolve()
        target = path.resolve()
        text = str(target.relative_to(runs) if target.is_relative_to(runs) else target)
        try:
            self.runs.mkdir(parents=True, exist_ok=True)
            temporary = self.runs / f".{name}.{os.getpid()}"
            temporary.write_text(text + "\n", encoding="utf-8", errors="surrogateescape")
            temporary.replace(self.runs / name)
        except OSError as error:
            raise InputError(f"cannot write {self.runs / name}: {error.strerror}.") from None

    def _recall(self, name: str) -> Path | None:
        try:
            text = (self.runs / name).read_text(encoding="utf-8", errors="surrogateescape")
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise InputError(f"cannot read {self.runs / name}: {error.strerror}.") from None
        name = text.removesuffix("\n")
        return self.runs / name if name.strip() else None  # an empty one would be the runs folder itself


def _is_finished_recommender(description: Path) -> bool:
    """Also the pretraining of an encoder has a run.json, but no catalogue."""
    try:
        info = json.loads(description.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    finished = isinstance(info, dict) and "catalogue_sha256" in info and info.get("finished") is True
    return finished and (description.parent / "model.safetensors").is_file()
