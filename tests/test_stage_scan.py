"""The command scan, on clips and interactions made here, and on real ones."""

import json
import re
from pathlib import Path

import av
import numpy as np
import pytest
from vivim import cli, stage_scan
from vivim.store import EmbeddingStore
from vivim.terminal import TableOf

SMALL = ["--size", "nano", "--frames", "2", "--workers", "1", "--device", "cpu", "--set", "extract.image_size=32"]


def write_clip(path: Path, frames: int = 16) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as file:
        stream = file.add_stream("mpeg4", rate=8)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(frames):
            picture = np.full((48, 64, 3), 10 * number, np.uint8)
            file.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        file.mux(stream.encode())


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory whose ``data/`` holds three clips and a file that is none."""
    monkeypatch.chdir(tmp_path)
    for name in ("007", "7", "spare"):
        write_clip(Path("data/videos") / f"{name}.mp4")
    Path("data/videos/9.mp4").write_text("<html>not found</html>")
    return tmp_path / "data"


def scan(capsys: pytest.CaptureFixture[str], *args: str, code: int = 0) -> dict:  # type: ignore[type-arg]
    assert cli.main(["scan", *SMALL, *args, "--json"]) == code
    return json.loads(capsys.readouterr().out)


def test_scan_finds_the_clips_says_what_is_wrong_and_writes_nothing(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["scan", *SMALL, "--no-timing"]) == 3  # one of four failed, 1 % may
    out = capsys.readouterr().out
    assert re.match(r"3 of 4 clips can be read, 1 cannot \(1 not_video\); 6\.0 s of film, \d+(\.\d)? KiB\n", out)
    assert re.search(r"9 +not_video +it looks like a web page", out)
    assert "1 of 4 clips failed (1 not_video), more than the 1.0% that --max-fail-rate allows." in out
    assert "clips/s" not in out and "interactions" not in out
    assert out.endswith("next: vivim extract\n")
    assert not Path("runs").exists()
    assert cli.main(["scan", *SMALL, "--no-timing", "--max-fail-rate", "0.25"]) == 0


def test_the_facts_as_data(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = scan(capsys, "--no-timing", code=3)
    assert [said[key] for key in ("total", "readable", "unreadable", "film_seconds")] == [4, 3, 1, 6.0]
    assert (said["container"], said["codec"], said["frame_sizes"]) == ({"mov": 3}, {"mpeg4": 3}, {"64x48": 3})
    assert said["duration_seconds"]["median"] == 2.0
    assert [(failure["id"], failure["kind"]) for failure in said["failures"]] == [("9", "not_video")]
    assert (said["forecast"], said["coverage"], said["sampled"]) == (None, None, [])
    assert said["frame_cache_bytes"] == 3 * 2 * 32 * 32 * 3
    assert (said["size"], said["device"]) == ("nano", "cpu")
    assert "random (seed 1)" in said["weights"]


def test_interactions_are_found_and_counted(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (data / "tiny_pairs.tsv").write_text("u1\t007 7 8\nu2\t7 8 007 9\nu3\t8 9\n")
    covered = scan(capsys, "--no-timing", code=3)["coverage"]
    assert (covered["items"], covered["interactions"]) == (4, 9)
    assert covered["readable"] == {"items": 2, "interactions": 4, "ids": ["007", "7"]}
    assert covered["missing"] == {"items": 1, "interactions": 3, "ids": ["8"]}
    assert covered["unreadable"] == {"items": 1, "interactions": 2, "ids": ["9"]}
    assert covered["unwatched"] == {"clips": 1, "ids": ["spare"]}
    assert cli.main(["scan", *SMALL, "--no-timing"]) == 3
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "with a clip 2 4 44.4% 007, 7" in lines
    assert "without a clip 1 3 33.3% 8" in lines
    assert "clip cannot be read 1 2 22.2% 9" in lines
    assert "clip nobody watched 1 spare" in lines


def test_a_manifest_needs_no_folder_and_its_missing_files_are_missing_clips(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_clip(Path("a.mp4"))
    Path("ids.csv").write_text("id,path\n1,a.mp4\n2,gone.mp4\n")
    Path("who.csv").write_text("user,item\nu,1\nu,2\nv,1\n")
    said = scan(capsys, "--manifest", "ids.csv", "--interactions", "who.csv", "--no-timing", code=3)
    assert (said["readable"], said["failures"][0]["kind"]) == (1, "missing")
    assert (said["coverage"]["missing"]["ids"], said["coverage"]["unreadable"]["ids"]) == (["2"], [])


def test_time_is_predicted_from_clips_that_are_read(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("data/videos/9.mp4").unlink()
    assert cli.main(["scan", *SMALL, "--sample", "2"]) == 0
    out = capsys.readouterr().out
    assert re.match(r"3 of 3 clips can be read; 6\.0 s of film, .*; extraction takes about .* s( \(.* to .*\))?, (de|en)code-bound\n", out)
    assert re.search(r"timed sample +2 clips", out)
    assert re.search(r"decoding +[\d.,]+ clips/s with 1 workers", out)
    assert re.search(r"encoding +[\d.,]+ clips/s, nano on cpu", out)
    said = scan(capsys)
    assert sorted(said["sampled"]) == ["007", "7", "spare"]
    found = said["forecast"]
    assert found["low_seconds"] == found["seconds"] == found["high_seconds"]  # every clip was in the sample
    assert not Path("runs").exists()

    assert cli.main(["extract", *SMALL]) == 0
    # Three rows are dwarfed by what every file has; what is predicted is what grows.
    assert said["embedding_file_bytes"] == 3 * (5 + 240 * 2 + 64 + 2 * 8 + 6 + 1)
    assert len(EmbeddingStore.open("runs/embeddings.h5")) == 3


def test_clips_that_only_decoding_shows_to_be_broken(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = Path("data/videos/spare.mp4")
    content = bytearray(path.read_bytes())
    begin = content.index(b"mdat") + 4
    end = content.index(b"moov") - 4
    content[begin:end] = bytes(byte ^ 0x55 for byte in content[begin:end])
    path.write_bytes(content)
    assert scan(capsys, "--no-timing", code=3)["readable"] == 3
    assert cli.main(["scan", *SMALL, "--max-fail-rate", "0.5"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("2 of 4 clips can be read, 2 cannot (1 not_video, 1 decode_error)")
    assert "1 of the 3 clips that were really read cannot be decoded" in out
    assert "about 33% of the others" in out


def test_nothing_readable_is_no_crash(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in Path("data/videos").iterdir():
        path.write_text("text")
    assert cli.main(["scan", *SMALL]) == 3
    assert capsys.readouterr().out.startswith("0 of 4 clips can be read, 4 cannot (4 not_video); 0.0 s of film, 0 B\n")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--videos", "nowhere"], "nowhere: not there"),
        (["--interactions", "nowhere.csv"], "nowhere.csv"),
        (["--weights", "nowhere.safetensors"], "nowhere.safetensors"),
        (["--sample", "0"], "--sample"),
    ],
)
def test_bad_input_is_told_before_any_clip_is_opened(
    data: Path, options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["scan", *SMALL, *options]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert "scan:" not in captured.err


def test_a_full_disk_and_a_busy_machine_are_told(data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(stage_scan, "_free_bytes", lambda runs: 100)
    monkeypatch.setattr(stage_scan.os, "getloadavg", lambda: (1000.0, 0.0, 0.0))
    assert cli.main(["scan", *SMALL, "--sample", "1", "--max-fail-rate", "1"]) == 0
    out = capsys.readouterr().out
    assert "WARNING: too little disk is free at runs/" in out
    assert "Other work kept this machine busy (load 1000 on" in out


def test_tables_fit_a_terminal_of_80_columns(data: Path) -> None:
    from vivim.extract.headers import Header
    from vivim.extract.scan import Scan
    from vivim.recommend.coverage import Coverage, Part

    headers = tuple(
        Header(f"{k:06d}", 10**7, "matroska,webm", "mpeg2video", 1080, 1920, 4000, 100.0 * k, True, 90, 10, True, True) for k in range(2000)
    )
    part = Part(tuple(header.id for header in headers), 10**9)
    tables = [
        *stage_scan._clip_tables(Scan(headers, ())),
        stage_scan._coverage_table(Coverage(1_140_000, 10**9, part, part, part, part.ids, "x")),
    ]
    assert [widest(table) for table in tables if widest(table) > 80] == []


def widest(table: TableOf) -> int:
    columns = zip(table.columns, *table.rows, strict=True)
    return sum(max(map(len, column)) + 3 for column in columns)


@pytest.mark.shared
def test_real_clips_with_their_interactions(
    shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = shared_data / "microlens-50k"
    videos, pairs = folder / "MicroLens-50k_videos", folder / "MicroLens-50k_pairs.tsv"
    said = scan(capsys, "--videos", str(videos), "--interactions", str(pairs), "--no-timing")
    assert (said["readable"], said["codec"], said["frame_sizes"]) == (3, {"hevc": 3}, {"1280x720": 3})
    covered = said["coverage"]
    assert (covered["items"], covered["interactions"]) == (19_220, 359_708)
    assert covered["readable"] == {"items": 3, "interactions": 43 + 19 + 2, "ids": ["1002", "10034", "10040"]}
    assert (covered["missing"]["items"], covered["unwatched"]["clips"]) == (19_217, 0)
