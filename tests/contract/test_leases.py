"""renew, watch, ready and lose: who holds a lease, what the leader judges it by, and what happens when it is over."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import Phase as Stage
from hypothesis import strategies as st
from msgspec.structs import replace

from shunter.domain.event import Requeued, StopAsked
from shunter.domain.ids import JobId, NodeName
from shunter.domain.lease import FAST, NORMAL, Granted, Lost, Mark, Old, Renewal, Stale, renewed
from shunter.domain.node import Node
from shunter.domain.phase import Ended, MemberExit, Queued, Running, StopCause, Stopping, phase_tag
from shunter.domain.transition import targets
from shunter.errors import Conflict, Unavailable
from shunter.store import codec, commands, leases, queues
from shunter.store.command import Command
from shunter.store.commands import Leadership, Move
from tests.contract.cluster import BAD, FINE, GONE, HOUR_MS, Cluster, with_incarnation
from tests.contract.test_scripts import EVENTS_OF
from tests.unit.domain.samples import EVENTS, PHASES

_numbers = count(1)


@pytest.fixture
def leadership(cluster: Cluster) -> Leadership:
    return cluster.lead()


@pytest.fixture
def node(cluster: Cluster) -> Node:
    return cluster.join("n1")


@pytest.fixture
def other(cluster: Cluster) -> Node:
    return cluster.join("n2")


def written(cluster: Cluster, node: Node) -> str:
    return cluster.watch().written[node.name]


def record(cluster: Cluster, node: Node) -> str:
    """Return the unfenced record of *node*, empty if it has none."""
    text: bytes = cluster.redis.hget(cluster.keys.unfenced, node.name) or b""
    return text.decode()


# renew: the mark


def test_a_renewal_is_noted_with_all_that_the_leader_judges_by(cluster: Cluster, node: Node, other: Node) -> None:
    assert written(cluster, node) == f"{node.incarnation} 0 0 normal"
    assert cluster.renew(node, number=7, done=5, worker="w", terms="fast").answer == Granted()
    assert written(cluster, node) == "w 7 5 fast"


@pytest.mark.parametrize("number", [0, 6, 7])
def test_a_renewal_that_came_late_is_old_and_changes_nothing(
    cluster: Cluster, node: Node, other: Node, number: int
) -> None:
    cluster.renew(node, number=7)
    before = cluster.snapshot()  # with `seen`
    for flags in ({}, {"fenced": True}, {"unfenced": True}):
        late = cluster.renew(node, number=number, done=99, terms="fast", **flags)
        assert late == leases.Renewed(Old(), {})
    assert cluster.snapshot() == before


def test_numbers_are_compared_as_numbers(cluster: Cluster, node: Node, other: Node) -> None:
    cluster.renew(node, number=9)
    assert cluster.renew(node, number=10).answer == Granted()
    assert cluster.renew(node, number=9).answer == Old()


def test_a_new_registration_counts_from_the_start(cluster: Cluster, node: Node, other: Node) -> None:
    cluster.renew(node, number=7)
    again = cluster.join("n1", worker="second")
    assert written(cluster, again) == "second 0 0 normal"
    assert cluster.renew(node, number=8).answer == Stale()
    assert cluster.renew(again, worker="second", number=1).answer == Granted()


def test_a_new_worker_is_judged_by_the_terms_of_the_one_before_until_its_keeper_has_its_own(
    cluster: Cluster, node: Node, other: Node
) -> None:
    cluster.renew(node, number=7, done=6, terms="restart")
    again = cluster.join("n1", worker="second")
    assert written(cluster, again) == "second 0 0 restart"
    cluster.renew(again, worker="second", number=1, done=0, terms="fast")
    assert written(cluster, again) == "second 1 0 restart"
    cluster.renew(again, worker="second", number=2, done=1, terms="fast")
    assert written(cluster, again) == "second 2 1 fast"


def test_a_changed_inventory_leaves_the_mark_alone(cluster: Cluster, other: Node) -> None:
    node = cluster.join("n1", worker="w")
    cluster.renew(node, worker="w", number=7, done=6)
    sick = replace(node, gpus=(replace(node.gpus[0], healthy=False, problem="ecc"), node.gpus[1]))
    cluster.run(commands.register(cluster.keys, sick, "host-1", replace_after_ms=HOUR_MS, worker="w", joined=True))
    assert written(cluster, node) == "w 7 6 normal"


@pytest.mark.parametrize("what", ["nothing", "an earlier incarnation"])
def test_a_node_that_the_store_has_forgotten_joins_anew_and_is_not_let_in_by_a_changed_inventory(
    cluster: Cluster, other: Node, what: str
) -> None:
    earlier = cluster.join("n1")
    node = cluster.join("n1")
    cluster.run(commands.leave(cluster.keys, node.name))
    if what == "an earlier incarnation":
        cluster.run(commands.register(cluster.keys, earlier, "host-1", replace_after_ms=0))
    before = cluster.snapshot()
    assert cluster.renew(node).answer == Lost()
    with pytest.raises(Conflict):
        cluster.run(commands.register(cluster.keys, node, "host-1", replace_after_ms=0, joined=True))
    assert cluster.snapshot() == before
    assert cluster.renew(cluster.join("n1")).answer == Granted()


def test_what_a_node_tells_is_in_the_stream_while_it_is_the_present_incarnation(cluster: Cluster) -> None:
    old, node = cluster.join("n1"), cluster.join("n1")
    before = cluster.snapshot()
    assert cluster.run(leases.tell(cluster.keys, old.name, old.incarnation, "thawed", "late")) == "stale"
    assert cluster.run(leases.tell(cluster.keys, NodeName("n9"), old.incarnation, "thawed", "late")) == "stale"
    assert cluster.snapshot() == before
    assert cluster.run(leases.tell(cluster.keys, node.name, node.incarnation, "thawed", "job 1 went on")) == "ok"
    told = cluster.run(commands.events(cluster.keys, "0-0"))[-1]
    assert (told.kind, told.node, told.value, told.job_id) == ("thawed", "n1", b"job 1 went on", None)


# renew: with or without a deadline


def test_a_node_alone_is_offered_to_run_without_a_deadline_by_one_record(cluster: Cluster, node: Node) -> None:
    name = f"{node.incarnation}.1"
    assert cluster.renew(node).answer == Granted(name)
    assert cluster.renew(node, fenced=True).answer == Granted(name)
    assert record(cluster, node) == name


def test_a_node_that_is_joined_by_another_keeps_its_record_until_it_is_fenced(cluster: Cluster, node: Node) -> None:
    cluster.renew(node)
    cluster.join("n2")
    for _ in range(2):
        assert cluster.renew(node).answer == Granted()
        assert record(cluster, node) == f"{node.incarnation}.1"
    assert cluster.renew(node, fenced=True).answer == Granted()
    assert record(cluster, node) == ""


def test_an_operators_setting_does_it_with_many_nodes_too(cluster: Cluster, node: Node, other: Node) -> None:
    assert cluster.renew(node, unfenced=True, fenced=True).answer == Granted(f"{node.incarnation}.1")
    assert cluster.renew(other).answer == Granted()
    assert cluster.watch().unfenced == {node.name}


def test_a_new_registration_keeps_the_record_of_the_keeper_it_may_find(cluster: Cluster, node: Node) -> None:
    cluster.renew(node)
    again = cluster.join("n1")
    assert record(cluster, again) == f"{node.incarnation}.1"
    assert cluster.renew(again).answer == Granted(f"{node.incarnation}.1")


def test_a_record_that_was_taken_away_is_not_offered_again(cluster: Cluster, node: Node, other: Node) -> None:
    cluster.renew(node, unfenced=True)
    cluster.renew(node, fenced=True)
    assert cluster.renew(node, unfenced=True).answer == Granted(f"{node.incarnation}.3")


tokens = st.sampled_from(["a", "b"])
small = st.integers(0, 4)
renewals = st.tuples(tokens, st.builds(Renewal, small, st.just(0.0), small, st.booleans()), st.booleans())
steps = st.lists(st.one_of(renewals, renewals, renewals, tokens), max_size=12)
"""Renewals; a token alone registers."""


@given(steps=steps)
@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    phases=[Stage.explicit, Stage.reuse, Stage.generate, Stage.shrink],
)
def test_the_script_does_what_the_core_says(cluster: Cluster, steps: list[Any]) -> None:
    cluster.join("another")  # so that nobody is alone
    node = cluster.join(f"n{next(_numbers)}", worker="a")
    mark, unfenced_by = Mark("a"), ""
    for step in steps:
        if isinstance(step, str):
            command = commands.register(cluster.keys, node, "host-1", replace_after_ms=HOUR_MS, worker=step)
            cluster.run(command)
            mark = mark if mark.worker == step else Mark(step)
        else:
            worker, asked, unfenced = step
            mark, unfenced_by, answer = renewed(mark, unfenced_by, worker, asked, unfenced)
            args = (node.name, node.incarnation, worker, asked)
            assert cluster.run(leases.renew(cluster.keys, *args, unfenced=unfenced)).answer == answer
        assert cluster.watch().marks[node.name] == mark
        assert record(cluster, node) == unfenced_by


# watch and ready


def test_watch_returns_all_that_nodes_are_judged_by(cluster: Cluster, leadership: Leadership, node: Node) -> None:
    run_id = cluster.redis.info("server")["run_id"]
    fast = cluster.join("n2", worker="w")
    assert cluster.run(leases.ready(cluster.keys, leadership, "an earlier run"))
    cluster.renew(fast, worker="w", number=3, done=2, unfenced=True, terms="fast")
    before_ms = cluster.now_ms()
    seen = cluster.watch()
    assert before_ms <= seen.at_ms <= cluster.now_ms()
    assert seen == leases.Seen(
        run_id=run_id,
        at_ms=seen.at_ms,
        marks={node.name: Mark(node.incarnation), fast.name: Mark("w", 3, 2)},
        terms={node.name: NORMAL, fast.name: FAST},
        unfenced=frozenset({fast.name}),
        seen_ms={one.name: cluster.seen_ms(one) for one in (node, fast)},
        ready_run="an earlier run",
        written={node.name: f"{node.incarnation} 0 0 normal", fast.name: "w 3 2 fast"},
    )


def test_watch_of_nothing_is_empty(cluster: Cluster) -> None:
    seen = cluster.watch()
    assert (seen.marks, seen.unfenced, seen.seen_ms, seen.ready_run, seen.written) == ({}, frozenset(), {}, "", {})


def test_terms_that_nobody_here_knows_count_as_unfenced(cluster: Cluster, node: Node, other: Node) -> None:
    cluster.renew(node, number=2, done=1, terms="of-a-later-version")
    seen = cluster.watch()
    assert (node.name in seen.terms, node.name in seen.unfenced) == (False, True)


def test_only_the_present_leader_says_that_a_run_is_ready(cluster: Cluster) -> None:
    old = cluster.lead("a")
    assert cluster.run(leases.ready(cluster.keys, old, "one"))
    cluster.lead("b")
    assert not cluster.run(leases.ready(cluster.keys, old, "two"))
    assert cluster.watch().ready_run == "one"


# lose: what it does


@pytest.fixture(params=["the leader", "an operator"])
def by(request: pytest.FixtureRequest, leadership: Leadership) -> Leadership | None:
    return leadership if request.param == "the leader" else None


def test_all_that_a_lost_node_held_is_taken_off_it_in_one_step(
    cluster: Cluster, leadership: Leadership, node: Node, other: Node, by: Leadership | None
) -> None:
    reserved, running = cluster.reserved(leadership, node), cluster.running(leadership, node)
    stopping, kept = cluster.stopping(leadership, node), cluster.running(leadership, other)
    assert cluster.lose(by, node) == "ok"
    assert [type(cluster.phase(one)) for one in (reserved, running, stopping, kept)] == [Queued, Queued, Ended, Running]
    assert cluster.held(node) == []
    assert cluster.held(other) == [kept]
    assert cluster.active() == [reserved, running, kept]
    again, never_ran = cluster.phase(running), cluster.phase(reserved)
    assert isinstance(again, Queued) and isinstance(never_ran, Queued)
    assert (again.attempt, again.retries, never_ran.attempt, never_ran.retries) == (1, 1, 0, 0)
    assert again.not_before_s >= GONE.ended_s + 1.0  # the proof needs that second


def test_a_gang_that_lost_a_member_stops_and_stays_held(
    cluster: Cluster, leadership: Leadership, node: Node, other: Node, by: Leadership | None
) -> None:
    job_id = cluster.running(leadership, other, node)
    assert cluster.lose(by, node) == "ok"
    stopping = cluster.phase(job_id)
    assert isinstance(stopping, Stopping)
    assert (stopping.cause, stopping.exits) == (StopCause.MEMBER_FAILED, (MemberExit(1, GONE),))
    assert cluster.held(other) == [job_id]
    assert cluster.report(other, cluster.ending(job_id, BAD, rank=0)) == ["ok"]
    assert isinstance(cluster.phase(job_id), Queued)
    assert cluster.held(node) == cluster.held(other) == []


def test_a_cancelled_gang_that_lost_a_member_is_still_cancelled(
    cluster: Cluster, leadership: Leadership, node: Node, other: Node
) -> None:
    job_id = cluster.stopping(leadership, node, other)
    assert cluster.lose(leadership, node) == "ok"
    stopping = cluster.phase(job_id)
    assert isinstance(stopping, Stopping)
    assert (stopping.cause, stopping.exits) == (StopCause.CANCELLED, (MemberExit(0, GONE),))


def test_a_gang_that_lost_all_its_members_one_by_one_is_queued_again(
    cluster: Cluster, leadership: Leadership, node: Node, other: Node, by: Leadership | None
) -> None:
    job_id = cluster.running(leadership, node, other)
    assert cluster.lose(by, node) == "ok"
    assert cluster.lose(by, other) == "ok"
    assert cluster.entries()[-2].event().__class__ is Requeued
    assert isinstance(cluster.phase(job_id), Queued)
    assert cluster.held(node) == cluster.held(other) == []


def test_a_gang_that_is_partly_claimed_is_taken_back_from_all(
    cluster: Cluster, leadership: Leadership, node: Node, other: Node
) -> None:
    job_id = cluster.reserved(leadership, node, other)
    cluster.claim(other, cluster.claiming(job_id, 1))
    assert cluster.lose(leadership, node) == "ok"
    assert isinstance(cluster.phase(job_id), Queued)
    assert cluster.held(other) == []


def test_a_member_that_had_ended_before_needs_no_move(
    cluster: Cluster, leadership: Leadership, node: Node, other: Node
) -> None:
    job_id = cluster.running(leadership, node, other)
    cluster.report(node, cluster.ending(job_id, FINE, rank=0))
    before = cluster.record(job_id)
    assert cluster.lose(leadership, node) == "ok"
    assert cluster.record(job_id) == before
    assert cluster.held(node) == cluster.held(other) == [job_id]


def test_nothing_is_left_of_the_lease_and_the_stream_says_why(
    cluster: Cluster, leadership: Leadership, node: Node, other: Node
) -> None:
    cluster.renew(other, unfenced=True)
    assert cluster.lose(None, other) == "ok"
    assert cluster.lose(leadership, node) == "ok"
    for one in (node, other):
        stored = cluster.redis.hget(cluster.keys.incarnations, one.name).decode()
        assert stored == f"-{one.incarnation} host-1"
    seen = cluster.watch()
    assert (seen.marks, seen.unfenced) == ({}, frozenset())
    said = [(entry.node, entry.value, entry.job_id) for entry in cluster.entries("node_lost")]
    assert said == [("n2", b"silent for 30 s", None), ("n1", b"silent for 30 s", None)]


def test_nothing_that_the_lost_incarnation_says_counts_any_more(
    cluster: Cluster, leadership: Leadership, node: Node, other: Node
) -> None:
    gang, reserved = cluster.running(leadership, node, other), cluster.reserved(leadership, node)
    late = cluster.claiming(reserved)
    assert cluster.lose(leadership, node) == "ok"
    before = cluster.snapshot()
    assert cluster.renew(node) == leases.Renewed(Lost(), {})
    assert cluster.renew(node, unfenced=True, worker="another") == leases.Renewed(Lost(), {})
    assert cluster.renew(with_incarnation(node, "0")).answer == Stale()
    assert cluster.claim(node, late) == [("stale", None)]
    assert cluster.report(node, cluster.ending(gang, FINE, rank=0)) == ["stale"]
    assert cluster.run(commands.leave(cluster.keys, node.name, node.incarnation)) == "stale"
    with pytest.raises(Conflict, match="a later start of node 'n1' has registered"):
        cluster.run(commands.register(cluster.keys, node, "host-1", replace_after_ms=0, worker="another"))
    assert cluster.snapshot() == before


def test_an_earlier_incarnation_than_the_lost_one_is_refused_too(cluster: Cluster, leadership: Leadership) -> None:
    old, lost = cluster.join("n1"), cluster.join("n1")
    assert cluster.lose(leadership, lost) == "ok"
    with pytest.raises(Conflict, match="a later start of node 'n1' has registered"):
        cluster.run(commands.register(cluster.keys, old, "host-1", replace_after_ms=0))


def test_a_lost_node_joins_anew_and_works(cluster: Cluster, leadership: Leadership, node: Node, other: Node) -> None:
    gang = cluster.running(leadership, node, other)
    assert cluster.lose(leadership, node) == "ok"
    new = cluster.join("n1")
    assert cluster.renew(new) == leases.Renewed(Granted(), {gang: cluster.record(gang)})
    cluster.running(leadership, new)
    assert cluster.lose(leadership, new) == "ok"


def test_another_host_takes_a_lost_name_once_nothing_is_held(
    cluster: Cluster, leadership: Leadership, node: Node, other: Node
) -> None:
    gang = cluster.running(leadership, node, other)
    assert cluster.lose(leadership, node) == "ok"
    with pytest.raises(Conflict, match=r"node 'n1' has 1 jobs on host-1"):
        cluster.join("n1", host="host-2", replace_after_ms=0)
    cluster.report(other, cluster.ending(gang, BAD, rank=1))
    assert cluster.renew(cluster.join("n1", host="host-2", replace_after_ms=0)).answer == Granted()


def test_the_queue_of_the_lost_is_dead_and_the_node_may_leave(
    cluster: Cluster, leadership: Leadership, node: Node, other: Node
) -> None:
    assert cluster.lose(leadership, node) == "ok"
    both = [(one.name, one.incarnation) for one in (node, other)]
    assert [one in cluster.run(queues.living(cluster.keys)) for one in both] == [False, True]
    assert cluster.run(queues.bury(cluster.keys, leadership, both)) == 1
    assert cluster.run(commands.leave(cluster.keys, node.name)) == "ok"
    assert cluster.renew(node).answer == Lost()


def test_a_lost_node_is_still_one_of_the_cluster_for_who_would_be_alone(
    cluster: Cluster, leadership: Leadership, node: Node, other: Node
) -> None:
    assert cluster.lose(leadership, node) == "ok"
    assert cluster.renew(other).answer == Granted()


def test_more_than_one_call_of_other_scripts_takes_is_taken_off_in_one(
    cluster: Cluster, leadership: Leadership, node: Node
) -> None:
    for _ in range(3):
        ids = cluster.submit(commands.MAX_BATCH)
        cluster.place(leadership, *[cluster.placing(job_id, node) for job_id in ids])
    assert cluster.lose(leadership, node) == "ok"
    assert cluster.held(node) == []


# lose: what it refuses


@pytest.fixture
def silent(cluster: Cluster, leadership: Leadership, node: Node, other: Node) -> Node:
    """Return a node, not alone, with a job of each kind that holds something, and a renewal."""
    cluster.reserved(leadership, node)
    cluster.running(leadership, node)
    cluster.stopping(leadership, node)
    cluster.running(leadership, node, other)
    cluster.renew(node)
    return node


def refused(cluster: Cluster, command: Command[str], answer: str) -> None:
    before = cluster.snapshot()
    assert cluster.run(command) == answer
    assert cluster.snapshot() == before


def test_a_node_that_renewed_since_is_not_lost(cluster: Cluster, leadership: Leadership, silent: Node) -> None:
    command = cluster.loss(leadership, silent)
    cluster.renew(silent)
    refused(cluster, command, "moved")


@pytest.mark.parametrize("worker", ["", "w"])
def test_a_node_that_registered_since_is_not_lost(
    cluster: Cluster, leadership: Leadership, silent: Node, worker: str
) -> None:
    command = cluster.loss(leadership, silent)
    cluster.join("n1", worker=worker)
    refused(cluster, command, "moved")


def test_a_node_that_may_run_without_a_deadline_is_not_lost(
    cluster: Cluster, leadership: Leadership, silent: Node
) -> None:
    cluster.renew(silent, unfenced=True)
    refused(cluster, cluster.loss(leadership, silent), "moved")
    cluster.renew(silent)  # not known to be fenced
    refused(cluster, cluster.loss(leadership, silent), "moved")
    cluster.renew(silent, fenced=True)
    assert cluster.lose(leadership, silent) == "ok"


def test_in_another_run_of_the_store_nobody_is_lost(cluster: Cluster, leadership: Leadership, silent: Node) -> None:
    refused(cluster, cluster.loss(leadership, silent, run_id="0" * 40), "moved")


def move_on(cluster: Cluster, leadership: Leadership, node: Node, how: str) -> None:
    reserved, running, stopping, _ = cluster.held(node)
    ways: dict[str, Callable[[], object]] = {
        "claimed": lambda: cluster.claim(node, cluster.claiming(reserved)),
        "taken back": lambda: cluster.place(leadership, cluster.returning(reserved)),
        "cancelled": lambda: cluster.stop(cluster.cancelling(running)),
        "ended": lambda: cluster.report(node, cluster.ending(stopping)),
        "placed": lambda: cluster.reserved(leadership, node),
    }
    ways[how]()


@pytest.mark.parametrize("how", ["claimed", "taken back", "cancelled", "ended", "placed"])
def test_a_node_whose_jobs_moved_on_is_looked_at_again(
    cluster: Cluster, leadership: Leadership, silent: Node, by: Leadership | None, how: str
) -> None:
    command = cluster.loss(by, silent)
    move_on(cluster, leadership, silent, how)
    refused(cluster, command, "moved")
    assert cluster.lose(by, silent) == "ok"


@pytest.mark.parametrize("off", [-1, 1])
def test_a_wrong_count_of_held_jobs_changes_nothing(
    cluster: Cluster, leadership: Leadership, silent: Node, off: int
) -> None:
    holds = len(cluster.held(silent)) + off
    for by in (leadership, None):
        refused(cluster, cluster.loss(by, silent, holds=holds), "moved")


def test_a_job_that_is_named_twice_or_never_was_changes_nothing(
    cluster: Cluster, leadership: Leadership, silent: Node
) -> None:
    moves = cluster.losing(silent)
    twice = [*moves, moves[0]]
    missing = [*moves[:-1], replace(moves[-1], job_id=JobId(999))]
    for wrong in (twice, missing):
        refused(cluster, cluster.loss(leadership, silent, wrong), "moved")


def test_a_move_that_was_made_before_is_no_move(cluster: Cluster, leadership: Leadership, silent: Node) -> None:
    """Its value is stored already: elsewhere that is a repeat, here somebody else did it."""
    moves, holds = cluster.losing(silent), len(cluster.held(silent))
    assert cluster.place(leadership, moves[0]) == ["ok"]
    refused(cluster, cluster.loss(leadership, silent, moves, holds=holds - 1), "moved")


ILLEGAL: Final = sorted(
    {(phase_tag(source), phase_tag(to)) for source in PHASES for to in PHASES}
    - {(phase_tag(source), phase_tag(to)) for (source, event), to in targets().items() if event in EVENTS_OF["lose"]}
)


def test_every_pair_of_phases_that_is_not_its_own_changes_nothing(
    cluster: Cluster, leadership: Leadership, silent: Node
) -> None:
    held = cluster.held(silent)
    ids = {phase_tag(cluster.phase(job_id)): job_id for job_id in [cluster.ended(leadership, silent), *held]}
    ids["queued"] = cluster.queued()
    moves, to_phase = cluster.losing(silent), {phase_tag(kind): phase for kind, phase in PHASES.items()}
    for source, to in ILLEGAL:
        before = cluster.record(ids[source])
        illegal = Move(ids[source], before, EVENTS[StopAsked], codec.record(to_phase[to], before.rev + 1))
        rest = [one for one in moves if one.job_id != ids[source]]
        refused(cluster, cluster.loss(leadership, silent, [*rest, illegal]), "moved")


@pytest.mark.parametrize("why", ["an earlier epoch", "another token", "resigned"])
def test_invariant_4_a_stale_leader_loses_nobody(
    cluster: Cluster, leadership: Leadership, silent: Node, why: str
) -> None:
    stale = leadership
    if why == "resigned":
        cluster.run(commands.resign(cluster.keys, leadership))
    else:
        new = cluster.lead("b")
        stale = leadership if why == "an earlier epoch" else Leadership(new.epoch, leadership.token)
    refused(cluster, cluster.loss(stale, silent), "stale")


def test_nobody_is_lost_who_never_was_or_twice(
    cluster: Cluster, leadership: Leadership, silent: Node, by: Leadership | None
) -> None:
    refused(cluster, cluster.loss(by, replace(silent, name=NodeName("n9"))), "unknown")
    assert cluster.lose(by, silent) == "ok"
    refused(cluster, cluster.loss(by, silent), "unknown")
    cluster.run(commands.leave(cluster.keys, silent.name))
    assert len(cluster.entries("node_lost")) == 1


def test_an_operator_is_stopped_by_neither_mark_nor_record_nor_restart(
    cluster: Cluster, leadership: Leadership, silent: Node
) -> None:
    cluster.renew(silent, unfenced=True)
    command = cluster.loss(None, silent)
    cluster.renew(silent, unfenced=True)
    assert cluster.run(command) == "ok"


# place


def test_in_another_run_of_the_store_nothing_is_placed(cluster: Cluster, leadership: Leadership, node: Node) -> None:
    moves = [cluster.placing(cluster.queued(), node), cluster.returning(cluster.reserved(leadership, node))]
    before = cluster.snapshot()
    with pytest.raises(Unavailable, match="redis: has restarted"):
        cluster.run(commands.place(cluster.keys, leadership, moves, run_id="0" * 40))
    assert cluster.snapshot() == before
    run_id = cluster.watch().run_id
    assert cluster.run(commands.place(cluster.keys, leadership, moves, run_id=run_id)) == ["ok", "ok"]


# another server takes over


def test_numbers_jump_once_for_each_server_that_takes_over(cluster: Cluster, leadership: Leadership) -> None:
    def advance(run_id: str, by: Leadership = leadership) -> str:
        return cluster.run(leases.advance(cluster.keys, by, run_id))

    real = cluster.run(leases.watch(cluster.keys)).run_id
    first = cluster.submit()[0]
    assert [advance(real), advance(real)] == ["same", "same"], "the first run ever is no take-over"
    assert cluster.submit()[0] == first + 1
    assert advance("b", Leadership(leadership.epoch - 1, leadership.token)) == "stale"
    earlier = cluster.run(commands.next_incarnation(cluster.keys))
    assert [advance("b"), advance("b"), advance(real)] == ["ok", "same", "ok"]
    assert cluster.submit()[0] == first + 2 + 2 * commands.JUMP
    assert int(cluster.run(commands.next_incarnation(cluster.keys))) == int(earlier) + 1 + 2 * commands.JUMP


def test_job_numbers_jump_before_the_next_leader_has_seen_the_server(cluster: Cluster, leadership: Leadership) -> None:
    """The one that was replaced may have given numbers out that this one never heard of."""
    first = cluster.submit()[0]
    cluster.run(leases.advance(cluster.keys, leadership, "replaced"))
    assert cluster.submit()[0] == first + 1 + commands.JUMP
    assert cluster.submit()[0] == first + 2 + commands.JUMP, "once"
    real = cluster.run(leases.watch(cluster.keys)).run_id
    cluster.run(leases.advance(cluster.keys, leadership, real))
    assert cluster.submit()[0] == first + 3 + 2 * commands.JUMP
