"""Where a hash tag lives in a Redis Cluster, and connections that follow it.

A client of one slot needs no map of the cluster: it asks who serves its slot whenever it connects, as Kombu's Sentinel
channel asks who is master, and connects anew whenever a server says that it is not the one (any more).
"""

from __future__ import annotations

import random
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

import redis
from redis.crc import key_slot
from redis.exceptions import (
    AskError,
    AuthenticationError,
    ClusterDownError,
    ConnectionError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TryAgainError,
)

from kombu_rediscluster.url import Address, address_text

LOOKUP_TIMEOUT_S: Final = 2.0
"""How long one node may take to answer, before the next is asked."""

LOOKUP_TOTAL_S: Final = 10.0
"""How long nodes are asked in all: whoever waits for a connection blocks an event loop."""

ELSEWHERE: Final = (AskError, TryAgainError, ReadOnlyError, ClusterDownError)
"""What a server says that does not serve the slot now; MovedError is an AskError. LOADING is a ConnectionError."""

_UNBLOCKED: Final = "UNBLOCKED"
"""Begins what a client hears that waited in a blocking command on a master that became a replica."""

_NO_CLUSTER: Final = "cluster support disabled"


class NotACluster(ValueError):
    """The URL names a server that is no member of a Redis Cluster. No connection error: trying again is of no use."""


class LoginRefused(ValueError):
    """The account of the URL is not known. No connection error, either: Celery would try it for ever."""


class Slot:
    """The slot of *tag*. *settings* are what a connection to any node needs: account, TLS."""

    def __init__(
        self, seeds: Sequence[Address], tag: str, settings: Mapping[str, Any], connection_class: type[redis.Connection]
    ) -> None:
        self.number = key_slot(b"{%s}" % tag.encode())
        self._seeds = tuple(seeds)
        self._known: tuple[Address, ...] = ()
        self._settings = dict(settings)
        self._connection_class = connection_class

    def master(self) -> Address:
        """Return who serves the slot, by the first node that says so. Takes at most about LOOKUP_TOTAL_S seconds.

        Raises LoginRefused if a node refused the login and no other said who, NotACluster if all are members of none,
        otherwise redis.exceptions.ConnectionError; each with what every node said.
        """
        until_s = time.monotonic() + LOOKUP_TOTAL_S
        problems: dict[Address, Exception] = {}
        for address in self._nodes():
            left_s = until_s - time.monotonic()
            try:
                if left_s <= 0:
                    raise ConnectionError(f"not asked any more after {LOOKUP_TOTAL_S:g} s")
                return self._ask(address, min(left_s, LOOKUP_TIMEOUT_S))
            except (RedisError, OSError) as error:
                problems[address] = error
        told = "; ".join(f"{address_text(address)}: {error}" for address, error in sorted(problems.items()))
        if any(isinstance(error, AuthenticationError) for error in problems.values()):
            raise LoginRefused(f"login refused ({told}); check user and password in the broker URL")
        if all(_NO_CLUSTER in str(error) for error in problems.values()):
            raise NotACluster(f"no Redis Cluster ({told}): for a single server use redis://, for a cluster enable it")
        raise ConnectionError(f"no node says who serves slot {self.number} ({told})")

    def _nodes(self) -> list[Address]:
        """Every node to ask: in any order, so that one that is dead or behind is not asked first each time."""
        nodes = list(dict.fromkeys((*self._known, *self._seeds)))
        random.shuffle(nodes)
        return nodes

    def _ask(self, address: Address, timeout_s: float) -> Address:
        timeouts = {"socket_timeout": timeout_s, "socket_connect_timeout": timeout_s}
        connection = self._connection_class(host=address[0], port=address[1], **{**self._settings, **timeouts})
        try:
            connection.connect()
            connection.send_command("CLUSTER", "SLOTS")
            ranges = connection.read_response()
        finally:
            connection.disconnect()
        found, known = read_slots(ranges, self.number, address[0])
        if found is None:
            raise ConnectionError(f"slot {self.number} is not served")
        self._known = known
        return found


def read_slots(ranges: Sequence[Any], slot: int, asked_host: str) -> tuple[Address | None, tuple[Address, ...]]:
    """Return who serves *slot* by the answer *ranges* to CLUSTER SLOTS, None for nobody, and all nodes that it names.

    An answer may leave a host out, meaning the one that was asked, or say '?' for a host name that it does not know.
    Source: https://redis.io/docs/latest/commands/cluster-slots/
    """
    found: Address | None = None
    known: list[Address] = []
    for first, last, *nodes in ranges:
        addresses = [(_host(host) or asked_host, int(port)) for host, port, *_ in nodes]
        known += addresses
        if first <= slot <= last and addresses:
            found = addresses[0]
    return found, tuple(dict.fromkeys(known))


def _host(value: bytes | str | None) -> str:
    text = value.decode() if isinstance(value, bytes) else value or ""
    return "" if text == "?" else text


class SlotConnection(redis.Connection):
    """A connection to whoever serves *slot*, asked anew at each connect."""

    def __init__(self, slot: Slot, **settings: Any) -> None:
        self._slot = slot
        super().__init__(**settings)

    def connect_check_health(self, *args: Any, **options: Any) -> None:
        """Connect to who serves the slot now. Raises as Slot.master does, and what redis-py raises."""
        if self._sock is None:
            self.host, self.port = self._slot.master()
        super().connect_check_health(*args, **options)

    def read_response(self, *args: Any, **options: Any) -> Any:
        """Read as ever, but take the word of a server that serves the slot no more for the end of the connection."""
        try:
            return super().read_response(*args, **options)
        except ResponseError as error:
            if not isinstance(error, ELSEWHERE) and not str(error).startswith(_UNBLOCKED):
                raise
            self.disconnect()
            raise ConnectionError(
                f"{address_text((self.host, self.port))} does not serve slot {self._slot.number}: {error}"
            ) from error


class SlotSSLConnection(SlotConnection, redis.SSLConnection):
    """The same with TLS."""
