"""The whole run as one typed tree, read from ``pipeline.yaml`` and the command line.

Later wins: built-in defaults, the file, ``--set``, named options such as ``--epochs``.
"""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import Field, ValidationError
from pydantic.fields import FieldInfo

from . import strict_yaml
from .content.config import TextConfig
from .errors import InputError
from .extract.config import ExtractConfig
from .extract.pretrain.config import PretrainConfig
from .extract.pretrain.selfsup_config import SelfSupConfig
from .recommend.config import EvaluateConfig, ItemsConfig, LossConfig, ModelConfig, ProtocolConfig, TrainConfig, TuneConfig
from .serve.config import ServeConfig
from .serve.report.config import ReportConfig
from .settings import Settings

DEFAULT_FILE = Path("pipeline.yaml")


class DataConfig(Settings):
    """Where the input is. A path that is None is looked for in ``data/``, see ``discovery``.

    Attributes:
        videos: folder of clips.
        interactions: who watched what: MicroLens pairs, CSV, Parquet or RecBole ``.inter``.
        titles: CSV with a title per item, or None.
        user_column: name of the column of user ids, for tables with a header; None: found by its common names.
        item_column: name of the column of item ids.
        time_column: name of the column of times; ``none`` takes the order of the lines.
    """

    videos: Path | None = None
    interactions: Path | None = None
    titles: Path | None = None
    user_column: str | None = None
    item_column: str | None = None
    time_column: str | None = None


class Pipeline(Settings):
    """Everything that can be chosen for a run.

    Attributes:
        seed: of every random choice.
        device: ``auto`` takes a GPU if there is one.
        runs: folder for what the commands make and remember.
        tensorboard: training also writes event files for TensorBoard into its run.
        data: where the input is.
        pretrain: training the encoder on masks before stage one.
        selfsup: training it on clips alone, for catalogues without masks.
        extract: stage one.
        text: titles to vectors.
        protocol: who is trained on what, who is asked what.
        items: how an item becomes a vector.
        model: which user model.
        loss: what is minimised.
        train: how it is minimised.
        evaluate: how a run is measured.
        tune: what a search tries, and for how long.
        serve: how a run answers people.
        report: how much a report shows.
    """

    seed: int = Field(1, ge=0, lt=2**32)
    device: Literal["auto", "cpu", "cuda"] = "auto"
    runs: Path = Path("runs")
    tensorboard: bool = False
    data: DataConfig = DataConfig()
    pretrain: PretrainConfig = PretrainConfig()
    selfsup: SelfSupConfig = SelfSupConfig()
    extract: ExtractConfig = ExtractConfig()
    text: TextConfig = TextConfig()
    protocol: ProtocolConfig = ProtocolConfig()
    items: ItemsConfig = ItemsConfig()
    model: ModelConfig = ModelConfig()
    loss: LossConfig = LossConfig()
    train: TrainConfig = TrainConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    tune: TuneConfig = TuneConfig()
    serve: ServeConfig = ServeConfig()
    report: ReportConfig = ReportConfig()


@dataclass(frozen=True)
class Override:
    """One option set outside the file.

    Attributes:
        key: dotted name, ``train.lr``.
        value: as YAML would read it; text is turned into what the option needs.
        source: what error messages call it: ``--set``, ``--epochs``.
    """

    key: str
    value: Any
    source: str = "--set"

    @staticmethod
    def parse(text: str) -> "Override":
        """``"train.lr=3e-4"``, as given with ``--set``."""
        key, equals, value = text.partition("=")
        if not equals:
            raise InputError(f"--set {text!r} lacks '='; write --set train.lr=3e-4.")
        return Override(key.strip(), strict_yaml.parse(value, f"--set {key.strip()}"))


def load_pipeline(config: Path | None, overrides: Sequence[str] = (), options: Sequence[Override] = ()) -> Pipeline:
    """Read the configuration of a run.

    Args:
        config: file to read; None: ``pipeline.yaml`` in the working directory if there is one, else built-in defaults.
        overrides: ``"train.lr=3e-4"``, as given with ``--set``.
        options: as given with named options; they win over ``overrides``.

    Raises:
        InputError: unreadable file, unknown key (with the nearest right name), or a value that is not allowed.
    """
    if config is None and DEFAULT_FILE.is_file():
        config = DEFAULT_FILE
    source = "the configuration" if config is None else str(config)
    tree = {} if config is None else strict_yaml.read(config)
    if tree is None:
        tree = {}
    if not isinstance(tree, dict):
        raise InputError(f"{source} must hold sections such as 'train:'; it holds {tree!r:.80}.")
    _check_keys(tree, source)
    origins: dict[str, str] = {}
    for override in (*map(Override.parse, overrides), *options):
        _place(tree, override, origins)
    try:
        return Pipeline.model_validate(tree)
    except ValidationError as error:
        raise InputError("; ".join(_explain(problem, origins, source) for problem in error.errors()[:5])) from None


def as_yaml(pipeline: Pipeline) -> str:
    """The whole tree as YAML that ``load_pipeline`` reads back to an equal one."""
    return strict_yaml.dump(pipeline.model_dump(mode="json"))


