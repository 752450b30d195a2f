"""YAML files as values that know where they stand: every refusal names file, line, column, keys, value and what works.

YAML's surprises are left out: duplicate keys, aliases and tags are refused, and a number is what people call one
(`010`, `1_000` and `1:30` are not).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final, NoReturn

import yaml
from yaml.composer import ComposerError
from yaml.events import AliasEvent
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from shunter.errors import InvalidInput

MAX_FILE_BYTES: Final = 1024 * 1024
MAX_DEPTH: Final = 20
_SHOWN: Final = 16
_WHOLE: Final = re.compile(r"-?(0|[1-9][0-9]{0,18})")
_NUMBER: Final = re.compile(r"-?(0|[1-9][0-9]{0,18})(\.[0-9]{1,30})?([eE][+-]?[0-9]{1,3})?")
_FLAGS: Final = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
_NOTHING: Final = ("", "~", "null")


class _Loader(yaml.SafeLoader):
    """The safe loader, in Python, without what makes a small file large (aliases) or deep."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0

    def compose_node(self, parent: Node | None, index: int) -> Node | None:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, AliasEvent):
            _refuse_syntax(f"an alias (*{event.anchor}) is not allowed here; write the value out", event)
        if tag := getattr(event, "tag", None):
            tag = tag.replace("tag:yaml.org,2002:", "!!")
            _refuse_syntax(f"a tag ({tag}) is not allowed here; write only the value", event)
        if self._depth == MAX_DEPTH:
            _refuse_syntax(f"nested deeper than {MAX_DEPTH} levels", event)
        self._depth += 1
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node


def _refuse_syntax(problem: str, event: Any) -> NoReturn:
    raise ComposerError(None, None, problem, event.start_mark)


class Value:
    """A part of a file. *path* is the keys that lead to it, joined by dots; empty for the whole."""

    def __init__(self, node: Node, path: str, source: str) -> None:
        self._node = node
        self.path = path
        self.source = source

    def refuse(self, what: str, *, fix: str | None = None) -> NoReturn:
        """Raise InvalidInput: *what*, at this place."""
        _refuse(self._node, self.source, f"{self.path}: {what}" if self.path else what, field=self.path, fix=fix)

    @property
    def text(self) -> str | None:
        """What is written here, None for a mapping, a list, or nothing."""
        if not isinstance(self._node, ScalarNode) or (self._plain and self._node.value.lower() in _NOTHING):
            return None
        return str(self._node.value)

    @property
    def shown(self) -> str:
        if isinstance(self._node, MappingNode):
            return "keys and values"
        if isinstance(self._node, SequenceNode):
            return "a list"
        return "nothing" if self.text is None else f"{self.text!r:.60}"

    @property
    def _plain(self) -> bool:
        return isinstance(self._node, ScalarNode) and self._node.style is None

    @property
    def is_list(self) -> bool:
        return isinstance(self._node, SequenceNode)

    def keys(self, known: Collection[str]) -> dict[str, Value]:
        """Return the values under keys that are all in *known*; an underscore counts as a hyphen."""
        found: dict[str, Value] = {}
        for key, name, value in self._pairs():
            hyphened = name.replace("_", "-")
            path = f"{self.path}.{name}" if self.path else name
            if hyphened not in known:
                _refuse(key, self.source, f"{path}: no such key", field=path, fix=closest(hyphened, known))
            if hyphened in found:
                _refuse(key, self.source, f"{path}: given twice", field=path, fix="keep one of them")
            found[hyphened] = value
        return found

    def names(self, example: str) -> dict[str, Value]:
        """Return the values under keys that people choose. *example* is what such a mapping looks like."""
        found: dict[str, Value] = {}
        for key, name, value in self._pairs(example):
            if not (name.isprintable() and 1 <= len(name) <= 128):
                fix = "use 1 to 128 printable characters"
                _refuse(key, self.source, f"{self.path}: expected a name, got {name!r:.60}", field=self.path, fix=fix)
            if name in found:
                _refuse(key, self.source, f"{value.path}: given twice", field=value.path, fix="keep one of them")
            found[name] = value
        return found

    def _pairs(self, example: str | None = None) -> Iterable[tuple[Node, str, Value]]:
        if not isinstance(self._node, MappingNode):
            self.refuse(f"expected keys and values, got {self.shown}", fix=example and f"write for example {example}")
        for key, value in self._node.value:
            if not isinstance(key, ScalarNode):
                _refuse(key, self.source, f"{self.path or 'key'}: expected a name as the key", field=self.path)
            name = str(key.value)
            yield key, name, Value(value, f"{self.path}.{name}" if self.path else name, self.source)

    def items(self, example: str) -> list[Value]:
        """Return the items of a list, each under this path. *example* is what such a list looks like."""
        if not isinstance(self._node, SequenceNode):
            self.refuse(f"expected a list, got {self.shown}", fix=f"write for example {example}")
        return [Value(item, self.path, self.source) for item in self._node.value]

    def whole(self, least: int, most: int) -> int:
        if not (self._plain and self.text is not None and _WHOLE.fullmatch(self.text)):
            self.refuse(f"expected a whole number from {least} to {most}, got {self.shown}")
        if not least <= (number := int(self.text)) <= most:
            self.refuse(f"expected {least} to {most}, got {number}")
        return number

    def number(self, least: float, most: float) -> float:
        if not (self._plain and self.text is not None and _NUMBER.fullmatch(self.text)):
            self.refuse(f"expected a number from {least:.15g} to {most:.15g}, got {self.shown}")
        if not least <= (number := float(self.text)) <= most:
            self.refuse(f"expected {least:.15g} to {most:.15g}, got {self.text}")
        return number

    def flag(self) -> bool:
        if not self._plain or (self.text or "").lower() not in _FLAGS:
            self.refuse(f"expected true or false, got {self.shown}")
        return _FLAGS[(self.text or "").lower()]

    def one_of(self, known: Collection[str], what: str) -> str:
        """Return what is written here, one of *known*; *what* is a word for them."""
        if self.text is None or self.text not in known:
            self.refuse(f"expected {what}, got {self.shown}", fix=closest(self.text or "", known))
        return self.text


