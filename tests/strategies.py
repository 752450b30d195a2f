"""Hypothesis generators that several suites share: nodes, jobs, exits, lives of jobs, policy files.

Whole clusters with running jobs are in `tests/unit/scheduling/worlds.py`.

Sizes are small on purpose: rules of packing break on three nodes and a dozen jobs, or not at all.
"""

from __future__ import annotations

from collections.abc import Sequence
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
from shunter.runtime.policy_file import MAX_SEED, parts
from shunter.scheduling.parts import order_part
from shunter.scheduling.policy import Account, Backfill, FairShare, Policy, Route

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


# policies


_names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8).filter(str.isprintable) | st.sampled_from(
    ("no", "~", "null", "1e3", "<<", "*a", "&a", "!b", "?", "a: b", "#x", " ", "'", "-", "07", "1:30", "{", "%")
)
"""Names of teams and users: whatever is printable, and what YAML takes for something else."""

_pool_names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,5}", fullmatch=True)
_seconds = st.integers(1, 366 * 86_400).map(float)
_weights = st.floats(0.001, 1e6)


def legal_order(order: Sequence[str]) -> tuple[str, ...]:
    """Return *order* as a policy file may have it: single jobs are compared last, and `aged` wants them by age."""
    by_job = [name for name in order if order_part(name).job_key is not None]
    others = [name for name in order if name not in by_job and (name != "aged" or by_job[:1] in ([], ["age"]))]
    return (*others, *by_job)


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    """Any policy that a file can hold."""
    pools = draw(st.lists(_pool_names, unique=True, max_size=4))
    shares = draw(st.lists(st.floats(0, 0.25) | st.just(1e-300), min_size=len(pools), max_size=len(pools)))
    teams = draw(st.lists(_names, unique=True, max_size=4))
    return Policy(
        order=legal_order(draw(st.permutations(parts("order")))[: draw(st.integers(0, 4))]),
        placement=tuple(draw(st.permutations(parts("placement"))))[: draw(st.integers(0, 4))],
        backfill=draw(st.none() | st.builds(Backfill, st.integers(0, 1_000), _seconds, st.booleans())),
        pools=dict(zip(pools, shares, strict=True)),
        classes={name: draw(_routes(pools)) for name in draw(st.sets(priorities))} if pools else {},
        strict=draw(st.booleans()),
        share_all_below=draw(st.integers(0, 1_000_000)),
        fair_share=draw(st.builds(FairShare, _seconds, _seconds | st.just(0.0))),
        # A team's parent comes before it, so that there is no circle.
        teams={
            name: Account(draw(_weights), draw(st.sampled_from(["", *teams[:at]]))) for at, name in enumerate(teams)
        },
        users=draw(st.dictionaries(_names, st.builds(Account, _weights), max_size=3)),
        ties=draw(st.sampled_from(("order", "random"))),
        seed=draw(st.integers(0, MAX_SEED)),
        estimate=draw(st.sampled_from(("limit", "expected"))),
    )


@st.composite
def _routes(draw: st.DrawFn, pools: Sequence[str]) -> Route:
    home, *borrow = draw(st.permutations(pools))
    return Route(home, tuple(borrow[: draw(st.integers(0, 3))]))
