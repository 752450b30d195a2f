"""How far a simulation is, on stderr, for those who wait for it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

Report = Callable[[int], None]
"""Called with how many are done so far."""


class Progress(Protocol):
    def rows(self) -> Report | None:
        """Return what to call with the rows read."""

    def jobs(self, policy: str, total: int) -> Report | None:
        """Return what to call with the jobs ended of *total* under *policy*."""

    def percent(self, policy: str, total: int) -> Report | None:
        """Return what to call with the percentages requested so far of *total* under *policy*."""

    def done(self) -> None:
        """What was begun last is complete."""


class Silent:
    def rows(self) -> Report | None:
        return None

    def jobs(self, policy: str, total: int) -> Report | None:  # noqa: ARG002 - the protocol's
        return None

    def percent(self, policy: str, total: int) -> Report | None:  # noqa: ARG002 - the protocol's
        return None

    def done(self) -> None:
        pass


@contextmanager
def progress(*, shown: bool) -> Iterator[Progress]:
    """Yield bars, which go when the block ends; none unless they are to be *shown* and stderr is a terminal."""
    if not shown or not sys.stderr.isatty():
        yield Silent()
        return
    from shunter.sim.bars import Bars

    with Bars() as bars:
        yield bars
