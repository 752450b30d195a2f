"""Every Hypothesis generator of the suite: nodes, jobs, exits, lives of jobs, worlds and changes of a view.

Sizes are small on purpose: rules of packing break on three nodes and a dozen jobs, or not at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import hypothesis
from hypothesis import settings
from hypothesis import strategies as st

from shunter.domain.event import Cancelled, Event, Placed, Returned, StopAsked
from shunter.domain.ids import AllocationId, Incarnation, JobId, NodeName
from shunter.domain.job import Job, Priority, Request
from shunter.domain.node import Gpu, Node
from shunter.domain.outcome import INFRASTRUCTURE, Exit, FailureClass, Outcome, Result, classify
from shunter.domain.phase import (
    Allocation,
    Ended,
    NodeShare,
    PastAttempt,
    Phase,
    Queued,
    Reserved,
    Running,
    StopCause,
    Stopping,
)
from shunter.domain.retry import on_claim, on_exit
from shunter.domain.transition import apply
from shunter.scheduling.view import View

# On a busy machine the time of one example says nothing about the code. Explaining a failure traces every line and
# takes minutes: the shrunk example is enough.
BRIEF: Final = settings(
    max_examples=40, deadline=None, phases=[step for step in hypothesis.Phase if step is not hypothesis.Phase.explain]
)

NOW_S: Final = 10_000.0
NODE_NAMES: Final = tuple(NodeName(f"n{number}") for number in range(1, 7))

seldom = st.sampled_from((False, False, False, False, False, True))
"""True once in six: what stops a story must not come half of the time."""
node_names = st.sampled_from(NODE_NAMES)
times = st.integers(0, int(NOW_S) + 5).map(float)
priorities = st.sampled_from(Priority)


# nodes


@st.composite
def nodes(draw: st.DrawFn, name: NodeName | None = None, *, all_healthy: bool = False) -> Node:
    """A node of 0 to 8 GPUs, whose indexes may have a gap; some GPUs are unhealthy, some nodes are cordoned."""
    name = name or draw(node_names)
    count, gap = draw(st.sampled_from([8, 4, 8, 2, 0])), draw(st.sampled_from([None, 0, 2]))
    sick = draw(seldom) and not all_healthy
    return Node(
        name=name,
        incarnation=Incarnation(f"{name}-{draw(st.integers(1, 2))}"),
        gpus=tuple(
            Gpu(index, "H100", f"{name}-{index}", 81_920, healthy=not (sick and index % 3 == 1))
            for index in range(count)
            if index != gap
        ),
        cpus=draw(st.sampled_from([64, 16, 64, 2])),
        memory_mib=draw(st.sampled_from([65_536, 65_536, 1_000])),
        joined_s=0.0,
        cordoned="new disk" if draw(seldom) and not all_healthy else "",
    )


@st.composite
def fleets(draw: st.DrawFn, *, all_healthy: bool = False, min_size: int = 0) -> tuple[Node, ...]:
    """Nodes with different names."""
    size = max(min_size, draw(st.sampled_from([3, 5, 4, 2, 4, 3, 1, 0])))
    names = draw(st.permutations(NODE_NAMES))[:size]
    return tuple(draw(nodes(name, all_healthy=all_healthy)) for name in names)


# jobs


requests = st.builds(
    Request,
    gpus_per_node=st.sampled_from([1, 2, 4, 0]),
    nodes=st.sampled_from([1, 1, 2, 3]),
    cpus=st.sampled_from([0, 0, 0, 1, 12]),
    memory_mib=st.sampled_from([0, 0, 0, 600, 40_000]),
)


limits = st.integers(0, 3)


@st.composite
def jobs(draw: st.DrawFn, job_id: int = 1, shapes: st.SearchStrategy[Request] = requests) -> Job:
    return Job(
        id=JobId(job_id),
        name=f"job-{job_id}",
        user="ada",
        request=draw(shapes),
        submitted_s=draw(times),
        priority=draw(priorities),
        max_retries=draw(limits),
    )


exits = st.one_of(
    st.builds(Exit, ended_s=times, failure=st.sampled_from(sorted(INFRASTRUCTURE))),
    st.builds(Exit, ended_s=times, code=st.just(0)),
    st.builds(Exit, ended_s=times, code=st.integers(0, 255)),
    st.builds(Exit, ended_s=times, signal=st.integers(1, 64)),
    st.builds(Exit, ended_s=times, failure=st.sampled_from(FailureClass), message=st.sampled_from(["", "gone"])),
)
outcomes = st.builds(classify, exits, cancelled=st.booleans())
pasts = st.builds(
    PastAttempt,
    attempt=st.integers(1, 9),
    nodes=st.sampled_from([NODE_NAMES[:1], NODE_NAMES[:2], NODE_NAMES[2:3]]),
    outcome=st.just(Outcome(Result.LOST, failure=FailureClass.NODE_LOST)),
    ended_s=st.just(7.0),
)

histories = st.lists(pasts, max_size=2).map(tuple)


@st.composite
def queued(draw: st.DrawFn) -> Queued:
    """A wait, fresh or after an attempt that failed; some back off into the future."""
    past = draw(histories)
    not_before_s = draw(st.sampled_from([0.0, NOW_S - 5, NOW_S, NOW_S + 5])) if past else 0.0
    return Queued(draw(times), len(past), len(past), not_before_s, past)


@st.composite
def allocations(draw: st.DrawFn, request: Request) -> Allocation:
    """Shares of the right shape on different nodes, without a look at what is free."""
    names = draw(st.lists(node_names, unique=True, min_size=request.nodes, max_size=request.nodes))
    gpu_sets = st.sets(st.integers(0, 9), min_size=request.gpus_per_node, max_size=request.gpus_per_node)
    shares = tuple(
        NodeShare(name, Incarnation(f"{name}-1"), tuple(sorted(draw(gpu_sets))), request.cpus, request.memory_mib)
        for name in names
    )
    return Allocation(AllocationId(f"1.{draw(st.integers(1, 10_000))}"), shares)


# lives of jobs


class Step(NamedTuple):
    """One transition: the phase before, what happened, the phase after; *exited* is the member whose end it was."""

    before: Phase
    event: Event
    after: Phase
    exited: int | None


class Life(NamedTuple):
    """A job and what happened to it since it was queued; it need not have ended."""

    job: Job
    first: Queued
    steps: tuple[Step, ...]

    @property
    def phase(self) -> Phase:
        return self.steps[-1].after if self.steps else self.first


@st.composite
def lives(draw: st.DrawFn, *, max_steps: int = 25) -> Life:
    """A life as the core itself makes events: placements, claims, exits (reports may come twice), cancels."""
    job = draw(jobs())
    first = Queued(job.submitted_s)
    phase: Phase = first
    steps: list[Step] = []
    for _ in range(draw(st.sampled_from([max_steps, max_steps // 2, 5, 1, 0]))):
        if isinstance(phase, Ended):
            break
        event, exited = draw(events(job, phase))
        steps.append(Step(phase, event, apply(phase, event), exited))
        phase = steps[-1].after
    return Life(job, first, tuple(steps))


@st.composite
def events(draw: st.DrawFn, job: Job, phase: Queued | Reserved | Running | Stopping) -> tuple[Event, int | None]:
    """Something that may happen to *job* in *phase*, and the member that ended; cancels are rare."""
    at_s, by = draw(times), draw(st.sampled_from(["ada", "coordinator-1", "n1"]))
    cancel = draw(seldom) and (isinstance(phase, Running) or draw(st.booleans()))
    match phase:
        case Queued():
            return Cancelled(at_s, by) if cancel else Placed(at_s, by, draw(allocations(job.request))), None
        case Reserved():
            if cancel:
                return Cancelled(at_s, by), None
            if draw(seldom):
                return Returned(at_s, by, "node left"), None
            return on_claim(phase, draw(_ranks(job)), at_s=at_s, by=by), None
        case _:
            if cancel:
                return StopAsked(at_s, by, StopCause.CANCELLED), None
            rank = draw(_ranks(job))
            return on_exit(job, phase, rank, draw(exits), by=by), rank


def _ranks(job: Job) -> st.SearchStrategy[int]:
    return st.integers(0, job.request.nodes - 1)


# worlds: a consistent cluster, from which a view is built


@dataclass(frozen=True)
class World:
    """Everything that a view is made of."""

    nodes: tuple[Node, ...]
    silent: frozenset[NodeName]
    jobs: tuple[tuple[Job, Phase], ...]

    def view(self, order: Sequence[int] | None = None) -> View:
        """Return the view at NOW_S; *order* is the order in which the jobs are put into it."""
        view = View()
        for node in self.nodes:
            view.put_node(node)
        view.silent = self.silent
        for index in order if order is not None else range(len(self.jobs)):
            view.put_job(*self.jobs[index])
        view.advance(NOW_S)
        return view


@dataclass
class _Rest:
    """What the world-maker has not given away yet on one node."""

    node: Node
    gpus: list[int] = field(init=False)
    cpus: int = field(init=False)
    memory_mib: int = field(init=False)

    def __post_init__(self) -> None:
        self.gpus = [gpu.index for gpu in self.node.gpus]
        self.cpus, self.memory_mib = self.node.cpus, self.node.memory_mib

    def give(self, request: Request) -> NodeShare:
        given, self.gpus = self.gpus[: request.gpus_per_node], self.gpus[request.gpus_per_node :]
        self.cpus -= request.cpus
        self.memory_mib -= request.memory_mib
        return NodeShare(self.node.name, self.node.incarnation, tuple(given), request.cpus, request.memory_mib)

    def has(self, request: Request) -> bool:
        enough = len(self.gpus) >= request.gpus_per_node
        return enough and self.cpus >= request.cpus and self.memory_mib >= request.memory_mib


@st.composite
def worlds(draw: st.DrawFn, *, max_jobs: int = 12) -> World:
    """Nodes, jobs that hold what no other holds (on sick, silent and cordoned nodes too), and jobs that wait."""
    fleet = draw(fleets())
    rests = [_Rest(node) for node in fleet]
    made: list[tuple[Job, Phase]] = []
    shapes = st.sampled_from(draw(st.lists(requests, min_size=2, max_size=4)))
    for number in range(1, draw(st.sampled_from([max_jobs, max_jobs // 2, max_jobs, max_jobs // 2, 2, 1, 0])) + 1):
        job = draw(jobs(number, shapes))
        homes = [rest for rest in draw(st.permutations(rests)) if rest.has(job.request)][: job.request.nodes]
        if len(homes) == job.request.nodes and draw(st.booleans()):
            shares = tuple(rest.give(job.request) for rest in homes)
            made.append((job, draw(_holding(Allocation(AllocationId(f"1.{number}"), shares)))))
        else:
            made.append((job, draw(queued())))
    silent = frozenset(NODE_NAMES[:1] if draw(seldom) else ())
    return World(fleet, silent, tuple(made))


def _holding(allocation: Allocation) -> st.SearchStrategy[Phase]:
    running = Running(1, allocation, 5.0)
    stopping = Stopping(1, allocation, 5.0, StopCause.CANCELLED, 9.0)
    return st.sampled_from([Reserved(1, allocation, 4.0), running, stopping])


# changes of a view


class PutJob(NamedTuple):
    job: Job
    phase: Phase

    def apply(self, view: View) -> None:
        view.put_job(self.job, self.phase)


class PutNode(NamedTuple):
    node: Node

    def apply(self, view: View) -> None:
        view.put_node(self.node)


class RemoveNode(NamedTuple):
    name: NodeName

    def apply(self, view: View) -> None:
        view.remove_node(self.name)


class Advance(NamedTuple):
    now_s: float

    def apply(self, view: View) -> None:
        view.advance(self.now_s)


Change = PutJob | PutNode | RemoveNode | Advance


@st.composite
def put_jobs(draw: st.DrawFn) -> PutJob:
    """Any job in any phase; ids repeat, so that jobs change their phase, request and nodes."""
    job = draw(jobs(draw(st.integers(1, 5))))
    allocation = draw(allocations(job.request))
    phase = draw(st.one_of(queued(), _holding(allocation), st.builds(Ended, outcome=outcomes, ended_s=times)))
    return PutJob(job, phase)


changes: st.SearchStrategy[list[Change]] = st.lists(
    st.one_of(
        put_jobs(),
        put_jobs(),
        st.builds(PutNode, nodes()),
        st.builds(RemoveNode, node_names),
        st.builds(Advance, times),
    ),
    max_size=20,
)
