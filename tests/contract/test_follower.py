"""A leader's view is read while the cluster moves on: whatever happens in between, all use is charged, and once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import msgspec
import pytest

from shunter.coordinator.follower import Follower
from shunter.scheduling.policy import Policy
from shunter.scheduling.usage import Usage, Used
from shunter.store import commands
from shunter.store.command import Command
from shunter.store.commands import Leadership
from shunter.store.redis import Store
from tests.contract.cluster import LOST, Cluster

T = TypeVar("T")
NOW_S = 100.0
RUN_S, LOST_S = 38.0, 58.0
"""How long what the cluster of these tests claims and ends has run; how long, if its keeper was lost."""


class Interrupted(Store):
    """Does *meanwhile* just before it first sends a command whose words begin with *word* for the *time*-th time."""

    def __init__(self, url: str, word: str, time: int, meanwhile: Callable[[], object]) -> None:
        super().__init__(url)
        self._word = word
        self._left = time
        self._meanwhile = meanwhile

    def run(self, command: Command[T]) -> T:
        self._look(command)
        return super().run(command)

    def run_all(self, *commands: Command[Any]) -> list[Any]:
        for command in commands:
            self._look(command)
        return super().run_all(*commands)

    def _look(self, command: Command[Any]) -> None:
        if command.parts[0] == self._word:
            self._left -= 1
            if self._left == 0:
                self._meanwhile()


MOMENTS = {
    "before the jobs are listed": ("ZRANGEBYSCORE", 1),
    "before they are read": ("HMGET", 1),
    "before the list goes on": ("ZRANGEBYSCORE", 2),
    "before the use is read": ("GET", 1),
    "before the newest event is read again": ("XREVRANGE", 2),
    "before the events are read": ("XREAD", 1),
}


def follow(follower: Follower, cluster: Cluster) -> None:
    follower.follow(cluster.run(commands.events(cluster.keys, follower.cursor)))


def follower_of(cluster: Cluster, store: Store | None = None) -> Follower:
    return Follower(store or cluster.plain, cluster.keys, Policy())


def used(follower: Follower) -> dict[str, Any]:
    """Return the GPU-seconds of each user."""
    usage = follower.usage(NOW_S)
    assert usage is not None
    return {one.user: one.gpu_s for one in usage.used}


@pytest.fixture
def leadership(cluster: Cluster) -> Leadership:
    return cluster.lead()


@pytest.mark.parametrize("moment", MOMENTS)
def test_what_ends_while_the_view_is_read_is_charged_once(
    cluster: Cluster, leadership: Leadership, moment: str
) -> None:
    node = cluster.join("n1")
    counted = Usage(NOW_S, cluster.run(commands.last_event(cluster.keys)), (Used("", "ada", 1_000.0),))
    assert cluster.run(commands.put_usage(cluster.keys, leadership, msgspec.json.encode(counted)))
    cluster.ended(leadership, node)
    ends, again, goes_on = (cluster.running(leadership, node) for _ in range(3))
    moments = []

    def meanwhile() -> None:
        moments.append(moment)
        cluster.report(node, cluster.ending(ends))
        cluster.report(node, cluster.ending(again, LOST))
        cluster.ended(leadership, node)  # submitted only now
        cluster.reserved(leadership, node)
        cluster.queued()

    follower = follower_of(cluster, Interrupted(cluster.url, *MOMENTS[moment], meanwhile))
    follower.rebuild()
    follow(follower, cluster)
    cluster.report(node, cluster.ending(goes_on))
    follow(follower, cluster)
    assert moments == [moment]
    assert used(follower) == {"ada": pytest.approx(1_000.0 + 4 * RUN_S + LOST_S, rel=1e-3)}


def test_the_first_leader_charges_what_ends_while_it_reads(cluster: Cluster, leadership: Leadership) -> None:
    node = cluster.join("n1")
    job = cluster.running(leadership, node)
    store = Interrupted(cluster.url, "ZRANGEBYSCORE", 1, lambda: cluster.report(node, cluster.ending(job)))
    follower = follower_of(cluster, store)
    follower.rebuild()
    follow(follower, cluster)
    assert used(follower) == {"ada": pytest.approx(RUN_S, rel=1e-3)}


def test_use_is_not_written_down_before_all_that_is_in_it_was_followed(
    cluster: Cluster, leadership: Leadership
) -> None:
    """Whoever goes on from its cursor would charge the rest again."""
    node = cluster.join("n1")
    job = cluster.running(leadership, node)
    store = Interrupted(cluster.url, "ZRANGEBYSCORE", 1, lambda: cluster.report(node, cluster.ending(job)))
    follower = follower_of(cluster, store)
    follower.rebuild()
    assert follower.usage(NOW_S) is None
    follow(follower, cluster)
    usage = follower.usage(NOW_S)
    assert usage is not None
    assert cluster.run(commands.put_usage(cluster.keys, leadership, msgspec.json.encode(usage)))
    following = follower_of(cluster)
    following.rebuild()
    assert used(following) == used(follower)
