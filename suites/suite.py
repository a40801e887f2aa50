"""What a suite is: rows of a table, each a configuration, over the same data and protocol."""

import re
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from pydantic import Field, JsonValue, ValidationError

from ..errors import InputError
from ..recommend.config import RecommendConfig
from ..settings import Settings

Sections = dict[str, dict[str, Any]]
VECTORS_NAME = r"^[a-z][a-z0-9-]*$"


class Row(Settings):
    """One line of the table.

    Attributes:
        name: as the published tables have it, where they have it.
        kind: class of models that it is compared within.
        ours: is it a model of this project, and not one of the table's baselines?
        note: what is to be known of it.
        seeds: trainings with other seeds; None: the suite's.
        vectors: which of the embedding files it looks at, by name; None: the one that has no name.
        init: another row, whose run of the same seed is begun with, as far as it fits.
        against: another row, that it is compared with; None: rows of ``ours`` with the best baseline of their class, others with none.
        printed_as: name of the published row of the same class that it stands beside; None: its own.
        budget_minutes: of a training; None: the suite's.
        config: sections ``items``, ``model``, ``loss`` and ``train`` as in pipeline.yaml, over the suite's.
    """

    name: str = Field(min_length=1)
    kind: str = Field(min_length=1)
    ours: bool = False
    note: str = ""
    seeds: int | None = Field(None, ge=1)
    vectors: str | None = Field(None, pattern=VECTORS_NAME)
    init: str | None = None
    against: str | None = None
    printed_as: str | None = None
    budget_minutes: float | None = Field(None, gt=0)
    config: Sections = Field(default_factory=dict)

    @property
    def printed_name(self) -> str:
        """Which published row of its class it stands beside, if there is one."""
        return self.printed_as or self.name

    @property
    def slug(self) -> str:
        """Its folder."""
        return re.sub(r"[^a-z0-9]+", "-", f"{self.kind} {self.name}".lower().replace("+", " plus ")).strip("-")


class Expect(Settings):
    """What the interactions must hold, so that rows of one name are rows over one data set; None: anything.

    Attributes:
        users, items, interactions: how many.
    """

    users: int | None = None
    items: int | None = None
    interactions: int | None = None


class Suite(Settings):
    """Rows, and what they share.

    Attributes:
        name: of the suite.
        about: what it is, in a sentence.
        k: list lengths.
        seeds: trainings of a row.
        diversity_in: which of the embedding files the diversity of lists is measured in, for all rows; None: the only one that is given.
        budget_minutes: a training that has taken so long ends with its epoch and keeps its best; None: no limit.
        expect: what is counted before anything is trained.
        world: the demo world that is made for it, as ``demo.world.WorldConfig``; None: the data are given.
        config: sections of every row, ``protocol`` among them: rows of one table have one protocol.
        rows: the lines.
    """

    name: str
    about: str = ""
    k: tuple[int, ...] = (10, 20)
    seeds: int = Field(1, ge=1)
    diversity_in: str | None = Field(None, pattern=VECTORS_NAME)
    budget_minutes: float | None = Field(None, gt=0)
    expect: Expect = Expect()
    world: dict[str, JsonValue] | None = None
    config: Sections = Field(default_factory=dict)
    rows: tuple[Row, ...] = Field(min_length=1)

    def seeds_of(self, row: Row) -> int:
        """How many trainings a row has."""
        return row.seeds or self.seeds

    def budget_of(self, row: Row) -> float | None:
        """Seconds that a training of a row may take."""
        minutes = row.budget_minutes or self.budget_minutes
        return None if minutes is None else 60 * minutes

    def init_of(self, row: Row) -> Row | None:
        """The row that one begins with."""
        return None if row.init is None else self.named(row.init)[0]

    def named(self, name: str) -> list[Row]:
        """The rows of that name; there may be one in each class.

        Raises:
            InputError: there is none.
        """
        found = [row for row in self.rows if row.name == name]
        if not found:
            raise InputError(f"the suite {self.name} has no row {name}; its rows are: {', '.join(row.name for row in self.rows)}.")
        return found

    def chosen(self, names: Sequence[str]) -> tuple[Row, ...]:
        """The rows of these names, and those that they begin with, in the suite's order; without names all.

        Raises:
            InputError: a name that no row has.
        """
        waiting = [row for name in names for row in self.named(name)] if names else list(self.rows)
        wanted = set()
        while waiting:
            row = waiting.pop()
            wanted.add(row.slug)
            waiting += [init] if (init := self.init_of(row)) and init.slug not in wanted else []
        return tuple(row for row in self.rows if row.slug in wanted)

    def config_of(self, row: Row) -> RecommendConfig:
        """The whole configuration of a row.

        Raises:
            InputError: a section or an option that there is not; the message names the row.
        """
        if "protocol" in row.config:
            raise InputError(f"row {row.name} of the suite {self.name} has a protocol of its own; it belongs to the suite, for all rows.")
        names = self.config.keys() | row.config.keys()
        merged = {name: {**self.config.get(name, {}), **row.config.get(name, {})} for name in names}
        try:
            return RecommendConfig.model_validate(merged)
        except ValidationError as error:
            raise InputError(f"row {row.name} of the suite {self.name}: {_first(error)}") from error

    def check(self) -> "Suite":
        """Itself, if every row can be configured, begins with one above it, and no two share a folder.

        Raises:
            InputError: as ``config_of``, two rows of one name, or a row that begins or is compared with none or several.
        """
        slugs: dict[str, str] = {}
        for place, row in enumerate(self.rows):
            self.config_of(row)
            if row.against is not None and len(self.named(row.against)) > 1:
                raise InputError(f"row {row.name} of the suite {self.name} is compared with {row.against}, and that are two rows.")
            if row.init is not None and [r.name for r in self.rows[:place]].count(row.init) != 1:
                raise InputError(
                    f"row {row.name} of the suite {self.name} begins with {row.init}; that must be one row that stands above it."
                )
            if slugs.setdefault(row.slug, row.name) != row.name or [r.slug for r in self.rows].count(row.slug) > 1:
                raise InputError(f"the suite {self.name} has two rows of class {row.kind} that are called {row.name}; rename one.")
        return self


def shipped() -> tuple[str, ...]:
    """Names of the suites that come along."""
    return tuple(sorted(path.name.removesuffix(".yaml") for path in files(__package__).iterdir() if path.name.endswith(".yaml")))


def suite_of(content: Mapping[str, Any], source: str) -> Suite:
    """A suite from what a YAML file holds.

    Raises:
        InputError: it is none; the message names what is wrong.
    """
    try:
        return Suite.model_validate(content).check()
    except ValidationError as error:
        raise InputError(f"{source} is no suite: {_first(error)}") from error


def place_of(name: str) -> Path:
    """The file of a suite that comes along, or of one's own.

    Raises:
        InputError: there is none.
    """
    own = Path(name)
    if own.suffix in {".yaml", ".yml"}:
        if not own.is_file():
            raise InputError(f"the suite {name} is not there; give a YAML file, or one of: {', '.join(shipped())}.")
        return own
    if name not in shipped():
        raise InputError(f"there is no suite {name}; give one of {', '.join(shipped())}, or a YAML file.")
    return Path(str(files(__package__).joinpath(f"{name}.yaml")))


def _first(error: ValidationError) -> str:
    found = error.errors()[0]
    return f"{'.'.join(str(part) for part in found['loc'])}: {found['msg']}"
