"""The configuration tree: what is read, what is refused, and what the refusal says."""

from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from vivim import strict_yaml
from vivim.errors import InputError
from vivim.pipeline import Override, Pipeline, as_yaml, load_pipeline, option_names

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write(text: str | bytes, name: str = "pipeline.yaml") -> Path:
    path = Path(name)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_defaults_without_a_file() -> None:
    assert load_pipeline(None) == Pipeline()


def test_the_shipped_file_holds_every_option_at_its_default_with_a_comment() -> None:
    shipped = ROOT / "pipeline.yaml"
    assert load_pipeline(shipped) == Pipeline()

    def names(tree: dict, prefix: str = "") -> set[str]:  # type: ignore[type-arg]
        found = set()
        for key, value in tree.items():
            of_options = isinstance(value, dict) and not any("." in name for name in value)  # tune.space maps options to values
            found |= names(value, f"{prefix}{key}.") if of_options else {prefix + key}
        return found

    assert names(strict_yaml.read(shipped)) == set(option_names())
    bare = [line for line in shipped.read_text().splitlines() if ": " in line and "#" not in line]
    assert bare == []


def test_the_file_of_the_working_directory_is_read_and_another_can_be_named() -> None:
    write("train:\n  epochs: 7\n")
    other = write("train:\n  epochs: 8\n", "other.yaml")
    assert load_pipeline(None).train.epochs == 7
    assert load_pipeline(other).train.epochs == 8


def test_later_wins_file_then_set_then_option() -> None:
    write("train:\n  epochs: 7\n  lr: 0.5\n  batch: 2\n")
    read = load_pipeline(None, ["train.epochs=8", "train.lr=0.25"], [Override("train.epochs", "9", "--epochs")])
    assert (read.train.epochs, read.train.lr, read.train.batch) == (9, 0.25, 2)


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ("train.lr=3e-4", "lr", 3e-4),
        ("train.lr=1", "lr", 1.0),
        ("train.epochs=12", "epochs", 12),
        ("train.optimizer=adam", "optimizer", "adam"),
        ("train.precision=16-mixed", "precision", "16-mixed"),
    ],
)
def test_set_reads_scalars(text: str, name: str, value: object) -> None:
    assert getattr(load_pipeline(None, [text]).train, name) == value


def test_text_stays_text() -> None:
    data = load_pipeline(None, ["data.user_column=007", "data.item_column=no", "data.time_column=12:30"]).data
    assert (data.user_column, data.item_column, data.time_column) == ("007", "no", "12:30")


def test_lists_and_null() -> None:
    read = load_pipeline(None, ["evaluate.k=[5, 50]", "data.videos=null", "extract.manifest=ids.csv"])
    assert (read.evaluate.k, read.data.videos, read.extract.manifest) == ((5, 50), None, Path("ids.csv"))


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("trian.lr", "train.lr"),
        ("train.l", "train.lr"),
        ("lr", "train.lr"),
        ("train.learning_rate", "train.lr"),
        ("train.batch_size", "train.batch"),
        ("train.epoch", "train.epochs"),
        ("extract.size", "extract.encoder.size"),
        ("extract.encoder.sise", "extract.encoder.size"),
        ("protocol.max_length", "protocol.max_len"),
        ("modle.kind", "model.kind"),
        ("train.lr.x", "train.lr"),
        ("sed", "seed"),
    ],
)
def test_a_misspelt_key_is_refused_with_the_nearest_right_name(wrong: str, right: str) -> None:
    with pytest.raises(InputError, match=rf"unknown key '{wrong}'; did you mean '{right}'\?"):
        load_pipeline(None, [f"{wrong}=1"])


def test_a_misspelt_key_in_a_file_names_the_file_and_what_is_allowed_there() -> None:
    write("train:\n  epoch: 3\n")
    with pytest.raises(InputError, match=r"pipeline\.yaml: unknown key 'train\.epoch'.*'train\.epochs'.*\(train holds optimizer, lr"):
        load_pipeline(None)


