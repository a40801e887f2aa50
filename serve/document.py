"""The OpenAPI document of the service: what FastAPI knows of the calls, and which token each of them asks for."""

from typing import Any

from fastapi import FastAPI

from .doors import HEALTH, Tokens

_SCHEMES = {
    "token": {"type": "http", "scheme": "bearer", "description": "The token of the server, if it was started with one."},
    "operator": {"type": "http", "scheme": "bearer", "description": "The operator's token, for what changes what is served."},
    "key": {
        "type": "apiKey",
        "in": "query",
        "name": "key",
        "description": "Stands in the address of a clip or thumbnail, and opens it alone.",
    },
}


class Documented(FastAPI):
    """An application whose document names tokens. They are asked for before it sees a request, so it does not know them by itself."""

    def __init__(self, tokens: Tokens, **options: Any) -> None:
        super().__init__(**options)
        self.needs_token = tokens.user is not None

    def openapi(self) -> dict[str, Any]:
        """The document, made once."""
        if self.openapi_schema is None:
            document = super().openapi()
            document["components"]["securitySchemes"] = _SCHEMES
            for path, methods in document["paths"].items():
                for call in methods.values():
                    if schemes := self._schemes(path, call["tags"]):
                        call["security"] = [{name: []} for name in schemes]
        assert self.openapi_schema is not None
        return self.openapi_schema

    def _schemes(self, path: str, tags: list[str]) -> tuple[str, ...]:
        """Any one of these opens a call; none: it is open."""
        if "operators" in tags:
            return ("operator",)
        if not self.needs_token or path in HEALTH:
            return ()
        return ("token", "operator", "key") if path.startswith("/media/") else ("token", "operator")
