"""The page of one viewer: everything on it is text, every picture is inside the file."""

import base64
import re
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path

import av
import numpy as np
import pytest
from vivim.demo.contact_sheet import SheetClip, write_contact_sheet
from vivim.demo.film_strip import encode_jpeg, film_strip
from vivim.demo.render import render_clip
from vivim.demo.world import Category, Motion, Palette, Pattern, WorldClip, WorldConfig

EVIL = '<script>alert("1")</script> & more'


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clip") / "c0000.mp4"
    clip = WorldClip("c0000", "a clip", Category(Palette.EMBER, Pattern.DIAMONDS, Motion.RIGHT), cold=False, appeal=1.0)
    render_clip(WorldConfig(width=72, height=128, seconds=1), clip, 0, path)
    return path


class Page(HTMLParser):
    """Collects tags, attributes and the visible text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.text += data


def pixels_of(jpeg: bytes) -> np.ndarray:
    with av.open(BytesIO(jpeg), format="mjpeg") as container:
        return next(container.decode(video=0)).to_ndarray(format="rgb24")


def test_jpeg_keeps_the_picture() -> None:
    y, x = np.mgrid[:64, :96]
    picture = np.stack([2 * x, 3 * y, 120 + 0 * x], axis=2).astype(np.uint8)
    back = pixels_of(encode_jpeg(picture))
    assert back.shape == picture.shape
    assert np.abs(back.astype(int) - picture).mean() < 4


def test_a_strip_shows_three_different_moments(video: Path) -> None:
    strip = pixels_of(film_strip(video, height=64)).astype(int)
    assert strip.shape == (64, 3 * 36 + 2 * 2, 3)
    first, second, third = strip[:, :36], strip[:, 38:74], strip[:, 76:112]
    assert strip[:, 36:38].mean() > 200  # the gap is light
    assert np.abs(first - second).mean() > 10
    assert np.abs(second - third).mean() > 10


def test_all_text_is_escaped(tmp_path: Path, video: Path) -> None:
    path = tmp_path / "sheet.html"
    clip = SheetClip(EVIL, EVIL, video, score=1.5)
    write_contact_sheet(path, EVIL, [clip], {EVIL: [clip]}, note=EVIL)
    html = path.read_text(encoding="utf-8")
    page = Page(html)
    assert "<script" not in html
    assert "script" not in page.tags
    assert page.text.count(EVIL) == 8  # page title, heading, note, row name, and title and id of two clips
    assert ("alt", f"three frames of {EVIL}") in page.attributes


def test_the_page_needs_nothing_else(tmp_path: Path, video: Path) -> None:
    path = tmp_path / "deep" / "sheet.html"
    write_contact_sheet(path, "v1", [SheetClip("a", "A", video)], {"ids": []})
    html = path.read_text(encoding="utf-8")
    without_pictures = re.sub(r"data:image/jpeg;base64,[A-Za-z0-9+/=]+", "", html)
    assert not re.search(r"https?:|//|@import|url\(|<link|<script", without_pictures)
    source = next(value for name, value in Page(html).attributes if name == "src")
    assert source is not None
    assert pixels_of(base64.b64decode(source.removeprefix("data:image/jpeg;base64,"))).shape[0] == 128
    assert [file.name for file in path.parent.iterdir()] == ["sheet.html"]


def test_ranks_scores_and_marks_are_shown(tmp_path: Path, video: Path) -> None:
    path = tmp_path / "sheet.html"
    next_clip = SheetClip("c7", "Seven", video, score=0.25, watched_next=True, cold=True)
    other = SheetClip("c8", "Eight", video, score=12.5)
    write_contact_sheet(path, "v1", [other, next_clip], {"found": [other, next_clip], "missed": [other]})
    text = Page(path.read_text(encoding="utf-8")).text
    assert "watched next: rank 2" in text
    assert "watched next: not among these 1" in text
    assert "0.25" in text
    assert "12.5" in text
    body = text.partition("</header>")[2] or text
    assert body.count("new clip") == 3  # the legend, the history, one row


def test_a_clip_that_cannot_be_read_is_shown_without_picture(tmp_path: Path) -> None:
    junk = tmp_path / "junk.mp4"
    junk.write_bytes(b"not a video")
    path = tmp_path / "sheet.html"
    write_contact_sheet(path, "v1", [SheetClip("a", "A", junk), SheetClip("b", "B", tmp_path / "missing.mp4")], {})
    page = Page(path.read_text(encoding="utf-8"))
    assert "img" not in page.tags
    assert page.text.count("cannot be read") == 2
