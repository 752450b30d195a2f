"""How commands print: JSON documents for programs, times for people, and the words for a job."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import Any, Final

import click
import msgspec

from shunter.cli.table import Cell, printable
from shunter.domain.duration import format_duration
from shunter.domain.reason import render
from shunter.domain.report import ENDED_STATES, JobView

_COLOURS: Final = {
    "queued": "yellow",
    "starting": "cyan",
    "running": "green",
    "stopping": "cyan",
    "failed": "red",
    "timeout": "red",
    "lost": "red",
}


def print_json(value: Any) -> None:
    """Print *value* as one JSON document."""
    click.echo(msgspec.json.format(msgspec.json.encode(value), indent=2))


def print_json_line(value: Any) -> None:
    """Print *value* as one line of JSON, at once."""
    click.echo(msgspec.json.encode(value))


def warn(text: str) -> None:
    click.echo(f"shunter: {text}", err=True)


def write(text: str) -> None:
    """Write *text* as it is, at once: a log is followed as it grows."""
    sys.stdout.write(text)
    sys.stdout.flush()


def clock(at_s: float | None) -> str:
    """Return wall-clock seconds as local time, nothing for None."""
    return "" if at_s is None else datetime.fromtimestamp(at_s, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def state_cell(view: JobView) -> Cell:
    return Cell(view.state, _COLOURS.get(view.state))


def time_of(view: JobView, shift_s: float = 0.0) -> str:
    """Return how long the job ran, or has waited so far; *shift_s* ago *view* was read."""
    if view.state in ENDED_STATES:
        return "" if view.ran_s is None else format_duration(view.ran_s)
    return format_duration((view.waited_s if view.ran_s is None else view.ran_s) + shift_s)


def why(view: JobView) -> str:
    """Return why the job waits, or how it ended when not well."""
    if view.why:
        return view.why
    if view.reason is not None:
        return render(view.reason)
    return view.outcome.message if view.outcome is not None else ""


def exit_status(view: JobView) -> int:
    """Return what a shell would have seen of the job: its code, 128 + signal, or 1 for an end without either."""
    if view.outcome is not None:
        return view.outcome.exit_status
    return view.exit_status if view.exit_status is not None else 1


def end_line(view: JobView) -> str:
    """Return one line on a job that has ended."""
    ran = "" if view.ran_s is None else f" after {format_duration(view.ran_s)}"
    said = printable(why(view))
    return f"job {view.id} {view.state}{ran}" + (f": {said}" if said and view.state != "succeeded" else "")
