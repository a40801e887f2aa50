"""How long work tells what it is doing: one interface, told by every room, shown by the command line.

Rooms receive a ``Progress`` and never print. ``cli`` passes a ``TerminalProgress`` (rich bar on a
terminal, one plain line every few seconds elsewhere); tests and libraries pass ``SILENT``.
"""

from typing import Protocol


class Progress(Protocol):
    """What a room may say while it works."""

    def start(self, what: str, total: int, unit: str) -> None:
        """Begin a task of ``total`` units, for example ``start("extract", 106, "clips")``."""

    def advance(self, count: int = 1, note: str = "") -> None:
        """``count`` more units are done; ``note`` is a short state such as ``"3 failed"``."""

    def finish(self) -> None:
        """End the task begun last."""

    def say(self, line: str) -> None:
        """One line worth keeping in a log."""


class SilentProgress:
    """Says nothing."""

    def start(self, what: str, total: int, unit: str) -> None:
        pass

    def advance(self, count: int = 1, note: str = "") -> None:
        pass

    def finish(self) -> None:
        pass

    def say(self, line: str) -> None:
        pass


SILENT = SilentProgress()
