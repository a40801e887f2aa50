"""The pictures in docs/ can be made anew, and docs show those that are made."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def pictures(monkeypatch):
    pytest.importorskip("playwright.sync_api", reason="no playwright here: pip install playwright")
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import pictures

    return pictures


def test_every_picture_is_shown_in_the_docs_and_none_is_too_large(pictures):
    text = "".join((ROOT / "docs" / f"{page}.md").read_text("utf-8") for page in ("serve", "report"))
    assert set(re.findall(r"((?:page|report)-[a-z-]+)\.png", text)) == set(pictures.NAMES)
    for name in pictures.NAMES:
        assert (ROOT / "docs" / f"{name}.png").stat().st_size <= pictures.MOST_BYTES


def test_pictures_of_the_page_are_taken_in_every_width_and_colour(pictures, browser, world, tmp_path, monkeypatch):
    from PIL import Image

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(pictures, "SHOTS", {name: pictures.SHOTS[name] for name in ("page-light", "page-phone-dark")})
    pictures.take_of_page(browser, world, tmp_path)
    shades = {}
    for name, size in (("page-light", (1440, 900)), ("page-phone-dark", (360, 780)), ("page-away", (360, 780))):
        with Image.open(tmp_path / f"{name}.png") as image:
            assert image.size == size
            shades[name] = sum(image.convert("RGB").getpixel((2, size[1] - 3))) / 3
    assert shades["page-light"] > 200
    assert shades["page-phone-dark"] < 50
