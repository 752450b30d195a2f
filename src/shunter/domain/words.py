"""Words that name pools, racks, labels and nodes: short and plain, since they stand in tables, options and paths."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from shunter.domain.job import MAX_LABELS
from shunter.errors import InvalidInput

MOST: Final = 63
FORM: Final = f"1 to {MOST} letters, digits, '.', '_' and '-', the first a letter or digit"
_WORD: Final = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._-]{{0,{MOST - 1}}}", re.ASCII)


def check_word(field: str, value: str) -> str:
    """Return *value*; raise InvalidInput naming *field* unless it has the form of a name."""
    if not _WORD.fullmatch(value):
        fix = "write it without the rest" if value else "give a name, or leave it out"
        raise InvalidInput(f"{field}: expected {FORM}, got {value!r:.80}", field=field, fix=fix)
    return value


def check_labels(labels: dict[str, str], *, field: str = "labels") -> dict[str, str]:
    """Return *labels*, sorted by name; raise InvalidInput for too many of them, or a name or value that is no word."""
    if len(labels) > MAX_LABELS:
        raise InvalidInput(
            f"{field}: expected at most {MAX_LABELS}, got {len(labels)}", field=field, fix="leave some out"
        )
    for name, value in labels.items():
        check_word(field, name)
        check_word(f"{field}.{name}", value)
    return dict(sorted(labels.items()))


def read_pairs(texts: Iterable[str], *, field: str = "label") -> dict[str, str]:
    """Return `zone=a` texts as a dict; several may stand in one text, with commas between them.

    Raises InvalidInput for one without `=`, and for a name that is given two values.
    """
    pairs: dict[str, str] = {}
    for text in texts:
        for part in text.split(","):
            name, equals, value = part.strip().partition("=")
            if not equals or not name or not value:
                raise InvalidInput(
                    f"{field}: expected NAME=VALUE, got {part!r:.80}", field=field, fix="write for example zone=a"
                )
            if pairs.setdefault(name, value) != value:
                raise InvalidInput(
                    f"{field}: {name} is given as {pairs[name]!r:.70} and as {value!r:.70}",
                    field=field,
                    fix="give it once",
                )
    return pairs


def counted(number: int, noun: str) -> str:
    """Return `1 GPU`, `2 GPUs`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
