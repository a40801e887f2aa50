"""What a suite is run on, and whether it is what the suite was made for."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..recommend.readers import read_interactions
from ..recommend.sequences import Interactions
from .suite import Expect, Row, Suite

UNNAMED = ""


@dataclass(frozen=True)
class SuiteData:
    """Where the histories are, and what items look like.

    Attributes:
        location: how to read the interactions, kept in every run.
        vectors: embedding files by the names that rows have for them; ``UNNAMED`` for rows that have none.
        encoder: options of ``items.end_to_end`` that go with the data, for rows that train the encoder: frames, weights, size. They go
            before the suite's.
    """

    location: Mapping[str, Any]
    vectors: Mapping[str, Path] = field(default_factory=dict)
    encoder: Mapping[str, Any] = field(default_factory=dict)

    def interactions(self) -> Interactions:
        """Read them.

        Raises:
            InputError: no such file, or none that can be read.
        """
        columns = {key: self.location.get(key) for key in ("user_column", "item_column", "time_column")}
        return read_interactions(self.location["path"], **columns)

    def vectors_of(self, row: Row) -> Path | None:
        """The embedding file of a row; None where it has no name for one and none without a name is given.

        Raises:
            InputError: it has a name for one that is not given.
        """
        name = row.vectors or UNNAMED
        if row.vectors is not None and name not in self.vectors:
            raise InputError(f"it looks at the vectors called {name}, which are not given; give --embeddings {name}=FILE.h5.")
        return self.vectors.get(name)

    def space_of(self, suite: Suite) -> Path | None:
        """The embedding file that the lists of all rows are compared in: the one that the suite names, or the only one there is. None:
        every row is looked at in what it is trained on, or in its model's own vectors."""
        if suite.diversity_in is not None:
            return self.vectors.get(suite.diversity_in)
        return next(iter(self.vectors.values())) if len(self.vectors) == 1 else None


def check_counts(suite: Suite, found: Interactions) -> None:
    """Refuse another data set than the suite was made for.

    Raises:
        InputError: other counts.
    """
    counts = Expect(users=len(found.users), items=len(found.items), interactions=len(found))
    wrong = [
        f"{have:,} {name} in the place of {want:,}"
        for name in Expect.model_fields
        if (want := getattr(suite.expect, name)) is not None and (have := getattr(counts, name)) != want
    ]
    if wrong:
        raise InputError(
            f"{found.source} is not what the suite {suite.name} was made for: {', '.join(wrong)}. Load the file again, or give the suite's "
            "own; to run its rows on other data, copy its YAML file and change `expect`."
        )
