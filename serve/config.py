"""What can be chosen for the service."""

from typing import Literal

from pydantic import Field

from ..settings import Settings
from .http_config import HttpConfig

Ann = Literal["ivf", "hnsw", "none"]


class ServeConfig(Settings):
    """How a run answers people.

    Attributes:
        max_users: states of users that are kept in memory, the newest used; others are made anew from their histories when asked for.
        check_every: of the answers from a kept state, every so many-th is compared with one that is made from the whole history.
        ann: FAISS index behind ``search=ann``: ``ivf``, ``hnsw``, or ``none``.
        cores: that one answer may use at once. More than one pays for large catalogues, if the machine has some to spare.
        because: clips of the history that are named as reasons of a recommended one.
        max_id: characters of an id.
        max_future_seconds: how far ahead of the clock the time of an event may lie.
        http: limits of the server.
    """

    max_users: int = Field(4096, ge=1)
    check_every: int = Field(1000, ge=1)
    ann: Ann = "ivf"
    cores: int = Field(1, ge=1)
    because: int = Field(3, ge=0)
    max_id: int = Field(512, ge=1)
    max_future_seconds: float = Field(86400.0, ge=0)
    http: HttpConfig = HttpConfig()
