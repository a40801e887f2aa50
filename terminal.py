"""What people see: progress on stderr, results on stdout.

A bar on a terminal; elsewhere (a pipe, a log, ``TERM=dumb``) one plain line every few seconds, with no control codes.
"""

import json
import shutil
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from rich import box
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn
from rich.table import Column, Table
from rich.text import Text

PLAIN_LINE_SECONDS = 5.0


@dataclass(frozen=True)
class TableOf:
    """Rows of text under a title; columns whose cells are all numbers stand to the right."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]

    def __post_init__(self) -> None:
        assert all(len(row) == len(self.columns) for row in self.rows), (self.columns, self.rows)


@dataclass(frozen=True)
class Summary:
    """How a command ends.

    Attributes:
        headline: the answer in one line: "103 of 106 clips embedded, 3 failed; 41 s".
        data: the same for machines, printed by ``--json``; must be JSON.
        tables: printed below the headline.
        notes: lines printed last: paths written, what to run next, warnings.
        exit_code: of the command, when a result is worth printing and yet a failure.
    """

    headline: str
    data: dict[str, Any] = field(default_factory=dict)
    tables: Sequence[TableOf] = ()
    notes: Sequence[str] = ()
    exit_code: int = 0


def show(summary: Summary, *, as_json: bool) -> None:
    """Print a summary to stdout."""
    if as_json:
        print_json(summary.data)
        return
    console = _console(sys.stdout)
    console.print(_clean(summary.headline), style="bold", soft_wrap=True)
    for table in summary.tables:
        _print_table(console, table)
    for note in summary.notes:
        console.print(_clean(note), soft_wrap=True)


def print_json(data: Any) -> None:
    """Print JSON to stdout; NaN and infinity are refused, because JSON has none."""
    sys.stdout.write(json.dumps(data, indent=2, allow_nan=False) + "\n")


def print_text(text: str) -> None:
    """Print text to stdout as it is."""
    sys.stdout.write(text if text.endswith("\n") else text + "\n")


def print_error(text: str) -> None:
    """Print ``error: text`` to stderr."""
    console = _console(sys.stderr)
    console.print(Text.assemble(("error: ", "bold red"), _clean(text)), soft_wrap=True)


def program() -> str:
    """What to type to call this program: ``vivim``, or its path where that is not on the search path, as after ``make demo``."""
    called = Path(sys.argv[0])
    return str(called) if called.name == "vivim" and called.is_file() and shutil.which("vivim") is None else "vivim"


class TerminalProgress:
    """``progress.Progress`` on stderr."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._console = _console(stream or sys.stderr)
        self._tasks: list[_Task] = []
        self._bars: Progress | None = None
        self._last_plain = -PLAIN_LINE_SECONDS

    def start(self, what: str, total: int, unit: str) -> None:
        task = _Task(what, total, unit)
        self._tasks.append(task)
        if not self._live:
            self._plain(task)
            return
        if self._bars is None:
            self._bars = _bars(self._console)
            self._bars.start()
        task.bar = self._bars.add_task(_clean(what).plain, total=total, state="")

    def advance(self, count: int = 1, note: str = "") -> None:
        if not self._tasks:
            return
        task = self._tasks[-1]
        task.done += count
        task.note = note or task.note
        if self._bars is not None and task.bar is not None:
            self._bars.update(task.bar, completed=task.done, state=_clean(task.state()).plain)
        else:
            self._plain(task)

    def finish(self) -> None:
        if not self._tasks:
            return
        task = self._tasks.pop()
        if self._bars is None:
            self._plain(task, force=task.told)
            return
        if task.bar is not None:
            self._bars.update(task.bar, state=_clean(task.state()).plain)
        if not self._tasks:
            self._bars.stop()
            self._bars = None

    def say(self, line: str) -> None:
        self._last_plain = time.monotonic()
        with suppress(BrokenPipeError):  # whoever read the log has left; the work goes on
            self._console.print(_clean(line), soft_wrap=True)

    def close(self) -> None:
        """End every task, also after an error, so that the cursor comes back and the message starts on its own line."""
        if self._bars is not None:
            self._bars.stop()
            self._bars = None
        self._tasks.clear()

    @property
    def _live(self) -> bool:
        return self._console.is_terminal and not self._console.is_dumb_terminal

    def _plain(self, task: "_Task", *, force: bool = False) -> None:
        """A line at most every few seconds, whatever the number of tasks; the end of a task that was spoken of is always told."""
        due = time.monotonic() - self._last_plain >= PLAIN_LINE_SECONDS
        if (task.done, task.note) != task.told_of and (force or due):
            task.told, task.told_of = True, (task.done, task.note)
            self.say(f"{task.what}: {task.state()}")


