"""Elements of HTML and SVG. Text is escaped unless it is `Markup` already, so a name from a trace cannot break out."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final
from xml.sax.saxutils import escape, quoteattr

_LEAVES: Final = frozenset({"meta", "path", "line", "rect"})
_NOT_XML: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML cannot hold in any form, and UTF-8 neither in the case of half a surrogate pair."""


class Markup(str):
    """Text in which `<` and `&` mean markup."""

    __slots__ = ()


def tag(name: str, /, *children: str, **attributes: str | float | None) -> Markup:
    """Return an element that is well-formed both as XML and as HTML.

    In the names of attributes `_` stands for `-` and one at the end is dropped; an attribute that is None is left out,
    a number has at most one decimal.
    """
    pairs = "".join(
        f" {key.rstrip('_').replace('_', '-')}={quoteattr(clean(_text(value)))}"
        for key, value in attributes.items()
        if value is not None
    )
    if name in _LEAVES and not children:
        return Markup(f"<{name}{pairs}/>")
    return Markup(f"<{name}{pairs}>{joined(children)}</{name}>")


def joined(parts: Iterable[str]) -> Markup:
    """Return *parts* one after the other, those that are plain text escaped."""
    return Markup("".join(part if isinstance(part, Markup) else escape(clean(part)) for part in parts))


def clean(text: str) -> str:
    """Return *text* with the characters that XML cannot hold replaced by U+FFFD."""
    return _NOT_XML.sub("\ufffd", text)


def short(text: str, most: int) -> str:
    """Return *text*, its middle left out if it is longer than *most* characters: both ends of a node's name matter."""
    if len(text) <= most:
        return text
    return f"{text[: most // 2]}…{text[len(text) - (most - most // 2 - 1) :]}"


def number(value: float) -> str:
    """Return *value* with at most one decimal, as short as possible: a page has hundreds of thousands of them."""
    text = f"{value:.1f}"
    text = text.removesuffix(".0")
    return "0" if text == "-0" else text


def _text(value: str | float) -> str:
    return value if isinstance(value, str) else number(value)
