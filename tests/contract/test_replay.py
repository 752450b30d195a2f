"""Any sequence of calls, fresh, doubled, late or from a stale caller: the store stays what the core says.

The model is a dict of phases moved by `domain.transition.apply`; the store must agree with it after every step, and the
event stream must replay to it.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Final, NamedTuple

from hypothesis import HealthCheck, settings
from hypothesis import Phase as Stage
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from shunter.domain.event import Event, Placed, Returned
from shunter.domain.ids import AllocationId, JobId, NodeName
from shunter.domain.job import Job
from shunter.domain.lease import Granted, Lost
from shunter.domain.node import Node
from shunter.domain.outcome import Exit, FailureClass
from shunter.domain.phase import (
    HOLDS_GPUS,
    LIVE,
    Allocation,
    Ended,
    NodeShare,
    Phase,
    Queued,
    Reserved,
)
from shunter.domain.retry import on_claim, on_exit, on_lost
from shunter.domain.transition import apply
from shunter.store import codec, commands
from shunter.store.codec import Record
from shunter.store.commands import Answer, Leadership, Move
from shunter.store.leases import Renewed
from tests.contract.cluster import GONE, Cluster, cancel_of

NODES: Final = ("n1", "n2", "n3")
GPUS: Final = 2
_numbers = count(1)

picks = st.integers(0, 1_000)
"""Chooses among what is there: modulo the number of candidates."""

seldom = st.sampled_from([False, False, False, True])

exits = st.sampled_from(
    [
        Exit(30.0, code=0),
        Exit(31.0, code=3),
        Exit(32.0, signal=11),
        Exit(33.0, failure=FailureClass.KEEPER_LOST, message="the keeper died"),
        Exit(34.0, failure=FailureClass.NOT_STARTED),
    ]
)


class Sent(NamedTuple):
    """A move that was sent once, and what sends it: the script and its caller's proof (leadership or node)."""

    script: str
    move: Move
    leadership: Leadership
    node: Node


