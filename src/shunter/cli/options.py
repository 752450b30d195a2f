"""Options and argument types that several commands share."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

import click

from shunter.errors import InvalidInput

MAX_ID: Final = 2**63 - 1
_COUNT: Final = re.compile(r"-?[0-9]{1,18}|-?[0-9]{0,18}\.[0-9]{1,18}", re.ASCII)

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")


def job_id(text: str) -> int:
    """The type of a job's number, as `shunter submit` prints it."""
    if not (text.isascii() and text.isdigit() and len(text) < 20 and 1 <= int(text) <= MAX_ID):
        raise InvalidInput(
            f"id: expected a job's number such as 12, got {text!r}", field="id", fix="`shunter queue` lists them"
        )
    return int(text)


def gpu_count(text: str) -> int | float:
    """The type of a number of GPUs: whole, or a share of one."""
    if _COUNT.fullmatch(text) is None:
        raise InvalidInput(
            f"gpus: expected a whole number, or a share below 1 such as 0.25, got {text!r:.60}", field="gpus"
        )
    return float(text) if "." in text else int(text)


def duration(field: str) -> Callable[[str], str]:
    """Return the type of a duration, which is checked here and passed on as it was written."""

    def duration_text(text: str) -> str:
        from shunter.domain.duration import parse_duration

        parse_duration(text, field=field)
        return text

    return duration_text
