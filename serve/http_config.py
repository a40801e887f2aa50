"""What the HTTP side of the service allows: where it listens, how much it takes, how long it waits."""

from pydantic import Field

from ..settings import Settings


class HttpConfig(Settings):
    """Limits of the server. A request beyond one is refused with a status that says which, never served in part.

    Attributes:
        host: address to listen at; another one than a loopback address asks for a token.
        port: 0 takes a free one.
        hosts: further names by which the server may be asked for, beside loopback names and the address of the connection.
        allow_origin: pages of other origins, as ``https://example.org``, that may call it from a browser.
        body_kib: size of a request's body, KiB.
        clip_mib: size of a clip that an operator sends, MiB.
        history: items of a history in one request.
        k: recommendations in one answer.
        concurrency: requests that are worked on at once; as many again of clips and thumbnails.
        connections: open at once.
        rate: requests per second of one address, of all who hold the token together, and of the operator; 0: any number.
        burst: requests at once, before ``rate`` counts.
        header_seconds: in which the head of a request must have come.
        body_seconds: in which its body must have come.
        clip_seconds: in which a clip must have come.
        stall_seconds: that a client may take nothing of an answer.
        keep_alive_seconds: that a connection without a request stays open.
        stop_seconds: that requests in progress have when the server stops.
        access_log: write a line for each request: its id, route, status and time, never what it asks.
    """

    host: str = "127.0.0.1"
    port: int = Field(8000, ge=0, le=65535)
    hosts: tuple[str, ...] = ()
    allow_origin: tuple[str, ...] = ()
    body_kib: int = Field(64, ge=1)
    clip_mib: int = Field(200, ge=1)
    history: int = Field(1000, ge=1)
    k: int = Field(1000, ge=1)
    concurrency: int = Field(64, ge=1)
    connections: int = Field(512, ge=1)
    rate: float = Field(200.0, ge=0)
    burst: int = Field(400, ge=1)
    header_seconds: float = Field(10.0, gt=0)
    body_seconds: float = Field(10.0, gt=0)
    clip_seconds: float = Field(600.0, gt=0)
    stall_seconds: float = Field(30.0, gt=0)
    keep_alive_seconds: int = Field(15, ge=1)
    stop_seconds: int = Field(10, ge=1)
    access_log: bool = True
