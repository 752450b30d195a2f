"""The node workers that are connected: requests in, reports out. None can keep the keeper, or another, waiting."""

from __future__ import annotations

import os
import selectors
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from shunter.agent.keeper.protocol import Lines, Report, Request, decode_request, encode
from shunter.runtime.process import boot_time_s

STUCK_S: Final = 5.0
"""How long a worker may take nothing of what waits for it before it is dropped; it may come back, and hears it all."""

RECEIVE_BYTES: Final = 1 << 16


class Kept(Struct):
    """A client as it is handed to the next program of this process: *part* of a line has been read of it."""

    descriptor: int
    number: int
    unsent: bytes
    part: bytes


class Kin(Struct):
    """All clients, the descriptor that they connect to, and how many there have been."""

    server: int
    number: int
    clients: list[Kept]

    def descriptors(self) -> list[int]:
        return [self.server, *(client.descriptor for client in self.clients)]


class Client:
    """*number* counts up: of two workers the one with the greater connected later."""

    def __init__(self, connection: socket.socket, number: int, unsent: bytes = b"", part: bytes = b"") -> None:
        connection.setblocking(False)
        self.connection = connection
        self.number = number
        self.lines = Lines()
        self.lines.feed(part)
        self.unsent = bytearray(unsent)
        self.moved_s = boot_time_s()
        self.gone = False


class Clients:
    """*greet* is called with each that connects, *handle* with each request and who sent it.

    *kin* are those of the program before, if there was one.
    """

    def __init__(
        self,
        path: Path,
        selector: selectors.BaseSelector,
        greet: Callable[[Client], None],
        handle: Callable[[Request, Client], None],
        kin: Kin | None = None,
    ) -> None:
        self._path = path
        self._selector = selector
        self._greet = greet
        self._handle = handle
        self._all: list[Client] = []
        self._number = kin.number if kin else 0
        self._server = socket.socket(fileno=kin.server) if kin else _listen(path)
        selector.register(self._server, selectors.EVENT_READ, self._accept)
        self._server.setblocking(False)
        for kept in kin.clients if kin else ():
            client = Client(socket.socket(fileno=kept.descriptor), kept.number, kept.unsent, kept.part)
            self._listen_to(client)
            self._all.append(client)

    def kin(self) -> Kin:
        """Return what the next program needs to go on with all of them."""
        clients = [
            Kept(client.connection.fileno(), client.number, bytes(client.unsent), client.lines.rest())
            for client in self._all
        ]
        return Kin(self._server.fileno(), self._number, clients)

    def __bool__(self) -> bool:
        return bool(self._all)

    def _accept(self, _: int) -> None:
        connection, _ = self._server.accept()
        self._number += 1
        client = Client(connection, self._number)
        self._listen_to(client)
        self._greet(client)  # before it is one of all, who may be told something meanwhile
        if not client.gone:
            self._all.append(client)

    def _listen_to(self, client: Client) -> None:
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if client.unsent else 0)
        self._selector.register(client.connection, events, lambda ready: self._serve(client, ready))

    def _serve(self, client: Client, ready: int) -> None:
        if ready & selectors.EVENT_WRITE:
            self._flush(client)
        if ready & selectors.EVENT_READ:
            self._read(client)

    def _read(self, client: Client) -> None:
        if client.gone:
            return
        try:
            data = client.connection.recv(RECEIVE_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._drop(client)
            return
        for line in client.lines.feed(data):
            try:
                request = decode_request(line)
            except msgspec.MsgspecError as error:
                print(f"keeper: request not understood: {error}", file=sys.stderr, flush=True)  # noqa: T201
            else:
                self._handle(request, client)

    def send(self, client: Client, report: Report) -> None:
        waits = bool(client.unsent)
        client.unsent += encode(report) + b"\n"
        if not waits:
            client.moved_s = boot_time_s()
            self._flush(client)

    def tell(self, report: Report) -> None:
        """Send it to all."""
        for client in list(self._all):
            self.send(client, report)

    def _flush(self, client: Client) -> None:
        if client.gone:
            return
        try:
            sent = client.connection.send(client.unsent)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._drop(client)
            return
        del client.unsent[:sent]
        if sent:
            client.moved_s = boot_time_s()
        wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if client.unsent else 0)
        key = self._selector.get_key(client.connection)
        if key.events != wanted:
            self._selector.modify(client.connection, wanted, key.data)

    def tidy(self) -> None:
        """Drop those that have stopped reading."""
        for client in list(self._all):
            if client.unsent and boot_time_s() - client.moved_s > STUCK_S:
                self._drop(client)

    def _drop(self, client: Client) -> None:
        client.gone = True
        self._all = [one for one in self._all if one is not client]
        self._selector.unregister(client.connection)
        client.connection.close()

    def close(self) -> None:
        """Take no more, and let go of those that are there."""
        for client in list(self._all):
            self._drop(client)
        self._selector.unregister(self._server)
        self._server.close()
        self._path.unlink(missing_ok=True)


def _listen(path: Path) -> socket.socket:
    path.unlink(missing_ok=True)
    server = socket.socket(socket.AF_UNIX)
    before = os.umask(0o177)
    server.bind(str(path))
    os.umask(before)
    server.listen()
    return server
