"""The bars of `progress.py`: policy, what is done of all, time left. Apart from it, for rich takes 80 ms to import."""

from __future__ import annotations

from types import TracebackType
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from shunter.cli.table import printable
from shunter.sim.progress import Report

_WIDEST_NAME: Final = 24


class Bars:
    def __init__(self) -> None:
        self._rich = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(40),
            TextColumn("{task.fields[count]}", markup=False),
            TimeRemainingColumn(),
            TextColumn("left,"),
            TimeElapsedColumn(),
            console=Console(stderr=True),
            transient=True,
        )

    def __enter__(self) -> Bars:
        self._rich.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._rich.stop()

    def rows(self) -> Report:
        return self._begin("reading", None, "rows")

    def jobs(self, policy: str, total: int) -> Report:
        return self._begin(policy, total, f"of {total:,} jobs")

    def percent(self, policy: str, total: int) -> Report:
        return self._begin(policy, total, f"of {total:,} % requested")

    def done(self) -> None:
        if self._total is None:
            self._rich.remove_task(self._task)
        else:
            self._report(self._total)

    def _begin(self, what: str, total: int | None, unit: str) -> Report:
        name = printable(what)
        name = name if len(name) <= _WIDEST_NAME else f"{name[: _WIDEST_NAME - 1]}…"
        task = self._rich.add_task(name, total=total, count=f"0 {unit}")

        def report(done: int) -> None:
            self._rich.update(task, completed=done, count=f"{done:,} {unit}")

        self._task, self._report, self._total = task, report, total
        return report
