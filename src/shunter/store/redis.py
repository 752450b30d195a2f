"""Running Commands on a Redis server: blocking for the coordinator and the nodes, asyncio for the gateway.

Nothing is retried here but a script that the server has not loaded: a command that broke half-way may have been
applied, and only the caller knows whether repeating it is harmless. Connections that the server closed meanwhile are
replaced when they are taken from the pool.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, TypeVar, cast

from redis.backoff import NoBackoff
from redis.exceptions import (
    AskError,
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

from shunter.errors import LoginRefused, SetupError, Unavailable
from shunter.store import routes
from shunter.store.checks import Found
from shunter.store.codec import pairs
from shunter.store.command import Command, guarded
from shunter.store.identity import Identity, found, identify

T = TypeVar("T")
TIMEOUT_S: Final = 5.0
BRIEF_MS: Final = 50
"""How long to wait for a replica after one did not confirm in time: a replica that is back says so within this."""


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


_ALL_NODES: Final = "give all of its nodes: rediscluster://HOST:PORT;HOST:PORT;HOST:PORT"


def translate(error: RedisError) -> Exception:
    """Return the error of ours that *error* is, with what to do."""
    if isinstance(error, ResponseError):
        error = routes.unwrapped(error)
    if isinstance(error, AuthenticationError | NoPermissionError):
        return LoginRefused(f"redis: refused the login: {error}", fix="check user and password in the Redis URL")
    if isinstance(error, OutOfMemoryError):
        return Unavailable("redis: out of memory", fix="raise its maxmemory, or wait until jobs end")
    if isinstance(error, BusyLoadingError):
        return Unavailable("redis: is loading its data set", fix="try again in a moment")
    if isinstance(error, AskError):
        return SetupError(
            f"redis: this server is part of a Redis Cluster, and another serves our keys: {error}",
            fix=_ALL_NODES,
        )
    if str(error).startswith("NOREPLICAS"):
        return Unavailable("redis: no replica keeps up with it", fix="start its replicas (min-replicas-to-write)")
    if isinstance(error, ReadOnlyError):
        return Unavailable("redis: this server is a read-only replica", fix="try again, or use the master's URL")
    if isinstance(error, ConnectionError | TimeoutError):
        safe = "accepted jobs are safe, and running ones freeze after a while and go on once it is back"
        return Unavailable(f"redis: cannot be reached ({error})", fix=f"try again; {safe}")
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


class _Patience:
    """How long WAIT waits for replicas: briefly while there seem to be none, for it waits the whole time even then."""

    def __init__(self, route: routes.Url) -> None:
        self.replicas = route.replicas
        self._whole_ms = route.confirm_ms
        self._ms = route.confirm_ms

    @property
    def wait(self) -> tuple[str, int, int]:
        return "WAIT", self.replicas, self._ms

    def heard(self, replicas: int) -> bool:
        """Return whether enough replicas have it."""
        enough = replicas >= self.replicas
        self._ms = self._whole_ms if enough else min(self._whole_ms, BRIEF_MS)
        return enough


class _Foreign(Exception):
    """A guarded script met another data set: *identity* is that one's."""

    def __init__(self, identity: str) -> None:
        super().__init__(identity)
        self.identity = identity


def _whose(error: RedisError) -> _Foreign | None:
    first, _, identity = str(error).partition(" ")
    return _Foreign(identity) if first == "FOREIGN" else None


@contextmanager
def _translated() -> Iterator[None]:
    """Raise what is ours in place of what the client raises."""
    try:
        yield
    except RedisError as error:
        raise _whose(error) or translate(error) from error
    except RuntimeError as error:
        # uvloop's word for a connection that the kernel has given up meanwhile; asyncio's own loop says OSError.
        if "handler is closed" not in str(error):
            raise
        raise translate(ConnectionError("connection closed")) from error


def _ask(connection: Any, *commands: tuple[Any, ...]) -> list[Any]:
    """Send *commands* over *connection* in one go; an error that the server answers to one stands in its place."""
    connection.send_packed_command(connection.pack_commands(commands))
    replies = []
    for _ in commands:
        try:
            replies.append(connection.read_response())
        except ResponseError as error:
            replies.append(error)
    return replies


def _read(command: Command[T], reply: Any) -> T:
    if isinstance(reply, RedisError):
        raise translate(reply) from reply
    return command.parse(reply)


def _read_all(commands: Sequence[Command[Any]], replies: Sequence[Any]) -> list[Any]:
    return [_read(command, reply) for command, reply in zip(commands, replies, strict=True)]


