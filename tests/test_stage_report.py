"""report as it is typed, over the three stages of a small rendered world."""

import importlib.util
import json
import shutil

import pytest
from vivim import cli

FAST = ["--device", "cpu", "--set", "model.d_model=8", "model.layers=1", "model.dropout=0", "train.batch=32"]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A folder with clips, histories and titles of a world of 12 clips and 30 viewers."""
    from vivim.demo.render import render_world
    from vivim.demo.viewers import build_world
    from vivim.demo.world import Motion, Palette, Pattern, WorldConfig

    config = WorldConfig(
        clips=12, viewers=30, palettes=(Palette.OCEAN, Palette.EMBER), patterns=(Pattern.NET,), motions=(Motion.LEFT, Motion.RISE),
        width=48, height=80, history_min=4, history_max=6, seconds=0.5,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("world")
    render_world(build_world(config), folder / "data")
    (folder / "data" / "videos" / "page.mp4").write_text("<html>not found</html>")
    return folder


@pytest.fixture(scope="module")
def trained(world):
    """The same with an embedding file, thumbnails and two runs, neither of them measured."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(world)
        small = ["--size", "nano", "--frames", "2", "--workers", "2", "--set", "extract.image_size=32"]
        assert cli.main(["extract", *small, "--max-fail-rate", "0.5", "--thumbnails", "thumbs", "--device", "cpu"]) == 0
        assert cli.main(["train-rec", "--epochs", "2", "--out", "both", *FAST]) == 0
        assert cli.main(["train-rec", "--epochs", "2", "--items", "ids", "--out", "ids", *FAST]) == 0
    return world


def run(capsys, *args):
    code = cli.main(list(args))
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_a_run_over_clips(trained, monkeypatch, capsys):
    monkeypatch.chdir(trained)
    code, out, err = run(capsys, "report", "--run", "both", "--device", "cpu", "--json")
    assert code == 0, err
    told = json.loads(out)
    page = (trained / "both" / "report.html").read_text()
    assert told["size_bytes"] == (trained / "both" / "report.html").stat().st_size
    assert told["pictures"] == len(list((trained / "runs").glob("thumbnails-*/*/*.webp"))) == 12
    assert "has not been measured" in err
    assert "1 failed" in page
    assert "not_video" in page
    assert "Ocean net left" in page
    assert page.count('alt="frame ') == 12 * 2
    assert "Where the time of stage one went" in page
    assert str(trained / "both") in page


def test_thumbnails_that_extraction_left_are_enough(trained, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(trained)
    (trained / "data" / "videos").rename(tmp_path / "away")
    try:
        code, out, _ = run(capsys, "report", "--run", "both", "--thumbnails", "thumbs", "--out", "left.html", "--device", "cpu", "--json")
    finally:
        (tmp_path / "away").rename(trained / "data" / "videos")
    assert code == 0
    assert json.loads(out)["pictures"] == 12
    page = (trained / "left.html").read_text()
    assert "The clips are not here" in page


def test_thumbnails_beside_the_interactions_are_found(trained, monkeypatch, capsys, tmp_path):
    """Those of another place are not: half as many are there, and nothing is decoded."""
    monkeypatch.chdir(trained)
    files = sorted((trained / "thumbs").glob("*/*.webp"))[:6]
    for file in files:
        target = trained / "data" / "thumbnails" / file.parent.name / file.name
        target.parent.mkdir(parents=True)
        target.write_bytes(file.read_bytes())
    try:
        _, out, _ = run(capsys, "report", "--run", "ids", "--out", "few.html", "--device", "cpu", "--set", "report.decode=0", "--json")
    finally:
        shutil.rmtree(trained / "data" / "thumbnails")
    assert json.loads(out)["pictures"] == 6


def test_a_run_of_ids_says_what_it_lacks(trained, monkeypatch, capsys):
    monkeypatch.chdir(trained)
    code, out, _ = run(
        capsys, "report", "--run", "ids", "--out", "ids.html", "--device", "cpu", "--set", "report.decode=3", "report.viewers=2"
    )
    assert code == 0
    assert "ids.html written" in out
    page = (trained / "ids.html").read_text()
    assert "This run looks at no stored vectors (items: ids)." in page
    assert "the vectors that the model learned" in page


@pytest.mark.filterwarnings("ignore::ImportWarning")  # umap looks for tensorflow, which it can do without
@pytest.mark.skipif(importlib.util.find_spec("umap") is None, reason="umap-learn is not installed")
def test_the_map_is_drawn_by_umap_if_that_is_asked_for(trained, monkeypatch, capsys):
    monkeypatch.chdir(trained)
    asked = ["--out", "umap.html", "--device", "cpu", "--set", "report.map=umap", "report.viewers=0", "report.sheet=0", "report.decode=0"]
    code, _, err = run(capsys, "report", "--run", "both", *asked)
    assert code == 0, err
    assert "UMAP" in (trained / "umap.html").read_text()


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--run", "nowhere"], "not a run"),
        (["--run", "ids", "--out", "data"], "is a folder"),
        (["--run", "ids", "--out", "other.h5/report.html"], "cannot be a folder for the report"),
        (["--run", "both", "--embeddings", "other.h5"], "does not hold the vectors"),
        (["--run", "ids", "--embeddings", "other.h5"], "was not trained on a file of vectors"),
        (["--run", "ids", "--interactions", "few_pairs.tsv"], "another catalogue"),
        (["--run", "ids", "--interactions", "longer_pairs.csv"], "another protocol card"),
    ],
)
def test_what_does_not_fit_is_refused(trained, monkeypatch, capsys, write_vectors, args, words):
    monkeypatch.chdir(trained)
    write_vectors(trained / "other.h5", [f"c{k:04d}" for k in range(12)])
    (trained / "few_pairs.tsv").write_text("1\ta b c d\n2\tb c d e\n")
    lines = (trained / "data" / "demo_pairs.csv").read_text().splitlines()
    again = f"{lines[1].rpartition(',')[0]},{int(lines[-1].rpartition(',')[2]) + 1}"
    (trained / "longer_pairs.csv").write_text("\n".join([*lines, again]) + "\n")
    code, _, err = run(capsys, "report", "--device", "cpu", *args)
    assert code == 2
    assert words in err


def test_a_report_for_which_there_is_no_room_is_told_and_leaves_nothing(trained, monkeypatch, capsys, no_file_beyond):
    monkeypatch.chdir(trained)
    asked = ["--out", "none/none.html", "--device", "cpu", "--set", "report.viewers=0", "report.sheet=0", "report.decode=0"]
    with no_file_beyond(100_000):  # the map's own script is more
        code, _, err = run(capsys, "report", "--run", "ids", *asked)
    assert code == 2
    assert "none.html cannot be written: File too large. Make room there" in " ".join(err.split())
    assert list((trained / "none").iterdir()) == []
