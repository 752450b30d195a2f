"""Store and AsyncStore: the same answers and the same errors."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import uvloop
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)

from shunter.domain.ids import Incarnation
from shunter.domain.phase import Queued
from shunter.errors import Conflict, InvalidInput, SetupError, Unavailable
from shunter.store import codec, commands, leases, queues
from shunter.store.command import Command
from shunter.store.commands import Leadership
from shunter.store.keys import Keys
from shunter.store.redis import AsyncStore, Store, translate
from tests.contract.cluster import HOUR_MS, Cluster, with_incarnation


async def run_async(url: str, *asked: Command[Any], timeout_s: float = 5.0) -> list[Any]:
    store = AsyncStore(url, timeout_s=timeout_s)
    try:
        return [await store.run(command) for command in asked]
    finally:
        await store.close()


def everything(cluster: Cluster) -> list[Command[Any]]:
    """Return a command of each kind, such that asking twice answers the same twice."""
    keys, leadership = cluster.keys, cluster.lead()
    node = cluster.join("n1")
    ran, waits = cluster.running(leadership, node), cluster.queued()
    move = cluster.cancelling(ran)
    cluster.stop(move)
    return [
        cluster.submission(2, key=("key", "digest")),
        commands.place(keys, Leadership(99, "x"), [cluster.placing(waits, node)]),
        commands.claim(keys, node.name, node.incarnation, [move]),
        commands.claim(keys, node.name, Incarnation("x"), [move]),
        commands.report(keys, node.name, node.incarnation, [cluster.ending(ran)]),
        commands.stop(keys, [move]),
        commands.lead(keys, "coordinator-1", leadership.token, HOUR_MS),
        commands.resign(keys, Leadership(99, "x")),
        *(cluster.renewal(node, worker=worker, number=1) for worker in ("a", "b")),  # each is granted each time
        cluster.renewal(node, worker="b", number=1),
        cluster.renewal(with_incarnation(node, "x")),
        leases.lose(keys, Leadership(99, "x"), "n1", "why", 0, [], run_id="x", renewal="x"),
        leases.lose(keys, None, "n9", "why", 0, []),
        leases.ready(keys, Leadership(99, "x"), "x"),
        commands.cordon(keys, "n9", "why", "ada"),
        commands.leave(keys, "n1", "x"),
        commands.forget(keys, leadership, keep_s=HOUR_MS, keep=100),
        commands.forget(keys, Leadership(99, "x"), keep_s=HOUR_MS, keep=100),
        queues.bury(keys, leadership, [(node.name, node.incarnation)]),
        queues.bury(keys, Leadership(99, "x"), [(node.name, Incarnation("x"))]),
        queues.known(keys),
        queues.living(keys),
        commands.nodes(keys),
        commands.cordons(keys),
        commands.held(keys, "n1"),
        commands.records(keys, [ran, 99]),
        commands.jobs(keys, [ran, 99]),
        commands.launch(keys, ran),
        commands.launch(keys, 99),
        commands.active(keys),
        commands.active_count(keys),
        commands.last_job(keys),
        commands.last_event(keys),
        commands.first_event(keys),
        commands.events(keys, "0-0"),
        commands.put_decision(keys, leadership, b"{}"),
        commands.put_decision(keys, Leadership(99, "x"), b"stale"),
        commands.decision(keys),
        commands.policy(keys),
        commands.usage(keys),
    ]


def test_both_clients_give_the_same_answer_to_every_command(cluster: Cluster) -> None:
    asked = everything(cluster)
    for command in asked:
        cluster.plain.run(command)
    blocking = [cluster.plain.run(command) for command in asked]
    assert asyncio.run(run_async(cluster.url, *asked)) == blocking


def test_both_clients_run_plain_commands_in_one_round_trip(cluster: Cluster) -> None:
    cluster.submit(2)
    keys = cluster.keys
    asked: list[Command[Any]] = [
        commands.active(keys),
        commands.records(keys, [1, 2]),
        commands.last_event(keys),
        commands.seen(keys),
    ]

    async def all_at_once() -> list[Any]:
        store = AsyncStore(cluster.url)
        try:
            return await store.run_all(*asked)
        finally:
            await store.close()

    one_by_one = [cluster.plain.run(command) for command in asked]
    assert cluster.plain.run_all(*asked) == asyncio.run(all_at_once()) == one_by_one


def test_both_clients_raise_what_the_command_raises(cluster: Cluster) -> None:
    cluster.submit(key=("key", "digest"))
    mismatch = cluster.submission(key=("key", "another"))
    with pytest.raises(Conflict):
        cluster.plain.run(mismatch)
    with pytest.raises(Conflict):
        asyncio.run(run_async(cluster.url, mismatch))


def test_both_clients_load_a_script_that_the_server_does_not_have(cluster: Cluster) -> None:
    cluster.redis.script_flush()
    assert cluster.plain.run(cluster.submission()) == [1]
    cluster.redis.script_flush()
    assert asyncio.run(run_async(cluster.url, cluster.submission())) == [[2]]


@pytest.fixture
def silent(tmp_path: Path) -> Iterator[str]:
    """The URL of something that takes connections and never answers."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s"))
        server.listen()
        yield f"unix://{tmp_path}/s"