@dataclass
class _Task:
    what: str
    total: int
    unit: str
    done: int = 0
    note: str = ""
    began: float = field(default_factory=lambda: time.monotonic())
    told: bool = False
    told_of: tuple[int, str] | None = None
    bar: TaskID | None = None

    def state(self) -> str:
        """``12/106 clips, 3.4/s, 28 s left, 3 failed``; a finished task tells its time instead of what is left."""
        seconds = time.monotonic() - self.began
        parts = [f"{self.done:,}/{self.total:,} {self.unit}"]
        if self.done:
            rate = self.done / max(seconds, 1e-9)
            parts.append(f"{rate:,.1f}/s" if rate < 100 else f"{rate:,.0f}/s")
            parts.append(f"{duration((self.total - self.done) / rate)} left" if self.done < self.total else f"in {duration(seconds)}")
        return ", ".join([*parts, *([self.note] if self.note else [])])


def duration(seconds: float) -> str:
    """``0.4 s``, ``41 s``, ``3 min 20 s``, ``2 h 5 min``."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes == 0:
        return f"{rest} s"
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def byte_size(size_bytes: float) -> str:
    """``512 B``, ``3.4 KiB``, ``12 MiB``, ``48 GiB``."""
    unit, *larger = ("B", "KiB", "MiB", "GiB", "TiB")
    while size_bytes >= 1024 and larger:
        size_bytes /= 1024
        unit, *larger = larger
    return f"{size_bytes:.1f} {unit}" if size_bytes < 10 and unit != "B" else f"{size_bytes:,.0f} {unit}"


def _bars(console: Console) -> Progress:
    state = TextColumn("{task.fields[state]}", markup=False, table_column=Column(overflow="ellipsis", no_wrap=True, ratio=1))
    what = TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True, min_width=8))
    columns = [what, state] if console.width < 70 else [SpinnerColumn(), what, BarColumn(bar_width=min(30, console.width // 4)), state]
    return Progress(*columns, console=console, expand=True, refresh_per_second=4, redirect_stdout=False, redirect_stderr=False)


def _print_table(console: Console, table: TableOf) -> None:
    shown = Table(
        title=_clean(table.title) if table.title else None,
        title_justify="left",
        box=box.SIMPLE_HEAD if console.encoding.startswith("utf") else box.ASCII,
        pad_edge=False,
    )
    for place, name in enumerate(table.columns):
        numbers = all(_is_number(row[place]) for row in table.rows)
        shown.add_column(_clean(name), justify="right" if numbers else "left", overflow="fold")
    for row in table.rows:
        shown.add_row(*(_clean(cell) for cell in row))
    if not console.is_terminal:  # a pipe or a file has no width: nothing is folded
        console = _console(console.file, width=10_000)
    console.print(shown)


def _is_number(cell: str) -> bool:
    return not cell or cell.strip("-+.,%~<>=≈ ()[]0123456789e/") in ("", "-", "–")


class _Console(Console):
    def on_broken_pipe(self) -> None:  # rich would end the process
        self.quiet = True
        raise BrokenPipeError


def _console(stream: Any, width: int | None = None) -> Console:
    return _Console(file=stream, width=width, highlight=False, markup=False, emoji=False)


def _clean(text: str) -> Text:
    """Text whose control characters are shown, not obeyed: ids and titles come from files of other people."""
    return Text("".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text))
