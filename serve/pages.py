"""The page and its files, read once and handed out by name; and the API described for people, from its OpenAPI document.

Everything comes from this server: the page works without the internet, and nothing about who looks at what leaves the machine.
"""

import hashlib
import html
import json
import re
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}

_WELL = ("Successful Response", "OK")  # how FastAPI describes an answer that is no error


@dataclass(frozen=True)
class Asset:
    """A file of the page."""

    content: bytes
    media_type: str

    @property
    def etag(self) -> str:
        return '"' + hashlib.sha256(self.content).hexdigest()[:32] + '"'


def page_assets() -> dict[str, Asset]:
    """Address -> file, of everything in ``serve/page``; ``index.html`` is ``/``."""
    found = {}
    for file in files(__package__).joinpath("page").iterdir():
        kind = _TYPES.get("." + file.name.rpartition(".")[2])
        if kind is not None:
            found["/" if file.name == "index.html" else f"/{file.name}"] = Asset(file.read_bytes(), kind)
    return found


def describe(document: Mapping[str, Any]) -> bytes:
    """The OpenAPI document as one plain page: every call, what it takes, what it answers."""
    title = html.escape(f"{document['info']['title']} {document['info']['version']}")
    listed = [(method, path, call) for path, methods in document["paths"].items() for method, call in methods.items()]
    everywhere = set.intersection(*({status for status in call["responses"] if status >= "400"} for _, _, call in listed))
    common = _answers({status: answer for status, answer in listed[0][2]["responses"].items() if status in everywhere})
    calls = "\n".join(_call(method, path, call, everywhere, document) for method, path, call in listed)
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title><link rel="stylesheet" href="/docs.css"></head>
<body><main><h1>{title}</h1>
<p>The same for programs: <a href="/openapi.json">openapi.json</a>. The page for people: <a href="/">/</a>.</p>
<p>Every call may also answer:</p>
{common}
{calls}
</main></body></html>
""".encode()


def _call(method: str, path: str, call: Mapping[str, Any], everywhere: Set[str], document: Mapping[str, Any]) -> str:
    parts = [f"<section><h2><code><b>{html.escape(method.upper())}</b> {html.escape(path)}</code></h2>"]
    parts += [f"<p>{_marked(call.get('description') or call.get('summary', ''))}</p>"]
    fields = [*_parameters(call), *_body(call, document)]
    if fields:
        rows = "".join(
            f"<tr><td><code>{html.escape(n)}</code></td><td>{html.escape(w)}</td><td>{html.escape(k)}</td></tr>" for n, w, k in fields
        )
        parts.append(f"<table><thead><tr><th>name</th><th>in</th><th>is</th></tr></thead><tbody>{rows}</tbody></table>")
    own = {status: answer for status, answer in call["responses"].items() if status not in everywhere}
    return "\n".join([*parts, _answers(own), "</section>"])


def _answers(answers: Mapping[str, Any]) -> str:
    """A list of statuses and what they mean; of one that says all went well, the status is enough."""
    lines = []
    for status, answer in sorted(answers.items()):
        said = answer.get("description", "")
        lines.append(f"<li><code>{html.escape(status)}</code> {html.escape('' if said in _WELL else said)}</li>")
    return f"<ul>{''.join(lines)}</ul>"


def _marked(text: str) -> str:
    """Text of a docstring: what stands between double backticks is code."""
    return re.sub(r"``(.+?)``", r"<code>\1</code>", html.escape(text))


def _parameters(call: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    for parameter in call.get("parameters", []):
        yield parameter["name"], parameter["in"], _words(parameter["schema"], required=parameter.get("required", False))


def _body(call: Mapping[str, Any], document: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    for content in call.get("requestBody", {}).get("content", {}).values():
        name = content["schema"].get("$ref", "").rpartition("/")[2]
        schema = document["components"]["schemas"].get(name, {})
        for field, of_field in schema.get("properties", {}).items():
            yield field, "body", _words(of_field, required=field in schema.get("required", ()))


def _words(schema: Mapping[str, Any], *, required: bool) -> str:
    """``integer, 1 to 1000, default 10``."""
    kinds = [schema, *schema.get("anyOf", [])]
    parts = [" or ".join(kind.get("format", kind["type"]) for kind in kinds if "type" in kind)]
    parts += [" or ".join(map(str, kind["enum"])) for kind in kinds if "enum" in kind]
    low, high = (next((kind[key] for kind in kinds if key in kind), None) for key in ("minimum", "maximum"))
    if low is not None:
        parts.append(f"{low} to {high}" if high is not None else f"at least {low}")
    if schema.get("default") not in (None, ""):
        parts.append(f"default {json.dumps(schema['default'])}")
    parts.append("required" if required else "")
    return ", ".join(part for part in parts if part)
