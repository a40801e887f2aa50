"""Clips of the service: their files, their thumbnails, and new ones that can be recommended at once."""

import shutil
from pathlib import Path

import pytest
from vivim import cli
from vivim.errors import InputError
from vivim.pipeline import load_pipeline
from vivim.progress import SILENT
from vivim.recommend.additions import all_additions
from vivim.recommend.checkpoint import RunFolder
from vivim.serve.doors import Tokens
from vivim.serve.errors import BadClip, BadId, ItemTaken
from vivim.stage_serve import ServeOptions, open_desk

OPERATOR = Tokens(operator="o" * 24)
SMALL = ["--workers", "1", "--device", "cpu"]
FAST = ["--device", "cpu", "--epochs", "1", "--set", "model.d_model=16", "model.layers=1"]


@pytest.fixture(scope="module")
def trained(write_clip, tmp_path_factory):
    """Six clips, their vectors, and runs over ``frozen`` and ``ids``."""
    folder = tmp_path_factory.mktemp("clips")
    (folder / "data/videos").mkdir(parents=True)
    for number in range(6):
        write_clip(folder / f"data/videos/{number}.mp4", number)
    shutil.copy(folder / "data/videos/4.mp4", folder / "like4.mp4")
    lines = [f"u{u}\t{' '.join(str((u + i) % 6) for i in range(4))}" for u in range(12)]
    (folder / "data/ring_pairs.tsv").write_text("\n".join(lines) + "\n")
    where = [f"runs={folder / 'runs'}", f"data.interactions={folder / 'data/ring_pairs.tsv'}"]
    small = ["--size", "nano", "--frames", "2", "--set", "extract.image_size=64", *where]
    assert cli.main(["extract", "--videos", str(folder / "data/videos"), *small, *SMALL]) == 0
    for kind in ("ids", "frozen"):
        assert cli.main(["train-rec", "--items", kind, "--out", str(folder / "runs" / kind), *FAST, *where]) == 0
    return folder


@pytest.fixture
def work(trained, tmp_path, monkeypatch):
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def open_served(work):
    """``open_served(*runs)``: the desk over these runs, and what would be said of it."""
    opened = []

    def open_runs(*names, tokens=OPERATOR):
        where = ["device=cpu", f"data.interactions={work / 'data/ring_pairs.tsv'}", "extract.workers=1"]
        options = ServeOptions(tuple(work / "runs" / name for name in names))
        desk, words = open_desk(load_pipeline(None, where), SILENT, options, tokens)
        opened.append(desk)
        return desk, words

    yield open_runs
    for desk in opened:
        desk.close()
        desk.service.close()


def test_thumbnails_that_lack_are_made_once_and_links_out_of_the_folder_are_not_shown(work, open_served):
    (work / "data/videos/5.mp4").unlink()
    (work / "data/videos/5.mp4").symlink_to(work / "like4.mp4")
    desk, words = open_served("ids")
    assert words[1:3] == ["clips     5, 5 with thumbnails", "          1 not shown: links that lead out of the folder"]
    pictures = sorted((work / "runs").glob("thumbnails-*/*/*.webp"))
    assert len(pictures) == 5
    times = [picture.stat().st_mtime_ns for picture in pictures]
    catalogue = desk.service.catalogue
    assert desk.media.address(catalogue.info("3"), "thumbnail") == f"/media/{catalogue.info('3').row}/thumbnail"
    assert desk.media.address(catalogue.info("5"), "clip") is None
    desk.service.close()
    open_served("ids")
    assert [picture.stat().st_mtime_ns for picture in pictures] == times


def test_a_new_clip_is_recommended_at_once_shown_kept_and_replaced(work, open_served, write_clip):
    desk, _ = open_served("frozen", "ids")
    sent = work / "sent"
    shutil.copy(work / "like4.mp4", sent)
    assert desk.add("new/clip", sent) is False
    sent.unlink()
    scores = {ranked.item: ranked.score for ranked in desk.service.recommend_history(["2", "3"], 7, exclude_seen=False).items}
    assert scores["new/clip"] == pytest.approx(scores["4"], rel=1e-4, abs=1e-5)  # it is the same clip
    assert len(desk.service.recommend_history(["2"], 9, exclude_seen=False, run="ids").items) == 6
    info = desk.service.catalogue.info("new/clip")
    assert desk.media.address(info, "clip") == "/media/6/clip"
    assert desk.media.file("6", "clip").read_bytes() == (work / "like4.mp4").read_bytes()
    assert desk.media.file("6", "thumbnail").read_bytes().startswith(b"RIFF")
    first = desk.media.file("6", "clip")

    write_clip(work / "other.mp4", 99)
    assert desk.add("new/clip", work / "other.mp4") is True
    assert desk.service.catalogue.info("new/clip").row == 6
    assert desk.media.file("6", "clip").read_bytes() == (work / "other.mp4").read_bytes()
    assert not first.exists()
    desk.close()
    desk.service.close()
    again, _ = open_served("frozen", "ids")
    assert again.media.file("6", "clip").read_bytes() == (work / "other.mp4").read_bytes()


def test_what_cannot_be_added_is_refused_and_leaves_nothing(work, open_served):
    desk, _ = open_served("frozen")
    (work / "page").write_text("<html>not found</html>")
    (work / "cut").write_bytes((work / "like4.mp4").read_bytes()[:300])
    before = desk.service.runs["frozen"].snapshot
    for item, file, error in (
        ("new", "page", BadClip),
        ("new", "cut", BadClip),
        ("4", "like4.mp4", ItemTaken),
        ("a\nb", "like4.mp4", BadId),
    ):
        with pytest.raises(error) as told:
            desk.add(item, work / file)
        assert str(work) not in str(told.value)
    assert desk.service.runs["frozen"].snapshot is before
    assert not list((work / "runs/frozen/clips").iterdir())


def test_a_clip_for_which_there_is_no_room_leaves_nothing_and_comes_in_when_there_is(work, open_served, no_file_beyond):
    desk, _ = open_served("frozen")
    assert desk.add("first", work / "like4.mp4") is False
    kept = work / "runs/frozen/clips"
    [first] = kept.iterdir()
    with no_file_beyond(first.stat().st_size - 1), pytest.raises(OSError, match="File too large"):
        desk.add("new", work / "like4.mp4")
    assert list(kept.iterdir()) == [first]
    assert desk.add("new", work / "like4.mp4") is False
    assert len(list(kept.iterdir())) == 2


def test_a_run_that_took_a_clip_keeps_it_though_another_run_could_not_take_it(work, open_served):
    shutil.copytree(work / "runs/frozen", work / "runs/again")
    desk, _ = open_served("frozen", "again")
    runs = [RunFolder.open(work / "runs" / name) for name in ("frozen", "again")]
    with runs[1].locked(), pytest.raises(InputError, match="another run is writing"):
        desk.add("new", work / "like4.mp4")
    assert [len(all_additions(run)) for run in runs] == [1, 0]
    [file] = all_additions(runs[0]).files
    assert Path(file).read_bytes() == (work / "like4.mp4").read_bytes()
    assert desk.add("new", work / "like4.mp4") is True, "it is sent again, and the first run had it"
    assert [all_additions(run).files for run in runs] == [(file,), (file,)]
    assert desk.media.file("6", "clip") == Path(file)


def test_clips_are_added_only_where_there_is_an_operator_and_a_run_that_looks_at_clips(open_served):
    assert open_served("ids")[0].add is None
    assert open_served("frozen", tokens=Tokens())[0].add is None
