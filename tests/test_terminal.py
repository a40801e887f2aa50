"""Progress and results on terminals, pipes and odd terminals."""

import io
import json
import re
import sys
from pathlib import Path

import pytest
from vivim import terminal
from vivim.terminal import Summary, TableOf, TerminalProgress, byte_size, duration, print_error, print_json, program, show


class FakeTerminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


class Clock:
    """Time that passes only when told to."""

    now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(terminal, "time", clock)
    return clock


def test_plain_lines_first_every_five_seconds_and_last(clock: Clock) -> None:
    log = io.StringIO()
    progress = TerminalProgress(log)
    progress.start("extract", 40, "clips")
    for _ in range(40):
        clock.now += 0.5
        progress.advance(note="1 failed" if clock.now > 108 else "")
    progress.finish()
    assert log.getvalue().splitlines() == [
        "extract: 0/40 clips",
        "extract: 10/40 clips, 2.0/s, 15 s left",
        "extract: 20/40 clips, 2.0/s, 10 s left, 1 failed",
        "extract: 30/40 clips, 2.0/s, 5.0 s left, 1 failed",
        "extract: 40/40 clips, 2.0/s, in 20 s, 1 failed",
    ]


def test_many_short_tasks_tell_no_more_than_one_long_one(clock: Clock) -> None:
    log = io.StringIO()
    progress = TerminalProgress(log)
    for epoch in range(1, 13):
        progress.start(f"epoch {epoch}", 2, "batches")
        for _ in range(2):
            clock.now += 0.5
            progress.advance()
        progress.finish()
    assert log.getvalue().splitlines() == [
        "epoch 1: 0/2 batches",
        "epoch 1: 2/2 batches, 2.0/s, in 1.0 s",
        "epoch 6: 2/2 batches, 2.0/s, in 1.0 s",
        "epoch 11: 2/2 batches, 2.0/s, in 1.0 s",
    ]


def test_the_program_is_called_as_it_can_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "vivim"
    script.write_text("")
    script.chmod(0o755)
    monkeypatch.setattr(sys, "argv", [str(script)])
    monkeypatch.setenv("PATH", "")
    assert program() == str(script)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert program() == "vivim"
    monkeypatch.setattr(sys, "argv", ["-c"])
    assert program() == "vivim"


def test_tasks_nest(clock: Clock) -> None:
    log = io.StringIO()
    progress = TerminalProgress(log)
    progress.start("train", 2, "epochs")
    progress.start("epoch 1", 4, "batches")
    clock.now += 2
    progress.advance(4)
    progress.finish()
    progress.advance()
    progress.finish()
    progress.finish()  # one too many is harmless
    progress.advance()
    assert log.getvalue().splitlines()[-1] == "train: 1/2 epochs, 0.5/s, 2.0 s left"


def test_a_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.delenv("NO_COLOR", raising=False)
    screen = FakeTerminal()
    progress = TerminalProgress(screen)
    progress.start("extract", 2, "clips")
    progress.say("a line to keep")
    progress.advance(2, "1 failed")
    progress.finish()
    out = screen.getvalue()
    assert "a line to keep" in out
    assert "2/2 clips" in out
    assert "1 failed" in out
    assert "━" in out
    assert out.count("\x1b[?25l") == out.count("\x1b[?25h") == 1  # the cursor comes back


def test_an_error_brings_the_cursor_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    screen = FakeTerminal()
    progress = TerminalProgress(screen)
    progress.start("extract", 2, "clips")
    progress.close()
    assert screen.getvalue().count("\x1b[?25h") == 1


@pytest.mark.parametrize("width", ["40", "20"])
def test_narrow_terminals(width: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", width)
    screen = FakeTerminal()
    progress = TerminalProgress(screen)
    progress.start("extract", 1000, "clips")
    progress.advance(500, "a note that is much too long for a line of a narrow terminal")
    progress.finish()
    visible = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen.getvalue())
    assert max(len(line) for part in visible.splitlines() for line in part.split("\r")) <= int(width)


def test_a_dumb_terminal_gets_plain_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    screen = FakeTerminal()
    progress = TerminalProgress(screen)
    progress.start("extract", 2, "clips")
    progress.advance(2)
    progress.finish()
    assert "\x1b" not in screen.getvalue()
    assert screen.getvalue().startswith("extract: 0/2 clips\n")


def test_no_color_is_honoured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    screen = FakeTerminal()
    monkeypatch.setattr(sys, "stderr", screen)
    print_error("wrong")
    assert not re.search(r"\x1b\[(3|9)\d", screen.getvalue())


def test_a_log_reader_that_left_does_not_stop_the_work() -> None:
    tried = []

    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            tried.append(text)
            raise BrokenPipeError

    progress = TerminalProgress(Gone())
    progress.start("extract", 2, "clips")
    progress.say("nobody listens")
    progress.finish()
    assert tried == ["extract: 0/2 clips\n"], "it is tried once, and nothing is written after that"


def test_a_summary_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    long = "x" * 200
    table = TableOf("Metrics", ("model", "HR@10", "note"), [("mamba", ".0740 [.0717, .0763]", long), ("knn", ".0581", "")])
    show(Summary("2 models measured", {"models": 2}, [table], ["next: nothing"]), as_json=False)
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines() if line.strip()]
    assert lines[0] == "2 models measured"
    assert lines[1] == "Metrics"
    assert lines[-1] == "next: nothing"
    assert any(line.split()[:1] == ["mamba"] and line.endswith(long) for line in lines)  # nothing is cut or folded
    knn = next(line for line in lines if line.split()[:1] == ["knn"])
    mamba = next(line for line in lines if line.split()[:1] == ["mamba"])
    assert knn.index(".0581") > mamba.index(".0740")  # numbers stand to the right


def test_a_summary_for_machines(capsys: pytest.CaptureFixture[str]) -> None:
    show(Summary("2 models measured", {"models": 2}), as_json=True)
    assert json.loads(capsys.readouterr().out) == {"models": 2}
    with pytest.raises(ValueError, match="not JSON compliant"):
        print_json({"metric": float("nan")})


def test_text_of_other_people_is_shown_not_obeyed(capsys: pytest.CaptureFixture[str]) -> None:
    show(Summary("[bold]title[/bold] \x1b[2J\u202e :smile:", {}, [TableOf("", ("id",), [("a\tb\x07",)])]), as_json=False)
    out = capsys.readouterr().out
    assert out.startswith("[bold]title[/bold] \\x1b[2J\\u202e :smile:\n")
    assert "a\\tb\\x07" in out


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0 s"), (9.94, "9.9 s"), (10, "10 s"), (59.6, "1 min 0 s"), (200, "3 min 20 s"), (3600, "1 h 0 min"), (7500, "2 h 5 min")],
)
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [
        (0, "0 B"),
        (7, "7 B"),
        (1023, "1,023 B"),
        (1024, "1.0 KiB"),
        (10 * 1024, "10 KiB"),
        (3.5 * 2**20, "3.5 MiB"),
        (48 * 2**30, "48 GiB"),
        (2**50, "1,024 TiB"),
    ],
)
def test_byte_size(size_bytes: float, text: str) -> None:
    assert byte_size(size_bytes) == text
