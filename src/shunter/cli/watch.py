"""`shunter queue --watch`: the table, read again when an event says that something changed."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from rich.console import Console
from rich.live import Live
from rich.text import Text

from shunter.domain.report import JobView
from shunter.errors import ShunterError

if TYPE_CHECKING:
    from shunter.sdk.client import Client

LEAST_S: Final = 0.5
"""Between two reads of the list, however many events come."""
MOST_S: Final = 10.0
"""Between two reads when nothing is heard: the reason of a waiting job may change without an event."""


class _Changes:
    """Says whether anything changed since the last look; a thread follows the events."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._changed = threading.Event()
        self._problem: ShunterError | None = None
        threading.Thread(target=self._follow, name="events", daemon=True).start()

    def _follow(self) -> None:
        try:
            for _ in self._client.events(follow=True):
                self._changed.set()
        except ShunterError as error:
            self._problem = error
        self._changed.set()

    def wait(self, timeout_s: float) -> bool:
        """Return whether something changed within *timeout_s*; raise what ended the stream."""
        changed = self._changed.wait(timeout_s)
        self._changed.clear()
        if self._problem is not None:
            raise self._problem
        return changed


def watch_queue(client: Client, read: Callable[[], list[JobView]]) -> None:
    """Show what *read* returns until Ctrl-C."""
    changes = _Changes(client)
    with Live(console=Console(), auto_refresh=False, vertical_overflow="crop") as live:
        while True:
            views, read_at = read(), time.monotonic()
            while True:
                shift_s = time.monotonic() - read_at
                live.update(_picture(views, shift_s), refresh=True)
                if changes.wait(1.0) or shift_s >= MOST_S:
                    break
            time.sleep(max(LEAST_S - (time.monotonic() - read_at), 0.0))


def _picture(views: list[JobView], shift_s: float) -> Text:
    from shunter.cli.queue import page

    size = shutil.get_terminal_size()
    lines = page(views, width=size.columns, shift_s=shift_s).split("\n")
    if len(lines) > size.lines - 1:
        hidden = len(lines) - (size.lines - 2)
        lines = [*lines[: size.lines - 2], f"and {hidden} more"]
    return Text.from_ansi("\n".join(lines))
