"""vivim index on clips made here: a new clip is recommendable at once, a broken one is named."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
from vivim import cli
from vivim.errors import InputError
from vivim.extract.config import EncoderConfig
from vivim.extract.weights import make_encoder, save_encoder
from vivim.pipeline import load_pipeline
from vivim.progress import SILENT
from vivim.recommend.additions import read_additions
from vivim.recommend.checkpoint import RunFolder
from vivim.recommend.recommender import Recommender
from vivim.stage_index import ClipIndex, add_clips

SMALL = ["--workers", "1", "--device", "cpu"]
FAST = ["--device", "cpu", "--epochs", "2", "--set", "model.d_model=16", "model.layers=1", "train.lr=0.01", "items.min_coverage=0.1"]


@pytest.fixture(scope="module")
def trained(write_clip: Callable[[Path, int], None], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory: six clips, their vectors by random nano at 64 px (seed 3), runs over ``frozen`` and ``ids``."""
    folder = tmp_path_factory.mktemp("work")
    (folder / "data/videos").mkdir(parents=True)
    (folder / "more").mkdir()
    for number in range(6):
        write_clip(folder / f"data/videos/{number}.mp4", number)
    shutil.copy(folder / "data/videos/4.mp4", folder / "more/like 4.mp4")
    write_clip(folder / "more/other.mp4", 99)
    (folder / "more/page.mp4").write_text("<html>not found</html>")
    lines = [f"u{u}\t{' '.join(str((u + i) % 6) for i in range(4))}" for u in range(12)]
    (folder / "data/ring_pairs.tsv").write_text("\n".join(lines) + "\n")
    where = [f"runs={folder / 'runs'}", f"data.interactions={folder / 'data/ring_pairs.tsv'}"]
    small = ["--size", "nano", "--frames", "2", "--seed", "3", "--set", "extract.image_size=64", *where]
    assert cli.main(["extract", "--videos", str(folder / "data/videos"), *small, *SMALL]) == 0
    for kind in ("ids", "frozen"):
        out = ["--items", kind, "--out", str(folder / "runs" / kind)]
        assert cli.main(["train-rec", *out, *FAST, *where]) == 0
    return folder


