"""A run that is served: the snapshot that answers now, and how a newer one takes its place."""

from collections.abc import Callable

from .snapshot import Snapshot

Load = Callable[[Snapshot | None], Snapshot]


class ServedRun:
    """One run. An answer takes ``snapshot`` once and is made from it alone, whatever comes in the meantime.

    Args:
        name: by which it is asked for.
        load: makes the snapshot of what is there now; it is handed the one before, which it may give back, or use parts of.
    """

    def __init__(self, name: str, load: Load) -> None:
        self.name = name
        self._load = load
        self._snapshot = load(None)

    @property
    def snapshot(self) -> Snapshot:
        return self._snapshot

    def prepared(self) -> Snapshot:
        """The snapshot of what is there now; the one that answers is untouched.

        Raises:
            InputError: it cannot be read.
        """
        return self._load(self._snapshot)

    def swap(self, snapshot: Snapshot) -> bool:
        """Let ``snapshot`` answer from now on; whether that is another one than before."""
        changed = snapshot is not self._snapshot
        self._snapshot = snapshot
        return changed