def option_names(settings: type[Settings] = Pipeline, prefix: str = "") -> Iterator[str]:
    """Dotted name of every option: ``seed``, ``data.videos``, ``extract.encoder.size``..."""
    for name, field in settings.model_fields.items():
        section = _section(field)
        if section is None:
            yield prefix + name
        else:
            yield from option_names(section, f"{prefix}{name}.")


def _section(field: FieldInfo) -> type[Settings] | None:
    kind = field.annotation
    return kind if isinstance(kind, type) and issubclass(kind, Settings) else None


def _check_keys(tree: dict[str, Any], source: str, settings: type[Settings] = Pipeline, prefix: str = "") -> None:
    for key, value in tree.items():
        name = prefix + key
        field = settings.model_fields.get(key)
        if field is None:
            raise InputError(f"{source}: {_unknown(name)}")
        section = _section(field)
        if section is None:
            _refuse_bool_as_number(name, value, field, source)
        elif isinstance(value, dict):
            _check_keys(value, source, section, f"{name}.")
        elif value is None:  # "train:" with nothing below it
            tree[key] = {}
        else:
            raise InputError(f"{source}: {name} = {value!r:.80} is a section; it holds {', '.join(section.model_fields)}.")


def _place(tree: dict[str, Any], override: Override, origins: dict[str, str]) -> None:
    """Set one option in ``tree`` and note where it came from."""
    name, source = override.key, override.source
    *parents, leaf = name.split(".")
    settings: type[Settings] = Pipeline
    for parent in parents:
        field = settings.model_fields.get(parent)
        section = None if field is None else _section(field)
        if section is None:
            raise InputError(f"{source}: {_unknown(name)}")
        settings = section
        tree = tree.setdefault(parent, {})
    field = settings.model_fields.get(leaf)
    if field is None:
        raise InputError(f"{source}: {_unknown(name)}")
    if section := _section(field):
        options = list(section.model_fields)
        raise InputError(f"{source}: {name} is a section; set one of its options, as in {name}.{options[0]}=... ({', '.join(options)})")
    _refuse_bool_as_number(name, override.value, field, source)
    tree[leaf] = override.value
    origins[name] = source


def _refuse_bool_as_number(name: str, value: Any, field: FieldInfo, source: str) -> None:
    """``epochs: true`` would be read as 1 epoch."""
    if isinstance(value, bool) and field.annotation is not bool:
        raise InputError(f"{source}: {name} = {str(value).lower()} is not allowed; it is not a yes-or-no option.")


# What other libraries call our options; no spelling distance would find them.
_OTHER_NAMES = {"learning_rate": "lr", "batch_size": "batch", "hidden_size": "d_model", "num_layers": "layers", "num_frames": "count"}


def _unknown(name: str) -> str:
    """``unknown key ...``, with the nearest right name and what is allowed at that place."""
    settings: type[Settings] = Pipeline
    place = ""
    for part in name.split(".")[:-1]:
        field = settings.model_fields.get(part)
        section = None if field is None else _section(field)
        if section is None:
            break
        settings, place = section, f"{place}{part}."
    nearest = _nearest(name)
    allowed = f"{place.rstrip('.') or 'the top level'} holds {', '.join(settings.model_fields)}"
    return f"unknown key {name!r}{f'; did you mean {nearest!r}?' if nearest else ''} ({allowed})"


def _nearest(name: str) -> str | None:
    """The right dotted name nearest to ``name``: with the same last part, else the most alike as a whole, else by its last part."""
    names = list(option_names())
    leaf = name.rpartition(".")[2]
    leaf = _OTHER_NAMES.get(leaf, leaf)
    leaves: dict[str, list[str]] = {}
    for known in names:
        leaves.setdefault(known.rpartition(".")[2], []).append(known)
    if leaf in leaves:
        return max(leaves[leaf], key=lambda known: difflib.SequenceMatcher(None, known, name).ratio())
    sections = sorted({known.rpartition(".")[0] for known in names} - {""})
    whole = difflib.get_close_matches(name, [*names, *sections], n=1, cutoff=0.7)
    if whole:
        return whole[0]
    alike = difflib.get_close_matches(leaf, leaves, n=1, cutoff=0.7)
    return leaves[alike[0]][0] if alike else None


def _explain(problem: Any, origins: Mapping[str, str], source: str) -> str:
    """One pydantic problem in words: where, the value, what is allowed."""
    location = [str(part) for part in problem["loc"]]
    settings: type[Settings] | None = Pipeline
    field: FieldInfo | None = None
    used = 0
    for part in location:  # the location ends in list positions or union members, which are no keys
        if settings is None or part not in settings.model_fields:
            break
        field = settings.model_fields[part]
        settings = _section(field)
        used += 1
    name = ".".join(location[:used])
    value = problem["input"]
    allowed = "should be a path" if problem["type"] == "path_type" else problem["msg"].removeprefix("Value error, ").removeprefix("Input ")
    choices = [str(choice) for choice in get_args(field.annotation)] if field is not None and problem["type"] == "literal_error" else []
    nearest = difflib.get_close_matches(str(value), choices, n=1)
    hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
    return f"{origins.get(name, source)}: {name} = {value!r:.80} is not allowed: it {allowed}{hint}"
