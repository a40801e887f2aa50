"""The application on a socket, until somebody stops it."""

import socket
from collections.abc import Callable
from typing import TYPE_CHECKING

from ..errors import InputError
from .asgi import App
from .http_config import HttpConfig

if TYPE_CHECKING:
    import uvicorn


def listen(host: str, port: int) -> socket.socket:
    """A socket that accepts connections from now on; they are answered once ``run`` serves.

    Raises:
        InputError: the address is not of this machine, or somebody else listens there.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listening = socket.socket(family, kind, protocol)
    except OSError as error:
        raise InputError(f"--host {host}: {error.strerror}. Give an address of this machine, as 127.0.0.1.") from None
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(1024)
    except OSError as error:
        listening.close()
        raise InputError(f"cannot listen at {host}, port {port}: {error.strerror}. --port 0 takes a free port.") from None
    return listening


def address_of(listening: socket.socket, host: str) -> str:
    """Where a browser on this machine finds it."""
    port = listening.getsockname()[1]
    shown = host.strip("[]")
    shown = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(shown, shown)
    return f"http://{f'[{shown}]' if ':' in shown else shown}:{port}/"


def make_server(app: App, config: HttpConfig, on_start: Callable[[], None] = lambda: None) -> "uvicorn.Server":
    """What serves ``app``; it stops when its ``should_exit`` is set.

    Args:
        on_start: called when it takes requests.
    """
    import uvicorn

    from .protocol import timed_protocol

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            on_start()

    return Server(
        uvicorn.Config(
            app,
            http=timed_protocol(config),
            ws="none",
            loop="asyncio",
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=config.keep_alive_seconds,
            timeout_graceful_shutdown=config.stop_seconds,
            h11_max_incomplete_event_size=20 * 1024,
        )
    )


def run(server: "uvicorn.Server", listening: socket.socket) -> None:
    """Serve until SIGINT or SIGTERM, or ``should_exit``; requests in progress are finished first. Returns then."""
    try:
        server.run(sockets=[listening])
    except KeyboardInterrupt:  # uvicorn hands the signal on when it is done
        return
