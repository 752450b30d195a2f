"""A leader on a real Redis that meets what it cannot digest: it goes on with the rest, and people are told."""

from __future__ import annotations

import itertools
import sys
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, Final, TypeVar

import msgspec
import pytest
from structlog.testing import capture_logs

from shunter.coordinator.loop import Loop
from shunter.coordinator.policy_source import PolicySource
from shunter.coordinator.step import Coordinator
from shunter.dispatch.celery import CeleryDispatcher
from shunter.domain.ids import JobId
from shunter.domain.node import Node
from shunter.domain.phase import HOLDS_GPUS, Phase, Queued
from shunter.errors import Unavailable
from shunter.runtime.policy_report import PolicyInForce
from shunter.scheduling.order import Plain
from shunter.scheduling.parts import order_part
from shunter.scheduling.plan import Decision
from shunter.scheduling.policy import Policy
from shunter.scheduling.usage import Usage
from shunter.store import commands, roster
from shunter.store.command import Command
from shunter.store.redis import Store
from tests.contract.cluster import Cluster, eventually

T = TypeVar("T")


class Moody(Plain):
    """A part of the order that raises what it is told to."""

    error: Exception | None = None

    def __init__(self, *_: Any) -> None:
        if self.error is not None:
            raise self.error


MOODY: Final = Policy(order=("moody", "age"))


class Leader:
    """A coordinator that leads *cluster*, by a policy with a Moody part if nothing else is said."""

    def __init__(self, cluster: Cluster, policy: Policy = MOODY) -> None:
        self.cluster = cluster
        self.leadership = cluster.lead("a")
        cluster.catch_up()
        dispatcher = CeleryDispatcher(cluster.url, cluster.keys)
        numbers = itertools.count(1)
        self.coordinator = Coordinator(
            cluster.plain, cluster.keys, dispatcher, policy, self.leadership, "a", numbers
        )  # fmt: skip
        self.coordinator.begin()

    def step(self) -> None:
        entries = self.cluster.run(commands.events(self.cluster.keys, self.coordinator.follower.cursor))
        self.coordinator.step(entries)

    def tick(self) -> None:
        self.coordinator.tick()

    @property
    def said(self) -> Decision:
        text = self.cluster.run(commands.decision(self.cluster.keys))
        assert text is not None
        return msgspec.json.decode(text, type=Decision)

    def failing(self) -> tuple[int, str] | None:
        return None if self.said.failing is None else (self.said.failing.times, self.said.failing.error)


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    module = ModuleType("shunter.scheduling.order.moody")
    module.Part = Moody  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(Moody, "error", None)
    monkeypatch.setattr("shunter.coordinator.step.PUBLISH_EVERY_S", 0.0)
    monkeypatch.setattr("shunter.coordinator.trouble.FIRST_PAUSE_S", 0.0)
    yield
    order_part.cache_clear()


@pytest.fixture
def node(cluster: Cluster) -> Iterator[Node]:
    node = cluster.join("n1")
    yield node
    cluster.redis.delete(cluster.keys.queue(node.name, node.incarnation))  # hints that no worker has taken


def holds(phase: Phase) -> bool:
    return isinstance(phase, HOLDS_GPUS)


# passes that fail


