"""`shunter queue --watch`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import pytest

from shunter.cli.watch import _Changes, _picture, watch_queue
from shunter.domain.report import EventView
from shunter.errors import Unavailable
from shunter.sdk.client import Client
from tests.unit.sdk.fake import view


class FakeClient:
    """Follows *events*, then fails as a client does whose gateway stays away."""

    def __init__(self, *ids: str) -> None:
        self.ids = ids

    def events(self, *, follow: bool) -> Iterator[EventView]:
        assert follow
        yield from (EventView(id, 1.0, "moved") for id in self.ids)
        raise Unavailable("http://gateway does not answer")


def test_stream_that_ends_ends_the_watch_with_its_reason(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(Unavailable):
        watch_queue(cast(Client, FakeClient()), lambda: [view(7, "running")])
    assert "1 job: 1 running; 1 GPU in use" in capsys.readouterr().out


def test_change_is_seen_and_trouble_is_raised() -> None:
    with pytest.raises(Unavailable):
        changes = _Changes(cast(Client, FakeClient("1-0", "2-0")))
        while changes.wait(10.0):
            pass


def test_picture_is_no_higher_than_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LINES", "10")
    monkeypatch.setenv("COLUMNS", "80")
    lines = _picture([view(id) for id in range(1, 101)], 0.0).plain.split("\n")
    assert len(lines) == 9 and lines[-1] == "and 94 more"
