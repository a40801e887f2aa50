"""The pictures of the page and of the report in docs/: the demo world, served, in a headless Chromium.

    vivim demo --out DIR && python benchmarks/pictures.py --demo DIR [--out docs]

What is clicked goes to a log of events that is thrown away, so each time begins with the viewers of the world as they are. The latency
that a picture shows is that of the machine it is taken on. Chromium is Debian's, or the program that CHROMIUM names; playwright and
pillow belong to the development tools (``make test`` installs them). Look at every picture before it is committed.
"""

import argparse
import io
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright
from served import Server

RUNS = ("ids+video", "ids", "frozenvideo")
WIDE, PHONE = {"width": 1440, "height": 900}, {"width": 360, "height": 780}
MOST_BYTES = 400_000


def watched_one(page: Page) -> None:
    """The first recommendation is clicked, and the list follows; the pointer leaves it, so that nothing plays."""
    before = page.locator("#strip .card").count()
    page.locator("#cards .watch").first.click()
    page.wait_for_function("count => document.querySelectorAll('#strip .card').length > count", arg=before)
    page.mouse.move(0, 0)
    page.evaluate("document.activeElement.blur(), scrollTo({ top: 0, behavior: 'instant' })")
    settled(page)


def looks_at_the_list(page: Page) -> None:
    """The same, further down, where a phone shows the list."""
    watched_one(page)
    page.evaluate("scrollBy({ top: document.getElementById('settings').getBoundingClientRect().top - 70, behavior: 'instant' })")
    settled(page)


def plays_beside_popular(page: Page) -> None:
    """Popular clips stand beside, and the second recommendation plays under the pointer."""
    watched_one(page)
    page.get_by_label("Popular beside").check()
    page.locator("#popular .row").first.wait_for()
    page.locator("#cards .card").nth(1).hover()
    page.wait_for_function("() => document.querySelector('#cards video')?.currentTime > 0")


def settled(page: Page) -> None:
    """The list is there, every picture in sight too, and nothing moves any more."""
    page.locator("#cards:not([aria-busy]) .watch").first.wait_for()
    page.wait_for_function("() => [...document.images].every(image => image.complete || image.loading === 'lazy')")
    page.wait_for_timeout(600)


SHOTS: dict[str, tuple[str, dict[str, int], str, Callable[[Page], None]]] = {
    "page-light": ("light", WIDE, "v00007", watched_one),
    "page-dark": ("dark", WIDE, "v00011", plays_beside_popular),
    "page-phone": ("light", PHONE, "v00007", watched_one),
    "page-phone-dark": ("dark", PHONE, "v00011", looks_at_the_list),
}
"""Name -> colours, size of the window, viewer, what happens before the picture is taken."""

OF_REPORT = {"report-light": ("light", "main"), "report-dark": ("dark", "people")}
"""Name -> colours, id of the element at the top of the picture; ``main``: the beginning of the file."""

NAMES = (*SHOTS, "page-away", *OF_REPORT)


def opened(browser: Browser, address: str, scheme: Any, viewport: Any) -> Page:
    """A page in a window of its own, with a time zone and a language that do not hang on the machine."""
    context = browser.new_context(viewport=viewport, color_scheme=scheme, locale="en-GB", timezone_id="Europe/London")
    page = context.new_page()
    page.set_default_timeout(240_000)  # of a busy machine
    page.goto(address)
    return page


def keep(page: Page, file: Path) -> None:
    """Write what is in sight; a picture that would be too large for a repository with 256 colours."""
    png = page.screenshot()
    if len(png) > MOST_BYTES:
        out = io.BytesIO()
        Image.open(io.BytesIO(png)).convert("RGB").quantize(256).save(out, "png", optimize=True)
        png = out.getvalue()
    assert len(png) <= MOST_BYTES, f"{file.name} has {len(png)} bytes"
    file.write_bytes(png)
    page.context.close()


def take_of_page(browser: Browser, demo: Path, out: Path) -> None:
    """The page in every width and colour, and without its service."""
    with tempfile.TemporaryDirectory(prefix="vivim-pictures-") as work:
        more = [option for name in RUNS[1:] for option in ("--run", str(demo / "runs" / name))]
        server = Server(demo / "runs" / RUNS[0], Path(work) / "events.sqlite", Path(work) / "serve.log", *more)
        try:
            address = f"http://127.0.0.1:{server.port()}/"
            for name, (scheme, viewport, viewer, happens) in SHOTS.items():
                page = opened(browser, f"{address}#user={viewer}", scheme, viewport)
                settled(page)
                happens(page)
                keep(page, out / f"{name}.png")
            page = opened(browser, f"{address}#user=v00003", "light", PHONE)
            settled(page)
        finally:
            server.kill(signal.SIGKILL)
        page.locator("#cards .watch").first.click()
        page.get_by_text("The service does not answer.").wait_for()
        page.evaluate("scrollTo(0, 0)")
        page.wait_for_timeout(600)
        keep(page, out / "page-away.png")


def take_of_report(browser: Browser, report: Path, out: Path) -> None:
    """The beginning of a report in light, and its people in the dark."""
    for name, (scheme, top) in OF_REPORT.items():
        page = opened(browser, report.resolve().as_uri(), scheme, WIDE)
        page.wait_for_selector("#map-place canvas", state="attached")
        if top != "main":
            page.evaluate("id => document.getElementById(id).scrollIntoView({ behavior: 'instant' })", top)
        page.wait_for_timeout(600)
        keep(page, out / f"{name}.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--demo", type=Path, required=True, help="what vivim demo --out has left")
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parents[1] / "docs")
    args = parser.parse_args()
    program = os.environ.get("CHROMIUM") or shutil.which("chromium")
    if program is None:
        sys.exit("no Chromium here: apt-get install chromium, or name one in CHROMIUM.")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        take_of_page(browser, args.demo, args.out)
        take_of_report(browser, args.demo / "report.html", args.out)
        browser.close()
    for name in NAMES:
        print(f"{args.out / name}.png: {(args.out / name).with_suffix('.png').stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
