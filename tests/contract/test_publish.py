"""publish: what the leader says for people, and nobody else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import pytest

from shunter.store import commands
from shunter.store.command import Command
from shunter.store.commands import Leadership
from shunter.store.keys import Keys
from tests.contract.cluster import Cluster

Put = Callable[[Keys, Leadership, bytes], Command[bool]]
Get = Callable[[Keys], Command[bytes | None]]

PUBLISHED: Final = (
    pytest.param(commands.put_decision, commands.decision, id="decision"),
    pytest.param(commands.put_policy, commands.policy, id="policy"),
    pytest.param(commands.put_usage, commands.usage, id="usage"),
)
each = pytest.mark.parametrize(("put", "get"), PUBLISHED)


@each
def test_what_the_leader_publishes_takes_the_place_of_what_was_there(cluster: Cluster, put: Put, get: Get) -> None:
    leadership = cluster.lead("a")
    assert cluster.run(get(cluster.keys)) is None
    for text in (b"first", b"", b"\x00\xffsecond"):
        assert cluster.run(put(cluster.keys, leadership, text)) is True
        assert cluster.run(get(cluster.keys)) == text


@each
@pytest.mark.parametrize("why", ["an earlier epoch", "another token", "a later epoch", "resigned", "never led"])
def test_a_stale_leader_publishes_nothing(cluster: Cluster, put: Put, get: Get, why: str) -> None:
    """Design section 3, invariant 4."""
    if why == "never led":
        stale = Leadership(1, "token-a")
    else:
        old = cluster.lead("a")
        assert cluster.run(put(cluster.keys, old, b"before"))
        stale = old
        if why == "resigned":
            cluster.run(commands.resign(cluster.keys, old))
        else:
            new = cluster.lead("b")
            stale = {
                "an earlier epoch": old,
                "another token": Leadership(new.epoch, old.token),
                "a later epoch": Leadership(new.epoch + 1, new.token),
            }[why]
    before = cluster.snapshot()
    assert cluster.run(put(cluster.keys, stale, b"stale")) is False
    assert cluster.snapshot() == before


def test_each_of_them_has_a_key_of_its_own(cluster: Cluster) -> None:
    leadership = cluster.lead("a")
    for number, one in enumerate(PUBLISHED):
        put, _ = one.values
        assert cluster.run(put(cluster.keys, leadership, b"%d" % number))  # type: ignore[operator]
    found = [cluster.run(one.values[1](cluster.keys)) for one in PUBLISHED]  # type: ignore[operator]
    assert found == [b"0", b"1", b"2"]


def test_a_leader_whose_lease_ran_out_may_go_on_while_nobody_took_over(cluster: Cluster) -> None:
    leadership = cluster.lead("a", lease_ms=1)
    asked_ms = cluster.now_ms()
    while cluster.now_ms() <= asked_ms + 1:
        pass
    assert cluster.run(commands.put_decision(cluster.keys, leadership, b"still")) is True
    cluster.lead("b")
    assert cluster.run(commands.put_decision(cluster.keys, leadership, b"late")) is False