class Store:
    """A blocking client. Safe to share between threads. Every method raises Unavailable while Redis cannot answer.

    With *identity* every command is for that data set only: on another one it does nothing, and raises ForeignStore.
    """

    def __init__(self, url: str, *, timeout_s: float = TIMEOUT_S, identity: Identity | None = None) -> None:
        self.url = url if identity is None else routes.with_cluster(url, identity.cluster)
        self.route = routes.parse(self.url)
        self.finder = routes.Finder(self.route)
        self._client = _raw(routes.client(self.route, self.finder, _options(timeout_s)))
        self._patience = _Patience(self.route)
        self._identity = identity

    @property
    def identity(self) -> str:
        """The identity of the data set that this client is for; nothing while it has met none, and for any."""
        return self._identity.known if self._identity is not None else ""

    def run(self, command: Command[T]) -> T:
        if self._identity is None:
            return self._run(command)
        if command.script is None:
            return cast(T, self.run_all(command)[0])
        while True:
            known = self._identity.known or self._identity.note(self._run(identify(self._identity.meta)))
            try:
                return self._run(guarded(command, self._identity.meta, known))
            except _Foreign as other:
                self._identity.face(other.identity)

    def run_surely(self, command: Command[T]) -> T:
        """Run a script's call that may be repeated, and return once its effect survives the loss of the master.

        That is: once a replica has it, or, where none is attached, most sentinels (masters of a Redis Cluster) say that
        this server is the master, so that nobody has taken over from it. Raises Unavailable if neither is known: the
        call may have had its effect, and should be repeated. On a single server it is `run`.
        """
        if not self._patience.replicas:
            return self.run(command)
        assert self._identity is not None and command.script is not None
        while True:
            known = self._identity.known or self._identity.note(self._run(identify(self._identity.meta)))
            try:
                reply, sure = self._run_and_wait(guarded(command, self._identity.meta, known))
            except _Foreign as other:
                self._identity.face(other.identity)
                continue
            if not sure:
                raise Unavailable("redis: no replica has it, and most do not name this server as master")
            return command.parse(reply)

    def _run_and_wait(self, command: Command[T]) -> tuple[Any, bool]:
        pool = self._client.connection_pool
        with _translated():
            connection = pool.get_connection()
            try:
                reply, replicas = _ask(connection, _argv(command), self._patience.wait)
                if isinstance(reply, NoScriptError):
                    reply, replicas = _ask(connection, _argv_with_text(command), self._patience.wait)
                if isinstance(reply, RedisError):
                    raise reply
                sure = self._patience.heard(replicas)
                role = None if sure else _ask(connection, ("ROLE",))[0]
                address = (connection.host, connection.port)
            except BaseException:
                connection.disconnect()
                raise
            finally:
                pool.release(connection)
            # With replicas that do not answer it may be cut off, and those who still name it may not know yet.
            alone = role is not None and role[0] == b"master" and not role[2]
            return reply, sure or (alone and self.finder.majority_names(address))

    def _run(self, command: Command[T]) -> T:
        with _translated():
            try:
                reply = self._client.execute_command(*_argv(command))
            except NoScriptError:
                reply = self._client.execute_command(*_argv_with_text(command))
        return command.parse(reply)

    def run_all(self, *commands: Command[Any]) -> list[Any]:
        """Run plain commands, which only read, in one round trip (not atomically)."""
        if self._identity is None:
            return _read_all(commands, self._replies(commands))
        whose = found(self._identity.meta)
        while True:
            known = self._identity.known or self._identity.note(self._run(identify(self._identity.meta)))
            first, *replies = self._replies((whose, *commands))
            met = _read(whose, first)  # before the others: another data set may hold anything
            if met == known:
                return _read_all(commands, replies)
            self._identity.face(met)

    def _replies(self, commands: Sequence[Command[Any]]) -> list[Any]:
        pipeline = self._client.pipeline(transaction=False)
        for command in commands:
            assert command.script is None
            pipeline.execute_command(*command.parts)
        with _translated():
            return cast(list[Any], pipeline.execute(raise_on_error=False))

    def examine(self) -> Found:
        """Return how this Redis is set up, for `checks.problems`.

        Raises Unavailable, or SetupError for a bad login and for a member of a Redis Cluster that the URL takes for a
        single server: some commands would work there.
        """
        server, replication = self.info("server"), self.info("replication")
        if server.get("redis_mode") == "cluster" and self.route.kind != routes.CLUSTER:
            raise SetupError("redis: this server is part of a Redis Cluster", fix=_ALL_NODES)
        config: dict[str, str] = {}
        with contextlib.suppress(SetupError, ResponseError):
            flat = self._plainly("CONFIG", "GET", "*")
            config = {name.decode(): value.decode(errors="replace") for name, value in pairs(flat).items()}
        sentinel = self.finder.sentinel() if self.route.kind == routes.SENTINEL else {}
        return Found(
            self.route.kind, server.get("redis_version", ""), config, int(replication.get("connected_slaves", 0)),
            sentinel, len(self.route.hosts), self._shards() if self.route.kind == routes.CLUSTER else (),
            replication.get("role", "master"),
        )  # fmt: skip

    def _shards(self) -> tuple[tuple[str, ...], ...]:
        """The hosts of each shard, its master's first, as this server knows them; nothing where that is forbidden."""
        with contextlib.suppress(SetupError, ResponseError):
            spans = self._plainly("CLUSTER", "SLOTS")
            shards = {span[2][2]: tuple((node[0] or b"").decode() for node in span[2:]) for span in spans}
            return tuple(shards.values())
        return ()

    def names(self, pattern: str) -> Iterator[bytes]:
        """Yield the names of all keys on this server that match *pattern*, each once."""
        cursor, found = b"0", set[bytes]()
        while True:
            cursor, names = self._plainly("SCAN", cursor, "MATCH", pattern, "COUNT", 1000)
            found.update(names)
            if cursor == b"0":
                yield from found
                return

    def at_once(self, *commands: tuple[Any, ...]) -> list[Any]:
        """Run *commands* in one transaction, and return what each answered."""
        pipeline = self._client.pipeline(transaction=True)
        for command in commands:
            pipeline.execute_command(*command)
        with _translated():
            return cast(list[Any], pipeline.execute())

    def _plainly(self, *words: str | bytes | int) -> Any:
        with _translated():
            return self._client.execute_command(*words)

    def info(self, section: str) -> dict[str, str]:
        """Return a section of INFO as text."""
        text = cast(bytes, self._plainly("INFO", section)).decode()
        return dict(line.split(":", 1) for line in text.splitlines() if ":" in line)

    def close(self) -> None:
        self._client.close()