def test_both_clients_say_unavailable_when_there_is_no_server(tmp_path: Path) -> None:
    url = f"unix://{tmp_path}/none.sock"
    asked = commands.active_count(Keys("none"))
    store = Store(url)
    for ask in (lambda: store.run(asked), lambda: store.run_all(asked), lambda: store.info("server")):
        with pytest.raises(Unavailable, match="redis: cannot be reached"):
            ask()
    store.close()
    with pytest.raises(Unavailable, match="redis: cannot be reached"):
        asyncio.run(run_async(url, asked))


def test_both_clients_say_unavailable_when_the_server_does_not_answer_in_time(silent: str) -> None:
    asked = commands.active_count(Keys("none"))
    store = Store(silent, timeout_s=0.05)
    with pytest.raises(Unavailable, match="redis: cannot be reached"):
        store.run(asked)
    store.close()
    with pytest.raises(Unavailable, match="redis: cannot be reached"):
        asyncio.run(run_async(silent, asked, timeout_s=0.05))


def test_a_connection_that_has_ended_unnoticed_is_unavailable_once(cluster: Cluster) -> None:
    """As after an outage that the kernel has given up on: uvloop, which the gateway runs on, calls it RuntimeError."""
    asked = commands.active_count(cluster.keys)

    async def lose_one() -> int:
        store = AsyncStore(cluster.store.url)
        await store.run(asked)
        (connection,) = store._client.connection_pool._available_connections
        for run in (store.run, store.run_all):
            connection._writer.transport.abort()
            with pytest.raises(Unavailable, match="redis: cannot be reached"):
                await run(asked)
            await run(asked)
            (connection,) = store._client.connection_pool._available_connections
        answer = await store.run(asked)
        await store.close()
        return answer

    assert uvloop.run(lose_one()) == 0


IN_SCRIPT: Final = f"Error running script (call to f_{'7' * 40}): @user_script:10: @user_script: 10:"
"""So Redis 6.2 begins what a command in a script was told."""


@pytest.mark.parametrize(
    ("error", "kind", "says"),
    [
        (AuthenticationError("WRONGPASS"), SetupError, "check user and password"),
        (OutOfMemoryError("OOM"), Unavailable, "raise its maxmemory"),
        (BusyLoadingError("LOADING"), Unavailable, "try again in a moment"),
        (ReadOnlyError("READONLY"), Unavailable, "use the master's URL"),
        (ResponseError("MISCONF Redis is configured"), Unavailable, "free disk space"),
        (ResponseError(f"{IN_SCRIPT} -OOM command not allowed"), Unavailable, "raise its maxmemory"),
        (ResponseError(f"{IN_SCRIPT} -READONLY You can't write"), Unavailable, "use the master's URL"),
        (ResponseError(f"{IN_SCRIPT} -NOREPLICAS Not enough good replicas"), Unavailable, "start its replicas"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, RedisError) else "",
)
def test_what_the_server_says_becomes_an_error_that_says_what_to_do(
    error: RedisError, kind: type[Exception], says: str
) -> None:
    told = translate(error)
    assert isinstance(told, kind)
    assert says in str(told)


def test_an_error_that_only_a_bug_can_cause_stays_what_it_is() -> None:
    error = ResponseError("WRONGTYPE")
    assert translate(error) is error


@pytest.mark.parametrize("url", ["http://x", "localhost:6379", ""])
def test_a_url_of_another_kind_is_refused_and_says_which_work(url: str) -> None:
    with pytest.raises(InvalidInput, match="redis: expected redis://HOST:PORT/DB, rediss://…, unix:///PATH"):
        Store(url)


def test_a_record_reads_back_as_it_was_written() -> None:
    written = codec.record(Queued(5.0, attempt=2, retries=1), 7)
    assert codec.read_record(written.value) == written
    assert written.value.startswith(b"queued 2 - 7\n")


@pytest.mark.parametrize(
    "value", [b"", b"queued", b"queued 0 - 1\n{}", b"queued 0 - x\n" + codec.record(Queued(1.0), 1).value]
)
def test_a_value_that_no_version_wrote_is_refused(value: bytes) -> None:
    with pytest.raises((ValueError, IndexError)):
        codec.read_record(value)
