"""place, claim, report and stop: what each may do, and what it answers when it may not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import pytest
from msgspec.structs import replace

from shunter.domain.ids import JobId, NodeName
from shunter.domain.node import Node
from shunter.domain.outcome import Exit, FailureClass, Result
from shunter.domain.phase import Ended, Queued, Reserved, Running, StopCause, Stopping, phase_tag
from shunter.domain.transition import targets
from shunter.store import codec, commands
from shunter.store.commands import Answer, Leadership, Move
from tests.contract.cluster import BAD, FINE, LOST, Cluster, with_incarnation
from tests.contract.test_scripts import EVENTS_OF
from tests.unit.domain.samples import EVENTS, PHASES


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


def test_a_member_that_failed_stops_its_gang(cluster: Cluster, leadership: Leadership, node: Node, other: Node) -> None:
    job_id = cluster.running(leadership, node, other)
    cluster.report(node, cluster.ending(job_id, BAD, rank=0))
    stopping = cluster.phase(job_id)
    assert isinstance(stopping, Stopping)
    assert stopping.cause is StopCause.MEMBER_FAILED


def test_a_retried_job_is_queued_again_and_holds_nothing(
    cluster: Cluster, leadership: Leadership, node: Node, other: Node
) -> None:
    job_id = cluster.running(leadership, node, other)
    assert cluster.report(node, cluster.ending(job_id, LOST, rank=0)) == ["ok"]
    assert isinstance(cluster.phase(job_id), Stopping)
    assert cluster.report(other, cluster.ending(job_id, BAD, rank=1)) == ["ok"]
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
    cluster: Cluster, leadership: Leadership, node: Node, exit: Exit
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


# what is answered instead of 'ok'


class Yard:
    """A cluster with a leader and a node, and the way to every phase and through every script."""

    def __init__(self, cluster: Cluster, leadership: Leadership, node: Node) -> None:
        self.cluster, self.leadership, self.node = cluster, leadership, node

    def job_in(self, phase: str) -> JobId:
        cluster, leadership, node = self.cluster, self.leadership, self.node
        ways: dict[str, Callable[[], JobId]] = {
            "queued": cluster.queued,
            "reserved": lambda: cluster.reserved(leadership, node),
            "running": lambda: cluster.running(leadership, node),
            "stopping": lambda: cluster.stopping(leadership, node),
            "ended": lambda: cluster.ended(leadership, node),
        }
        job_id = ways[phase]()
        assert phase_tag(cluster.phase(job_id)) == phase
        return job_id

    def send(self, script: str, *moves: Move, node: Node | None = None) -> list[Answer]:
        cluster, node = self.cluster, node or self.node
        match script:
            case "place":
                return cluster.place(self.leadership, *moves)
            case "claim":
                return [answer for answer, _ in cluster.claim(node, *moves)]
            case "report":
                return cluster.report(node, *moves)
            case _:
                return cluster.stop(*moves)

    def first_move(self, step: str) -> tuple[str, Move]:
        """Return the script and a legal move of *step* on a job that is ready for it."""
        cluster, node = self.cluster, self.node
        match step:
            case "place":
                return "place", cluster.placing(self.job_in("queued"), node)
            case "return":
                return "place", cluster.returning(self.job_in("reserved"))
            case "claim":
                return "claim", cluster.claiming(self.job_in("reserved"))
            case "stop":
                return "stop", cluster.cancelling(self.job_in("running"))
            case "cancel":
                return "stop", cluster.cancelling(self.job_in("queued"))
            case "requeue":
                return "report", cluster.ending(self.job_in("running"), LOST)
            case _:
                return "report", cluster.ending(self.job_in("running"))


def later(move: Move) -> Move:
    """Return what another caller, who saw the same record, would send at another time."""
    return commands.move(move.job_id, move.before, replace(move.event, at_s=99.0))


STEPS: Final = ("place", "return", "claim", "stop", "cancel", "report", "requeue")


@pytest.fixture
def yard(cluster: Cluster, leadership: Leadership, node: Node) -> Yard:
    return Yard(cluster, leadership, node)


@pytest.mark.parametrize("step", STEPS)
def test_a_repeated_call_after_a_lost_answer_is_harmless(yard: Yard, step: str) -> None:
    script, move = yard.first_move(step)
    assert yard.send(script, move) == ["ok"]
    before = yard.cluster.snapshot()
    assert yard.send(script, move) == ["ok"]
    assert yard.cluster.snapshot() == before
    assert len([entry for entry in yard.cluster.entries() if entry.job_id == move.job_id]) == move.after.rev


def test_a_repeated_claim_brings_job_and_launch_again(cluster: Cluster, leadership: Leadership, node: Node) -> None:
    claim = cluster.claiming(cluster.reserved(leadership, node))
    assert cluster.claim(node, claim) == cluster.claim(node, claim)


@pytest.mark.parametrize("step", STEPS)
def test_a_move_from_an_older_revision_is_answered_the_record_as_it_is(yard: Yard, step: str) -> None:
    script, move = yard.first_move(step)
    assert yard.send(script, move) == ["ok"]
    now = yard.cluster.record(move.job_id)
    before = yard.cluster.snapshot()
    assert yard.send(script, later(move)) == [now]
    assert yard.cluster.snapshot() == before


@pytest.mark.parametrize("step", STEPS)
def test_the_same_phases_at_another_revision_are_refused(yard: Yard, step: str) -> None:
    """The pair of phases is legal; only the revision tells that somebody else moved the job since."""
    script, move = yard.first_move(step)
    stale = replace(
        move,
        before=codec.record(move.before.phase, move.before.rev - 1),
        after=codec.record(move.after.phase, move.after.rev - 1),
    )
    before = yard.cluster.snapshot()
    assert yard.send(script, stale) == [move.before]
    assert yard.cluster.snapshot() == before


@pytest.mark.parametrize("script", [name for name in EVENTS_OF if name != "lose"])  # that has no answers per item
def test_each_script_refuses_every_pair_of_phases_that_is_not_its_own(yard: Yard, script: str) -> None:
    own = {
        (phase_tag(source), phase_tag(to)) for (source, event), to in targets().items() if event in EVENTS_OF[script]
    }
    names = {phase_tag(kind): phase for kind, phase in PHASES.items()}
    for source in tuple(names):
        job_id = yard.job_in(source)
        record = yard.cluster.record(job_id)
        before = yard.cluster.snapshot()
        event = EVENTS[EVENTS_OF[script][0]]
        for to, phase in names.items():
            if (source, to) not in own:
                after = codec.record(phase, record.rev + 1)
                assert yard.send(script, Move(job_id, record, event, after)) == [record], (source, to)
        assert yard.cluster.snapshot() == before


@pytest.mark.parametrize("step", STEPS)
def test_a_job_that_never_was_is_gone(yard: Yard, step: str) -> None:
    script, move = yard.first_move(step)
    before = yard.cluster.snapshot()
    assert yard.send(script, replace(move, job_id=JobId(999))) == ["gone"]
    assert yard.cluster.snapshot() == before


@pytest.mark.parametrize("step", ["claim", "report", "requeue"])
def test_an_earlier_incarnation_of_the_node_changes_nothing(yard: Yard, step: str) -> None:
    script, move = yard.first_move(step)
    new = yard.cluster.join("n1")
    before = yard.cluster.snapshot()
    assert yard.send(script, move, node=yard.node) == ["stale"]
    assert yard.cluster.snapshot() == before
    if step == "claim":  # the reservation is on the earlier one: the leader takes it back
        assert yard.send(script, move, node=new) == [move.before]
        assert yard.cluster.snapshot() == before
    else:  # the attempt runs on under the keeper: whichever worker is there tells how it ended
        assert yard.send(script, move, node=new) == ["ok"]


@pytest.mark.parametrize("step", ["claim", "report"])
def test_a_node_that_is_not_registered_changes_nothing(yard: Yard, step: str) -> None:
    script, move = yard.first_move(step)
    before = yard.cluster.snapshot()
    assert yard.send(script, move, node=replace(yard.node, name=NodeName("n9"))) == ["stale"]
    assert yard.send(script, move, node=with_incarnation(yard.node, "")) == ["stale"]
    assert yard.cluster.snapshot() == before


def test_a_late_exit_report_of_an_old_attempt_is_answered_the_current_record(yard: Yard) -> None:
    cluster, node = yard.cluster, yard.node
    job_id = yard.job_in("running")
    late = cluster.ending(job_id, BAD)
    cluster.report(node, cluster.ending(job_id, LOST))
    cluster.place(yard.leadership, cluster.placing(job_id, node))
    cluster.claim(node, cluster.claiming(job_id))
    second = cluster.record(job_id)
    assert isinstance(second.phase, Running)
    assert second.phase.attempt == 2
    assert cluster.report(node, late) == [second]
    assert cluster.record(job_id) == second


def test_two_members_that_claim_from_the_same_record_take_turns(
    cluster: Cluster, leadership: Leadership, node: Node, other: Node
) -> None:
    job_id = cluster.reserved(leadership, node, other)
    first, second = cluster.claiming(job_id, 0), cluster.claiming(job_id, 1)
    assert cluster.claim(node, first)[0][0] == "ok"
    assert cluster.claim(other, second) == [(first.after, None)]
    assert cluster.claim(other, cluster.claiming(job_id, 1))[0][0] == "ok"
    assert isinstance(cluster.phase(job_id), Running)


def test_in_a_batch_what_is_stale_does_not_hold_up_the_rest(yard: Yard) -> None:
    cluster, node = yard.cluster, yard.node
    good, cancelled, done = (yard.job_in("running") for _ in range(3))
    moves = [cluster.ending(job_id) for job_id in (good, cancelled, done)]
    cluster.stop(cluster.cancelling(cancelled))
    cluster.report(node, moves[2])
    missing = replace(moves[0], job_id=JobId(999))
    assert cluster.report(node, missing, *moves) == ["gone", "ok", cluster.record(cancelled), "ok"]
    assert cluster.active() == cluster.held(node) == [cancelled]


@pytest.mark.parametrize("step", STEPS)
def test_a_batch_that_names_a_job_twice_moves_it_once(yard: Yard, step: str) -> None:
    """A hint and a lease answer may offer one attempt at a time: two claims of it in one batch."""
    script, move = yard.first_move(step)
    assert yard.send(script, move, move, later(move)) == ["ok", "ok", move.after]
    assert yard.cluster.record(move.job_id) == move.after
    assert len([entry for entry in yard.cluster.entries() if entry.job_id == move.job_id]) == move.after.rev


def test_a_batch_takes_one_step_per_job_so_that_held_sets_stay_right(yard: Yard) -> None:
    """Sets are written once per batch: taken back and placed on the same node, the job would end up held by nobody."""
    cluster, node = yard.cluster, yard.node
    taken_back = cluster.returning(yard.job_in("reserved"))
    again = commands.move(taken_back.job_id, taken_back.after, cluster.placing(cluster.queued(), node).event)
    assert yard.send("place", taken_back, again) == ["ok", taken_back.after]
    assert yard.send("place", again) == ["ok"]
    assert cluster.held(node) == [taken_back.job_id]


def test_a_reservation_that_was_placed_again_is_not_claimed_by_the_older_decision(
    cluster: Cluster, leadership: Leadership, node: Node
) -> None:
    job_id = cluster.reserved(leadership, node)
    old = cluster.claiming(job_id)
    cluster.place(leadership, cluster.returning(job_id))
    cluster.place(leadership, cluster.placing(job_id, node))
    now = cluster.record(job_id)
    assert isinstance(now.phase, Reserved)
    assert isinstance(old.after.phase, Running)
    assert now.phase.attempt == old.after.phase.attempt
    assert now.phase.allocation.id != old.after.phase.allocation.id
    assert cluster.claim(node, old) == [(now, None)]
