"""Many at once: each outcome is one that some order of the calls could have had."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final, TypeVar

from shunter.domain.ids import JobId
from shunter.domain.node import Node
from shunter.domain.phase import Ended, Reserved, Running, Stopping
from shunter.domain.retry import on_claim
from shunter.store import commands
from shunter.store.codec import Record
from tests.contract.cluster import HOUR_MS, Cluster

T = TypeVar("T")
THREADS: Final = 8


def all_at_once(*calls: Callable[[], T]) -> list[T]:
    """Run *calls* in a thread each, let go at the same moment; return their answers in order."""
    barrier = threading.Barrier(len(calls))

    def one(call: Callable[[], T]) -> T:
        barrier.wait(20)
        return call()

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(one, calls))


def test_eight_submissions_with_one_idempotency_key_create_one_job(cluster: Cluster) -> None:
    command = cluster.submission(key=("key", "digest"))
    answers = all_at_once(*[lambda: cluster.plain.run(command)] * THREADS)
    assert answers == [[1]] * THREADS
    assert cluster.active() == [1]
    assert len(cluster.entries("submitted")) == 1


def test_eight_submissions_get_ids_that_are_dense_and_their_own(cluster: Cluster) -> None:
    answers = all_at_once(*[lambda: cluster.plain.run(cluster.submission(3))] * THREADS)
    assert sorted(job_id for ids in answers for job_id in ids) == list(range(1, 3 * THREADS + 1))


def test_of_eight_that_want_to_lead_one_does(cluster: Cluster) -> None:
    candidates = [
        partial(cluster.plain.run, commands.lead(cluster.keys, name, f"token-{name}", HOUR_MS))
        for name in map(str, range(THREADS))
    ]
    assert [answer.leading for answer in all_at_once(*candidates)].count(True) == 1
    assert len(cluster.entries("leader")) == 1


def test_a_cancel_that_races_the_report_of_the_end_ends_the_job_once(cluster: Cluster) -> None:
    leadership, node = cluster.lead(), cluster.join("n1")
    for _ in range(20):
        job_id = cluster.running(leadership, node)
        cancel, report = cluster.cancelling(job_id), cluster.ending(job_id)
        cancelled, reported = all_at_once(
            partial(cluster.plain.run, commands.stop(cluster.keys, [cancel])),
            partial(cluster.plain.run, commands.report(cluster.keys, node.name, node.incarnation, [report])),
        )
        assert [cancelled, reported].count(["ok"]) == 1
        if cancelled == ["ok"]:  # the node looks again, and tells how it ended after all
            assert isinstance(cluster.phase(job_id), Stopping)
            assert cluster.report(node, cluster.ending(job_id)) == ["ok"]
        kinds = [entry.kind for entry in cluster.entries() if entry.job_id == job_id]
        assert isinstance(cluster.phase(job_id), Ended)
        assert kinds.count("exited") == 1


def test_two_leaders_that_place_at_once_place_each_job_once(cluster: Cluster) -> None:
    """The older one was deposed between its decision and its commit."""
    old, node = cluster.lead("a"), cluster.join("n1")
    new = cluster.lead("b")
    ids = cluster.submit(50)
    plans = [(leadership, [cluster.placing(job_id, node) for job_id in ids]) for leadership in (old, new)]

    commits = [partial(cluster.plain.run, commands.place(cluster.keys, *plan)) for plan in plans]
    assert all_at_once(*commits) == [["stale"] * 50, ["ok"] * 50]
    assert [cluster.record(job_id) for job_id in ids] == [move.after for move in plans[1][1]]


def test_members_of_a_gang_that_claim_at_once_start_it_once(cluster: Cluster) -> None:
    leadership = cluster.lead()
    nodes = [cluster.join(f"n{number}") for number in range(4)]
    job_id = cluster.reserved(leadership, *nodes)
    record = cluster.record(job_id)

    members = [partial(claim_until_it_stands, cluster, job_id, record, rank, node) for rank, node in enumerate(nodes)]
    tries = all_at_once(*members)
    assert isinstance(cluster.phase(job_id), Running)
    assert min(tries) == 1
    assert len(cluster.entries("started")) == 1
    assert len(cluster.entries("member_claimed")) == 3


def claim_until_it_stands(cluster: Cluster, job_id: JobId, record: Record, rank: int, node: Node) -> int:
    """Claim as a node does: look again at what it was answered. Return how many tries it took."""
    for tries in range(1, 10):
        assert isinstance(record.phase, Reserved)
        move = commands.move(job_id, record, on_claim(record.phase, rank, at_s=12.0, by=node.name))
        ((answer, _),) = cluster.plain.run(commands.claim(cluster.keys, node.name, node.incarnation, [move]))
        if answer == "ok":
            return tries
        assert isinstance(answer, Record)
        record = answer
    raise AssertionError("a claim did not stand after nine tries against three others")
