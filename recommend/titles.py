"""Titles of items, for people to read."""

import re
from pathlib import Path
from typing import NamedTuple

from ..errors import InputError
from .readers import SYNONYMS
from .tables import load_bytes

_TITLE_NAMES = ("title", "titles", "title_en", "name", "caption")
_MOST_LINES = 50


class Titles(NamedTuple):
    """``by_id``: item id -> title, which may be empty. ``repeated``: ids with a second line, whose first title was kept."""

    by_id: dict[str, str]
    repeated: tuple[str, ...]


def read_titles(path: Path | str) -> Titles:
    """Read ``item,title`` lines in UTF-8, with or without a header, separated by the first comma or tab of the line.

    Titles may be quoted or not, hold commas and, if quoted, line breaks. A quote that is never closed is taken as text (the
    titles of MicroLens-1M have some), so one bad line costs at most itself.

    Raises:
        InputError: no such file, not text, or a line without separator.
    """
    path = Path(path)
    data, _ = load_bytes(path)
    try:
        lines = [line.removesuffix("\r") for line in data.decode("utf-8").split("\n")]
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InputError(f"{path}: line {line} is not UTF-8; convert the file, for example with iconv.") from error
    comma, tab = lines[0].find(","), lines[0].find("\t")
    delimiter = "\t" if tab >= 0 and (comma < 0 or tab < comma) else ","
    start = 1 if _is_header(lines[0].split(delimiter)) else 0
    numeric = all(line.partition(delimiter)[0].isdigit() for line in lines[start : start + 20] if line)
    new_record = re.compile(rf"\d+{delimiter}") if numeric else re.compile(rf"[^{delimiter}\s]+{delimiter}")
    by_id: dict[str, str] = {}
    repeated: list[str] = []
    at = start
    while at < len(lines):
        id_, found, title = lines[at].partition(delimiter)
        used = 1
        if lines[at].strip():
            if not found or not id_:
                raise InputError(
                    f"{path}: line {at + 1} is {lines[at][:60]!r}; expected an item id, a {'tab' if tab >= 0 else 'comma'} and a title."
                )
            title, used = _unquote(title, lines, at, new_record)
            repeated += [_bare(id_)] if _bare(id_) in by_id else []
            by_id.setdefault(_bare(id_), title)
        at += used
    return Titles(by_id, tuple(repeated))


def _is_header(cells: list[str]) -> bool:
    names = [_bare(cell.strip()).lower() for cell in cells]
    return names[0] in SYNONYMS["item"] or (len(names) > 1 and names[1] in _TITLE_NAMES)


def _bare(cell: str) -> str:
    return cell[1:-1] if len(cell) >= 2 and cell[0] == cell[-1] == '"' else cell


def _unquote(title: str, lines: list[str], at: int, new_record: re.Pattern[str]) -> tuple[str, int]:
    """The title that starts in line ``at``, and how many lines it takes."""
    if not title.startswith('"'):
        return title.strip(), 1
    whole = title
    for used in range(1, _MOST_LINES):
        if whole.count('"') % 2 == 0 and whole.rstrip().endswith('"'):
            return whole.strip()[1:-1].replace('""', '"').strip(), used
        following = at + used
        if following >= len(lines) or new_record.match(lines[following]):
            break
        whole += "\n" + lines[following]
    return title.strip(), 1