class AsyncStore:
    """An asyncio client: the same commands, the same errors."""

    def __init__(self, url: str, *, timeout_s: float = TIMEOUT_S, identity: Identity | None = None) -> None:
        self.url = url if identity is None else routes.with_cluster(url, identity.cluster)
        self.route = routes.parse(self.url)
        self._client = _raw(routes.async_client(self.route, routes.Finder(self.route), _options(timeout_s)))
        self._patience = _Patience(self.route)
        self._identity = identity

    @property
    def identity(self) -> str:
        """The identity of the data set that this client is for; nothing while it has met none, and for any."""
        return self._identity.known if self._identity is not None else ""

    async def run(self, command: Command[T]) -> T:
        if self._identity is None:
            return await self._run(command)
        if command.script is None:
            return cast(T, (await self.run_all(command))[0])
        while True:
            known = self._identity.known or self._identity.note(await self._run(identify(self._identity.meta)))
            try:
                return await self._run(guarded(command, self._identity.meta, known))
            except _Foreign as other:
                self._identity.face(other.identity)

    async def run_confirmed(self, command: Command[T]) -> tuple[T, bool]:
        """As `run`, of a script's call; say too whether so many replicas have it as the URL asks for.

        WAIT goes over the same connection, right behind the write: it speaks of what that one has written. Source:
        https://redis.io/docs/latest/commands/wait/
        """
        if not self._patience.replicas:
            return await self.run(command), True
        assert self._identity is not None and command.script is not None
        while True:
            known = self._identity.known or self._identity.note(await self._run(identify(self._identity.meta)))
            try:
                return await self._run_and_wait(guarded(command, self._identity.meta, known))
            except _Foreign as other:
                self._identity.face(other.identity)

    async def confirm(self) -> bool:
        """Say whether so many replicas as the URL asks for have all that was written until now, by whomever.

        WAIT waits for what the server had written when it last answered this connection: so any command will do.
        """
        if not self._patience.replicas:
            return True
        with _translated():
            pipeline = self._client.pipeline(transaction=False)
            pipeline.execute_command("PING")
            pipeline.execute_command(*self._patience.wait)
            _, replicas = await pipeline.execute()
        return self._patience.heard(replicas)

    async def _run_and_wait(self, command: Command[T]) -> tuple[T, bool]:
        with _translated():
            for argv in (_argv(command), _argv_with_text(command)):
                pipeline = self._client.pipeline(transaction=False)
                pipeline.execute_command(*argv)
                pipeline.execute_command(*self._patience.wait)
                reply, replicas = await pipeline.execute(raise_on_error=False)
                if not isinstance(reply, NoScriptError):
                    break
            if isinstance(reply, RedisError):
                raise reply
        return command.parse(reply), self._patience.heard(replicas)

    async def _run(self, command: Command[T]) -> T:
        with _translated():
            try:
                reply = await self._client.execute_command(*_argv(command))
            except NoScriptError:
                reply = await self._client.execute_command(*_argv_with_text(command))
        return command.parse(reply)

    async def run_all(self, *commands: Command[Any]) -> list[Any]:
        """Run plain commands, which only read, in one round trip (not atomically)."""
        if self._identity is None:
            return _read_all(commands, await self._replies(commands))
        whose = found(self._identity.meta)
        while True:
            known = self._identity.known or self._identity.note(await self._run(identify(self._identity.meta)))
            first, *replies = await self._replies((whose, *commands))
            met = _read(whose, first)  # before the others: another data set may hold anything
            if met == known:
                return _read_all(commands, replies)
            self._identity.face(met)

    async def _replies(self, commands: Sequence[Command[Any]]) -> list[Any]:
        pipeline = self._client.pipeline(transaction=False)
        for command in commands:
            assert command.script is None
            pipeline.execute_command(*command.parts)
        with _translated():
            return cast(list[Any], await pipeline.execute(raise_on_error=False))

    async def close(self) -> None:
        await self._client.aclose()
