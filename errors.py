"""Every error that a user can cause, and the exit code of each.

    VivimError                 1   something of ours went wrong, in words
    ├── InputError             2   bad input: file, option, id, config key
    │   ├── RecipeMismatch     2   an embedding file was made another way
    │   └── MissingExtra       2   an optional package is absent; names the install command
    ├── TooManyFailures        3   more clips failed than --max-fail-rate allows
    ├── VerificationFailed     4   an embedding file does not hold what its clips give
    └── Interrupted          130   stopped by the user; what is finished is saved

A message says what was wrong (the value), what is allowed, and what to do.
"""


class VivimError(Exception):
    """Root of all errors that the command line prints without a traceback."""

    exit_code = 1


class InputError(VivimError):
    """Bad input: a file, an option, an id or a config key."""

    exit_code = 2


class RecipeMismatch(InputError):
    """An embedding file was made with another recipe than the one asked for."""


class MissingExtra(InputError):
    """An optional package is absent.

    ``MissingExtra("tensorboard", extra="viz", why="tensorboard: true")`` names the install command.
    """

    def __init__(self, package: str, *, extra: str, why: str) -> None:
        super().__init__(f"{why} needs {package}, which is not installed. Install it with: pip install 'vivim[{extra}]'")


class TooManyFailures(VivimError):
    """More clips failed than ``--max-fail-rate`` allows; everything that succeeded is kept."""

    exit_code = 3


class VerificationFailed(VivimError):
    """An embedding file does not hold what its clips give: rows stand in the wrong place, or are something else."""

    exit_code = 4


class Interrupted(VivimError):
    """Stopped by Ctrl-C or SIGTERM; what is finished is saved, and the message says how to go on."""

    exit_code = 130
