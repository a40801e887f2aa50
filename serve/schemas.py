"""What goes over the wire, as pydantic models: they check requests, and describe answers in the OpenAPI document."""

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any
from urllib.parse import unquote

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from .snapshot import Search

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
_MS = timedelta(milliseconds=1)
_FIRST_MS, _LAST_MS = -62_135_596_800_000, 253_402_300_799_999  # of the years 1 and 9999


def time_ms(text: Any) -> int:
    """RFC 3339 to Unix time in ms.

    Raises:
        ValueError: another format, no time zone, or outside of the years 1 to 9999.
    """
    if not isinstance(text, str) or _RFC3339.fullmatch(text) is None:
        raise ValueError("must be a time of RFC 3339 with its zone, as in 2026-01-31T10:15:00Z")
    # Python keeps six digits of a second.
    ms = (datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", text).upper()) - _EPOCH) // _MS
    if not _FIRST_MS <= ms <= _LAST_MS:
        raise ValueError("must lie in the years 1 to 9999 of UTC")
    return ms


def time_text(ms: int | None) -> str | None:
    """Unix time in ms to RFC 3339 in UTC, ``2026-01-31T10:15:00.250Z``."""
    return None if ms is None else (_EPOCH + ms * _MS).replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"


def _decoded(part: str) -> str:
    """An id from the path, in which ``doors.check_text`` has left slashes and percent signs encoded."""
    return unquote(part)


MOST_ENTRIES = 1000
"""Of one page of users, of a history, or of the catalogue."""

Id = Annotated[str, Field(min_length=1)]
PathId = Annotated[str, AfterValidator(_decoded)]
Time = Annotated[int, BeforeValidator(time_ms, json_schema_input_type=str), WithJsonSchema({"type": "string", "format": "date-time"})]


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class EventIn(_Request):
    """Somebody watched something. ``event_id`` is made by whoever sends it; sent again, the event is the same."""

    item: Id
    event_id: Id
    time: Annotated[Time | None, Field(description="RFC 3339; the server's clock if it is left out.")] = None


class RecommendIn(_Request):
    """A history of somebody whom training need not know, oldest first."""

    history: list[Id]
    k: Annotated[int, Field(ge=1)] = 10
    exclude_seen: bool = True
    search: Search = "exact"
    run: Id | None = None


class Item(BaseModel):
    """An item for people to look at. Addresses are None where there is no file."""

    item: str
    row: int | None
    title: str
    thumbnail: str | None
    media: str | None


class Reason(BaseModel):
    """A clip of the history that is near to a recommended one."""

    item: str
    row: int | None
    title: str
    similarity: float


class Recommended(Item):
    """One place of a list."""

    score: float
    because: list[Reason]


class Took(BaseModel):
    """Milliseconds: of the user's state, of the search, and of both with the waiting before them."""

    state: float
    search: float
    total: float


class Recommendations(BaseModel):
    """The best items, best first, by one model and one index; hashes say which. ``fallback``: what answered in the model's place.
    ``skipped``: items of the history that this run does not know."""

    user: str | None = None
    run: str
    model: str
    index: str
    search: str
    fallback: str | None
    skipped: int
    took_ms: Took
    items: list[Recommended]


class EventOut(BaseModel):
    """An event that is kept. ``late``: it took its place before a newer one. ``removed``: it was taken back, and stays so.
    ``events``: of this user that count."""

    user: str
    event_id: str
    item: str
    time: str | None
    new: bool
    late: bool
    removed: bool
    events: int
    recommendations: Recommendations | None = None


class RemovedOut(BaseModel):
    """An event that is taken back. ``events``: that are left of this user."""

    user: str
    event_id: str
    item: str
    events: int


class Watched(Item):
    """One place of a history. Events of training have no id."""

    time: str | None
    event_id: str | None


class History(BaseModel):
    """Oldest first. ``known``: training or an event knows this user."""

    user: str
    known: bool
    history: list[Watched]


class User(BaseModel):
    """``events``: length of the history, what was watched in training included."""

    user: str
    events: int


class Users(BaseModel):
    """Users by id."""

    users: list[User]


class Items(BaseModel):
    """A page of the catalogue. ``total``: items that match."""

    total: int
    items: list[Item]


class RunOut(BaseModel):
    """A run that is served. ``model`` and ``index`` are hashes."""

    name: str
    kind: str
    items_kind: str
    model: str
    index: str
    items: int
    searches: list[Search]
    default: bool


class Runs(BaseModel):
    """Every run that is served."""

    runs: list[RunOut]


class Version(BaseModel):
    """What answers here."""

    version: str
    runs: list[RunOut]


class Ready(BaseModel):
    """Whether requests can be answered."""

    ready: bool


class ItemAdded(BaseModel):
    """A new clip. It can be recommended from now on."""

    item: str
    replaced: bool


class Error(BaseModel):
    """Why a request was not served."""

    code: str = Field(description="Stable, for programs.")
    message: str = Field(description="For people.")
    request_id: str = Field(description="As in the log of the server.")


class ErrorOut(BaseModel):
    """The body of every answer that is an error."""

    error: Error