def test_a_key_like_no_other_gets_no_suggestion() -> None:
    with pytest.raises(InputError, match=r"unknown key 'zzz' \(the top level holds seed, device"):
        load_pipeline(None, ["zzz=1"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train.lr=fast", r"--set: train\.lr = 'fast' is not allowed: it should be a valid number"),
        ("train.lr=-1", r"train\.lr = -1 is not allowed: it should be greater than 0"),
        ("train.optimizer=adamv", r"train\.optimizer = 'adamv'.*'adamw' or 'adam'; did you mean 'adam"),
        ("train.epochs=true", r"train\.epochs = true is not allowed"),
        ("train.epochs=2.5", r"train\.epochs = 2\.5 is not allowed: it should be a valid integer"),
        ("train.epochs=", r"train\.epochs = None is not allowed"),
        ("evaluate.k=[10, ten]", r"evaluate\.k = 'ten' is not allowed"),
        ("seed=-1", r"seed = -1 is not allowed"),
        ("data.videos=[1]", r"data\.videos = \[1\] is not allowed: it should be a path"),
        ("model=mamba", r"model is a section; set one of its options, as in model\.kind="),
        ("train={lr: 1}", r"train is a section"),
        ("train.lr", r"lacks '='"),
        ("=1", r"unknown key ''"),
    ],
)
def test_a_wrong_value_is_refused_with_key_value_and_what_is_allowed(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_pipeline(None, [text])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed: 1\nseed: 2\n", r"line 2, column 1: the key 'seed' occurs twice"),
        ("train:\n  lr: 1\n  lr: 2\n", r"line 3, column 3: the key 'lr' occurs twice"),
        ("a: &a [x]\nb: &b [*a, *a]\nc: [*b, *b]\n", r"the alias \*a is not allowed"),
        ("seed: !!python/object/apply:os.system ['touch broken']\n", r"the tag .*python/object/apply:os\.system is not allowed"),
        ("<<: {seed: 1}\n", r"unknown key '<<'"),
        ("\tseed: 1\n", r"line 1"),
        ("seed: 1\n---\nseed: 2\n", r"another document"),
        ("1: 2\n", r"a key must be plain text"),
        ("- seed\n", r"must hold sections"),
        ("just text\n", r"must hold sections"),
        ("train: 5\n", r"train = 5 is a section; it holds optimizer"),
        (b"seed: \xff\n", r"not YAML text in UTF-8"),
        ("[" * 20_000, r"nested too deeply"),
        ("#" * 1_000_001, r"1,000,001 bytes; a configuration may have 1,000,000"),
    ],
)
def test_a_file_with_traps_is_refused(text: str | bytes, message: str) -> None:
    write(text)
    with pytest.raises(InputError, match=message):
        load_pipeline(None)
    assert not Path("broken").exists()


def test_a_missing_file_is_refused() -> None:
    with pytest.raises(InputError, match=r"cannot read the configuration nowhere\.yaml"):
        load_pipeline(Path("nowhere.yaml"))


@pytest.mark.parametrize("text", ["", "# nothing\n", "train:\n", "data:\nmodel:\n"])
def test_empty_files_and_sections_mean_defaults(text: str) -> None:
    write(text)
    assert load_pipeline(None) == Pipeline()


def test_a_printed_configuration_reads_back_to_the_same() -> None:
    sets = ["train.lr=1e-05", "data.videos=007", "extract.encoder.weights='3e-4'", "evaluate.k=[1]", "data.user_column='null'", "seed=5"]
    pipeline = load_pipeline(None, sets)
    assert load_pipeline(write(as_yaml(pipeline), "printed.yaml")) == pipeline
    assert pipeline.extract.encoder.weights == "3e-4"


@settings(max_examples=200, deadline=None)
@example("\x85")
@example(["a\u2028b", "\u2029", "two\nlines\x85"])
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.from_regex(r"[a-z_]{1,8}", fullmatch=True), inner, max_size=3),
        max_leaves=8,
    )
)
def test_whatever_is_written_reads_back_equal(data: object) -> None:
    assert strict_yaml.parse(strict_yaml.dump({"x": data}), "test") == {"x": data}
