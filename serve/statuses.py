"""Which status of HTTP belongs to which error, and what each call may answer with."""

import reprlib
from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import InputError, VivimError
from .asgi import Refusal
from .schemas import ErrorOut

_STATUS = {
    "unknown_item": 404,
    "unknown_event": 404,
    "unknown_run": 404,
    "event_conflict": 409,
    "item_taken": 409,
    "not_ready": 503,
    "log_unavailable": 503,
}

_WORDS = {
    400: "Malformed: not JSON, or not UTF-8.",
    401: "The server asks for a token.",
    403: "A page of another origin, or a token that may not do this.",
    404: "No such item, event, run or file.",
    405: "Another method.",
    408: "The body did not come in time.",
    409: "The id is taken by something else.",
    413: "The body is too large.",
    416: "The file is shorter than where Range begins.",
    421: "The server is not called by this name.",
    422: "Understood, but not allowed; the message says what is.",
    429: "Too many requests; Retry-After says when.",
    431: "The head is too large.",
    503: "Too much to do, or not ready; Retry-After says when.",
    507: "The disk of the server is full.",
}

_ALWAYS = (400, 401, 403, 421, 422, 429, 431, 503)


def errors(*more: int) -> dict[int | str, dict[str, Any]]:
    """For OpenAPI: the statuses that every call may answer with, and ``more``."""
    return {status: {"model": ErrorOut, "description": _WORDS[status]} for status in sorted({*_ALWAYS, *more})}


BODY = (408, 413)
"""Of calls that take a body."""


def of_error(error: VivimError) -> Refusal:
    """How an error of the service is told: by the status of its code, 422 where that has none: understood, and not allowed.

    Errors without a code come from below, where messages name files; these stay in the log.
    """
    status, unnamed = (422, "refused") if isinstance(error, InputError) else (500, "internal")
    code = getattr(error, "code", None)
    if code is None:
        return Refusal(status, unnamed, "this cannot be done; the server's log has the reason, by request id.")
    status = _STATUS.get(code, status)
    return Refusal(status, code, str(error), {"retry-after": "1"} if status == 503 else {})


def words_of(problems: Sequence[Any]) -> str:
    """What pydantic found, in words: where, the value, what is allowed."""
    parts = []
    for problem in problems[:5]:
        where = ".".join(str(part) for part in problem["loc"] if part not in ("body", "query", "path"))
        shown = "" if isinstance(problem.get("input"), Mapping | list) else f" = {ascii(reprlib.repr(problem.get('input')))[1:-1]}"
        parts.append(f"{where}{shown}: {problem['msg'].removeprefix('Value error, ').removeprefix('Input ')}")
    return "; ".join(parts)
