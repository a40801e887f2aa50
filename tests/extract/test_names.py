"""Ids and file names of every kind: the same text in the embedding file as in the folder or manifest, or refused, never half."""

import csv
import os
import shutil
import unicodedata
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from vivim.errors import InputError
from vivim.extract.clip import Clip, ClipRef, Failure
from vivim.extract.clips import find_clips, read_manifest
from vivim.extract.decode_pool import DecodePool
from vivim.extract.failures import ClipError
from vivim.extract.reader import ClipReader
from vivim.extract.sampling import Uniform
from vivim.store import EmbeddingStore, FailedClip, Recipe, Rows, write_embeddings

STEMS = [
    "a b",
    "  spaces  ",
    "-rf",
    "--help",
    "'quoted\"",
    "👩‍👧 clip 🎬",
    "שלום",
    "مقطع",
    "100%d",
    "a;b&c|d",
    "$HOME",
    "http:x",
    "C\\d",
    "CON",
    "007",
    "7",
    "1e3",
    "NaN",
    "None",
    "null",
    "NA",
    unicodedata.normalize("NFC", "Ä"),
    unicodedata.normalize("NFD", "Ä"),
    "case",
    "CASE",
    "x" * 251,
    "é" * 125,
]
IDS = [*STEMS, "../../etc/passwd", "/abs", "a/b", ".", "..", "a\\b", "=cmd|' /C calc'!A0", "a,b", "‮evil", "\u2028", " "]


def embed(refs, path, failures=()):
    """Read all clips in decoding processes and write what comes of them: the mean colour, the first six letters' codes."""
    results = list(DecodePool(ClipReader(Uniform(2), image_size=32), workers=1).decode(refs))
    clips = [result for result in results if isinstance(result, Clip)]
    rows = Rows(
        ids=tuple(clip.id for clip in clips),
        vectors_ND=np.stack([1 + clip.frames_TCHW.mean((0, 2, 3)) for clip in clips]).astype(np.float32),
        sha256=tuple(clip.sha256 for clip in clips),
        times_seconds_NT=np.stack([clip.times_seconds for clip in clips]),
        decoder=tuple(clip.decoder for clip in clips),
        short_N=np.array([clip.short for clip in clips]),
    )
    failed = [FailedClip(f.id, f.kind, f.message) for f in (*failures, *(result for result in results if isinstance(result, Failure)))]
    write_embeddings(path, Recipe(encoder={}, weights={}, frames={}, preprocessing={}, dtype="float32", decoder={}), rows, failed)
    return EmbeddingStore.open(path)


def write_manifest(path, rows):
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("id", "path"), *rows])
    return path


def test_names_of_files_come_back_from_the_embedding_file(tmp_path, clips):
    folder = tmp_path / "clips"
    folder.mkdir()
    source = clips.write(tmp_path / "source.mp4", 3)
    for stem in STEMS:
        shutil.copy(source, folder / f"{stem}.mp4")
    store = embed(find_clips(folder).refs, tmp_path / "e.h5")
    assert sorted(store.ids.ids) == sorted(STEMS)
    assert store.failures == ()


def test_ids_of_a_manifest_come_back_from_the_embedding_file_each_with_its_own_clip(tmp_path, clips):
    for k in range(len(IDS)):
        clips.write(tmp_path / f"{k}.mp4", 2, picture=lambda _, k=k: np.full((48, 64, 3), 5 * k + 20, np.uint8))
    manifest = write_manifest(tmp_path / "m.csv", [(id_, f"{k}.mp4") for k, id_ in enumerate(IDS)])
    store = embed(read_manifest(manifest).refs, tmp_path / "e.h5")
    assert sorted(store.ids.ids) == sorted(IDS)
    vectors, found = store.lookup(IDS)
    assert found.all()
    assert np.abs(vectors[:, 0] - [1 + 5 * k + 20 for k in range(len(IDS))]).max() <= 2
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["e.h5", "m.csv", *(f"{k}.mp4" for k in range(len(IDS)))])


@pytest.mark.parametrize("id_", ["", "x\0y", "new\nline", "a\x7fb", "\t"])
def test_ids_that_no_file_can_hold_are_refused_with_the_escaped_id(tmp_path, clips, id_):
    clips.write(tmp_path / "a.mp4", 2)
    with pytest.raises(InputError) as caught:
        read_manifest(write_manifest(tmp_path / "m.csv", [("good", "a.mp4"), (id_, "a.mp4")]))
    assert repr(id_) in str(caught.value)
    assert str(caught.value).isprintable()


def test_a_file_name_with_a_line_break_is_refused_with_the_escaped_name(tmp_path):
    (tmp_path / "new\nline.mp4").touch()
    with pytest.raises(InputError, match=r"'new\\nline'"):
        find_clips(tmp_path)


