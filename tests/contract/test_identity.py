"""Whose data set it is: a process obeys only the one that it belongs to, whatever is found behind the URL."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from shunter.domain.ids import NodeName
from shunter.domain.lease import Granted, Lost
from shunter.errors import ForeignStore, Unavailable
from shunter.store import commands, identity, leases
from shunter.store.command import Command, guarded
from shunter.store.identity import Identity
from shunter.store.redis import AsyncStore, Store
from tests.contract.cluster import HOUR_MS, Cluster
from tests.contract.test_clients import everything
from tests.contract.test_concurrency import THREADS, all_at_once


class Home:
    """A process's home folder, and its clients."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self.cluster = cluster
        self.record = folder / "home" / "record"
        self._clients: list[Store] = []

    def client(self) -> Store:
        """Return the client of a process that starts now."""
        store = Store(self.cluster.url, identity=Identity(self.cluster.keys, self.record))
        self._clients.append(store)
        return store

    def ask(self, *asked: Command[Any]) -> list[Any]:
        """Ask as a gateway does that starts now."""

        async def ask() -> list[Any]:
            store = AsyncStore(self.cluster.url, identity=Identity(self.cluster.keys, self.record))
            try:
                return [await store.run(command) for command in asked]
            finally:
                await store.close()

        return asyncio.run(ask())

    def close(self) -> None:
        for store in self._clients:
            store.close()


@pytest.fixture
def home(cluster: Cluster, tmp_path: Path) -> Iterator[Home]:
    home = Home(cluster, tmp_path)
    yield home
    home.close()


def lose(cluster: Cluster) -> dict[bytes, bytes]:
    """Empty the data set; return what it held."""
    held = cluster.snapshot()
    if held:
        cluster.redis.delete(*held)
    return held


def bring_back(cluster: Cluster, held: dict[bytes, bytes]) -> None:
    lose(cluster)
    for name, value in held.items():
        cluster.redis.restore(name, 0, value)


def all_commands(cluster: Cluster) -> list[Command[Any]]:
    """Return a command of each kind."""
    asked = everything(cluster)
    node = cluster.run(commands.nodes(cluster.keys))[0]
    return [
        *asked,
        commands.register(cluster.keys, node, "host-1", replace_after_ms=HOUR_MS),
        commands.store_time(cluster.keys),
        commands.redis_version(cluster.keys),
        commands.seen(cluster.keys),
        commands.leader(cluster.keys),
        leases.watch(cluster.keys),
        leases.ready(cluster.keys, cluster.lead(), "a run"),
        cluster.loss(None, node),
    ]


# the name of a data set


def test_a_data_set_is_named_once_by_whoever_meets_it_first(cluster: Cluster, tmp_path: Path) -> None:
    stores = [Store(cluster.url, identity=Identity(cluster.keys, tmp_path / str(n))) for n in range(THREADS)]
    all_at_once(*[lambda store=store: store.run(commands.last_job(cluster.keys)) for store in stores])
    named = cluster.redis.hget(cluster.keys.meta, "identity").decode()
    assert {store.identity for store in stores} == {named}
    assert {identity.read(tmp_path / str(n)) for n in range(THREADS)} == {named}
    assert len(named) == 16
    for store in stores:
        store.close()


@pytest.mark.parametrize("first", ["register", "lead", "submit"])
def test_whatever_is_asked_first_names_it(cluster: Cluster, home: Home, first: str) -> None:
    store = home.client()
    if first == "register":
        incarnation = store.run(commands.next_incarnation(cluster.keys))
        assert incarnation == "0000000001"
    elif first == "lead":
        assert store.run(commands.lead(cluster.keys, "a", "token", HOUR_MS)).leading
    else:
        assert store.run(cluster.submission()) == [1]
    assert cluster.redis.hget(cluster.keys.meta, "identity").decode() == store.identity == identity.read(home.record)


def test_a_data_set_that_has_no_name_yet_gets_one_and_keeps_all_that_it_has(cluster: Cluster, home: Home) -> None:
    """What the first versions wrote has none."""
    job_id = cluster.queued()
    store = home.client()
    assert store.run(commands.active(cluster.keys)) == [job_id]
    assert store.identity


def test_every_data_set_has_a_name_of_its_own(cluster: Cluster, home: Home) -> None:
    home.client().run(commands.last_job(cluster.keys))
    first = identity.read(home.record)
    lose(cluster)
    home.record.unlink()
    home.client().run(commands.last_job(cluster.keys))
    assert identity.read(home.record) != first


# its own data set


def test_to_its_own_data_set_every_command_is_what_it_is_without_a_name(cluster: Cluster, home: Home) -> None:
    asked = everything(cluster)
    store = home.client()
    for command in asked:
        store.run(command)
    with_name = [store.run(command) for command in asked]
    assert with_name == [cluster.plain.run(command) for command in asked] == home.ask(*asked)


def test_what_asks_for_the_name_declares_its_key(cluster: Cluster, home: Home) -> None:
    store = home.client()
    asked = [command for command in all_commands(cluster) if command.script is not None]
    store.run(commands.last_job(cluster.keys))
    for command in asked:
        cluster.run(guarded(command, cluster.keys.meta, store.identity))


# another one


def refused(store: Store, asked: list[Command[Any]]) -> None:
    for command in asked:
        with pytest.raises(ForeignStore):
            store.run(command)
    with pytest.raises(ForeignStore):
        store.run_all(*(command for command in asked if command.script is None))


