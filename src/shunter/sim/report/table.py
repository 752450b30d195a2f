"""The summary: one row per policy, the best figure of each column in bold."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Final

from msgspec import Struct

from shunter.sim.report.markup import Markup, tag
from shunter.sim.report.words import duration, percent
from shunter.sim.result import Result


class Column(Struct, frozen=True):
    """One figure: its name, its value, how it is shown, what its tooltip says, and whether more of it is better."""

    name: str
    value: Callable[[Result], float]
    shown: Callable[[Result], str]
    exact: Callable[[Result], str]
    more_is_better: bool = False


def _seconds(name: str, value: Callable[[Result], float]) -> Column:
    return Column(name, value, lambda result: duration(value(result)), lambda result: f"{value(result)!r} s")


def _share(name: str, value: Callable[[Result], float], *, more_is_better: bool) -> Column:
    return Column(
        name, value, lambda result: percent(value(result)), lambda result: f"{value(result)!r}", more_is_better
    )


def _waited(result: Result) -> str:
    part = f" ({percent(result.queued_jobs / result.jobs)})" if result.jobs else ""
    return f"{result.queued_jobs:,}{part}"


COLUMNS: Final = (
    _seconds("mean completion", lambda result: result.mean_jct_s),
    _seconds("mean wait", lambda result: result.mean_queue_s),
    _seconds("wait p50", lambda result: result.p50_queue_s),
    _seconds("wait p99", lambda result: result.p99_queue_s),
    _seconds("wait p99.9", lambda result: result.p999_queue_s),
    Column("jobs that waited", lambda r: r.queued_jobs, _waited, lambda r: f"{r.queued_jobs} of {r.jobs}"),
    _share("GPUs in use in window", lambda result: result.util_window, more_is_better=True),
    _share("allocated while jobs wait", lambda result: result.alloc_while_waiting, more_is_better=True),
    _seconds("makespan", lambda result: result.makespan_s),
    _share("fragmen\u00adtation while jobs wait", lambda result: result.frag_fgd, more_is_better=False),
    _seconds("time to simulate", lambda result: result.wall_s),
)


NOTE: Final = (
    "Completion is the time from submission to end, wait that from submission to start; 99 % of jobs wait at most p99. "
    "The window lies between the first and the last submission. Allocated is 1 minus the mean share of free GPUs, "
    "fragmentation the mean share of GPUs that are free but of no use to a typical job, both over the time in which at "
    "least one job waits. The best figure of each column is bold; its tooltip has all digits."
)


def summary(results: Sequence[Result]) -> Markup:
    """Return the table. Figures that look alike are bold together; none is where all look alike."""
    head = tag("tr", tag("th", "policy", scope="col"), *(tag("th", column.name, scope="col") for column in COLUMNS))
    bests = [best(column, results) for column in COLUMNS]
    rows = [_row(result, bests) for result in results]
    table = tag("table", tag("thead", head), tag("tbody", *rows))
    return tag("div", table, class_="scroll", tabindex="0", role="region", aria_label="Summary by policy")


def _row(result: Result, bests: Sequence[str | None]) -> Markup:
    cells = []
    for column, winner in zip(COLUMNS, bests, strict=True):
        shown = column.shown(result)
        cells.append(tag("td", tag("b", shown) if shown == winner else shown, title=column.exact(result)))
    return tag("tr", tag("th", result.policy, scope="row"), *cells)


def best(column: Column, results: Sequence[Result]) -> str | None:
    """Return the best figure as shown, or None if there is nothing to choose from."""
    known = [result for result in results if math.isfinite(column.value(result))]
    if len({column.shown(result) for result in known}) < 2:
        return None
    return column.shown((max if column.more_is_better else min)(known, key=column.value))
