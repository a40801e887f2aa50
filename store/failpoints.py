"""Named places at which a test may kill or fail this process: before and after every write, sync, rename and commit that must survive it.

``VIVIM_FAILPOINT=shard.renamed:3`` kills the process (SIGKILL) at the third time it gets there; ``...:3:ENOSPC`` raises that error instead.
Nothing happens without the variable.
"""

import errno
import os
import signal
from collections import Counter

VARIABLE = "VIVIM_FAILPOINT"
LOG_VARIABLE = "VIVIM_FAILPOINT_LOG"

_hits: Counter[str] = Counter()


def failpoint(name: str) -> None:
    """Here a test may want this process to end, or to fail."""
    if log := os.environ.get(LOG_VARIABLE):
        with open(log, "a", encoding="utf-8") as file:
            file.write(name + "\n")
    armed = os.environ.get(VARIABLE)
    if not armed:
        return
    wanted, number, *what = armed.split(":")
    if wanted != name:
        return
    _hits[name] += 1
    if _hits[name] == int(number):
        if what:
            raise OSError(getattr(errno, what[0]), os.strerror(getattr(errno, what[0])))
        os.kill(os.getpid(), signal.SIGKILL)