@pytest.mark.parametrize("now", ["empty", "another", "emptied and named anew"])
@pytest.mark.parametrize("known", ["in memory", "from the file"])
def test_on_another_data_set_no_command_does_or_reads_anything(
    cluster: Cluster, home: Home, now: str, known: str
) -> None:
    asked = [*all_commands(cluster), commands.next_incarnation(cluster.keys)]
    store = home.client()
    store.run(commands.last_job(cluster.keys))
    if now == "another":  # with the same jobs, nodes, incarnations and leader
        cluster.redis.hset(cluster.keys.meta, "identity", "another")
    else:
        lose(cluster)
        if now == "emptied and named anew":
            cluster.redis.hset(cluster.keys.meta, "identity", "anew")
    before = cluster.snapshot()
    refused(store if known == "in memory" else home.client(), asked)
    for command in asked:
        with pytest.raises(ForeignStore):
            home.ask(command)
    assert cluster.snapshot() == before


def test_what_another_data_set_holds_is_not_even_decoded(cluster: Cluster, home: Home) -> None:
    job_id = cluster.queued()
    store = home.client()
    store.run(commands.last_job(cluster.keys))
    held = lose(cluster)
    cluster.redis.set(cluster.keys.phases, "of another kind")
    cluster.redis.hset(cluster.keys.specs, job_id, "nonsense")
    refused(store, [commands.records(cluster.keys, [job_id]), commands.jobs(cluster.keys, [job_id])])
    bring_back(cluster, held)


@pytest.mark.parametrize("other", ["", "another"])
def test_the_refusal_says_what_was_expected_what_was_found_and_what_to_do(
    cluster: Cluster, home: Home, other: str
) -> None:
    store = home.client()
    store.run(commands.last_job(cluster.keys))
    cluster.redis.hset(cluster.keys.meta, "identity", other)
    with pytest.raises(ForeignStore) as caught:
        store.run(commands.active(cluster.keys))
    said = f"found {other}" if other else "found none: it is empty"
    assert caught.value.message == (
        f"redis: not the data set of cluster {cluster.keys.cluster!r}: expected identity {store.identity}, {said}"
    )
    assert caught.value.fix is not None
    assert f"`shunter rejoin` on every machine (here with --home {home.record.parent})" in caught.value.fix
    assert isinstance(caught.value, Unavailable)  # whoever waits for the store waits for the right one
    assert (caught.value.http_status, caught.value.exit_code) == (503, 7)


def test_on_an_emptied_data_set_no_renewal_is_answered(cluster: Cluster, home: Home) -> None:
    """`lost` has a node worker join anew; it would find none of its jobs, and end them all."""
    node = cluster.join("n1")
    store = home.client()
    assert isinstance(store.run(cluster.renewal(node)).answer, Granted)
    held = lose(cluster)
    with pytest.raises(ForeignStore):
        store.run(cluster.renewal(node))
    bring_back(cluster, held)
    assert isinstance(store.run(cluster.renewal(node)).answer, Granted)
    assert store.run(cluster.renewal(replace(node, name=NodeName("n9")))).answer == Lost()


def test_a_data_set_that_is_brought_back_is_obeyed_again(cluster: Cluster, home: Home) -> None:
    job_id = cluster.queued()
    store = home.client()
    assert store.run(commands.active(cluster.keys)) == [job_id]
    held = lose(cluster)
    refused(store, [commands.active(cluster.keys)])
    bring_back(cluster, held)
    assert store.run(commands.active(cluster.keys)) == [job_id]
    assert home.client().run(commands.active(cluster.keys)) == [job_id]


# an operator decides


def test_once_an_operator_has_given_the_old_one_up_the_next_one_is_taken(cluster: Cluster, home: Home) -> None:
    cluster.queued()
    running, old = home.client(), cluster.queued()
    running.run(commands.active(cluster.keys))
    lose(cluster)
    refused(running, [commands.active(cluster.keys)])
    home.record.unlink()
    assert running.run(commands.active(cluster.keys)) == []
    assert running.run(cluster.submission()) == [1] != [old]
    assert identity.read(home.record) == running.identity
    assert home.client().run(commands.active(cluster.keys)) == [1]


def test_a_process_follows_what_another_one_of_its_home_has_taken(cluster: Cluster, home: Home) -> None:
    one, other = home.client(), home.client()
    one.run(commands.last_job(cluster.keys))
    other.run(commands.last_job(cluster.keys))
    lose(cluster)
    home.record.unlink()
    one.run(commands.last_job(cluster.keys))
    other.run(commands.last_job(cluster.keys))
    assert one.identity == other.identity


def test_a_name_that_could_not_be_noted_is_kept_in_mind_and_nothing_else_is_taken(
    cluster: Cluster, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    store = Store(cluster.url, identity=Identity(cluster.keys, tmp_path / "file" / "record"))
    store.run(commands.last_job(cluster.keys))
    assert store.identity
    lose(cluster)
    refused(store, [commands.last_job(cluster.keys)])
    store.close()


def test_the_records_of_a_home_are_found(cluster: Cluster, tmp_path: Path) -> None:
    assert identity.records(tmp_path) == []
    paths = [identity.home_record(tmp_path, "main"), identity.node_record(tmp_path / "nodes" / "n1")]
    for path in paths:
        Identity(cluster.keys, path).note("me")
    assert identity.records(tmp_path) == paths
    assert [identity.read(path) for path in paths] == ["me", "me"]
    assert not list(tmp_path.glob("**/*.*.*"))
