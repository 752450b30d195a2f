"""Bodies of the HTTP API that are not in `domain.report`: pages, and answers of one call only."""

from __future__ import annotations

from msgspec import Struct

from shunter.domain.report import EventView, JobView, NodeView


class Submitted(Struct, frozen=True):
    jobs: list[JobView]


class JobsPage(Struct, frozen=True):
    """*cursor* leads to the next page, None on the last one; *event* is the newest event before the read."""

    jobs: list[JobView]
    cursor: str | None = None
    event: str = ""


class EventsPage(Struct, frozen=True):
    """*last* is the cursor to go on from, even when *events* is empty."""

    events: list[EventView]
    last: str


class Nodes(Struct, frozen=True):
    nodes: list[NodeView]


class CancelResult(Struct, frozen=True):
    """What became of each job that was to be cancelled. A job in *cancelled* may still take its grace period to end.

    *confirmed* is False if no replica of Redis has it where it should: a take-over in this moment may forget it.
    """

    cancelled: list[int]
    already_ended: list[int]
    unknown: list[int]
    confirmed: bool = True


class Health(Struct, frozen=True):
    status: str


class LogPiece(Struct, frozen=True):
    """A piece of a followed log; *offset* is the byte position after it in the log of *attempt*."""

    text: str
    offset: int
    attempt: int = 0
