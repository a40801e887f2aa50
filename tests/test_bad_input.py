"""Bad input as people bring it, through the commands as typed: exit code 2 and a message with the cause, or the right answer."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from vivim import cli
from vivim.extract.clip import ClipRef
from vivim.extract.config import FramesConfig
from vivim.extract.failures import ClipError
from vivim.extract.reader import ClipReader
from vivim.extract.sampling import make_sampler
from vivim.extract.vivim import VivimConfig
from vivim.extract.weights import load_weights

SMALL = ["--device", "cpu", "--set", "model.d_model=16", "model.layers=1"]
GOOD = [("1", "a b c d"), ("2", "b c d e"), ("3", "c d e a")]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    return tmp_path


def refused(capsys: pytest.CaptureFixture[str], *args: str) -> str:
    """The message of a command that must end as bad input."""
    code = cli.main([*args])
    captured = capsys.readouterr()
    assert code == 2, captured
    assert captured.out == ""
    assert "Traceback" not in captured.err
    return captured.err


def pairs(histories: list[tuple[str, str]]) -> str:
    return "".join(f"{user}\t{items}\n" for user, items in histories)


def events(histories: list[tuple[str, str]], separator: str = ",", end: str = "\n") -> str:
    rows = [(user, item, str(1_600_000_000_000 + n)) for user, items in histories for n, item in enumerate(items.split())]
    return end.join(separator.join(row) for row in [("user", "item", "timestamp"), *rows]) + end


@pytest.mark.parametrize("content", [None, "notes.txt", ".hidden.mp4"])
def test_a_folder_without_clips(content: str | None, capsys: pytest.CaptureFixture[str]) -> None:
    Path("clips").mkdir()
    if content:
        Path("clips", content).write_text("x")
    message = refused(capsys, "extract", "--videos", "clips", "--size", "nano")
    assert "clips holds no clips; looked in all its folders for" in message
    assert ".mp4" in message
    assert not Path("runs").exists()


def test_two_clips_with_one_stem(capsys: pytest.CaptureFixture[str]) -> None:
    for place in ("clips/a/7.mp4", "clips/b/7.mov"):
        Path(place).parent.mkdir(parents=True)
        Path(place).write_bytes(b"")
    message = refused(capsys, "extract", "--videos", "clips", "--size", "nano")
    assert "'7' is clips/a/7.mp4 and clips/b/7.mov" in message
    assert "--manifest" in message


def test_a_clip_that_may_not_be_read_is_named_and_the_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "locked.mp4"
    path.write_bytes(b"x")

    def forbidden(self: Path, *args: object, **kwargs: object) -> object:
        raise PermissionError(13, "Permission denied")  # chmod means nothing to root

    monkeypatch.setattr(Path, "open", forbidden)
    with pytest.raises(ClipError, match="Permission denied"):
        ClipReader(make_sampler(FramesConfig(count=2)), 32)(ClipRef("locked", path))


def not_finite(tensors: dict[str, torch.Tensor]) -> None:
    tensors["stages.1.patch_embed.proj.bias"][3] = float("nan")


def odd_shape(tensors: dict[str, torch.Tensor]) -> None:
    tensors["stages.1.patch_embed.proj.bias"] = torch.zeros(7)


WEIGHTS_REFUSED = {
    "not finite": (not_finite, [], ["stages.1.patch_embed.proj.bias holds NaN or infinite values", "Export it again"]),
    "odd shape": (odd_shape, [], ["stages.1.patch_embed.proj.bias is (7,), the encoder needs (32,)"]),
    "another size": (None, ["--size", "b0"], ["is of size nano", "asked for is b0", "--size auto"]),
    "no encoder": (lambda t: (t.clear(), t.update({"items.weight": torch.zeros(3)})), [], ["names of no known scheme", "Known: vivim"]),
    "empty": (lambda t: t.clear(), [], ["holds no tensors at all"]),
}


@pytest.mark.parametrize(("spoil", "options", "says"), WEIGHTS_REFUSED.values(), ids=WEIGHTS_REFUSED.keys())
def test_weights_that_cannot_be_used(
    spoil: Callable[[dict[str, torch.Tensor]], object] | None, options: list[str], says: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    tensors = load_weights("random", VivimConfig.of_size("nano")).state_dict()
    if spoil is not None:
        spoil(tensors)
    Path("my weights").mkdir()
    save_file(tensors, Path("my weights", "ü.safetensors"))
    Path("clips").mkdir()
    Path("clips", "a.mp4").touch()
    message = refused(capsys, "extract", "--videos", "clips", "--weights", "my weights/ü.safetensors", *options)
    for part in ("weights: ü.safetensors", *says):
        assert part in message
    assert sorted(path.name for path in Path().iterdir()) == ["clips", "data", "my weights"]


@pytest.mark.shared
def test_no_bad_file_ends_the_run_and_each_has_a_class(shared_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = shared_data / "clips_bad"
    files = {path.stem for path in folder.iterdir() if path.suffix != ".csv"}
    assert cli.main(["extract", "--videos", str(folder), "--size", "nano", "--set", "extract.image_size=64", "--json"]) == 3
    result = json.loads(capsys.readouterr().out)
    assert (result["total"], result["embedded"]) == (len(files), 0)
    assert {failure["id"] for failure in result["failures"]} == files
    assert all(failure["kind"] and failure["message"] for failure in result["failures"])
    assert not {"crash", "timeout"} & {failure["kind"] for failure in result["failures"]}


TABLE = events(GOOD)
HISTORIES_REFUSED = {
    "empty": ("", ["is empty"]),
    "missing column": (
        TABLE.replace(",item,", ",rating,"),
        ["no item column", "expected item", "data.item_column=NAME"],
    ),
    "renamed column": (TABLE.replace("user,", "viewer,"), ["'viewer'", "no user column", "data.user_column=NAME"]),
    "header eaten as data": (TABLE.partition("\n")[2], ["line 1", "looks like data, not a header", "Put a header"]),
    "mixed delimiters": (TABLE.replace("\n2,b,", "\n2;b;"), ["line 6", "2;b;"]),
    "a field too many": (TABLE.replace("\n2,b,", "\n2,b,b,"), ["line 6 has 4", "3 columns"]),
    "one user": (pairs(GOOD[:1]), ["leaves 1 user", "at least two"]),
    "all users too short": (pairs([("1", "a b"), ("2", "b c")]), ["none of 2 users has the 3 interactions", "longest history has 2"]),
    "nothing left after the split": (
        pairs([("1", "a b c"), ("2", "b c a"), ("3", "c a b")]),
        ["leaves nothing to learn from", "longest training history has 1 interaction,", "--model mamba needs 2", "Bring longer histories"],
    ),
}


@pytest.mark.parametrize(("text", "says"), HISTORIES_REFUSED.values(), ids=HISTORIES_REFUSED.keys())
def test_histories_that_cannot_be_used(text: str, says: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    Path("histories").write_text(text)
    message = refused(capsys, "train-rec", "--interactions", "histories", *SMALL)
    assert "histories" in message
    for part in says:
        assert part in message
    assert not list(Path("runs").glob("*/"))


HISTORIES_READ = {
    "byte order mark": "\ufeff" + TABLE,
    "windows line ends": events(GOOD, end="\r\n"),
    "semicolons": events(GOOD, ";"),
    "extra column": TABLE.replace("\n", ",x\n").replace("timestamp,x", "timestamp,note"),
    "pairs with windows line ends": pairs(GOOD).replace("\n", "\r\n"),
}


@pytest.mark.parametrize("text", HISTORIES_READ.values(), ids=HISTORIES_READ.keys())
def test_histories_that_only_look_odd(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("histories").write_text(text, encoding="utf-8", newline="")
    assert cli.main(["check-data", "--interactions", "histories", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)["facts"]
    assert (facts["users"], facts["items"], facts["interactions"]) == (3, 5, 12)


def test_ids_that_look_like_numbers_stay_text_from_file_to_recommendation(capsys: pytest.CaptureFixture[str]) -> None:
    ids = ["007", "7", "1e3", "1000", "NaN", "None", "1.0"]
    histories = [(user, " ".join(ids[k:] + ids[:k])) for k, user in enumerate(["007", "7", "NaN", "1e3"])]
    Path("histories").write_text(pairs(histories))
    assert cli.main(["train-rec", "--interactions", "histories", "--model", "popularity"]) == 0
    for user, items in histories:
        capsys.readouterr()
        assert cli.main(["recommend", "--user", user, "--k", "7", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["history"] == items.split()
    assert "unknown id '07'" in refused(capsys, "recommend", "--user", "07")
    assert "unknown id '1E3'" in refused(capsys, "recommend", "--history", "007,1E3")


def test_an_embedding_file_of_another_dimension(capsys: pytest.CaptureFixture[str], write_vectors: Callable[..., None]) -> None:
    for dim in (8, 5):
        write_vectors(Path(f"v{dim}.h5"), "abcde", dim)
    Path("histories").write_text(pairs(GOOD))
    train = ["train-rec", "--interactions", "histories", "--out", "runs/r", *SMALL]
    assert cli.main([*train, "--embeddings", "v8.h5", "--epochs", "1"]) == 0
    capsys.readouterr()
    message = refused(capsys, *train, "--embeddings", "v5.h5", "--epochs", "2", "--resume")
    assert "other item vectors" in message
    assert "start a new run" in message


def test_a_checkpoint_of_another_catalogue(capsys: pytest.CaptureFixture[str]) -> None:
    Path("histories").write_text(pairs(GOOD))
    for name in ("one", "two"):
        assert cli.main(["train-rec", "--interactions", "histories", "--model", "popularity", "--out", name]) == 0
        Path("histories").write_text(pairs(GOOD).replace("a", "z"))
    capsys.readouterr()
    message = refused(capsys, "evaluate", "--run", "one", "--k", "2")
    assert "another catalogue" in message
    assert "Give the interactions it was trained on" in message
    shutil.copy("two/catalogue.parquet", "one/catalogue.parquet")
    ask = ("recommend", "--run", "one", "--history", "b", "--k", "2")
    assert "catalogue.parquet is not the file that the training left" in refused(capsys, *ask)
    info = json.loads(Path("one/run.json").read_text())
    del info["files_sha256"]  # as in a run of before there were hashes of files
    Path("one/run.json").write_text(json.dumps(info))
    assert "mapping hash differs" in refused(capsys, *ask)


def test_a_run_that_is_remembered_and_gone(capsys: pytest.CaptureFixture[str]) -> None:
    Path("histories").write_text(pairs(GOOD))
    for name in ("one", "two"):
        assert cli.main(["train-rec", "--interactions", "histories", "--model", "popularity", "--out", f"runs/{name}"]) == 0
    shutil.rmtree("runs/two")
    capsys.readouterr()
    assert cli.main(["recommend", "--history", "b", "--k", "2", "--json"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["run"] == "runs/one"
    assert "runs/two, is gone; taking runs/one" in captured.err
    shutil.rmtree("runs/one")
    assert "runs/two, is gone; run 'vivim train-rec' again" in refused(capsys, "recommend", "--history", "b", "--k", "2")
