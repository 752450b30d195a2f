"""Running Commands on a Redis server: blocking for the coordinator and the nodes, asyncio for the gateway.

Nothing is retried here but a script that the server has not loaded: a command that broke half-way may have been
applied, and only the caller knows whether repeating it is harmless. Connections that the server closed meanwhile are
replaced when they are taken from the pool.
"""

from __future__ import annotations

from typing import Any, Final, TypeVar, cast
from urllib.parse import urlsplit

import redis
import redis.asyncio
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    ConnectionError,
    NoPermissionError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TimeoutError,
)
from redis.retry import Retry

from shunter.errors import InvalidInput, SetupError, Unavailable
from shunter.store.command import Command

T = TypeVar("T")
TIMEOUT_S: Final = 5.0
_SCHEMES: Final = ("redis", "rediss", "unix")


def check_url(url: str) -> str:
    """Return *url*; raise InvalidInput unless it is redis://, rediss:// or unix://."""
    if urlsplit(url).scheme not in _SCHEMES:
        raise InvalidInput(
            f"redis: expected redis://HOST:PORT/DB, rediss://… or unix:///PATH.sock, got {url!r}",
            field="redis",
            fix="give the URL of a Redis server, 6.2 or later",
        )
    return url


def _options(timeout_s: float) -> dict[str, Any]:
    return {
        "protocol": 2,
        "retry": Retry(NoBackoff(), 0),
        "socket_timeout": timeout_s,
        "socket_connect_timeout": timeout_s,
        "max_connections": 1000,
    }


def _raw(client: Any) -> Any:
    """Return *client*, answering what the server said: each Command reads its own reply."""
    client.response_callbacks = {}
    return client


def translate(error: RedisError) -> Exception:
    """Return the error of ours that *error* is, with what to do."""
    if isinstance(error, AuthenticationError | NoPermissionError):
        return SetupError(f"redis: refused the login: {error}", fix="check user and password in the Redis URL")
    if isinstance(error, OutOfMemoryError):
        return Unavailable("redis: out of memory", fix="raise its maxmemory, or wait until jobs end")
    if isinstance(error, BusyLoadingError):
        return Unavailable("redis: is loading its data set", fix="try again in a moment")
    if isinstance(error, ReadOnlyError):
        return Unavailable("redis: this server is a read-only replica", fix="try again, or use the master's URL")
    if isinstance(error, ConnectionError | TimeoutError):
        return Unavailable(f"redis: cannot be reached ({error})", fix="it is retried; nothing accepted is lost")
    if isinstance(error, ResponseError) and "MISCONF" in str(error):
        return Unavailable(f"redis: refuses writes: {error}", fix="free disk space where Redis keeps its files")
    return error


def _argv(command: Command[T]) -> tuple[Any, ...]:
    if command.script is None:
        return command.parts
    return ("EVALSHA", command.script.sha, command.keys, *command.parts)


def _argv_with_text(command: Command[T]) -> tuple[Any, ...]:
    assert command.script is not None
    return ("EVAL", command.script.text, command.keys, *command.parts)


class Store:
    """A blocking client. Safe to share between threads. Every method raises Unavailable while Redis cannot answer."""

    def __init__(self, url: str, *, timeout_s: float = TIMEOUT_S) -> None:
        self.url = check_url(url)
        self._client = _raw(redis.Redis.from_url(url, **_options(timeout_s)))

    def run(self, command: Command[T]) -> T:
        try:
            try:
                reply = self._client.execute_command(*_argv(command))
            except NoScriptError:
                reply = self._client.execute_command(*_argv_with_text(command))
        except RedisError as error:
            raise translate(error) from error
        return command.parse(reply)

    def run_all(self, *commands: Command[Any]) -> list[Any]:
        """Run plain commands in one round trip (not atomically)."""
        pipeline = self._client.pipeline(transaction=False)
        for command in commands:
            assert command.script is None
            pipeline.execute_command(*command.parts)
        try:
            replies = pipeline.execute()
        except RedisError as error:
            raise translate(error) from error
        return [command.parse(reply) for command, reply in zip(commands, replies, strict=True)]

    def info(self, section: str) -> dict[str, str]:
        """Return a section of INFO as text."""
        try:
            text = cast(bytes, self._client.execute_command("INFO", section)).decode()
        except RedisError as error:
            raise translate(error) from error
        return dict(line.split(":", 1) for line in text.splitlines() if ":" in line)

    def close(self) -> None:
        self._client.close()


class AsyncStore:
    """An asyncio client: the same commands, the same errors."""

    def __init__(self, url: str, *, timeout_s: float = TIMEOUT_S) -> None:
        self.url = check_url(url)
        self._client = _raw(redis.asyncio.Redis.from_url(url, **_options(timeout_s)))

    async def run(self, command: Command[T]) -> T:
        try:
            try:
                reply = await self._client.execute_command(*_argv(command))
            except NoScriptError:
                reply = await self._client.execute_command(*_argv_with_text(command))
        except RedisError as error:
            raise translate(error) from error
        return command.parse(reply)

    async def run_all(self, *commands: Command[Any]) -> list[Any]:
        """Run plain commands in one round trip (not atomically)."""
        pipeline = self._client.pipeline(transaction=False)
        for command in commands:
            assert command.script is None
            pipeline.execute_command(*command.parts)
        try:
            replies = await pipeline.execute()
        except RedisError as error:
            raise translate(error) from error
        return [command.parse(reply) for command, reply in zip(commands, replies, strict=True)]

    async def close(self) -> None:
        await self._client.aclose()
