"""A recommender's run folder: what was trained, on what, and the weights.

run.json               configuration, catalogue hash, protocol card, where the data lies, provenance
catalogue.parquet      catalogue ids in the order of the rows, and how often training saw each
model.safetensors      best weights by validation, with the vectors of all items
items.safetensors      the item encoder: tables, projections; encoder.safetensors: the video encoder, where it was trained along
last.safetensors       the newest checkpoint, weights, optimizer and how far it came: --resume continues exactly
previous.safetensors   the one before
log.jsonl              one line an epoch
additions.parquet      items that were added after the training (``vivim index add``); clips/: their files, of those that a service took
results.json, .md      what the last evaluation measured; ranks.parquet: the rank of every user's target
"""

from typing import ClassVar

import numpy as np
import numpy.typing as npt
import polars as pl

from ..errors import InputError
from ..store import file_sha256, run_folder
from ..store.item_index import ItemIndex


class RunFolder(run_folder.RunFolder):
    """Reading and writing the files of one run."""

    command: ClassVar[str] = "vivim train-rec"

    def write_catalogue(self, items: ItemIndex, train_counts_N: npt.NDArray[np.int64]) -> None:
        temporary = self.path / "catalogue.parquet.tmp"
        pl.DataFrame({"id": list(items.ids), "train_count": train_counts_N}).write_parquet(temporary)
        temporary.replace(self.path / "catalogue.parquet")

    def model_sha256(self) -> str:
        """Hash of the bytes of model.safetensors: states, indexes and added items of one hash belong together.

        Raises:
            InputError: the run has none.
        """
        path = self.path / "model.safetensors"
        try:
            return file_sha256(path)
        except OSError as error:
            raise InputError(f"the run {self.path} has no readable model.safetensors ({error.strerror}); train it again.") from error

    def catalogue(self) -> tuple[ItemIndex, npt.NDArray[np.int64]]:
        """Catalogue ids in the order of the rows, and (N,) training interactions of each.

        Raises:
            InputError: the file is missing, damaged, or not the one the run was trained with (mapping hash).
        """
        path = self.path / "catalogue.parquet"
        try:
            table = pl.read_parquet(path)
            items, counts = ItemIndex(table["id"].to_list()), table["train_count"].to_numpy()
        except (OSError, pl.exceptions.PolarsError) as error:
            raise InputError(f"the run {self.path} has no readable catalogue.parquet ({error}); train it again.") from error
        if items.sha256 != self.info().get("catalogue_sha256"):
            raise InputError(f"{path} is not the catalogue this run was trained with (mapping hash differs); train the run again.")
        return items, counts
