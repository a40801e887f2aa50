"""Clips and thumbnails: only what the table holds, and the parts of it that are asked for (items 76 and 77 of the list of faults)."""

import time

import pytest
from vivim.serve.media import MediaFiles

CONTENT = bytes(range(256)) * 40


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "videos").mkdir()
    (tmp_path / "secret.txt").write_text("secret")
    (tmp_path / "videos" / "a.mp4").write_bytes(CONTENT)
    (tmp_path / "videos" / "empty.webm").write_bytes(b"")
    (tmp_path / "videos" / "a.webp").write_bytes(b"RIFF")
    (tmp_path / "videos" / "link.mp4").symlink_to(tmp_path / "secret.txt")
    return tmp_path / "videos"


@pytest.fixture
def api(live, folder):
    files = {
        "i00": MediaFiles(folder / "a.mp4", folder / "a.webp"),
        "i01": MediaFiles(folder / "empty.webm"),
        "i02": MediaFiles(folder / "link.mp4"),
        "i03": MediaFiles(folder / "gone.mp4"),
        "i04": MediaFiles(folder),
    }
    return live(files=files)


def test_a_clip_and_its_thumbnail(api):
    [item] = api.get("/v1/items?query=i00").json()["items"]
    clip, picture = api.get(item["media"]), api.get(item["thumbnail"])
    assert (clip.content, clip.headers["content-type"]) == (CONTENT, "video/mp4")
    assert (picture.content, picture.headers["content-type"]) == (b"RIFF", "image/webp")
    assert clip.headers["accept-ranges"] == "bytes"
    assert "content-disposition" not in clip.headers
    again = api.get(item["media"], headers={"if-none-match": clip.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert clip.headers["etag"] != picture.headers["etag"]


def test_a_head_of_a_clip_tells_its_size_and_sends_nothing(api):
    head = api.head("/media/0/clip")
    assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", str(len(CONTENT)))
    assert api.head("/media/29/clip").status_code == 404
    assert api.head("/").status_code == 200


def test_another_file_has_another_etag(api, folder):
    before = api.get("/media/0/clip").headers["etag"]
    (folder / "a.mp4").write_bytes(CONTENT[::-1])
    after = api.get("/media/0/clip", headers={"if-none-match": before})
    assert (after.status_code, after.content) == (200, CONTENT[::-1])


@pytest.mark.parametrize(
    "path",
    [
        "/media/../../secret.txt",
        "/media/%2e%2e/secret.txt",
        "/media/0/../../../secret.txt",
        "/media/0/%2e%2e%2f%2e%2e%2fsecret.txt",
        "/media/..%2f..%2fsecret.txt/clip",
        "/media//etc/passwd",
        "/media/%2fetc%2fpasswd/clip",
        "/media/0%00/clip",
        "/media/0/clip%00.mp4",
        "/media/0/CLIP",
        "/media/00000000000000000000/clip",
        "/media/-1/clip",
        "/media/+0/clip",
        "/media/%d9%a0/clip",
        "/media/1e0/clip",
        "/media/29/clip",
        "/media/30/clip",
        "/media/999999999/clip",
        "/media/0",
        "/media/",
        "/media/2/clip",
        "/media/3/clip",
        "/media/4/clip",
        "/media/1/thumbnail",
        "/videos/a.mp4",
        "/page/index.html",
        "/../pyproject.toml",
        "/..%2fapi.py",
    ],
)
def test_nothing_else_is_found(api, path):
    answer = api.raw(b"GET " + path.encode() + b" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 404 "), answer[:200]
    assert b"secret" not in answer.partition(b"\r\n\r\n")[2].replace(b"secret.txt", b"")
    assert b"/videos" not in answer


@pytest.mark.parametrize(
    ("range_", "status", "first", "last"),
    [
        ("bytes=0-0", 206, 0, 0),
        ("bytes=0-", 206, 0, 10239),
        ("bytes=100-199", 206, 100, 199),
        ("bytes=-5", 206, 10235, 10239),
        ("bytes=10239-", 206, 10239, 10239),
        ("bytes=5-999999999999", 206, 5, 10239),
        ("bytes=-99999", 206, 0, 10239),
        ("bytes=0-1,4-5", 200, 0, 10239),
        ("bytes=" + ",".join(["0-1"] * 3000), 200, 0, 10239),
        ("bytes=" + "0-," * 3000, 200, 0, 10239),
        ("bytes=10240-", 416, None, None),
        ("bytes=20000-30000", 416, None, None),
        ("bytes=-0", 416, None, None),
        ("bytes=-00", 416, None, None),
        ("bytes=9-5", 200, 0, 10239),
        ("bytes=abc", 200, 0, 10239),
        ("bytes=", 200, 0, 10239),
        ("bytes=--5", 200, 0, 10239),
        ("bytes=1-2-3", 200, 0, 10239),
        ("lines=0-5", 200, 0, 10239),
        ("bytes=" + "9" * 5000 + "-", 200, 0, 10239),
        ("bytes=\xb2-5", 200, 0, 10239),
    ],
)
def test_ranges(api, range_, status, first, last):
    """RFC 9110, 14: a part is exact; what makes no sense is refused, or passed over and the whole is sent."""
    began = time.monotonic()
    answer = api.get("/media/0/clip", headers={"range": range_.encode("latin-1")})
    assert time.monotonic() - began < 2
    assert answer.status_code == status
    if status == 206:
        assert answer.content == CONTENT[first : last + 1]
        assert answer.headers["content-range"] == f"bytes {first}-{last}/{len(CONTENT)}"
    elif status == 416:
        assert answer.headers["content-range"] == f"bytes */{len(CONTENT)}"
        assert api.code(answer)[1] == "range_not_satisfiable"
    else:
        assert answer.content == CONTENT


@pytest.mark.parametrize("range_", ["bytes=0-", "bytes=-5", "bytes=0-0", "bytes=5-"])
def test_ranges_of_an_empty_file(api, range_):
    whole = api.get("/media/1/clip")
    assert (whole.status_code, whole.content, whole.headers["content-type"]) == (200, b"", "video/webm")
    part = api.get("/media/1/clip", headers={"range": range_})
    assert part.status_code == 416
    assert part.headers["content-range"] == "bytes */0"


def test_a_part_of_a_file_that_has_changed_is_the_whole_new_file(api, folder):
    etag = api.get("/media/0/clip").headers["etag"]
    assert api.get("/media/0/clip", headers={"range": "bytes=0-9", "if-range": etag}).status_code == 206
    (folder / "a.mp4").write_bytes(b"new")
    answer = api.get("/media/0/clip", headers={"range": "bytes=0-9", "if-range": etag})
    assert (answer.status_code, answer.content) == (200, b"new")
    assert api.get("/media/0/clip", headers={"range": "bytes=50-", "if-range": etag}).content == b"new"


def test_a_file_that_becomes_a_link_is_not_found(api, folder):
    assert api.get("/media/0/clip").status_code == 200
    (folder / "a.mp4").unlink()
    (folder / "a.mp4").symlink_to(folder.parent / "secret.txt")
    assert api.get("/media/0/clip").status_code == 404
