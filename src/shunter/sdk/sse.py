"""Server-sent events (the HTML standard, section 9.2), as far as the gateway uses them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple


class Message(NamedTuple):
    """One event; a comment, which only shows that the connection lives, has no *event* and no *data*."""

    event: str
    data: str
    id: str = ""


COMMENT = Message("", "")


def parse(chunks: Iterable[bytes]) -> Iterator[Message]:
    """Yield the messages in *chunks*; one that the end of the stream cut off is dropped.

    Lines end with LF or CRLF only. (httpx's iter_lines also splits at U+2028 and its like, which JSON leaves bare.)
    """
    event, cursor = "", ""
    data: list[str] = []
    for line in _lines(chunks):
        if not line:
            if data:
                yield Message(event or "message", "\n".join(data), cursor)
            event = ""
            data = []
            continue
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if not name:
            yield COMMENT
        elif name == "event":
            event = value
        elif name == "data":
            data.append(value)
        elif name == "id":
            cursor = value


def _lines(chunks: Iterable[bytes]) -> Iterator[str]:
    rest: list[bytes] = []
    for chunk in chunks:
        *whole, last = chunk.split(b"\n")
        for line in whole:
            rest.append(line)
            yield b"".join(rest).removesuffix(b"\r").decode("utf-8", "replace")
            rest.clear()
        rest.append(last)