def closest(name: str, known: Collection[str]) -> str:
    """Return what to write in the place of *name*: the one of *known* that is like it, else all of them."""
    if not known:
        return "there are none"
    close = get_close_matches(name, known, n=1)
    if close:
        return f"did you mean {close[0]}?"
    more = f" and {len(known) - _SHOWN} more" if len(known) > _SHOWN else ""
    return f"choose from {', '.join(list(known)[:_SHOWN])}{more}"


def parse_yaml(text: str, source: str) -> Value | None:
    """Return the one document in *text*, None for one without content. Raises InvalidInput, naming *source*."""
    try:
        node = _Loader(text).get_single_node()
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise InvalidInput(
            f"{source}:{line}: expected text, got the character U+{ord(text[error.position]):04X}", fix="remove it"
        ) from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
        problem = "expected one document, found another" if "another" in (error.problem or "") else error.problem
        raise InvalidInput(f"{source}{place}: {problem or error}") from error
    value = None if node is None else Value(node, "", source)
    return None if value is None or value.shown == "nothing" else value


def read_text(path: Path, *, field: str, fix: str) -> str:
    """Return the file at *path*. Raises InvalidInput if it cannot be read (*fix*), is no UTF-8, or has over 1 MiB."""
    if path.exists() and not (path.is_file() or path.is_dir()):  # opening a pipe would wait for a writer
        raise InvalidInput(f"{field}: {path}: expected a file", field=field, fix=fix)
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise InvalidInput(f"{field}: {path}: {why}", field=field, fix=fix) from error
    if len(content) > MAX_FILE_BYTES:
        raise InvalidInput(f"{field}: {path}: expected at most {MAX_FILE_BYTES // 2**20} MiB, got more", field=field)
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InvalidInput(
            f"{path}:{line}: expected UTF-8 text, got the byte 0x{content[error.start]:02x}", field=field
        ) from error


def _refuse(node: Node, source: str, what: str, *, field: str, fix: str | None = None) -> NoReturn:
    mark = node.start_mark
    raise InvalidInput(f"{source}:{mark.line + 1}:{mark.column + 1}: {what}", field=field or None, fix=fix)
