"""Who may ask: by which name the server is called, from which page, with which token; and what browsers are told of it.

Each check looks at the head of a request and raises ``Refusal``.
"""

import hashlib
import hmac
import ipaddress
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from enum import IntEnum
from urllib.parse import unquote_to_bytes

from .asgi import App, Message, Receive, Refusal, Scope, Send, header
from .limits import Rate

_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:[0-9]{1,5})?")
_LOOPBACK_NAMES = frozenset(["localhost", "ip6-localhost"])
_PAGE_PATHS = re.compile(r"/(?:[a-z]+\.(?:css|js|svg))?")
HEALTH = frozenset(["/healthz", "/readyz"])
"""Told to everybody."""
_OPEN = frozenset(["/docs", "/openapi.json"])

SECURITY_HEADERS = {
    "content-security-policy": "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; object-src 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
}


class Who(IntEnum):
    """What somebody may do, each more than the one before."""

    NOBODY = 0
    USER = 1
    OPERATOR = 2


@dataclass(frozen=True)
class Tokens:
    """The secrets of a server.

    Attributes:
        user: asked of everybody; None: nobody is asked.
        operator: asked of whoever changes what is served; None: nobody may.
    """

    user: str | None = None
    operator: str | None = None

    def who(self, authorization: bytes | None) -> Who:
        """Whose token an ``Authorization`` header holds. Tokens are compared by their hashes, in a time that tells nothing."""
        scheme, _, sent = (authorization or b"").partition(b" ")
        known = Who.NOBODY if self.user is not None else Who.USER
        if scheme.lower() != b"bearer":
            return known
        if self.operator is not None and _same(sent.strip(), self.operator):
            return Who.OPERATOR
        return Who.USER if self.user is not None and _same(sent.strip(), self.user) else known


def _same(sent: bytes, secret: str) -> bool:
    return hmac.compare_digest(hashlib.sha256(sent).digest(), hashlib.sha256(secret.encode()).digest())


def check_text(scope: Scope) -> None:
    """Refuse a path or query that is not UTF-8 behind its percent signs, and set the path so that its parts can be told apart.

    In ``scope["path"]`` an id may hold any character, and its slashes and percent signs are still encoded: a slash always parts.
    """
    try:
        parts = [unquote_to_bytes(part).decode() for part in scope["raw_path"].split(b"/")]
        unquote_to_bytes(scope["query_string"].replace(b"+", b" ")).decode()
    except UnicodeDecodeError:
        raise Refusal(
            400, "not_utf8", "the address of this request is not UTF-8 text behind its percent signs; encode ids as UTF-8 first."
        ) from None
    scope["path"] = "/".join(part.replace("%", "%25").replace("/", "%2F") for part in parts)


def check_host(names: Collection[str]) -> Callable[[Scope], None]:
    """Refuse requests that call the server by another name: a page of somebody else, whose name leads here, must not read answers.

    Args:
        names: in lower case. Loopback names and addresses, and the address at which a connection came in, are allowed too: a name
            can be made to lead anywhere, a number cannot.
    """

    def check(scope: Scope) -> None:
        sent = (header(scope, b"host") or b"").decode("latin-1").lower()
        found = _HOST.fullmatch(sent)
        host = found[1].strip("[]") if found else ""
        server = scope.get("server") or ("", None)
        if host not in names and host not in _LOOPBACK_NAMES and not _is_loopback(host) and host != server[0]:
            raise Refusal(421, "wrong_host", f"this server is not called {ascii(sent)[:80]}; --allow-host adds a name.")

    return check


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_loopback(host: str) -> bool:
    """Does nothing but this machine reach a server that listens at ``host``?"""
    return host.lower() in _LOOPBACK_NAMES or _is_loopback(host.strip("[]"))


def check_origin(allowed: Collection[str]) -> Callable[[Scope], None]:
    """Refuse what a page of another origin makes a browser ask. Following a link to this server is allowed."""

    def check(scope: Scope) -> None:
        origin = header(scope, b"origin")
        text = (origin or b"").decode("latin-1").lower()
        host = (header(scope, b"host") or b"").decode("latin-1").lower()
        if origin is not None:
            refused = text not in allowed and text.partition("://")[2] != host
        else:
            cross = header(scope, b"sec-fetch-site") == b"cross-site"
            refused = cross and header(scope, b"sec-fetch-mode") != b"navigate"
        if refused:
            raise Refusal(403, "cross_origin", f"pages of {ascii(text)[:80]} may not ask this server; --allow-origin adds an origin.")

    return check


def check_token(tokens: Tokens, rate: Rate, media_key: Callable[[Scope], bool]) -> Callable[[Scope], None]:
    """Refuse who has no token where one is asked, and who asks too often; notes in ``scope["state"]["who"]`` who it is.

    Args:
        media_key: does the address of a clip or thumbnail hold its key? Pictures of a page cannot send a token.
    """

    def check(scope: Scope) -> None:
        who = tokens.who(header(scope, b"authorization"))
        scope.setdefault("state", {})["who"] = who
        path = scope["path"]
        if path in HEALTH:
            return
        holds_token = who > Who.NOBODY and (tokens.user is not None or who is Who.OPERATOR)
        # The operator has a bucket of their own: busy users must not keep out who could help.
        wait = rate.wait_seconds(f"token {who.name}" if holds_token else _address(scope))
        if wait:
            message = f"more than {rate.per_second:g} requests a second; try again in {wait:.1f} seconds."
            raise Refusal(429, "too_many_requests", message, {"retry-after": str(max(1, round(wait + 0.5)))})
        open_ = path in _OPEN or _PAGE_PATHS.fullmatch(path) or (path.startswith("/media/") and media_key(scope))
        if who is Who.NOBODY and not open_:
            message = "this server asks for its token, in the header Authorization: Bearer TOKEN."
            raise Refusal(401, "token_needed", message, {"www-authenticate": "Bearer"})

    return check


def _address(scope: Scope) -> str:
    """Of the client; the first half of an IPv6 address, which is what one household has."""
    host = str((scope.get("client") or ("",))[0])
    return host if ":" not in host else str(ipaddress.ip_network((host.partition("%")[0], 64), strict=False))


class SecurityHeaders:
    """Adds to each answer what browsers are to hold to."""

    def __init__(self, app: App) -> None:
        self.app = app
        self.pairs = [(key.encode(), value.encode()) for key, value in SECURITY_HEADERS.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def adding(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = [*message.get("headers", []), *self.pairs]
                if not any(key.lower() == b"cache-control" for key, _ in headers):
                    headers.append((b"cache-control", b"no-store"))
                message = {**message, "headers": headers}
            await send(message)

        await self.app(scope, receive, adding if scope["type"] == "http" else send)
