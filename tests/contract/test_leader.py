"""lead and resign: one leader at a time, and a stale one changes nothing."""

from __future__ import annotations

import msgspec
import pytest

from shunter.domain.report import CoordinatorView
from shunter.store import commands, roster
from shunter.store.commands import Lead, Leadership
from tests.contract.cluster import HOUR_MS, Cluster, eventually


def lead(cluster: Cluster, name: str, *, lease_ms: int = HOUR_MS) -> Lead:
    return cluster.run(commands.lead(cluster.keys, name, f"token-{name}", lease_ms))


def test_the_first_to_ask_leads_in_epoch_1(cluster: Cluster) -> None:
    assert lead(cluster, "a") == Lead(1, HOUR_MS, "a", leading=True)


def test_while_one_leads_another_is_told_who_and_for_how_long(cluster: Cluster) -> None:
    lead(cluster, "a")
    answer = lead(cluster, "b")
    assert (answer.epoch, answer.leader, answer.leading) == (1, "a", False)
    assert 0 < answer.left_ms <= HOUR_MS


def test_a_renewal_keeps_the_epoch_and_lengthens_the_lease(cluster: Cluster) -> None:
    lead(cluster, "a", lease_ms=60_000)
    until_ms = int(cluster.run(commands.leader(cluster.keys))["until_ms"])
    assert lead(cluster, "a") == Lead(1, HOUR_MS, "a", leading=True)
    assert int(cluster.run(commands.leader(cluster.keys))["until_ms"]) > until_ms
    assert len(cluster.entries("leader")) == 1


def test_an_expired_lease_is_taken_over_in_a_new_epoch(cluster: Cluster) -> None:
    lead(cluster, "a", lease_ms=30)

    def try_it() -> Lead | None:
        answer = lead(cluster, "b")
        return answer if answer.leading else None

    assert eventually(try_it, "b leads").epoch == 2
    assert not lead(cluster, "a").leading


def test_an_expired_lease_that_nobody_took_over_can_be_renewed_in_its_epoch(cluster: Cluster) -> None:
    lead(cluster, "a", lease_ms=1)
    asked_ms = cluster.now_ms()
    eventually(lambda: cluster.now_ms() > asked_ms + 1 or None, "the lease is over")
    assert lead(cluster, "a") == Lead(1, HOUR_MS, "a", leading=True)


def test_who_resigned_makes_room_at_once(cluster: Cluster) -> None:
    leadership = cluster.lead("a")
    assert cluster.run(commands.resign(cluster.keys, leadership))
    assert lead(cluster, "b") == Lead(2, HOUR_MS, "b", leading=True)


def test_who_resigned_must_win_again_in_a_new_epoch(cluster: Cluster) -> None:
    cluster.run(commands.resign(cluster.keys, cluster.lead("a")))
    assert lead(cluster, "a").epoch == 2


@pytest.mark.parametrize("stale", [Leadership(1, "token-a"), Leadership(2, "token-a"), Leadership(1, "token-b")])
def test_only_the_exact_epoch_and_token_can_resign(cluster: Cluster, stale: Leadership) -> None:
    cluster.lead("a")
    cluster.lead("b")
    before = cluster.snapshot()
    assert not cluster.run(commands.resign(cluster.keys, stale))
    assert cluster.snapshot() == before


def test_every_new_epoch_is_in_the_stream_with_its_leader(cluster: Cluster) -> None:
    for name in ("a", "b", "a"):
        cluster.lead(name)
    assert [(entry.node, entry.value) for entry in cluster.entries("leader")] == [("a", b"1"), ("b", b"2"), ("a", b"3")]


@pytest.mark.parametrize("why", ["an earlier epoch", "another token", "no leader any more", "never led"])
def test_a_stale_leader_changes_nothing(cluster: Cluster, why: str) -> None:
    """Design section 3, invariant 4."""
    node = cluster.join("n1")
    if why == "never led":
        stale = Leadership(1, "token-a")
        waits = cluster.queued()
        moves = [cluster.placing(waits, node)]
    else:
        old = cluster.lead("a")
        reserved, waits = cluster.reserved(old, node), cluster.queued()
        moves = [cluster.returning(reserved), cluster.placing(waits, node)]
        stale = old
        if why == "no leader any more":
            cluster.run(commands.resign(cluster.keys, old))
        else:
            new = cluster.lead("b")
            stale = old if why == "an earlier epoch" else Leadership(new.epoch, old.token)
    before = cluster.snapshot()
    assert cluster.place(stale, *moves) == ["stale"] * len(moves)
    assert cluster.snapshot() == before


def test_a_token_of_this_epoch_with_an_earlier_number_is_stale(cluster: Cluster) -> None:
    node = cluster.join("n1")
    cluster.lead("a")
    new = cluster.lead("b")
    job_id = cluster.queued()
    assert cluster.place(Leadership(new.epoch - 1, new.token), cluster.placing(job_id, node)) == ["stale"]
    assert cluster.place(new, cluster.placing(job_id, node)) == ["ok"]


# who is there


def present(cluster: Cluster) -> list[str]:
    """Return the names of the coordinators that count as being there now."""
    now_ms = cluster.now_ms()
    return [one.name for until_ms, one in cluster.run(roster.coordinators(cluster.keys)) if until_ms > now_ms]


def here(cluster: Cluster, name: str, *, ms: int = HOUR_MS) -> Lead:
    said = msgspec.json.encode(CoordinatorView(name, "host-1", 7, "0.1.0", 1.7e9))
    return cluster.run(commands.lead(cluster.keys, name, f"token-{name}", HOUR_MS, (f"id-{name}", ms, said)))


def test_who_leads_and_who_stands_by_are_there_until_they_end(cluster: Cluster) -> None:
    leadership = Leadership(here(cluster, "a").epoch, "token-a")
    assert not here(cluster, "b").leading
    assert present(cluster) == ["a", "b"]
    assert not cluster.run(commands.resign(cluster.keys, None, "id-b"))
    assert present(cluster) == ["a"]
    assert cluster.run(commands.leader(cluster.keys))["token"] == "token-a"
    assert cluster.run(commands.resign(cluster.keys, leadership, "id-a"))
    assert present(cluster) == []


def test_who_is_not_heard_from_is_there_no_more_and_is_swept_by_the_next_that_is(cluster: Cluster) -> None:
    here(cluster, "a", ms=20)
    eventually(lambda: present(cluster) == [] or None, "it does not count any more")
    here(cluster, "b")
    cluster.redis.hset(cluster.keys.coordinators, "of another version", f"{10**15} {{}}")
    assert [one.name for _, one in cluster.run(roster.coordinators(cluster.keys))] == ["b"]


def test_who_says_nothing_of_itself_is_not_there(cluster: Cluster) -> None:
    assert lead(cluster, "a").leading
    assert present(cluster) == []
