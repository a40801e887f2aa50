"""How many files a process may have open, in words."""

import errno
import resource
from collections.abc import Iterator
from contextlib import contextmanager

from ..errors import VivimError


@contextmanager
def file_limit_explained() -> Iterator[None]:
    """An error for want of file descriptors says what to do.

    Raises:
        VivimError: too many files are open, here or in the whole system.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.EMFILE, errno.ENFILE):
            raise
        allowed = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        raise VivimError(
            f"too many open files: this process may open {allowed}, and each decoder takes some. Allow more with `ulimit -n 1024`, "
            "or use fewer workers. What was done is kept; run the same command again to go on."
        ) from error
