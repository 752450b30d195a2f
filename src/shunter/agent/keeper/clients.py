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

from shunter.agent.keeper.protocol import Lines, Report, Request, decode_request, encode
from shunter.runtime.process import boot_time_s

STUCK_S: Final = 5.0
"""How long a worker may take nothing of what waits for it before it is dropped; it may come back, and hears it all."""

RECEIVE_BYTES: Final = 1 << 16


class Client:
    """*number* counts up: of two workers the one with the greater connected later."""

    def __init__(self, connection: socket.socket, number: int) -> None:
        self.connection = connection
        self.number = number
        self.lines = Lines()
        self.unsent = bytearray()
        self.moved_s = 0.0
        self.gone = False


class Clients:
    """*greet* is called with each that connects, *handle* with each request and who sent it."""

    def __init__(
        self,
        path: Path,
        selector: selectors.BaseSelector,
        greet: Callable[[Client], None],
        handle: Callable[[Request, Client], None],
    ) -> None:
        self._path = path
        self._selector = selector
        self._greet = greet
        self._handle = handle
        self._all: list[Client] = []
        self._number = 0
        path.unlink(missing_ok=True)
        self._server = socket.socket(socket.AF_UNIX)
        before = os.umask(0o177)
        self._server.bind(str(path))
        os.umask(before)
        self._server.listen()
        self._server.setblocking(False)
        selector.register(self._server, selectors.EVENT_READ, self._accept)

    def __bool__(self) -> bool:
        return bool(self._all)

    def _accept(self, _: int) -> None:
        connection, _ = self._server.accept()
        connection.setblocking(False)
        self._number += 1
        client = Client(connection, self._number)
        self._selector.register(connection, selectors.EVENT_READ, lambda ready: self._serve(client, ready))
        self._greet(client)  # before it is one of all, who may be told something meanwhile
        if not client.gone:
            self._all.append(client)

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