def test_a_pass_that_fails_does_not_end_the_leader_and_is_told(
    cluster: Cluster, node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    leader = Leader(cluster)
    (first,) = cluster.submit()
    leader.step()
    assert holds(cluster.phase(first))
    monkeypatch.setattr(Moody, "error", KeyError("x"))
    (second,) = cluster.submit()
    with capture_logs() as logs:
        leader.step()
        assert leader.failing() == (1, "KeyError: 'x'")
        assert isinstance(cluster.phase(second), Queued)
        cluster.claim(node, cluster.claiming(first))
        cluster.report(node, cluster.ending(first))
        leader.step()
    assert leader.failing() == (2, "KeyError: 'x'")
    assert first not in leader.coordinator.follower.records  # it goes on following
    assert second in leader.coordinator.follower.records
    assert [entry["error"] for entry in logs if entry["log_level"] == "error"] == ["KeyError: 'x'"]

    monkeypatch.setattr(Moody, "error", None)
    leader.tick()  # nothing has changed: it tries again by itself
    assert holds(cluster.phase(second))
    assert leader.failing() is None


def test_it_says_so_though_no_pass_of_its_own_ever_worked(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Moody, "error", ValueError("y"))
    cluster.submit()
    assert Leader(cluster).failing() == (1, "ValueError: y")


def test_the_view_is_read_anew_before_the_first_retry_only(
    cluster: Cluster, node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    leader = Leader(cluster)
    monkeypatch.setattr(Moody, "error", KeyError("x"))
    cluster.submit()
    leader.step()
    views = [leader.coordinator.follower.view]
    for _ in range(3):
        leader.tick()
        views.append(leader.coordinator.follower.view)
    assert [one is other for one, other in itertools.pairwise(views)] == [False, True, True]
    assert leader.failing() == (4, "KeyError: 'x'")


def test_what_breaks_a_view_half_way_stops_placing_until_it_is_read_anew(
    cluster: Cluster, node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    leader = Leader(cluster)
    (job,) = cluster.submit()
    with monkeypatch.context() as broken:
        broken.setattr(leader.coordinator.follower.view.lanes, "add", lambda *_: 1 / 0)
        leader.step()
    assert leader.failing() == (1, "ZeroDivisionError: division by zero")
    cluster.submit()
    leader.step()
    assert [isinstance(cluster.phase(one), Queued) for one in (job, JobId(job + 1))] == [True, True]
    leader.tick()
    assert [holds(cluster.phase(one)) for one in (job, JobId(job + 1))] == [True, True]
    assert leader.failing() is None


class Unlucky(PolicySource):
    """Raises when it is first asked for what is in force."""

    asked = 0

    def in_force(self, published: bytes | None, leader: str, epoch: int) -> PolicyInForce:
        self.asked += 1
        if self.asked == 1:
            raise KeyError("x")
        return super().in_force(published, leader, epoch)


def test_whatever_else_is_raised_it_begins_anew_as_the_same_leader(
    cluster: Cluster, node: Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shunter.coordinator.loop.FAILED_S", 0.0)
    cluster.catch_up()
    source = Unlucky("fifo-ff", tmp_path)
    loop = Loop(cluster.plain, cluster.keys, CeleryDispatcher(cluster.url, cluster.keys), source, "a")
    thread = threading.Thread(target=loop.run)
    thread.start()
    try:
        eventually(lambda: cluster.run(commands.policy(cluster.keys)), "it gets over it")
        (job,) = cluster.submit()
        eventually(lambda: holds(cluster.phase(job)) or None, "the job is placed")
        assert cluster.run(commands.leader(cluster.keys))["epoch"] == "1"
    finally:
        loop.stop.set()
        thread.join()


def test_a_loop_is_there_while_it_leads_or_stands_by_and_says_when_the_store_is_back(
    cluster: Cluster, tmp_path: Path
) -> None:
    def there(*names: str) -> list[str] | None:
        found = [one.name for _, one in cluster.run(roster.coordinators(cluster.keys))]
        return found if set(names) <= set(found) else None

    plain = Flaky(cluster.url)
    dispatcher = CeleryDispatcher(cluster.url, cluster.keys)
    loops = [Loop(plain, cluster.keys, dispatcher, PolicySource("fifo-ff", tmp_path), name) for name in "ab"]
    threads = [threading.Thread(target=loop.run, daemon=True) for loop in loops]
    with capture_logs() as logs:
        for name, thread in zip("ab", threads, strict=True):
            thread.start()
            eventually(partial(there, name), f"{name} is there")
        plain.away = True
        eventually(lambda: "store unavailable" in [one["event"] for one in logs] or None, "both notice")
        plain.away = False
        eventually(lambda: "the store answers again" in [one["event"] for one in logs] or None, "both say so")
        for loop, thread, left in zip(loops, threads, (["b"], []), strict=True):
            loop.stop.set()
            thread.join()
            assert there() == left
    assert [one["leader"] for one in logs if one["event"] == "standing by"] == ["a"]
    plain.close()


class Flaky(Store):
    away = False

    def run(self, command: Command[T]) -> T:
        if self.away:
            raise Unavailable("redis: cannot be reached")
        return super().run(command)


# what does not decode


@pytest.fixture
def spoilt(cluster: Cluster) -> Iterator[Any]:
    """Return a function that replaces what a hash of the cluster holds by nonsense, until the test ends."""
    before: list[tuple[str, Any, bytes]] = []

    def spoil(key: str, field: Any) -> None:
        before.append((key, field, cluster.redis.hget(key, field)))
        cluster.redis.hset(key, field, b"what?\n{}")

    yield spoil
    for key, field, value in before:
        cluster.redis.hset(key, field, value)


@pytest.mark.parametrize("part", ["phases", "specs"])
def test_a_job_that_does_not_decode_is_named_and_the_others_go_on(cluster: Cluster, spoilt: Any, part: str) -> None:
    other = Leader(cluster)
    one, two = cluster.join("n1"), cluster.join("n2")
    held = cluster.running(other.leadership, one)
    queued, good = cluster.submit(2)
    for job_id in (held, queued):
        spoilt(getattr(cluster.keys, part), job_id)
    with capture_logs() as logs:
        leader = Leader(cluster)
    named = [entry["job"] for entry in logs if entry["event"].startswith("a job in the store cannot be read")]
    assert named == [held, queued]
    assert set(leader.coordinator.follower.records) == {good}
    phase = cluster.phase(good)
    assert isinstance(phase, HOLDS_GPUS)
    assert phase.allocation.nodes == ("n2",)  # nobody knows what the other holds of n1
    cluster.run(commands.cordon(cluster.keys, "n1", "fan", "ada"))
    cluster.run(commands.cordon(cluster.keys, "n1", "", "ada"))
    leader.step()
    assert leader.coordinator.follower.view.nodes[one.name].cordoned == f"holds job {held}, which cannot be read"
    assert leader.failing() is None
    cluster.redis.delete(cluster.keys.queue(two.name, two.incarnation))


def test_a_node_that_does_not_decode_is_named_and_the_others_go_on(cluster: Cluster, node: Node, spoilt: Any) -> None:
    cluster.join("n2")
    spoilt(cluster.keys.nodes, "n2")
    (job,) = cluster.submit()
    with capture_logs() as logs:
        leader = Leader(cluster)
    assert [entry["node"] for entry in logs if "cannot be read" in entry["event"]] == ["n2"]
    assert list(leader.coordinator.follower.view.nodes) == ["n1"]
    assert holds(cluster.phase(job))


def test_an_event_that_does_not_decode_is_named_and_its_job_left_out(cluster: Cluster, node: Node, spoilt: Any) -> None:
    leader = Leader(cluster)
    cluster.run(commands.cordon(cluster.keys, "n1", "fan", "ada"))
    bad, good = cluster.submit(2)
    leader.step()
    spoilt(cluster.keys.phases, bad)
    for nonsense in (
        {"not": "an event"},
        {"k": "exited", "j": "seven"},
        {"k": "\udcff".encode(errors="surrogateescape")},
    ):
        cluster.redis.xadd(cluster.keys.events, nonsense)
    cluster.redis.xadd(cluster.keys.events, {"k": "returned", "j": bad, "v": "queued 0 - 7\nwhat?"})
    cluster.whole = False
    cluster.run(commands.cordon(cluster.keys, "n1", "", "ada"))
    with capture_logs() as logs:
        leader.step()
    assert [(entry["event"], entry["job"]) for entry in logs if "job" in entry] == [
        ("an event cannot be read", bad), ("a job in the store cannot be read and is left out", bad)
    ]  # fmt: skip
    assert set(leader.coordinator.follower.records) == {good}
    assert holds(cluster.phase(good))
    assert leader.failing() is None


def test_use_that_does_not_decode_begins_anew(cluster: Cluster) -> None:
    cluster.redis.set(cluster.keys.usage, b"what?")
    with capture_logs() as logs:
        leader = Leader(cluster)
    assert any(entry["event"].startswith("the use in the store cannot be read") for entry in logs)
    assert leader.failing() is None
    assert msgspec.json.decode(cluster.run(commands.usage(cluster.keys)) or b"", type=Usage).used == ()
