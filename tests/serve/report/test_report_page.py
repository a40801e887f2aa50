"""The report in a real browser, opened from disk."""

from pathlib import Path

import numpy as np
import pytest


@pytest.fixture(scope="module")
def report(looking, tmp_path_factory) -> Path:
    from vivim.extract.thumbnails import thumbnail_webp
    from vivim.progress import SILENT
    from vivim.serve.report.config import ReportConfig
    from vivim.serve.report.facts import measure
    from vivim.serve.report.page import page
    from vivim.serve.report.pictures import Album, Frames, Pictures

    noise = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    pictures = Pictures(lambda id_: thumbnail_webp(noise), {"i00": Frames(np.stack([noise, noise]), np.array([0.0, 1.5]))})
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(page(looking, measure(looking, ReportConfig(), 1, SILENT), Album(pictures, 10.0)), encoding="utf-8")
    return path


@pytest.fixture
def visit(browser, report):
    """``visit(width, scheme)`` is the report opened; console errors, requests and dialogs are kept with it."""
    contexts = []

    def opened(width=1440, scheme="light", motion="no-preference"):
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, reduced_motion=motion)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(120_000)  # of a busy machine
        page.heard = []
        page.on("console", lambda message: page.heard.append(message.text) if message.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: page.heard.append(str(error)))
        page.on("dialog", lambda dialog: (page.heard.append("dialog"), dialog.dismiss()))
        page.asked = []
        page.on("request", lambda request: page.asked.append(request.url))
        page.goto(report.as_uri())
        page.wait_for_selector("#map-place canvas", state="attached")
        return page

    yield opened
    for context in contexts:
        context.close()


@pytest.mark.parametrize("width", [360, 1440])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_opens_from_disk_quietly_and_fits(visit, report, width, scheme):
    page = visit(width, scheme)
    assert page.heard == []
    assert {url for url in page.asked if not url.startswith(("data:", "blob:"))} == {report.as_uri()}
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    broken = page.evaluate("[...document.images].filter(image => !image.naturalWidth).length")
    assert broken == 0
    assert page.locator("section").count() == 9


def test_pointing_at_the_map_shows_a_picture_and_a_title(visit):
    page = visit()
    place = page.locator("#map-place")
    place.scroll_into_view_if_needed()
    where = page.evaluate(
        """() => {
          const view = Object.values(Bokeh.index.roots ?? Bokeh.index)[0];
          const source = view.model.renderers[0].data_source;
          const row = source.data.id.indexOf("i01");
          const box = view.canvas_view ? view.canvas_view.el.getBoundingClientRect() : view.el.getBoundingClientRect();
          return [box.x + view.frame.x_scale.compute(source.data.x[row]), box.y + view.frame.y_scale.compute(source.data.y[row])];
        }"""
    )
    page.mouse.move(where[0] - 30, where[1] - 30)
    page.mouse.move(*where, steps=4)
    tip = page.locator(".tip").first
    tip.wait_for()
    assert "</script><b>bold</b>" in tip.inner_text()
    assert tip.locator("img").evaluate("image => image.naturalWidth") > 0
    assert page.heard == []


def test_keyboard_alone_reaches_sections_and_strips(visit):
    page = visit(360)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    for _ in range(5):
        page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.getAttribute('href')") == "#extraction"
    page.keyboard.press("Enter")
    assert page.evaluate("location.hash") == "#extraction"
    strip = page.locator("[aria-label^='History of user']").first
    strip.focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_function("element => element.scrollLeft > 0", arg=strip.element_handle())


@pytest.mark.parametrize("width", [360, 1440])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(visit, width, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
    found = axe.Axe().run(visit(width, scheme)).response["violations"]
    assert [(v["id"], [n["target"] for n in v["nodes"]][:3]) for v in found if v["impact"] in ("serious", "critical")] == []


@pytest.mark.parametrize("width", [360, 1440])
def test_letters_twice_as_large_still_fit(visit, width):
    page = visit(width)
    sizes = "['h2', 'td', '.item .title', 'figcaption'].map(of => parseFloat(getComputedStyle(document.querySelector(of)).fontSize))"
    before = page.evaluate(sizes)
    page.evaluate("document.documentElement.style.fontSize = '200%'")
    assert page.evaluate(sizes) == [2 * size for size in before]
    assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize(("motion", "behaviour"), [("reduce", "auto"), ("no-preference", "smooth")])
def test_without_motion_links_jump_instead_of_gliding(visit, motion, behaviour):
    page = visit(motion=motion)
    assert page.evaluate("getComputedStyle(document.documentElement).scrollBehavior") == behaviour
    page.locator("nav a[href='#origin']").click()
    page.wait_for_function("() => document.getElementById('origin').getBoundingClientRect().top < innerHeight")
    if motion == "reduce":
        assert page.evaluate("document.getAnimations().length") == 0
