"""What can be wrong with a request, each with a code that does not change.

A message names what was asked, never a path of the machine: it goes to whoever asked.
"""

from typing import ClassVar

from ..errors import InputError, VivimError


class RequestError(InputError):
    """Something in a request that the service cannot answer.

    Attributes:
        code: stable, for programs.
    """

    code: ClassVar[str] = "bad_request"


class UnknownItem(RequestError):
    """An item that no run that is served knows."""

    code = "unknown_item"


class UnknownEvent(RequestError):
    """An event that was never recorded."""

    code = "unknown_event"


class UnknownRun(RequestError):
    """A run that is not served."""

    code = "unknown_run"


class EventConflict(RequestError):
    """The id of an event that was recorded with other content."""

    code = "event_conflict"


class BadId(RequestError):
    """An id that cannot be kept: empty, too long, or not text."""

    code = "bad_id"


class BadTime(RequestError):
    """A time at which nobody can have watched anything."""

    code = "bad_time"


class BadK(RequestError):
    """A list without places."""

    code = "bad_k"


class SearchUnavailable(RequestError):
    """A model whose scores no index can serve."""

    code = "search_unavailable"


class NotReady(VivimError):
    """Something is still being made; ask again later."""

    code: ClassVar[str] = "not_ready"


class LogUnavailable(VivimError):
    """Events cannot be kept or read now. What was not acknowledged is not kept; send it again later, with the same event id."""

    code: ClassVar[str] = "log_unavailable"


class BadClip(RequestError):
    """A clip that somebody sent and that cannot be read, or cannot be added."""

    code = "bad_clip"


class ItemTaken(RequestError):
    """An id that a clip of training has."""

    code = "item_taken"
