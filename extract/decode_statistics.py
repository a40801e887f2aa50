"""What the decoding processes did with their time."""

from dataclasses import dataclass


@dataclass
class DecodeStatistics:
    """Sums over all children and all calls of ``DecodePool.decode``; filled while decoding, readable at any time.

    Attributes:
        workers: children at work side by side in the last call.
        clips: results, of whatever kind.
        worker_seconds: time in which decoding went on, times ``workers``.
        busy_seconds: between handing out a clip and its result.
        blocked_seconds: in which children had nothing to do because no slot was free: the consumer is slower than they are.
        recycled: children that were replaced after ``clips_per_child`` clips.
        died: children that ended by themselves, or said something senseless and were killed.
        overdue: children that were killed at the deadline, or at the limit of processor time.
    """

    workers: int = 0
    clips: int = 0
    worker_seconds: float = 0.0
    busy_seconds: float = 0.0
    blocked_seconds: float = 0.0
    recycled: int = 0
    died: int = 0
    overdue: int = 0

    @property
    def busy_share(self) -> float:
        """Of the children's time, 0..1. What is neither busy nor blocked went into starting them."""
        return self.busy_seconds / self.worker_seconds if self.worker_seconds > 0 else 0.0

    @property
    def blocked_share(self) -> float:
        """Of the children's time, 0..1."""
        return self.blocked_seconds / self.worker_seconds if self.worker_seconds > 0 else 0.0
