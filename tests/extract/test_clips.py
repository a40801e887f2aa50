"""Finding clips: ids, twins, links, manifests. No file is opened, so none needs to be a video."""

import os

import pytest
from vivim.errors import InputError
from vivim.extract.clips import EXTENSIONS, find_clips, read_manifest


def touch(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return folder


def ids(catalogue):
    return [ref.id for ref in catalogue.refs]


def test_ids_are_stems_of_clips_in_all_folders_sorted_without_case(tmp_path):
    touch(tmp_path, "b.mp4", "deep/er/A.MKV", "C.webm", "notes.txt", "cover.jpg", ".hidden.mp4", ".cache/x.mp4", "a b.mov")
    (tmp_path / "folder.mp4").mkdir()
    assert ids(find_clips(tmp_path)) == ["A", "a b", "b", "C"]


def test_every_extension_in_any_case(tmp_path):
    touch(tmp_path, *(f"{k:02d}{ext.upper() if k % 2 else ext}" for k, ext in enumerate(sorted(EXTENSIONS))))
    assert len(find_clips(tmp_path)) == len(EXTENSIONS)


@pytest.mark.parametrize("name", ["007", "1e3", "NaN", "None", "-rf", "CON", "'quoted\"", "Ä", "A\u0308", "👩‍👧 clip", "אבג", "x" * 251])
def test_ids_are_opaque_text(tmp_path, name):
    touch(tmp_path, f"{name}.mp4", "other.mp4")
    assert name in ids(find_clips(tmp_path))


def test_twins_are_refused_by_name(tmp_path):
    touch(tmp_path, "a/clip.mp4", "b/clip.mkv")
    with pytest.raises(InputError, match=r"'clip' is .*clip\.m.* and .*clip\.m.*--manifest"):
        find_clips(tmp_path)


def test_case_alone_makes_two_ids(tmp_path):
    touch(tmp_path, "A.mp4", "a.mp4")
    assert ids(find_clips(tmp_path)) == ["A", "a"]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: None, "not there"),
        (lambda p: p.touch(), "not a folder"),
        (lambda p: p.mkdir(), r"holds no clips.*\.mp4"),
        (lambda p: touch(p, "readme.md"), r"holds no clips.*\.webm"),
    ],
)
def test_folders_that_cannot_be_used(tmp_path, make, message):
    make(tmp_path / "videos")
    with pytest.raises(InputError, match=message):
        find_clips(tmp_path / "videos")


def test_a_circle_of_links_ends_and_links_to_files_count(tmp_path):
    touch(tmp_path, "a.mp4")
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "b.mp4").symlink_to(tmp_path / "a.mp4")
    (tmp_path / "gone.mp4").symlink_to(tmp_path / "nowhere.mp4")
    found = find_clips(tmp_path)
    assert ids(found) == ["a", "b"]
    assert [(f.id, f.kind) for f in found.failures] == [("gone", "missing")]
    assert len(found) == 3


def test_a_file_name_that_is_no_text(tmp_path):
    touch(tmp_path, os.fsdecode(b"caf\xe9.mp4"))
    with pytest.raises(InputError, match=r"b'caf\\xe9'.*rename"):
        find_clips(tmp_path)


def manifest(tmp_path, text, encoding="utf-8"):
    path = tmp_path / "manifest.csv"
    path.write_bytes(text.encode(encoding))
    return path


def test_manifest_ids_are_text_and_paths_start_at_its_folder(tmp_path):
    touch(tmp_path, "v/1.mp4", "v/2.bin", "v/3, three.mp4")
    path = manifest(tmp_path, '\ufeffid,path\r\n007,v/1.mp4\r\n\r\n7,v/2.bin\r\n"a,b","v/3, three.mp4"\r\n')
    found = find_clips(tmp_path / "unused", path)
    assert {ref.id: ref.path.name for ref in found.refs} == {"007": "1.mp4", "7": "2.bin", "a,b": "3, three.mp4"}


def test_manifest_absolute_paths_extra_and_swapped_columns(tmp_path):
    touch(tmp_path, "x.mp4")
    path = manifest(tmp_path, f"title,path,id\nhello,{tmp_path / 'x.mp4'},NA\n")
    assert ids(read_manifest(path)) == ["NA"]


def test_manifest_missing_files_and_doubled_ids_cost_only_themselves(tmp_path):
    touch(tmp_path, "1.mp4", "2.mp4", "3.mp4")
    path = manifest(tmp_path, "id,path\na,1.mp4\nb,gone.mp4\nc,2.mp4\nc,3.mp4\nd,1.mp4\nd,1.mp4\n")
    found = read_manifest(path)
    assert ids(found) == ["a", "d"]
    assert [(f.id, f.kind) for f in found.failures] == [("b", "missing"), ("c", "duplicate_id")]
    assert "lines 4 and 5" in found.failures[1].message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must name the columns id,path"),
        ("a,1.mp4\nb,2.mp4\n", "must name the columns id,path"),
        ("id;path\na;1.mp4\n", "must name the columns id,path"),
        ("id,path\n", "lists no clips"),
        ("id,path\nonly-an-id\n", "line 2"),
        ("id,path\na,\n", "line 2"),
        ("id,path\n,1.mp4\n", "empty"),
        ('id,path\n"a\0b",1.mp4\n', "control characters"),
        ('id,path\n"a,1.mp4\n', "cannot be read"),
    ],
)
def test_manifests_that_cannot_be_used(tmp_path, text, message):
    touch(tmp_path, "1.mp4", "2.mp4")
    with pytest.raises(InputError, match=message):
        read_manifest(manifest(tmp_path, text))


def test_manifest_absent_or_in_another_encoding(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        read_manifest(tmp_path / "none.csv")
    with pytest.raises(InputError, match="UTF-8"):
        read_manifest(manifest(tmp_path, "id,path\na,1.mp4\n", "utf-16"))
