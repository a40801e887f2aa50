"""Places that cannot be written, or cease to be: refused before any work, or a clean stop that loses nothing."""

import errno
import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from vivim.errors import InputError, VivimError
from vivim.extract.clips import find_clips
from vivim.extract.config import ExtractConfig, FramesConfig
from vivim.extract.run import extract_catalogue
from vivim.extract.sources import Source, videos
from vivim.progress import SILENT
from vivim.store import EmbeddingStore, Recipe

HERE = Path(__file__).resolve().parent
CONFIG = ExtractConfig(frames=FramesConfig(count=2), image_size=32, workers=1, batch_clips=1, shard_clips=1)


def recipe(created_at: str = "") -> Recipe:
    made = Recipe(encoder={}, weights={}, frames={"count": 2}, preprocessing={}, dtype="float16", decoder={})
    return made.model_copy(update={"created_at": created_at})


class Mean:
    """The mean of each colour; ``on_clip`` is called with the number of clips seen before each."""

    dim = 3
    device = torch.device("cpu")

    def __init__(self, on_clip=lambda number: None):
        self.on_clip, self.seen = on_clip, 0

    def embed_uint8(self, frames_BTCHW):
        self.on_clip(self.seen)
        self.seen += len(frames_BTCHW)
        return 1 + frames_BTCHW.float().mean((1, 3, 4))


@pytest.fixture
def folder(tmp_path, clips):
    path = tmp_path / "clips"
    path.mkdir()
    for k in range(5):
        clips.write(path / f"c{k}.mp4", 4, picture=lambda _, k=k: np.full((48, 64, 3), 50 * k + 20, np.uint8))
    return path


def extract(folder, out, encoder=None, created_at=""):
    return extract_catalogue(videos(folder, CONFIG), out, CONFIG, encoder or Mean(), recipe(created_at), SILENT)


def in_own_mounts(*commands):
    """Run shell commands where they may mount things that nobody else sees."""
    probe = ["unshare", "--map-root-user", "--mount", "sh", "-c"]
    if shutil.which("unshare") is None or subprocess.run([*probe, "mount -t tmpfs none /mnt"], capture_output=True).returncode != 0:
        pytest.skip("this system mounts nothing for unprivileged users")
    return subprocess.run([*probe, " && ".join(commands)], capture_output=True, text=True, timeout=120)


def test_a_disk_that_is_read_only_is_refused_before_any_work(folder, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    run = f"{sys.executable} {HERE / 'limited_run.py'} {folder} {disk / 'e.h5'} 0"
    done = in_own_mounts(f"mount -t tmpfs none {disk}", f"mount -o remount,ro {disk}", run)
    assert done.returncode == 1, done.stderr
    assert "Read-only file system" in done.stdout
    assert "Choose another --out" in done.stdout


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOTSUP])
def test_a_disk_without_file_locks_is_refused_before_any_work(folder, tmp_path, monkeypatch, code):
    def refuse(descriptor, how):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", refuse)  # no such file system is at hand
    encoder = Mean()
    with pytest.raises(InputError, match="file system without file locks; choose an --out on another disk"):
        extract(folder, tmp_path / "e.h5", encoder)
    assert encoder.seen == 0


def test_a_file_where_a_folder_should_be_and_the_other_way_round(folder, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="Not a directory"):
        extract(folder, tmp_path / "file" / "e.h5")
    (tmp_path / "e.h5").mkdir()
    encoder = Mean()
    with pytest.raises((InputError, VivimError), match=r"e\.h5"):
        extract(folder, tmp_path / "e.h5", encoder)
    assert encoder.seen == 0


def test_a_disk_that_is_too_small_stops_cleanly_and_the_next_run_completes(tmp_path):
    out = tmp_path / "full.json"
    command = [sys.executable, str(HERE.parents[1] / "benchmarks" / "full_disk.py"), "--work", str(tmp_path / "work")]
    done = subprocess.run([*command, "--clips", "6", "--step-kb", "24", "--out", str(out)], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert '"too_small": 0' not in done.stdout


def test_whatever_number_of_files_may_be_open_nothing_is_lost(folder, tmp_path):
    """Too few: an error in words. The next run, without the limit, makes the file of an undisturbed one."""

    def run(name, files):
        command = [sys.executable, str(HERE / "limited_run.py"), str(folder), str(tmp_path / name), str(files)]
        return subprocess.run(command, capture_output=True, text=True, timeout=120)

    assert run("whole.h5", 0).returncode == 0
    expected = (tmp_path / "whole.h5").read_bytes()
    refused = 0
    for files in (8, 14, 20, 26, 32, 64):
        name = f"{files}.h5"
        done = run(name, files)
        assert done.returncode in (0, 1), (files, done.stdout, done.stderr)
        refused += done.returncode
        if done.returncode == 1:
            assert "open files" in done.stdout or "unable to open database file" in done.stdout, done.stdout
            assert run(name, 0).returncode == 0
        assert (tmp_path / name).read_bytes() == expected
    assert 1 <= refused <= 5  # 64 are enough for two decoding processes


def test_files_from_the_future_and_a_clock_that_runs_backwards(folder, tmp_path, clips):
    out = tmp_path / "e.h5"
    for path in folder.iterdir():
        os.utime(path, (4e9, 4e9))
    assert extract(folder, out, created_at="2030-01-01T00:00:00+00:00").embedded == 5
    encoder = Mean()
    extract(folder, out, encoder, created_at="2020-01-01T00:00:00+00:00")
    assert encoder.seen == 0
    clips.write(folder / "c0.mp4", 4, picture=lambda _: np.full((48, 64, 3), 250, np.uint8))
    os.utime(folder / "c0.mp4", (1e9, 1e9))  # changed, and older than before
    assert extract(folder, out, created_at="2010-01-01T00:00:00+00:00").embedded == 1
    store = EmbeddingStore.open(out)
    assert store.vectors_ND[store.ids.ids.index("c0")].min() > 200  # the newer row, whatever the clock said


@pytest.mark.parametrize("what", ["parts", "everything"])
def test_an_output_folder_that_is_deleted_on_the_way_stops_the_run_within_one_shard(folder, tmp_path, what):
    out = tmp_path / "out" / "e.h5"

    def delete(number):
        if number == 2:
            shutil.rmtree(out.parent if what == "everything" else out.with_name("e.h5.parts"))

    encoder = Mean(delete)
    with pytest.raises(VivimError, match="was deleted or replaced"):
        extract(folder, out, encoder)
    assert encoder.seen <= 4
    assert extract(folder, out).embedded == 5


def test_the_order_of_the_clips_does_not_show_in_the_file(folder, tmp_path):
    catalogue = find_clips(folder)
    files = set()
    for number, order in enumerate(([0, 1, 2, 3, 4], [4, 2, 0, 3, 1], [3, 4, 1, 0, 2])):
        mixed = type(catalogue)(tuple(catalogue.refs[k] for k in order), catalogue.failures)
        reader = videos(folder, CONFIG).reader
        out = tmp_path / f"{number}.h5"
        extract_catalogue(Source(mixed, reader), out, CONFIG, Mean(), recipe(), SILENT)
        files.add(out.read_bytes())
    assert len(files) == 1
