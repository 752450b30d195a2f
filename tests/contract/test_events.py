"""The event stream: every transition once, in order, with who and when; followers read it from where they are."""

from __future__ import annotations

import threading
from itertools import pairwise

import pytest

from shunter.domain.event import event_tag
from shunter.domain.transition import apply
from shunter.store import commands
from shunter.store.codec import Entry
from tests.contract.cluster import BAD, LOST, Cluster, eventually


def test_every_transition_of_a_life_is_in_the_stream_with_its_revision(cluster: Cluster) -> None:
    """Design section 3, invariant 7."""
    leadership, one, two = cluster.lead(), cluster.join("n1"), cluster.join("n2")
    job_id = cluster.running(leadership, one, two)
    cluster.report(one, cluster.ending(job_id, LOST, rank=0))
    cluster.report(two, cluster.ending(job_id, BAD, rank=1))
    cluster.place(leadership, cluster.placing(job_id, one, two))
    cluster.place(leadership, cluster.returning(job_id))
    cluster.stop(cluster.cancelling(job_id))
    kinds = ["submitted", "placed", "member_claimed", "started", "member_failed", "requeued", "placed", "returned"]
    entries = [entry for entry in cluster.entries() if entry.job_id == job_id]
    assert [entry.kind for entry in entries] == [*kinds, "cancelled"]
    assert [entry.kind for entry in entries] == [event_tag(entry.event()) for entry in entries]
    assert [entry.rev for entry in entries] == list(range(1, 10))
    for before, after in pairwise(entries):
        assert apply(before.record().phase, after.event()) == after.record().phase
    assert entries[-1].record() == cluster.record(job_id)


def test_entries_are_stamped_by_the_stores_clock(cluster: Cluster) -> None:
    before_ms = cluster.now_ms()
    cluster.submit()
    (entry,) = cluster.entries()
    assert before_ms / 1000 <= entry.at_s <= cluster.now_ms() / 1000


def test_a_follower_reads_what_came_after_its_cursor(cluster: Cluster) -> None:
    cluster.submit(3)
    first, second, third = cluster.entries()
    assert cluster.run(commands.events(cluster.keys, first.id)) == [second, third]
    assert cluster.run(commands.events(cluster.keys, first.id, count=1)) == [second]
    assert cluster.run(commands.events(cluster.keys, third.id)) == []
    assert cluster.run(commands.first_event(cluster.keys)) == first.id
    assert cluster.run(commands.last_event(cluster.keys)) == third.id


def test_an_empty_stream_begins_and_ends_at_0(cluster: Cluster) -> None:
    assert cluster.run(commands.last_event(cluster.keys)) == cluster.run(commands.first_event(cluster.keys)) == "0-0"
    assert cluster.run(commands.events(cluster.keys, "0-0", block_ms=1)) == []


def test_a_follower_that_waits_gets_the_next_entry(cluster: Cluster) -> None:
    got: list[Entry] = []

    def follow() -> None:
        entries = cluster.plain.run(commands.events(cluster.keys, "0-0", block_ms=4_000))
        got.extend(entries)

    follower = threading.Thread(target=follow)
    follower.start()
    eventually(lambda: "xread" in str(cluster.redis.client_list()) or None, "the follower waits")
    job_id = cluster.queued()
    follower.join(20)
    assert [entry.job_id for entry in got] == [job_id]


def test_the_stream_is_kept_within_its_bound(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "EVENTS_KEPT", 100)
    cluster.whole = False
    cluster.submit(commands.MAX_BATCH)
    assert 100 <= cluster.redis.xlen(cluster.keys.events) < 300
    assert cluster.run(commands.first_event(cluster.keys)) > "0-0"
