"""Tables on the pages of docs/ that are made from result files."""

import re
from pathlib import Path


def markdown_table(rows: list[list[str]]) -> list[str]:
    """Lines of Markdown; the first row is the header."""
    header, *body = (f"| {' | '.join(row)} |" for row in rows)
    return [header, f"|{'---|' * len(rows[0])}", *body]


def between(name: str) -> re.Pattern[str]:
    """What stands between the markers ``<!-- NAME:begin -->`` and ``<!-- NAME:end -->``, each on a line of its own."""
    return re.compile(rf"(?<=<!-- {name}:begin -->\n).*?(?=<!-- {name}:end -->)", re.DOTALL)


def replace(page: Path, name: str, lines: list[str]) -> None:
    """Put ``lines`` between the markers of a page, which must be there once."""
    text, count = between(name).subn(lambda _: "\n".join(lines), page.read_text("utf-8"))
    assert count == 1, f"{page} has no markers {name}"
    page.write_text(text, encoding="utf-8")