def test_folders_whose_names_are_no_text_are_entered(tmp_path, clips):
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    folder.mkdir()
    clips.write(tmp_path / "a.mp4", 5).rename(folder / "inner.mp4")
    shutil.copy(folder / "inner.mp4", tmp_path / "outer.mp4")
    (folder / "gone.mp4").symlink_to("nowhere")
    catalogue = find_clips(tmp_path)
    store = embed(catalogue.refs, tmp_path / "e.h5", catalogue.failures)
    assert store.ids.ids == ("inner", "outer")
    assert (store.vectors_ND[0] == store.vectors_ND[1]).all()
    assert store.rows.decoder == ("pyav", "decord")
    assert "a link that leads nowhere: " in store.failures[0].message
    assert "caf\\udce9/gone.mp4" in store.failures[0].message


@pytest.mark.parametrize(
    ("file", "reason"),
    [
        ("x" * 300 + ".mp4", "File name too long"),
        ("y/" * 3000 + "a.mp4", "File name too long"),
        ("a.mp4/b.mp4", "Not a directory"),
        ("x\0y.mp4", "null"),
        ("loop.mp4", "Too many levels of symbolic links"),
        ("lost.mp4", "a link that leads nowhere"),
        ("new\nline.mp4", "not there"),
    ],
)
def test_paths_that_lead_nowhere_cost_one_row(tmp_path, clips, file, reason):
    clips.write(tmp_path / "a.mp4", 2)
    (tmp_path / "loop.mp4").symlink_to("loop.mp4")
    (tmp_path / "lost.mp4").symlink_to("nowhere")
    catalogue = read_manifest(write_manifest(tmp_path / "m.csv", [("good", "a.mp4"), ("bad", file)]))
    assert [ref.id for ref in catalogue.refs] == ["good"]
    (failure,) = catalogue.failures
    assert (failure.id, failure.kind) == ("bad", "missing")
    assert reason in failure.message
    assert failure.message.isprintable()
    (kept,) = embed(catalogue.refs, tmp_path / "e.h5", catalogue.failures).failures
    assert reason in kept.message  # of which the file keeps the beginning


def test_links_lead_out_of_the_folder_but_in_no_circle(tmp_path, clips):
    folder = tmp_path / "clips"
    (folder / "deep").mkdir(parents=True)
    outside = clips.write(tmp_path / "outside.mp4", 2)
    (folder / "linked.mp4").symlink_to(outside)
    os.link(outside, folder / "hard.mp4")
    (folder / "deep" / "up").symlink_to(folder)
    (folder / "a.mp4").symlink_to("b.mp4")
    (folder / "b.mp4").symlink_to("a.mp4")
    (folder / "x.mp4").mkdir()
    catalogue = find_clips(folder)
    assert [ref.id for ref in catalogue.refs] == ["hard", "linked"]
    assert [(f.id, f.kind) for f in catalogue.failures] == [("a", "missing"), ("b", "missing")]


def test_pipes_folders_and_devices_are_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.mp4")
    refs = [ClipRef("pipe", tmp_path / "pipe.mp4"), ClipRef("folder", tmp_path), ClipRef("zero", Path("/dev/zero"))]
    results = list(DecodePool(ClipReader(Uniform(2)), workers=1, timeout_seconds=5.0).decode(refs))
    assert {result.id: result.kind for result in results} == dict.fromkeys(["pipe", "folder", "zero"], "not_video")


@contextmanager
def nobody():
    """Root may read everything, so for a while be someone who may not."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def public(tmp_path):
    """A folder that anyone may enter, whatever pytest does with its own."""
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_uid != os.geteuid() or folder == Path(folder.anchor):
            break
        folder.chmod(0o755)
    return tmp_path


def test_a_clip_that_may_not_be_read_is_missing(public, clips):
    path = clips.write(public / "a.mp4", 2)
    path.chmod(0)
    with nobody(), pytest.raises(ClipError) as caught:
        ClipReader(Uniform(2))(ClipRef("a", path))
    assert caught.value.kind == "missing"
    assert caught.value.message.startswith("Permission denied: ")


def test_a_folder_that_may_not_be_entered(public, clips):
    locked = public / "locked"
    locked.mkdir()
    clips.write(locked / "a.mp4", 2)
    clips.write(public / "b.mp4", 2)
    manifest = write_manifest(public / "m.csv", [("a", "locked/a.mp4"), ("b", "b.mp4")])
    locked.chmod(0)
    try:
        with nobody():
            catalogue = read_manifest(manifest)
            with pytest.raises(InputError, match="locked cannot be read: Permission denied"):
                find_clips(public)
            with pytest.raises(InputError, match=r"inner: Permission denied; give the folder"):
                find_clips(locked / "inner")
    finally:
        locked.chmod(0o755)
    assert [ref.id for ref in catalogue.refs] == ["b"]
    assert catalogue.failures[0].message.startswith("Permission denied: ")
