"""Publishing to the six servers, and consuming from them, with nothing but Kombu."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, Final

import pytest
import redis
from kombu.connection import Connection
from kombu.entity import Exchange, Queue

import kombu_rediscluster  # noqa: F401  teaches Kombu the scheme
from tests.rediscluster.six import Six, server

LOST: Final = (redis.ConnectionError, redis.TimeoutError, OSError)

needs_server: Final = [
    pytest.mark.e2e,
    pytest.mark.timeout(120),
    pytest.mark.skipif(server() is None, reason="redis-server 7 is needed"),
]


@contextlib.contextmanager
def connected(six: Six, tag: str, **options: Any) -> Iterator[Connection]:
    with Connection(six.url(tag), transport_options={"socket_timeout": 5, **options}) as connection:
        yield connection


def queue_of(name: str) -> Queue:
    return Queue(name, Exchange(""), routing_key=name)


def drain(connection: Connection, queue: Queue, count: int, moved: int = 0) -> list[Any]:
    """Consume *count* messages, acknowledging each.

    *moved* says how often the connection may hear that its server is not the one any more, and goes on at another, as
    Celery's worker does at any of the connection's recoverable errors.
    """
    found: list[Any] = []

    def take(body: Any, message: Any) -> None:
        found.append(body)
        message.ack()

    while True:
        try:
            with connection.Consumer([queue], callbacks=[take]):
                while len(found) < count:
                    connection.drain_events(timeout=10)
            return found
        except connection.recoverable_connection_errors:
            moved -= 1
            if moved < 0:
                raise
            connection.collect()
