"""YAML without its traps, for configuration files and ``--set`` values.

Only plain data is read: no tags, no aliases, no duplicate keys. Scalars follow YAML 1.2 rather than 1.1, so that
``3e-4`` is a number, ``no``, ``12:30`` and ``007`` are text, and only ``true`` and ``false`` are booleans.
"""

import re
from pathlib import Path
from typing import Any

import yaml

from .errors import InputError

MAX_BYTES = 1_000_000

_INT = re.compile(r"^[-+]?(?:0|[1-9][0-9]*)$")
_FLOAT = re.compile(r"^[-+]?(?:(?:0|[1-9][0-9]*)\.[0-9]*|\.[0-9]+|(?:0|[1-9][0-9]*)(?=[eE]))(?:[eE][-+]?[0-9]+)?$")


def _problem(message: str, mark: Any) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=message, problem_mark=mark)


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 - the library's own attribute

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.events.AliasEvent):
            raise _problem(f"the alias *{event.anchor} is not allowed; write the value out", event.start_mark)
        if getattr(event, "tag", None) is not None:
            raise _problem(f"the tag {event.tag} is not allowed; write the value plainly", event.start_mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag != "tag:yaml.org,2002:str":
                raise _problem("a key must be plain text", key.start_mark)
            if key.value in seen:
                raise _problem(f"the key {key.value!r} occurs twice; keep one", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep=deep)


_Loader.add_implicit_resolver("tag:yaml.org,2002:null", re.compile(r"^(?:null|~|)$"), ["n", "~", ""])
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^(?:true|false)$"), ["t", "f"])
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", _INT, list("-+0123456789"))
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+.0123456789"))


class _Dumper(yaml.SafeDumper):
    """Quotes whatever the library or the loader above would read as something else than text."""


def _represent_text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    """The library writes Unicode's own line breaks as they are, and reads them back as other breaks; escaped they survive."""
    style = '"' if any(line_break in text for line_break in "\x85\u2028\u2029") else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+.0123456789"))
_Dumper.add_representer(str, _represent_text)


def parse(text: str | bytes, source: str) -> Any:
    """The data in ``text``: None, bool, int, float, str, and lists and dicts of them.

    Raises:
        InputError: not YAML, or YAML with tags, aliases, duplicate keys, or nested too deeply; names ``source`` and the line.
    """
    if len(text) > MAX_BYTES:
        raise InputError(f"{source} has {len(text):,} bytes; a configuration may have {MAX_BYTES:,}.")
    try:
        return yaml.load(text, _Loader)  # noqa: S506 - a SafeLoader
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f" line {mark.line + 1}, column {mark.column + 1}" if mark is not None else ""
        reason = error.problem or error.context
        raise InputError(f"{source}{where}: {reason}. Only plain YAML is read: text, numbers, lists and sections.") from None
    except yaml.YAMLError as error:
        raise InputError(f"{source} is not YAML text in UTF-8: {error}".replace("\n", " ")) from None
    except (RecursionError, ValueError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise InputError(f"{source} cannot be read: {reason}.") from None


def read(path: Path) -> Any:
    """The data in a file; see ``parse``."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InputError(f"{path} has {path.stat().st_size:,} bytes; a configuration may have {MAX_BYTES:,}.")
        text = path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read the configuration {path}: {error.strerror}.") from None
    return parse(text, str(path))


def dump(data: Any) -> str:
    """Text that ``parse`` reads back as the same data; keys keep their order."""
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, default_flow_style=False)
