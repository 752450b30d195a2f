"""Connected workers: one that reads slowly gets everything in order; one that does not read is let go."""

from __future__ import annotations

import selectors
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from shunter.agent.keeper import clients
from shunter.agent.keeper.clients import Client, Clients
from shunter.agent.keeper.protocol import Lines, Live, Ready, Report, Request, decode_report

MANY = 20_000


class Door:
    """A keeper's socket with nothing behind it, and its clock."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.now_s = 0.0
        self.selector = selectors.DefaultSelector()
        self.clients = Clients(path, self.selector, self.greet, self.handle)

    def greet(self, client: Client) -> None:
        self.clients.send(client, Ready(2, 1))

    def handle(self, request: Request, client: Client) -> None: ...

    def turn(self) -> None:
        for key, ready in self.selector.select(0):
            key.data(ready)
        self.clients.tidy()

    def connect(self) -> socket.socket:
        worker = socket.socket(socket.AF_UNIX)
        worker.settimeout(10.0)
        worker.connect(str(self.path))
        self.turn()
        return worker

    def tell_much(self) -> None:
        for number in range(MANY):
            self.clients.tell(Live(str(number), 1, 1, 0, 1))


@pytest.fixture
def door(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Door]:
    door = Door(tmp_path / "door")
    monkeypatch.setattr(clients, "boot_time_s", lambda: door.now_s)
    yield door
    door.clients.close()
    door.selector.close()


def test_a_worker_that_reads_late_and_slowly_gets_everything_in_order(door: Door) -> None:
    with door.connect() as worker:
        door.tell_much()
        lines = Lines()
        got: list[Report] = []
        while len(got) < MANY + 1:
            door.now_s += clients.STUCK_S * 0.2
            data = worker.recv(1 << 16)
            assert data
            got += [decode_report(line) for line in lines.feed(data)]
            door.turn()
        assert isinstance(got[0], Ready)
        assert [one.allocation for one in got[1:] if isinstance(one, Live)] == [str(number) for number in range(MANY)]
        assert door.clients


def test_a_worker_that_does_not_read_is_let_go_after_some_seconds(door: Door) -> None:
    with door.connect():
        door.tell_much()
        door.now_s += clients.STUCK_S * 0.9
        door.turn()
        assert door.clients
        door.now_s += clients.STUCK_S * 0.2
        door.turn()
        assert not door.clients


def test_a_worker_that_has_nothing_to_read_may_stay_silent_for_ever(door: Door) -> None:
    with door.connect():
        door.now_s += 1e6
        door.turn()
        assert door.clients


def test_a_worker_that_leaves_with_much_unread_is_forgotten(door: Door) -> None:
    with door.connect():
        door.tell_much()
    door.turn()
    door.turn()
    assert not door.clients
