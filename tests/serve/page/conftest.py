"""A real Chromium, before a real `vivim serve` over the small rendered world."""

import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

START_SECONDS = 120
HOSTILE = "<img src=x onerror=alert(1)>"
RIGHT_TO_LEFT = "سلسلة طبخ سريعة 🍜"
NEUTRAL_RUN = "ids+video"


@dataclass
class Server:
    """A `vivim serve` process; `kill` and `start` again keep its address."""

    command: list[str]
    folder: Path
    port: int
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def start(self) -> None:
        code = "import sys; from vivim.cli import main; raise SystemExit(main(sys.argv[1:]))"
        log = (self.folder / f"serve-{self.port}.log").open("ab")
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, *self.command, "--port", str(self.port)], cwd=self.folder, stdout=log, stderr=log
        )
        log.close()
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                with urllib.request.urlopen(self.url + "readyz", timeout=1) as answer:
                    if answer.status == 200:
                        return
            except OSError:
                time.sleep(0.05)
        said = (self.folder / f"serve-{self.port}.log").read_text()
        self.stop()
        pytest.fail(f"the server did not start:\n{said}")

    def stop(self, sign: int = signal.SIGTERM) -> None:
        if self.process is not None:
            self.process.send_signal(sign)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
            self.process = None


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@contextmanager
def _serving(folder: Path, *options: str) -> Iterator[Server]:
    server = Server(["serve", *options], folder, free_port())
    server.start()
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="session")
def serving() -> Callable[..., AbstractContextManager[Server]]:
    """``with serving(folder, *options) as server``: a `vivim serve` process that works in ``folder``."""
    return _serving


@pytest.fixture(scope="package")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The quick demo world, trained; the first clips by id have titles that a page may trip over."""
    from vivim.demo.run import run_demo_world
    from vivim.progress import SILENT

    out = tmp_path_factory.mktemp("page")
    run_demo_world(out, seed=0, device="cpu", quick=True, progress=SILENT)
    titles = out / "world" / "titles.csv"
    lines = titles.read_text("utf-8").splitlines()
    for at, title in ((1, HOSTILE), (2, RIGHT_TO_LEFT)):
        lines[at] = f'{lines[at].split(",")[0]},"{title}"'
    titles.write_text("\n".join(lines) + "\n", "utf-8")
    return out


@pytest.fixture(scope="package")
def server(world: Path) -> Iterator[Server]:
    """Three runs of the world, with clips and thumbnails."""
    runs = [option for name in (NEUTRAL_RUN, "ids", "frozenvideo") for option in ("--run", str(world / "runs" / name))]
    with _serving(world, *runs, "--videos", str(world / "world" / "videos"), "--events", str(world / "events.sqlite")) as one:
        yield one


@dataclass
class Visit:
    """A page that is looked at, and all that went wrong on it."""

    page: Any
    origin: str
    console: list[str] = field(default_factory=list)
    elsewhere: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    dialogs: list[str] = field(default_factory=list)

    def watch(self) -> None:
        self.page.on("console", lambda said: self.console.append(said.text) if said.type in ("error", "warning") else None)
        self.page.on("pageerror", lambda error: self.console.append(str(error)))
        self.page.on("request", lambda request: None if request.url.startswith(self.origin) else self.elsewhere.append(request.url))
        self.page.on("response", lambda answer: self.failed.append(f"{answer.status} {answer.url}") if answer.status >= 400 else None)
        self.page.on("dialog", lambda dialog: (self.dialogs.append(dialog.message), dialog.dismiss()))
        # What the policy of the page forbids is told to the document before anything of the page runs.
        self.page.add_init_script(
            """window.forbidden = [];
            addEventListener('securitypolicyviolation', event => forbidden.push(`${event.violatedDirective} ${event.blockedURI}`));"""
        )

    @property
    def complaints(self) -> list[str]:
        return [*self.console, *self.elsewhere, *self.failed, *self.dialogs, *self.page.evaluate("window.forbidden")]

    def items(self, of: str) -> list[str]:
        """Ids of the clips in a list of the page."""
        return list(self.page.locator(f"{of} .card, {of} .row").evaluate_all("cards => cards.map(card => card.clip.item)"))

    def settle(self) -> None:
        """Until the list is there and a click counts again: right after a change it may be the end of a double click."""
        self.page.locator("#cards:not([aria-busy]) .watch").first.wait_for()
        self.page.wait_for_timeout(400)

    def watch_first(self) -> str:
        """Click the first recommendation; its id."""
        first = self.items("#cards")[0]
        self.page.locator("#cards .watch").first.click()
        self.page.wait_for_function("item => document.querySelector('#strip li:last-child .card')?.clip.item === item", arg=first)
        return first


@pytest.fixture
def visit(browser: Any, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[..., Visit]]:
    """``visit(path="", origin=the world's server, **context)`` opens a page; its last picture is left in the test's folder."""
    contexts = []

    def open_page(path: str = "", origin: str | None = None, before: Callable[[Any], None] | None = None, **context: Any) -> Visit:
        origin = origin or request.getfixturevalue("server").url
        contexts.append(browser.new_context(**{"viewport": {"width": 1440, "height": 900}, "locale": "en-GB", **context}))
        page = contexts[-1].new_page()
        page.set_default_timeout(30_000)  # of a busy machine
        one = Visit(page, origin)
        one.watch()
        if before is not None:
            before(page)
        page.goto(origin + path)
        return one

    yield open_page
    name = re.sub(r"\W+", "-", request.node.name)
    for context in contexts:
        for number, page in enumerate(context.pages):
            page.screenshot(path=tmp_path / f"{name}-{number}.png")
        context.close()


@pytest.fixture
def new_viewer(request: pytest.FixtureRequest) -> str:
    """A name that nobody had before: what tests record does not meet."""
    return f"{request.node.name}-{time.monotonic_ns()}"


@pytest.fixture(scope="session")
def odd_titles() -> tuple[str, str]:
    """Titles of the first two clips of the world: markup, and Arabic with an emoji."""
    return HOSTILE, RIGHT_TO_LEFT
