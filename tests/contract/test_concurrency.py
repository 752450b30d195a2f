"""Many at once: each outcome is one that some order of the calls could have had."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

from shunter.domain.ids import JobId
from shunter.domain.node import Node
from shunter.domain.phase import Ended, Running, Stopping
from shunter.store import commands
from shunter.store.codec import Record
from shunter.store.commands import Leadership, Move
from tests.contract.cluster import FINE, HOUR_MS, Cluster

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
    def candidate(name: str) -> Callable[[], bool]:
        command = commands.lead(cluster.keys, name, f"token-{name}", HOUR_MS)
        return lambda: cluster.plain.run(command).leading

    assert all_at_once(*[candidate(f"c{number}") for number in range(THREADS)]).count(True) == 1
    assert len(cluster.entries("leader")) == 1


def test_a_cancel_that_races_the_report_of_the_end_ends_the_job_once(cluster: Cluster) -> None:
    leadership, node = cluster.lead(), cluster.join("n1")
    ended_first = set()
    for _ in range(20):
        job_id = cluster.running(leadership, node)
        cancel, report = cluster.cancelling(job_id), cluster.ending(job_id)
        cancelled, reported = all_at_once(
            lambda move=cancel: cluster.plain.run(commands.stop(cluster.keys, [move])),  # type: ignore[misc]
            lambda move=report: cluster.plain.run(  # type: ignore[misc]
                commands.report(cluster.keys, node.name, node.incarnation, [move])
            ),
        )
        assert [cancelled, reported].count(["ok"]) == 1
        if cancelled == ["ok"]:  # the node looks again, and tells how it ended after all
            assert isinstance(cluster.phase(job_id), Stopping)
            assert cluster.report(node, cluster.ending(job_id)) == ["ok"]
        ended_first.add(reported == ["ok"])
        kinds = [entry.kind for entry in cluster.entries() if entry.job_id == job_id]
        assert isinstance(cluster.phase(job_id), Ended)
        assert kinds.count("exited") == 1


def test_two_leaders_that_place_at_once_place_each_job_once(cluster: Cluster) -> None:
    """The older one was deposed between its decision and its commit."""
    old, node = cluster.lead("a"), cluster.join("n1")
    new = cluster.lead("b")
    ids = cluster.submit(50)
    plans = [(leadership, [cluster.placing(job_id, node) for job_id in ids]) for leadership in (old, new)]

    def commit(leadership: Leadership, moves: list[Move]) -> Callable[[], list[commands.Answer]]:
        return lambda: cluster.plain.run(commands.place(cluster.keys, leadership, moves))

    assert all_at_once(*[commit(*plan) for plan in plans]) == [["stale"] * 50, ["ok"] * 50]
    assert [cluster.record(job_id) for job_id in ids] == [move.after for move in plans[1][1]]


def test_members_of_a_gang_that_claim_at_once_start_it_once(cluster: Cluster) -> None:
    leadership = cluster.lead()
    nodes = [cluster.join(f"n{number}") for number in range(4)]
    job_id = cluster.reserved(leadership, *nodes)
    record = cluster.record(job_id)

    def member(rank: int, node: Node) -> Callable[[], int]:
        return lambda: claim_until_it_stands(cluster, job_id, record, rank, node)

    tries = all_at_once(*[member(rank, node) for rank, node in enumerate(nodes)])
    assert isinstance(cluster.phase(job_id), Running)
    assert sorted(tries)[0] == 1
    assert len(cluster.entries("started")) == 1
    assert len(cluster.entries("member_claimed")) == 3


def claim_until_it_stands(cluster: Cluster, job_id: JobId, record: Record, rank: int, node: Node) -> int:
    """Claim as a node does: look again at what it was answered. Return how many tries it took."""
    for tries in range(1, 10):
        event = commands_on_claim(record, rank)
        move = commands.move(job_id, record, event)
        ((answer, _),) = cluster.plain.run(commands.claim(cluster.keys, node.name, node.incarnation, [move]))
        if answer == "ok":
            return tries
        assert isinstance(answer, Record)
        record = answer
    raise AssertionError("a claim did not stand after nine tries against three others")