@pytest.fixture
def work(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Path:
    """A copy that may be added to, as the working directory."""
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    capsys.readouterr()
    return tmp_path / "runs/frozen"


def test_a_clip_is_added_recommended_listed_and_removed(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["index", "add", "more/like 4.mp4", "more/other.mp4", "--run", str(work), *SMALL]) == 0
    out = capsys.readouterr().out
    assert out.startswith("2 of 2 clips can be recommended now\n")
    assert "answers with 2 items more than it was trained on" in out
    recommender = Recommender.open(work)
    assert recommender.items.ids == ("0", "1", "2", "3", "4", "5", "like 4", "other")
    scores = dict(recommender.top_k(recommender.state(["2", "3"]), 8, exclude_seen=False))
    assert scores["like 4"] == pytest.approx(scores["4"], rel=1e-4, abs=1e-5)  # the same clip, stored in float16 like the catalogue's
    assert abs(scores["other"] - scores["4"]) > 1e-3

    assert cli.main(["recommend", "--run", str(work), "--history", "2,like 4", "--k", "6", "--json", "--device", "cpu"]) == 0
    assert {found["item"] for found in json.loads(capsys.readouterr().out)["recommendations"]} == {"0", "1", "3", "4", "5", "other"}

    assert cli.main(["index", "list", "--run", str(work), "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)["items"]
    assert [(found["item"], Path(found["file"]).name) for found in listed] == [("like 4", "like 4.mp4"), ("other", "other.mp4")]

    assert cli.main(["index", "remove", "like 4", "--run", str(work)]) == 0
    assert capsys.readouterr().out.startswith("1 items removed, 1 added ones are left")
    assert Recommender.open(work).items.ids == ("0", "1", "2", "3", "4", "5", "other")


def test_a_broken_clip_is_named_and_the_others_are_added(
    work: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cli.main(["index", "add", "more", "--run", str(work), "--json", *SMALL]) == 3
    told = json.loads(capsys.readouterr().out)
    assert told["added"] == ["like 4", "other"]
    assert [(failure["id"], failure["kind"]) for failure in told["failures"]] == [("page", "not_video")]
    assert read_additions(RunFolder.open(work))[0] == ("like 4", "other")
    shutil.copy("more/page.mp4", "more/page 2.mp4")
    monkeypatch.setattr("vivim.stage_index.FAILURES_SHOWN", 1)
    assert cli.main(["index", "add", "more", "--run", str(work), "--replace", *SMALL]) == 3
    assert "1 more clips cannot be read; --json lists all" in capsys.readouterr().out
    assert cli.main(["index", "add", "more", "--run", str(work), "--replace", "--max-fail-rate", "0.5", *SMALL]) == 0
    assert read_additions(RunFolder.open(work))[0] == ("like 4", "other")


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["add"], "name the clips to add"),
        (["add", "absent.mp4"], "absent.mp4 is not there"),
        (["add", "data/videos/3.mp4"], "are in the catalogue"),
        (["add", "more/other.mp4", "copy/other.mp4"], "have one id, 'other'"),
        (["add", "more/other.mp4", "--run", "runs/ids"], "are ids alone"),
        (["add", "more/other.mp4", "--weights", "some.safetensors"], "Leave --weights"),
        (["remove"], "name the items to remove"),
        (["remove", "nothing"], "'nothing' was not added"),
    ],
)
def test_bad_input_changes_nothing(work: Path, capsys: pytest.CaptureFixture[str], args: list[str], says: str) -> None:
    shutil.copytree("more", "copy")
    run = [] if "--run" in args else ["--run", str(work)]
    assert cli.main(["index", *args, *run, *(SMALL if args[0] == "add" else ["--device", "cpu"])]) == 2
    assert says in capsys.readouterr().err
    assert read_additions(RunFolder.open(work))[0] == ()


def test_vectors_that_cannot_be_made_here_are_refused_with_the_fields(work: Path) -> None:
    info = json.loads((work / "run.json").read_text())
    info["embeddings"]["recipe"]["decoder"]["av"] = "1.2.3"
    info["embeddings"]["recipe"]["preprocessing"]["mean"] = [0, 0, 0]
    (work / "run.json").write_text(json.dumps(info))
    with pytest.raises(InputError) as told:
        ClipIndex(RunFolder.open(work), load_pipeline(None, ["device=cpu"]))
    assert f"decoder.av: 1.2.3 in the run, {av.__version__} now" in str(told.value)
    assert "preprocessing.mean: [0, 0, 0] in the run" in str(told.value)


def test_a_service_adds_clips_under_any_id_with_an_encoder_that_is_loaded_once(work: Path) -> None:
    pipeline = load_pipeline(None, ["device=cpu", "extract.workers=1"])
    index = ClipIndex(RunFolder.open(work), pipeline)
    odd = "../ünïcode, 1/2"
    assert index.add({odd: Path("more/other.mp4")}, SILENT).ids == (odd,)
    assert index.add({"again": Path("more/other.mp4")}, SILENT).total == 2
    ids, vectors = read_additions(RunFolder.open(work))
    assert ids == (odd, "again")
    np.testing.assert_array_equal(vectors[0], vectors[1])
    with pytest.raises(InputError, match="--replace"):
        add_clips(RunFolder.open(work), {odd: Path("more/other.mp4")}, pipeline, SILENT)
    with pytest.raises(InputError, match="control characters"):
        index.add({"a\nb": Path("more/other.mp4")}, SILENT)
    failed = index.add({"page": Path("more/page.mp4")}, SILENT)
    assert (failed.ids, [failure.kind for failure in failed.failures], failed.total) == ((), ["not_video"], 2)


def test_end_to_end_a_new_clip_goes_through_the_encoder_that_the_run_trained(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reading = ["extract.frames.count=2", "extract.image_size=64", "extract.workers=1", "items.end_to_end.lr=0.01"]
    kind = ["--items", "end-to-end", "--size", "nano", "--videos", "data/videos"]
    out = work.parent / "end-to-end"
    assert cli.main(["train-rec", *kind, "--out", str(out), *FAST, *reading, "train.epochs=1"]) == 0
    assert cli.main(["index", "add", "more/like 4.mp4", "more/other.mp4", "--run", str(out), *SMALL]) == 0
    recommender = Recommender.open(out)
    scores = dict(recommender.top_k(recommender.state(["2", "3"]), 8, exclude_seen=False))
    assert scores["like 4"] == pytest.approx(scores["4"], rel=1e-3, abs=1e-4)
    assert abs(scores["other"] - scores["4"]) > 1e-3
    # Other weights are not the run's.
    shutil.copy(out / "encoder.safetensors", "trained.safetensors")
    assert cli.main(["index", "add", "more/other.mp4", "--run", str(work), "--weights", "trained.safetensors", *SMALL]) == 2
    assert "random weights (seed 3)" in capsys.readouterr().err


def test_weights_from_a_file_must_be_the_ones_of_the_run(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seed in (3, 4):
        save_encoder(make_encoder(EncoderConfig(size="nano"), seed), Path(f"seed-{seed}.safetensors"))
    small = ["--weights", "seed-3.safetensors", "--frames", "2", "--set", "extract.image_size=64", "--out", "of-file.h5"]
    assert cli.main(["extract", "--videos", "data/videos", *small, *SMALL]) == 0
    assert cli.main(["train-rec", "--items", "ids+frozen", "--embeddings", "of-file.h5", "--out", "runs/of-file", *FAST]) == 0
    capsys.readouterr()
    add = ["index", "add", "more/other.mp4", "--run", "runs/of-file", *SMALL]
    assert cli.main(add) == 2
    assert "say where they are with --weights" in capsys.readouterr().err
    assert cli.main([*add, "--weights", "seed-4.safetensors"]) == 2
    assert "they are other weights" in capsys.readouterr().err
    Path("seed-3.safetensors").rename("renamed.safetensors")
    assert cli.main([*add, "--weights", "renamed.safetensors"]) == 0
    assert Recommender.open(Path("runs/of-file")).items.ids[-1] == "other"
