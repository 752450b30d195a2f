"""Options and argument types that several commands share."""

from __future__ import annotations

from typing import Any

import click

from shunter.errors import InvalidInput

MAX_ID = 2**63 - 1

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")


class JobIdType(click.ParamType):
    """A job's number, as `shunter submit` prints it."""

    name = "id"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        text = str(value)
        if not (text.isascii() and text.isdigit() and 1 <= int(text[:20]) <= MAX_ID):
            raise InvalidInput(
                f"id: expected a job's number such as 12, got {text!r}", field="id", fix="`shunter queue` lists them"
            )
        return int(text)


class DurationType(click.ParamType):
    """A duration, checked here and passed on as it was written."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        from shunter.domain.duration import parse_duration

        parse_duration(str(value), field=param.name or "time" if param else "time")
        return str(value)


JOB_ID = JobIdType()
DURATION = DurationType()
