"""place, claim, report and stop: what each may do, and what it answers when it may not."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from msgspec.structs import replace

from shunter.domain.event import Started, StopAsked
from shunter.domain.ids import JobId
from shunter.domain.node import Node
from shunter.domain.outcome import FailureClass, Result
from shunter.domain.phase import Ended, Queued, Reserved, Running, StopCause, Stopping
from shunter.store import codec, commands
from shunter.store.codec import Record
from shunter.store.commands import Answer, Leadership, Move
from tests.contract.cluster import BAD, FINE, LOST, Cluster, cancel_of


@pytest.fixture
def leadership(cluster: Cluster) -> Leadership:
    return cluster.lead()


@pytest.fixture
def node(cluster: Cluster) -> Node:
    return cluster.join("n1")


@pytest.fixture
def other(cluster: Cluster) -> Node:
    return cluster.join("n2")


# what each does


def test_a_placed_job_is_held_by_every_node_of_its_gang(
    cluster: Cluster, leadership: Leadership, node: Node, other: Node
) -> None:
    job_id = cluster.reserved(leadership, node, other)
    assert isinstance(cluster.phase(job_id), Reserved)
    assert cluster.held(node) == cluster.held(other) == [job_id]


def test_a_returned_reservation_is_held_by_nobody(cluster: Cluster, leadership: Leadership, node: Node) -> None:
    job_id = cluster.reserved(leadership, node)
    assert cluster.place(leadership, cluster.returning(job_id)) == ["ok"]
    assert isinstance(cluster.phase(job_id), Queued)
    assert cluster.held(node) == []


def test_a_claim_starts_the_attempt_and_brings_job_and_launch(
    cluster: Cluster, leadership: Leadership, node: Node
) -> None:
    job_id = cluster.reserved(leadership, node)
    ((answer, spec),) = cluster.claim(node, cluster.claiming(job_id))
    assert answer == "ok"
    assert spec == (cluster.job(job_id), cluster.run(commands.launch(cluster.keys, job_id)))
    assert isinstance(cluster.phase(job_id), Running)


def test_a_gang_runs_only_when_its_last_member_has_claimed(
    cluster: Cluster, leadership: Leadership, node: Node, other: Node
) -> None:
    """Design section 3, invariant 6."""
    job_id = cluster.reserved(leadership, node, other)
    cluster.claim(other, cluster.claiming(job_id, 1))
    waiting = cluster.phase(job_id)
    assert isinstance(waiting, Reserved)
    assert waiting.claimed == (1,)
    cluster.claim(node, cluster.claiming(job_id, 0))
    assert isinstance(cluster.phase(job_id), Running)


def test_an_ended_job_is_held_by_nobody_and_no_longer_active(
    cluster: Cluster, leadership: Leadership, node: Node, other: Node
) -> None:
    job_id = cluster.ended(leadership, node, other)
    assert isinstance(cluster.phase(job_id), Ended)
    assert (cluster.held(node), cluster.held(other), cluster.active()) == ([], [], [])


def test_a_gang_holds_all_its_nodes_until_its_last_member_ended(
    cluster: Cluster, leadership: Leadership, node: Node, other: Node
) -> None:
    job_id = cluster.running(leadership, node, other)
    assert cluster.report(node, cluster.ending(job_id, FINE, rank=0)) == ["ok"]
    assert cluster.held(node) == cluster.held(other) == [job_id]
    assert cluster.report(other, cluster.ending(job_id, FINE, rank=1)) == ["ok"]
    assert cluster.held(node) == cluster.held(other) == []


def test_a_member_that_failed_stops_its_gang(
    cluster: Cluster, leadership: Leadership, node: Node, other: Node
) -> None:
    job_id = cluster.running(leadership, node, other)
    cluster.report(node, cluster.ending(job_id, BAD, rank=0))
    stopping = cluster.phase(job_id)
    assert isinstance(stopping, Stopping)
    assert stopping.cause is StopCause.MEMBER_FAILED


@pytest.mark.parametrize("state", ["running", "stopping"])
def test_a_retried_job_is_queued_again_and_holds_nothing(
    cluster: Cluster, leadership: Leadership, node: Node, other: Node, state: str
) -> None:
    job_id = cluster.running(leadership, node, other)
    first = BAD if state == "stopping" else FINE
    cluster.report(node, cluster.ending(job_id, LOST if state == "stopping" else first, rank=0))
    assert type(cluster.phase(job_id)).__name__.lower() == state
    assert cluster.report(other, cluster.ending(job_id, LOST, rank=1)) == ["ok"]
    queued = cluster.phase(job_id)
    assert isinstance(queued, Queued)
    assert (queued.attempt, queued.retries) == (1, 1)
    assert (cluster.held(node), cluster.held(other), cluster.active()) == ([], [], [job_id])


def test_a_batch_of_the_largest_size_goes_through_every_script(
    cluster: Cluster, leadership: Leadership, node: Node
) -> None:
    ids = cluster.submit(commands.MAX_BATCH)
    done = ["ok"] * len(ids)
    assert cluster.place(leadership, *[cluster.placing(job_id, node) for job_id in ids]) == done
    claims = cluster.claim(node, *[cluster.claiming(job_id) for job_id in ids])
    assert [answer for answer, spec in claims if spec is not None] == done
    assert cluster.stop(*[cluster.cancelling(job_id) for job_id in ids]) == done
    assert cluster.report(node, *[cluster.ending(job_id) for job_id in ids]) == done
    assert (cluster.active(), cluster.held(node)) == ([], [])


# a cancel, in every phase (design section 3, invariant 9)


def test_a_cancel_of_a_queued_job_ends_it(cluster: Cluster) -> None:
    job_id = cluster.queued()
    assert cluster.stop(cluster.cancelling(job_id)) == ["ok"]
    ended = cluster.phase(job_id)
    assert isinstance(ended, Ended)
    assert ended.outcome.result is Result.CANCELLED


def test_a_cancel_of_a_reserved_job_ends_it_and_frees_its_nodes(
    cluster: Cluster, leadership: Leadership, node: Node, other: Node
) -> None:
    job_id = cluster.reserved(leadership, node, other)
    claim = cluster.claiming(job_id)
    assert cluster.stop(cluster.cancelling(job_id)) == ["ok"]
    assert (cluster.held(node), cluster.held(other)) == ([], [])
    assert cluster.claim(node, claim) == [(cluster.record(job_id), None)]


@pytest.mark.parametrize("exit", [FINE, BAD, LOST], ids=["success", "failure", "keeper lost"])
def test_a_cancel_of_a_running_job_keeps_its_node_until_it_ended_cancelled(
    cluster: Cluster, leadership: Leadership, node: Node, exit: codec.Any
) -> None:
    job_id = cluster.running(leadership, node)
    assert cluster.stop(cluster.cancelling(job_id)) == ["ok"]
    assert isinstance(cluster.phase(job_id), Stopping)
    assert cluster.held(node) == [job_id]
    assert cluster.report(node, cluster.ending(job_id, exit)) == ["ok"]
    ended = cluster.phase(job_id)
    assert isinstance(ended, Ended)
    assert (ended.outcome.result, ended.outcome.failure) == (Result.CANCELLED, FailureClass.CANCELLED)
    assert cluster.held(node) == []


def test_a_cancel_of_a_stopping_job_wins_over_the_other_cause(
    cluster: Cluster, leadership: Leadership, node: Node, other: Node
) -> None:
    job_id = cluster.running(leadership, node, other)
    cluster.report(node, cluster.ending(job_id, BAD, rank=0))
    assert cluster.stop(cluster.cancelling(job_id)) == ["ok"]
    stopping = cluster.phase(job_id)
    assert isinstance(stopping, Stopping)
    assert stopping.cause is StopCause.CANCELLED


@pytest.mark.parametrize("before", ["queued", "reserved", "running", "stopping"])
def test_a_cancel_of_a_job_that_ended_meanwhile_is_answered_how_it_ended(
    cluster: Cluster, leadership: Leadership, node: Node, before: str
) -> None:
    steps: dict[str, Callable[[], JobId]] = {
        "queued": cluster.queued,
        "reserved": lambda: cluster.reserved(leadership, node),
        "running": lambda: cluster.running(leadership, node),
        "stopping": lambda: cluster.stopping(leadership, node),
    }
    job_id = steps[before]()
    late = replace(
        cluster.cancelling(job_id), after=codec.record(Ended(LATE, 99.0), cluster.record(job_id).rev + 1)
    )
    finish(cluster, leadership, node, job_id)
    kept = cluster.snapshot()
    assert cluster.stop(late) == [cluster.record(job_id)]
    assert cluster.snapshot() == kept


LATE = codec.msgspec.json.decode(b'{"result":"cancelled","message":"too late"}', type=Ended.__annotations__ and object)