class StoreMachine(RuleBasedStateMachine):
    """Sends what callers send. Whether a move takes effect is foreseen from the model alone."""

    url = ""

    def __init__(self) -> None:
        super().__init__()
        self.cluster = Cluster(self.url, f"m-{next(_numbers)}")
        self.phases: dict[JobId, tuple[Phase, int]] = {}
        self.jobs: dict[JobId, Job] = {}
        self.keys_used: dict[str, list[JobId]] = {}
        self.history: list[Sent] = []
        self.lost: set[str] = set()
        self.at_s = 10.0
        self.allocations = 0

    @initialize()
    def begin(self) -> None:
        self.leaderships = [self.cluster.lead("c0")]
        self.incarnations = {name: [self.cluster.join(name, gpus=GPUS)] for name in NODES}

    def teardown(self) -> None:
        self.cluster.wipe()

    # who acts

    @precondition(lambda self: len(self.leaderships) < 3)
    @rule()
    def another_coordinator_leads(self) -> None:
        self.leaderships.append(self.cluster.lead(f"c{len(self.leaderships)}"))

    @precondition(lambda self: sum(map(len, self.incarnations.values())) < 6)
    @rule(name=st.sampled_from(NODES))
    def a_node_restarts(self, name: str) -> None:
        self.incarnations[name].append(self.cluster.join(name, gpus=GPUS))
        self.lost.discard(name)

    @precondition(lambda self: len(self.lost) < 2)
    @rule(name=st.sampled_from(NODES), by=st.sampled_from(["leader", "operator", "stale leader"]))
    def a_node_is_lost(self, name: str, by: str) -> None:
        which = 0 if by == "stale leader" else -1
        leadership = None if by == "operator" else self.leaderships[which]
        node = self.node(name)
        command = self.cluster.loss(leadership, node)
        answer = self.cluster.run(command)
        if leadership not in (None, self.leaderships[-1]):
            assert answer == "stale"
        elif name in self.lost:
            assert answer == "unknown"
        else:
            assert answer == "ok"
            assert self.cluster.run(command) == "unknown"
            self.lost.add(name)
            for job_id in self.ids(*HOLDS_GPUS):
                self.lose_member(job_id, name)

    def lose_member(self, job_id: JobId, name: str) -> None:
        phase, rev = self.phases[job_id]
        assert isinstance(phase, HOLDS_GPUS)
        if name in phase.allocation.nodes:
            event = on_lost(self.jobs[job_id], phase, NodeName(name), GONE, by="coordinator-1")
            if event is not None:
                self.phases[job_id] = (apply(phase, event), rev + 1)

    # what happens to jobs

    @precondition(lambda self: len(self.ids(Queued)) < 4)
    @rule(jobs=st.integers(1, 3), nodes=st.sampled_from([1, 2]), key=st.sampled_from(["", "", "a", "b"]))
    def submit(self, jobs: int, nodes: int, key: str) -> None:
        digest = f"{jobs} x {nodes}"
        name = f"{key}-{jobs}-{nodes}"
        ids = self.cluster.submit(jobs, nodes=nodes, key=(name, digest.replace(" ", "")) if key else None)
        if key and name in self.keys_used:
            assert ids == self.keys_used[name]
            return
        first = max(self.phases, default=0) + 1
        assert ids == list(range(first, first + jobs))
        if key:
            self.keys_used[name] = ids
        for job_id in ids:
            self.phases[job_id] = (Queued(1.0), 1)
            self.jobs[job_id] = self.cluster.job(job_id)

    @precondition(lambda self: self.ids(Queued))
    @rule(pick=picks, stale=seldom)
    def place(self, pick: int, stale: bool) -> None:
        job_id = self.pick(self.ids(Queued), pick)
        free = self.free()
        names = [name for name in NODES if free[name] and name not in self.lost]
        if len(names) < self.jobs[job_id].request.nodes:
            return
        start = pick % len(names)
        chosen = (names[start:] + names[:start])[: self.jobs[job_id].request.nodes]
        self.allocations += 1
        shares = tuple(
            NodeShare(self.node(name).name, self.node(name).incarnation, (free[name][0],)) for name in chosen
        )
        allocation = Allocation(AllocationId(f"1.{self.allocations}"), shares)
        self.send("place", job_id, Placed(self.now(), "c", allocation), stale=stale)

    @precondition(lambda self: self.ids(Reserved))
    @rule(pick=picks, stale=seldom)
    def take_back(self, pick: int, stale: bool) -> None:
        self.send("place", self.pick(self.ids(Reserved), pick), Returned(self.now(), "c", "it left"), stale=stale)

    @precondition(lambda self: self.ids(Reserved))
    @rule(pick=picks, rank=st.integers(0, 1), stale=seldom)
    def claim(self, pick: int, rank: int, stale: bool) -> None:
        job_id = self.pick(self.ids(Reserved), pick)
        phase = self.phases[job_id][0]
        assert isinstance(phase, Reserved)
        rank %= len(phase.allocation.shares)
        event = on_claim(phase, rank, at_s=self.now(), by="n")
        self.send("claim", job_id, event, name=phase.allocation.shares[rank].node, stale=stale)

    @precondition(lambda self: self.ids(*LIVE))
    @rule(pick=picks, rank=st.integers(0, 1), exit=exits, stale=seldom)
    def report(self, pick: int, rank: int, exit: Exit, stale: bool) -> None:
        job_id = self.pick(self.ids(*LIVE), pick)
        phase = self.phases[job_id][0]
        assert isinstance(phase, LIVE)
        rank %= len(phase.allocation.shares)
        event = on_exit(self.jobs[job_id], phase, rank, exit, by="n")
        self.send("report", job_id, event, name=phase.allocation.shares[rank].node, stale=stale)

    @precondition(lambda self: self.ids(Queued, Reserved, *LIVE))
    @rule(pick=picks, rank=st.integers(0, 1), exit=exits)
    def go_on(self, pick: int, rank: int, exit: Exit) -> None:
        """The next step on the usual way of a job: without this, examples seldom come far."""
        phase, _ = self.phases[self.pick(self.ids(Queued, Reserved, *LIVE), pick)]
        if isinstance(phase, Queued):
            self.place(pick, stale=False)
        elif isinstance(phase, Reserved):
            gone = any(
                share.node in self.lost or share.incarnation != self.node(share.node).incarnation
                for share in phase.allocation.shares
            )
            if gone:
                self.send(
                    "place", self.pick(self.ids(Queued, Reserved, *LIVE), pick), Returned(self.now(), "c", "gone")
                )
            else:
                self.claim(pick, rank, stale=False)
        else:
            self.report(pick, rank, exit, stale=False)

    @precondition(lambda self: self.ids(*LIVE))
    @rule(pick=picks, rank=st.integers(0, 1), exit=exits)
    def end(self, pick: int, rank: int, exit: Exit) -> None:
        self.report(pick, rank, exit, stale=False)

    @precondition(lambda self: self.ids(Queued, Reserved, *LIVE))
    @rule(pick=picks)
    def cancel(self, pick: int) -> None:
        job_id = self.pick(self.ids(Queued, Reserved, *LIVE), pick)
        self.send("stop", job_id, cancel_of(self.phases[job_id][0]))

    @precondition(lambda self: self.history)
    @rule(pick=picks)
    def repeat_something_sent_before(self, pick: int) -> None:
        """The latest move again (its answer was lost), or a much older one (a late report, a doubled hint)."""
        self.resend(self.history[-1 - pick % len(self.history)])

    @precondition(lambda self: self.history)
    @rule()
    def repeat_the_latest(self) -> None:
        self.resend(self.history[-1])

    @precondition(lambda self: len(self.ids(*LIVE)) > 1)
    @rule()
    def cancel_all_that_run_in_one_batch_with_a_stranger(self) -> None:
        ids = self.ids(*LIVE)
        moves = [self.move(job_id, cancel_of(self.phases[job_id][0])) for job_id in ids]
        gone = commands.move(JobId(9_999), moves[0].before, moves[0].event)
        assert self.cluster.stop(moves[0], gone, *moves[1:]) == ["ok", "gone", *["ok"] * (len(ids) - 1)]
        for move in moves:
            self.phases[move.job_id] = (move.after.phase, move.after.rev)

    # the model

    def ids(self, *kinds: type[Phase]) -> list[JobId]:
        return [job_id for job_id, (phase, _) in self.phases.items() if isinstance(phase, kinds)]

    def pick(self, ids: list[JobId], pick: int) -> JobId:
        return ids[pick % len(ids)]

    def now(self) -> float:
        self.at_s += 1.0
        return self.at_s

    def node(self, name: str) -> Node:
        return self.incarnations[name][-1]

    def free(self) -> dict[str, list[int]]:
        free = {name: list(range(GPUS)) for name in NODES}
        for phase, _ in self.phases.values():
            if isinstance(phase, HOLDS_GPUS):
                for share in phase.allocation.shares:
                    free[share.node] = [gpu for gpu in free[share.node] if gpu not in share.gpus]
        return free

    def record(self, job_id: JobId) -> Record:
        return codec.record(*self.phases[job_id])

    def move(self, job_id: JobId, event: Event) -> Move:
        return commands.move(job_id, self.record(job_id), event)

    def send(self, script: str, job_id: JobId, event: Event, *, name: str = NODES[0], stale: bool = False) -> None:
        """Send a legal move, from a caller that is deposed or superseded if *stale* (and there is one)."""
        which = 0 if stale else -1
        sent = Sent(script, self.move(job_id, event), self.leaderships[which], self.incarnations[name][which])
        self.history.append(sent)
        self.resend(sent)

    def resend(self, sent: Sent) -> None:
        move = sent.move
        phase, rev = self.phases[move.job_id]
        if not self.proven(sent):
            assert self.answer(sent) == "stale"
        elif sent.script == "claim" and not self.shared(sent):
            assert self.answer(sent) == self.record(move.job_id)
        elif move.after == self.record(move.job_id):
            assert self.answer(sent) == "ok"
        elif rev == move.before.rev:
            assert self.answer(sent) == "ok"
            self.phases[move.job_id] = (apply(phase, move.event), rev + 1)
        else:
            assert self.answer(sent) == self.record(move.job_id)

    def proven(self, sent: Sent) -> bool:
        if sent.script == "place":
            return sent.leadership == self.leaderships[-1]
        return sent.script == "stop" or (sent.node == self.node(sent.node.name) and sent.node.name not in self.lost)

    def shared(self, sent: Sent) -> bool:
        """Return whether what is claimed has a share on the claiming incarnation."""
        phase = sent.move.after.phase
        assert isinstance(phase, HOLDS_GPUS)
        mine = (sent.node.name, sent.node.incarnation)
        return any((share.node, share.incarnation) == mine for share in phase.allocation.shares)

    def answer(self, sent: Sent) -> Answer:
        ways: dict[str, Callable[[], Answer]] = {
            "place": lambda: self.cluster.place(sent.leadership, sent.move)[0],
            "claim": lambda: self.cluster.claim(sent.node, sent.move)[0][0],
            "report": lambda: self.cluster.report(sent.node, sent.move)[0],
            "stop": lambda: self.cluster.stop(sent.move)[0],
        }
        return ways[sent.script]()

    @invariant()
    def the_store_agrees_with_the_model(self) -> None:
        """Each job is in exactly one phase, the model's; held sets, GPUs and the replay of the stream agree with it."""
        assert self.cluster.records() == {job_id: self.record(job_id) for job_id in self.phases}
        self.cluster.check()
        assert not self.cluster.foreign_keys()

    @invariant()
    def each_node_is_answered_what_it_holds(self) -> None:
        for name in NODES if hasattr(self, "incarnations") else ():
            node = self.node(name)
            held = {
                job_id: self.record(job_id)
                for job_id in self.ids(*HOLDS_GPUS)
                if name in self.record(job_id).phase.allocation.nodes  # type: ignore[union-attr]
            }
            renewed = Renewed(Lost(), {}) if name in self.lost else Renewed(Granted(), held)
            assert self.cluster.renew(node) == renewed

    @invariant()
    def an_ended_job_stays_as_it_is(self) -> None:
        ended = {job_id: rev for job_id, (phase, rev) in self.phases.items() if isinstance(phase, Ended)}
        known: dict[JobId, int] = getattr(self, "_ended", {})
        assert {job_id: ended[job_id] for job_id in known} == known
        self._ended = ended


def test_any_sequence_of_calls_leaves_the_store_as_the_core_says(url: str) -> None:
    machine = type("Machine", (StoreMachine,), {"url": url})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=40,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow],
            phases=[
                Stage.explicit,
                Stage.reuse,
                Stage.generate,
                Stage.shrink,
            ],  # explaining takes longer than a timeout
        ),
    )
