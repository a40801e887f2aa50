"""Every command on a page is accepted by the command line; every shipped YAML is read; every link leads somewhere."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from vivim import cli
from vivim.pipeline import load_pipeline
from vivim.strict_yaml import read

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
SKIP = {".venv", "build", "runs", "data", "node_modules"}


def fenced_lines(page: Path) -> Iterator[str]:
    """Lines inside code fences, continuation lines joined."""
    for block in re.findall(r"^```[^\n]*\n(.*?)^```", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL):
        yield from block.replace("\\\n", " ").splitlines()


def commands(page: Path) -> Iterator[list[str]]:
    for line in fenced_lines(page):
        words = shlex.split(line, comments=True) if re.match(r"(\S*/)?(vivim|make)\s", line) else []
        if words:
            yield [words[0].rpartition("/")[2], *words[1:]]


VIVIM = [(page.name, words[1:]) for page in PAGES for words in commands(page) if words[0] == "vivim"]
MAKE = [(page.name, target) for page in PAGES for words in commands(page) if words[0] == "make" for target in words[1:]]


def test_the_pages_have_commands() -> None:
    assert {"extract", "train-rec", "evaluate", "recommend", "check-data", "doctor"} <= {
        words[0] for page, words in VIVIM if page == "README.md"
    }
    assert ("README.md", ["evaluate", "--k", "10", "20"]) in VIVIM
    assert {target for page, target in MAKE if page == "README.md"} == {"demo", "test"}


@pytest.mark.parametrize(("page", "words"), VIVIM, ids=[f"{page}: vivim {' '.join(words)}" for page, words in VIVIM])
def test_a_command_of_a_page_is_accepted(
    page: str, words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main([*words, "--print-config"]) == 0, capsys.readouterr().err


@pytest.mark.parametrize(("page", "target"), MAKE)
def test_a_make_target_of_a_page_exists(page: str, target: str) -> None:
    assert re.search(rf"^{re.escape(target)}:", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)


def shipped_yaml() -> list[Path]:
    """But those of suites, which have a form and a test of their own."""
    skip = SKIP | {"typings", "suites"}
    return sorted(path for path in ROOT.rglob("*.y*ml") if not skip & set(path.relative_to(ROOT).parts))


@pytest.mark.parametrize("path", shipped_yaml(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_shipped_yaml_is_read(path: Path) -> None:
    assert load_pipeline(path).model_fields_set == read(path).keys()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    targets = [target for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text("utf-8")) if "://" not in target]
    assert [target for target in targets if not (page.parent / target).exists()] == []


def test_the_exit_codes_on_the_pages_are_the_codes_of_the_errors() -> None:
    from vivim import errors

    codes = {kind.exit_code for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.VivimError)}
    for name in ("README.md", "docs/cli.md"):
        listed = {int(code) for code in re.findall(r"^\| (\d+) \|", (ROOT / name).read_text("utf-8"), flags=re.MULTILINE)}
        assert codes | {0} <= listed
