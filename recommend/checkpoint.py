"""A recommender's run folder: what was trained, on what, and the weights.

run.json               configuration, catalogue hash, protocol card, where the data lies, provenance; once finished, hashes of files
catalogue.parquet      catalogue ids in the order of the rows, and how often training saw each
model.safetensors      best weights by validation, with the vectors of all items
items.safetensors      the item encoder: tables, projections; encoder.safetensors: the video encoder, where it was trained along
last.safetensors       the newest checkpoint, weights, optimizer and how far it came: --resume continues exactly
previous.safetensors   the one before
log.jsonl              one line an epoch
additions.parquet      items that were added after the training (``vivim index add``); clips/: their files, of those that a service took
results.json, .md      what the last evaluation measured; ranks.parquet: the rank of every user's target
"""

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import polars as pl
import torch
from pydantic import ValidationError

from ..errors import InputError
from ..store import file_sha256, run_folder
from ..store.durable import replacing
from ..store.item_index import ItemIndex
from .config import RecommendConfig
from .tables import read_own

FORMAT = 1
"""Of run.json."""
_ANSWERING = ("catalogue.parquet", "model.safetensors", "items.safetensors")


class RunFolder(run_folder.RunFolder):
    """Reading and writing the files of one run."""

    command: ClassVar[str] = "vivim train-rec"

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._hashed: dict[str, tuple[tuple[int, ...], str]] = {}

    def info(self) -> dict[str, Any]:
        """The content of run.json.

        Raises:
            InputError: it is missing, damaged, or of another format.
        """
        info = super().info()
        found = info.get("format", FORMAT)
        if found != FORMAT:
            raise InputError(
                f"{self.path / 'run.json'} has the format {found!r:.20}, this vivim reads {FORMAT}: another version wrote it. Update "
                "vivim, or train the run again."
            )
        return info

    def config(self) -> RecommendConfig:
        """What was trained.

        Raises:
            InputError: run.json does not say it, or with options that this version does not have.
        """
        try:
            return RecommendConfig.model_validate(self.info()["config"])
        except KeyError:
            raise InputError(f"{self.path / 'run.json'} does not say what was trained: it has no 'config'; train the run again.") from None
        except ValidationError as error:
            faults = [f"{'.'.join(map(str, fault['loc']))} = {fault['input']!r:.40} ({fault['msg']})" for fault in error.errors()[:5]]
            raise InputError(
                f"{self.path / 'run.json'} has options that this vivim does not read: {'; '.join(faults)}. If a newer version trained the "
                "run, update vivim; else train the run again."
            ) from None

    def data(self) -> dict[str, Any]:
        """Where the interactions lie that it was trained on: ``path``, and the names of columns.

        Raises:
            InputError: run.json does not say it.
        """
        data = self.info().get("data")
        if not isinstance(data, dict) or data.get("path") is None or not all(isinstance(part, str | None) for part in data.values()):
            raise InputError(f"{self.path / 'run.json'} does not say which interactions the run was trained on; train it again.")
        return data

    def files_sha256(self) -> dict[str, str]:
        """Hashes of the files that answering reads, by name: what run.json keeps of a finished run."""
        return {name: self._sha256(name) for name in _ANSWERING if (self.path / name).exists()}

    def forget_files(self) -> None:
        """Before the training goes on: the files will be others than those that run.json has the hashes of."""
        info = self.info()
        if info.pop("files_sha256", None) is not None:
            self.write_json("run.json", info)

    def read_tensors(self, name: str) -> dict[str, torch.Tensor]:
        """Raises ``InputError`` also for a file that is not the one that the training left. Runs of earlier versions do not say which."""
        tensors = super().read_tensors(name)
        self._require_same(name)
        return tensors

    def _require_same(self, name: str) -> None:
        told = self.info().get("files_sha256")
        if isinstance(told, dict) and name in told and self._sha256(name) != told[name]:
            raise InputError(
                f"{self.path / name} is not the file that the training left (sha256 differs): it was damaged, changed or exchanged. Bring "
                "the file back, or train the run again."
            )

    def write_catalogue(self, items: ItemIndex, train_counts_N: npt.NDArray[np.int64]) -> None:
        with replacing(self.path / "catalogue.parquet") as temporary:
            pl.DataFrame({"id": list(items.ids), "train_count": train_counts_N}).write_parquet(temporary)

    def model_sha256(self) -> str:
        """Hash of the bytes of model.safetensors: states, indexes and added items of one hash belong together.

        Raises:
            InputError: the run has none.
        """
        return self._sha256("model.safetensors")

    def catalogue(self) -> tuple[ItemIndex, npt.NDArray[np.int64]]:
        """Catalogue ids in the order of the rows, and (N,) training interactions of each.

        Raises:
            InputError: the file is missing, damaged, or not the one the run was trained with (its hash, the mapping's hash).
        """
        path = self.path / "catalogue.parquet"
        self._require_same(path.name)
        try:
            table = read_own(path, {"id": pl.String, "train_count": pl.Int64})
            items, counts = ItemIndex(table["id"].to_list()), table["train_count"].to_numpy()
        except InputError as error:
            raise InputError(f"the run {self.path} has no readable catalogue.parquet ({error}); train it again.") from error
        if items.sha256 != self.info().get("catalogue_sha256"):
            raise InputError(f"{path} is not the catalogue this run was trained with (mapping hash differs); train the run again.")
        return items, counts

    def _sha256(self, name: str) -> str:
        """Of a file; of one that did not change since it was asked for last, without reading it again: weights can be gigabytes."""
        path = self.path / name
        try:
            found = path.stat()
            stamp = (found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
            if name not in self._hashed or self._hashed[name][0] != stamp:
                self._hashed[name] = stamp, file_sha256(path)
        except OSError as error:
            raise InputError(f"the run {self.path} has no readable {name} ({error.strerror}); train it again.") from error
        return self._hashed[name][1]
