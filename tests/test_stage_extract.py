"""The commands' wiring, on clips made here."""

import json
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from vivim import cli, stage_one
from vivim.errors import InputError
from vivim.extract.vivim import Vivim, VivimConfig
from vivim.extract.weights import make_encoder, save_encoder
from vivim.pipeline import load_pipeline
from vivim.store import EmbeddingStore, differences

SMALL = ["--size", "nano", "--frames", "2", "--workers", "1", "--device", "cpu", "--set", "extract.image_size=32"]


def write_clip(path: Path, shade: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as file:
        stream = file.add_stream("mpeg4", rate=8)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        for number in range(8):
            picture = np.full((64, 64, 3), shade, np.uint8)
            picture[:, number * 8 : number * 8 + 8] = 255
            file.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        file.mux(stream.encode())


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory whose ``data/`` holds two clips and a file that is none."""
    monkeypatch.chdir(tmp_path)
    for name, shade in (("007", 0), ("7", 120)):
        write_clip(Path("data/videos") / f"{name}.mp4", shade)
    Path("data/videos/page.mp4").write_text("<html>not found</html>")
    return tmp_path / "data"


def test_extract_finds_the_clips_writes_the_file_and_remembers_it(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["extract", *SMALL]) == 3  # one of three failed, 1 % may
    captured = capsys.readouterr()
    assert captured.out.startswith("2 of 3 clips embedded, 1 failed (1 not_video)")
    assert "random (seed 1)" in captured.out
    assert "more than the 1.0%" in captured.out
    assert captured.err.startswith("extract: 0/3 clips\n")
    assert Path("runs/last_embeddings").read_text() == "embeddings.h5\n"
    store = EmbeddingStore.open("runs/embeddings.h5")
    assert store.ids.ids == ("007", "7")
    assert [failure.id for failure in store.failures] == ["page"]

    assert cli.main(["extract", *SMALL, "--max-fail-rate", "0.5", "--json"]) == 0
    again = json.loads(capsys.readouterr().out)
    assert (again["embedded"], again["unchanged"], again["failed"]) == (0, 2, 1)
    assert again["sha256"] == store.sha256


def test_keyframes_and_strict_reading_reach_rows_and_recipe(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    enough = [*SMALL, "--max-fail-rate", "0.5", "--out"]
    assert cli.main(["extract", *enough, "exact.h5"]) == 0
    assert cli.main(["extract", *enough, "keyframe.h5", "--set", "extract.seek=keyframe"]) == 0
    assert cli.main(["extract", *enough, "strict.h5", "--set", "extract.strict=true"]) == 0
    exact, keyframe, strict = (EmbeddingStore.open(f"{name}.h5") for name in ("exact", "keyframe", "strict"))
    assert keyframe.rows.times_seconds_NT.tolist() == [[0.0, 0.0]] * 2  # eight frames, of which the first is the keyframe
    assert keyframe.rows.short_N.all()
    assert (strict.vectors_ND == exact.vectors_ND).all()
    assert set(strict.rows.decoder) == {"pyav"}
    assert "frames.seek" in {field for field, _, _ in differences(exact.recipe, keyframe.recipe)}
    assert "decoder.strict" in {field for field, _, _ in differences(exact.recipe, strict.recipe)}
    assert "seek" not in exact.recipe.frames
    assert "strict" not in exact.recipe.decoder


def test_another_recipe_is_refused_with_the_fields(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["extract", *SMALL, "--max-fail-rate", "1"]) == 0
    before = Path("runs/embeddings.h5").read_bytes()
    assert cli.main(["extract", *SMALL, "--max-fail-rate", "1", "--frames", "3", "--seed", "2"]) == 2
    err = capsys.readouterr().err
    assert "frames.count: 2 in the file, 3 now" in err
    assert "weights.source: random seed 1" in err
    assert Path("runs/embeddings.h5").read_bytes() == before


def test_weights_of_a_file_are_told_and_recorded(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_encoder(Vivim(VivimConfig.of_size("nano")), Path("mine.safetensors"), licence="CC0")
    anything = ["--weights", "mine.safetensors", "--max-fail-rate", "1", *SMALL[2:]]
    assert cli.main(["extract", *anything, "--size", "b0"]) == 2
    assert (
        "mine.safetensors is of size nano (channels 16, 32, 64, 128; SegFormer layers 1, 1, 1, 1), asked for is b0"
        in capsys.readouterr().err
    )
    assert not Path("runs").exists()
    assert cli.main(["extract", *anything]) == 0  # the file's own size
    lines = capsys.readouterr().out.splitlines()
    recipe = EmbeddingStore.open("runs/embeddings.h5").recipe
    sha256 = recipe.weights["sha256"]
    assert f"The encoder's weights come from mine.safetensors (nano, vivim names, sha256 {str(sha256)[:12]})." in lines
    assert "  licence: CC0" in lines
    assert recipe.encoder["size"] == "nano"
    assert recipe.weights == {"source": "mine.safetensors", "sha256": sha256, "scheme": "vivim", "norm_eps": 1e-5, "licence": "CC0"}
    assert cli.main(["extract", *anything, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["unchanged"] == 2
    assert told["load_report"]["loaded"] == {"patch embeddings and SegFormer layers": 100, "Temporal Mamba Blocks": 76}


def test_kept_frames_make_the_same_file_without_the_videos(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fail = ["--max-fail-rate", "1"]
    assert cli.main(["extract", *SMALL, *fail, "--out", "a.h5"]) == 0
    assert cli.main(["extract", *SMALL, *fail, "--out", "b.h5", "--cache-frames", "frames"]) == 0
    assert Path("a.h5").read_bytes() == Path("b.h5").read_bytes()
    assert cli.main(["extract", *SMALL, *fail, "--out", "a.h5", "--cache-frames", "later"]) == 0  # vectors are there, frames are not
    capsys.readouterr()
    for name in ("007.mp4", "7.mp4", "page.mp4"):
        (data / "videos" / name).unlink()
    for folder in ("frames", "later"):
        assert cli.main(["extract", *SMALL, "--out", f"{folder}.h5", "--from-cache", folder, "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["embedded"] == 2
        a, b = EmbeddingStore.open("a.h5"), EmbeddingStore.open(f"{folder}.h5")
        assert (a.sha256, differences(a.recipe, b.recipe)) == (b.sha256, [])
    assert cli.main(["extract", *SMALL, "--out", "c.h5", "--from-cache", "frames", "--frames", "3"]) == 2
    assert "frames.count: 2" in capsys.readouterr().err


def test_frames_that_stand_as_files_are_a_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from vivim.extract.jpeg import encode_jpegs

    monkeypatch.chdir(tmp_path)
    Path("frames").mkdir()
    pictures = np.stack([np.full((3, 40, 64), 90 * number, np.uint8) for number in (1, 2)])
    for number, file in enumerate(encode_jpegs(pictures, 2), 1):
        Path(f"frames/10034-{number}.jpg").write_bytes(file)
    assert cli.main(["extract", *SMALL, "--from-frames", "frames"]) == 0
    store = EmbeddingStore.open("runs/embeddings.h5")
    assert (store.ids.ids, store.rows.times_seconds_NT.tolist()) == (("10034",), [[1, 2]])


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--from-cache", "a", "--from-frames", "b"], "--from-cache and --from-frames are two places to read from"),
        (["--from-frames", "data/videos", "--cache-frames", "c"], "holds no frames"),
        (["--videos", "data/videos", "--cache-frames", "c", "--engine", "ray"], "with --engine ray they are not"),
        (["--shard", "9/8"], "--shard '9/8' is not allowed; give number/of"),
        (["--from-cache", "nowhere"], "nowhere"),
    ],
)
def test_places_that_do_not_go_together(data: Path, options: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["extract", *SMALL, *options]) == 2
    assert says in capsys.readouterr().err
    assert not list(Path().glob("runs/*.h5*")) and not Path("c").exists()


def test_a_dry_run_says_what_would_be_done_and_does_nothing(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["extract", *SMALL, "--dry-run"]) == 0
    assert capsys.readouterr().out.startswith("3 of 3 clips would be read, ")
    assert not Path("runs").exists()
    assert cli.main(["extract", *SMALL, "--limit", "1"]) == 0
    capsys.readouterr()
    assert cli.main(["extract", *SMALL, "--dry-run", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (sorted(said["todo"]), said["unchanged"], said["total"]) == (["7", "page"], 1, 3)


def test_what_failed_clips_mean_for_the_interactions_is_said(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Three of six interactions are with the clip that is a web page."""
    (data / "x_pairs.tsv").write_text("1\t007 page\n2\tpage 7\n3\tpage 7\n")
    assert cli.main(["extract", *SMALL]) == 3
    assert "The failed clips touch 3 of 6 interactions (50.00%), with 1 item." in capsys.readouterr().out
    assert cli.main(["extract", *SMALL, "--json"]) == 3
    assert json.loads(capsys.readouterr().out)["interactions_touched"] == {"interactions": 3, "share": 0.5, "items": 1}
    (data / "y_pairs.tsv").write_text("1\t7 page\n")
    assert cli.main(["extract", *SMALL]) == 3
    assert "is not known: " in capsys.readouterr().out


def test_health_and_verdict_are_in_the_summary(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["extract", *SMALL, "--max-fail-rate", "1", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["verdict"]["bound"], said["verdict"]["decoders"], said["verdict"]["clips"]) == ("unknown", 1, 3)
    assert (said["health"]["rows"], said["health"]["dim"]) == (2, said["dim"])


def test_thumbnails_and_keyframes_are_options(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from vivim.extract.thumbnails import thumbnail_path

    options = [*SMALL, "--max-fail-rate", "1", "--thumbnails", "thumbs", "--seek", "keyframe", "--strict"]
    assert cli.main(["extract", *options]) == 0
    recipe = EmbeddingStore.open("runs/embeddings.h5").recipe
    assert (recipe.frames["seek"], recipe.decoder["strict"], recipe.decoder["policy"]) == ("keyframe", True, "pyav")
    for id_ in ("007", "7"):
        with av.open(str(thumbnail_path(Path("thumbs"), id_))) as file:
            picture = next(file.decode(video=0)).to_ndarray(format="rgb24")
        assert picture.shape == (64, 64, 3)
    assert len(list(Path("thumbs").rglob("*.webp"))) == 2
    capsys.readouterr()
    assert cli.main(["verify", "--videos", "data/videos"]) == 0, capsys.readouterr()


def test_parts_are_merged_by_a_command(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fail = ["--max-fail-rate", "1"]
    assert cli.main(["extract", *SMALL, *fail, "--out", "one.h5"]) == 0
    for part in ("2/2", "1/2"):
        assert cli.main(["extract", *SMALL, *fail, "--out", "e.h5", "--shard", part]) == 0
    assert "next: vivim merge e.h5, when all 2 parts are done" in capsys.readouterr().out
    assert cli.main(["merge", "e.h5"]) == 0
    assert capsys.readouterr().out.startswith("2 vectors and 1 failed clips of ")
    assert Path("e.h5").read_bytes() == Path("one.h5").read_bytes()
    assert cli.main(["merge", "nothing.h5"]) == 2
    assert "holds no shards" in capsys.readouterr().err


def test_no_clips_is_bad_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["extract", *SMALL]) == 2
    assert "give --videos DIR" in capsys.readouterr().err
    Path("empty").mkdir()
    assert cli.main(["extract", *SMALL, "--videos", "empty"]) == 2
    assert "holds no clips" in capsys.readouterr().err
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("sets", "changed"),
    [
        (["extract.frames.fps=3"], []),  # uniform sampling does not look at it
        (["extract.workers=3", "extract.batch_clips=2", "extract.timeout_seconds=5"], []),
        (["extract.frames.sampler=fps"], ["frames.sampler", "frames.fps"]),
        (["extract.image_size=96", "extract.resize=squash"], ["preprocessing.image_size", "preprocessing.resize"]),
        (["extract.dtype=float32"], ["dtype"]),
        (["extract.precision=bf16-mixed"], ["encoder.precision"]),
        (["extract.encoder.pooling=unified"], ["encoder.pooling", "encoder.dim", "weights.sha256"]),
    ],
)
def test_the_recipe_holds_what_changes_a_vector_and_nothing_else(sets: list[str], changed: list[str]) -> None:
    def recipe(*sets: str) -> object:
        config = load_pipeline(None, ["extract.encoder.size=nano", *sets]).extract
        encoder = make_encoder(config.encoder, seed=1)
        weights = encoder.load_report
        return stage_one.make_recipe(config, encoder, weights)

    assert [name for name, _, _ in differences(recipe(), recipe(*sets))] == changed


def test_a_gpu_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert (stage_one.pick_device("auto"), stage_one.pick_device("cpu")) == ("cpu", "cpu")
    with pytest.raises(InputError, match="torch sees no GPU"):
        stage_one.pick_device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert (stage_one.pick_device("auto"), stage_one.pick_device("cpu"), stage_one.pick_device("cuda")) == ("cuda", "cpu", "cuda")


PAIRS = "u1\t007 7 8\nu2\t7 8 007 9\nu3\t8 9\n"


def test_check_data_describes_what_lies_in_the_data_folder(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (data / "tiny_pairs.tsv").write_text(PAIRS)
    (data / "tiny_titles.csv").write_text("item,title\n007,Bond\n7,Seven\n8,\n9,Nine\n")
    assert cli.main(["check-data", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    facts = report["facts"]
    assert (facts["users"], facts["items"], facts["interactions"], facts["sparsity"]) == (3, 4, 9, 0.25)
    assert (facts["titles"], facts["items with a clip"]) == (4, 2)
    assert "items with a vector" not in facts
    counts = {oddity["kind"]: oddity["count"] for oddity in report["oddities"]}
    assert counts["users too short"] == 1
    assert counts["clips missing"] == 2  # 8 and 9
    assert counts["clips unused"] == 1  # page
    assert report["looked_at"]["videos"] == "data/videos"

    assert cli.main(["check-data"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("3 users, 4 items, 9 interactions, sparsity 25.00%; ")


def test_check_data_counts_the_vectors_made_last(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (data / "tiny_pairs.tsv").write_text(PAIRS)
    assert cli.main(["extract", *SMALL, "--max-fail-rate", "1"]) == 0
    capsys.readouterr()
    assert cli.main(["check-data", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["facts"]["items with a vector"] == 2
    assert cli.main(["check-data", "--json", "--interactions", "data/tiny_pairs.tsv"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert "items with a vector" not in report["facts"]
    assert report["looked_at"]["videos"] == "data/videos"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "give --interactions FILE"),
        ("", "empty"),
        ("user,video_title\nu1,x\n", "no item column"),
    ],
)
def test_check_data_refuses_what_cannot_be_read(
    text: str | None, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("data").mkdir()
    if text is not None:
        Path("data/interactions.csv").write_text(text)
    assert cli.main(["check-data"]) == 2
    assert message in capsys.readouterr().err
