"""Hypothesis generators of whole clusters: nodes of many kinds, jobs that hold what no other holds, jobs that wait.

What is given to running jobs is counted here by hand, from inventories and phases, and not by the code under test.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from hypothesis import strategies as st
from msgspec.structs import replace

from shunter.domain.ids import AllocationId, Incarnation, JobId, NodeName
from shunter.domain.job import WHOLE_GPU, Job, Priority, Request, Within
from shunter.domain.node import Gpu, Node
from shunter.domain.outcome import FailureClass, Outcome, Result
from shunter.domain.phase import (
    HOLDS_GPUS,
    Allocation,
    NodeShare,
    PastAttempt,
    Phase,
    Queued,
    Reserved,
    Running,
    StopCause,
    Stopping,
)
from shunter.scheduling.policy import Policy
from shunter.scheduling.view import View
from tests.strategies import NODE_NAMES, NOW_S, requests, seldom
from tests.unit.scheduling.cluster import nodes_of

POOLS: Final = ("dedicated", "standard", "preemptible")


def mostly(value: Any, *seldom_ones: Any) -> list[Any]:
    return [value] * 4 + list(seldom_ones)


def choices(*options: Sequence[Any]) -> st.SearchStrategy[tuple[Any, ...]]:
    """One of each of *options*, in a single draw: a world takes hundreds of them."""
    return st.integers(0, math.prod(map(len, options)) - 1).map(lambda number: _decoded(number, options))


def _decoded(number: int, options: Sequence[Sequence[Any]]) -> tuple[Any, ...]:
    chosen = []
    for option in options:
        number, at = divmod(number, len(option))
        chosen.append(option[at])
    return tuple(chosen)


# nodes

_hardware = choices(
    [8, 4, 8, 2, 0],  # GPUs
    [None, None, 0, 2],  # an index that is left out
    mostly(9, 3),  # every which GPU is sick
    [64, 16, 64, 2],
    [65_536, 65_536, 1_000],
    mostly("", "new disk"),
)
_traits = choices(
    mostly(8, 4, 2, 1),  # GPUs of an island
    mostly(None, "A100", "mixed"),
    mostly("", *POOLS),
    ["", "r1", "r2"],
    mostly({}, {"zone": "a"}, {"zone": "a", "disk": "nvme"}),
    mostly(0.0, 5.0),
)


@st.composite
def fleet_nodes(draw: st.DrawFn, name: NodeName, *, all_healthy: bool = False, plain: bool = False) -> Node:
    """A node of 0 to 8 GPUs, whose indexes may have a gap; some GPUs are unhealthy, some nodes are cordoned.

    Unless *plain*, it may have islands, several models, a pool, a rack, labels and a later time when it joined.
    """
    count, gap, sick, cpus, memory_mib, cordoned = draw(_hardware)
    island, other, pool, rack, labels, joined_s = (8, None, "", "", {}, 0.0) if plain else draw(_traits)
    return Node(
        name,
        Incarnation(f"{name}-{count}"),
        tuple(
            Gpu(
                index,
                "A100" if other == "A100" or (other == "mixed" and index == 3) else "H100",
                f"{name}-{index}",
                81_920,
                healthy=all_healthy or index % sick != 2,
                island=index // island,
            )
            for index in range(count)
            if index != gap
        ),
        cpus,
        memory_mib,
        joined_s,
        cordoned="" if all_healthy else cordoned,
        pool=pool,
        rack=rack,
        labels=labels,
    )


@st.composite
def fleets(draw: st.DrawFn, *, all_healthy: bool = False) -> tuple[Node, ...]:
    """Nodes of different names and many kinds; every second fleet has only plain ones."""
    size, plain = draw(choices([3, 5, 4, 2, 4, 3, 1, 0], [True, False]))
    return tuple(draw(fleet_nodes(name, all_healthy=all_healthy, plain=plain)) for name in NODE_NAMES[:size])


# jobs


def _narrowed(request: Request, last: bool, milli: int, rack: bool, wishes: dict[str, Any]) -> Request:
    return replace(
        request,
        last_gpus=1 if last and request.gpus_per_node > 1 and request.nodes > 1 else 0,
        gpu_milli=milli if request.gpus_per_node == request.nodes == 1 else WHOLE_GPU,
        **({"within": Within.RACK} if rack and request.nodes > 1 else {}) | wishes,
    )


wishes = st.one_of(
    st.just({}),
    st.just({}),
    st.sampled_from(
        [
            {"models": ("H100",)},
            {"models": ("A100", "H100")},
            {"labels": (("zone", "a"),)},
            {"avoid": NODE_NAMES[:2]},
            {"pool": "standard"},
            {"within": Within.ISLAND},
        ]
    ),
)
asks = st.builds(
    _narrowed,
    requests,
    last=seldom,
    rack=seldom,
    milli=st.sampled_from([WHOLE_GPU, 250, 700, WHOLE_GPU]),
    wishes=wishes,
)
"""Requests with shares, odd last members and wishes."""
_owned = choices(
    list(Priority),
    [("", "ada"), ("", "ada"), ("red", "bob"), ("red", "cy"), ("blue", "ada")],
    [None, 10, 60, 60, 600, 5_000],
    [None, 7.5, 60.0, 500.0],
)


@st.composite
def owned_jobs(draw: st.DrawFn, job_id: int, shapes: st.SearchStrategy[Request]) -> Job:
    """A job of one of a few owners, perhaps with a time limit, perhaps with an expected time."""
    priority, (team, user), limit, expected_s = draw(_owned)
    submitted_s = 800.0 * job_id  # numbers grow with submission
    return Job(
        JobId(job_id), f"job-{job_id}", user, draw(shapes), submitted_s, priority, team, limit, expected_s=expected_s
    )


# worlds


@dataclass(frozen=True)
class World:
    """Everything that a view is made of."""

    nodes: tuple[Node, ...]
    silent: frozenset[NodeName]
    jobs: tuple[tuple[Job, Phase], ...]

    def view(self, policy: Policy, order: Sequence[int] | None = None) -> View:
        """Return the view at NOW_S; *order* is the order in which the jobs are put into it."""
        view = View(policy)
        for node in self.nodes:
            view.put_node(node)
        view.set_silent(self.silent)
        for index in order if order is not None else range(len(self.jobs)):
            view.put_job(*self.jobs[index])
        view.advance(NOW_S)
        return view


class Rest:
    """What *shares* leave of *node*, device by device, healthy or not."""

    def __init__(self, node: Node, shares: Iterable[NodeShare] = ()) -> None:
        self.node = node
        self.free = {gpu.index: WHOLE_GPU for gpu in node.gpus}
        self.cpus, self.memory_mib = node.cpus, node.memory_mib
        for share in shares:
            self.take(share)

    def room(self, request: Request, gpus: int) -> NodeShare | None:
        """Return a share for a member that takes *gpus* devices; None if there is no room for it."""
        found = tuple(gpu for gpu, milli in self.free.items() if milli >= request.gpu_milli)[:gpus]
        if len(found) < gpus or self.cpus < request.cpus or self.memory_mib < request.memory_mib:
            return None
        node = self.node
        return NodeShare(node.name, node.incarnation, found, request.cpus, request.memory_mib, request.gpu_milli)

    def take(self, share: NodeShare) -> None:
        self.cpus -= share.cpus
        self.memory_mib -= share.memory_mib
        for gpu in share.gpus:
            if gpu in self.free:
                self.free[gpu] -= share.gpu_milli


def allocated(request: Request, rests: Iterable[Rest], allocation_id: str) -> Allocation | None:
    """Return an allocation on the first of *rests* that have room, which is taken; None if too few have.

    Wishes are not looked at: a node may have got other labels since.
    """
    chosen: list[tuple[Rest, NodeShare]] = []
    for rest in rests:
        share = rest.room(request, request.gpus_of(len(chosen))) if len(chosen) < request.nodes else None
        if share is not None:
            chosen.append((rest, share))
    if len(chosen) < request.nodes:
        return None
    for rest, share in chosen:
        rest.take(share)
    return Allocation(AllocationId(allocation_id), tuple(share for _, share in chosen))


@st.composite
def worlds(
    draw: st.DrawFn,
    *,
    max_jobs: int = 12,
    all_healthy: bool = False,
    shapes: st.SearchStrategy[Request] = asks,
    delays: bool = True,
) -> World:
    """Nodes, jobs that hold what no other holds (on sick, silent and cordoned nodes too), and jobs that wait."""
    fleet = draw(fleets(all_healthy=all_healthy))
    rests = [Rest(node) for node in fleet]
    made: list[tuple[Job, Phase]] = []
    some = st.sampled_from(draw(st.lists(shapes, min_size=2, max_size=4)))
    size, silent = draw(
        choices([max_jobs, max_jobs // 2, max_jobs, max_jobs // 2, 2, 1, 0], mostly((), NODE_NAMES[:1]))
    )
    for number in range(1, size + 1):
        job = draw(owned_jobs(number, some))
        waits, first, kind, since_s, (past, not_before_s) = draw(_states)
        allocation = None if waits else allocated(job.request, rests[first:] + rests[:first], f"1.{number}")
        if allocation is not None:
            made.append((job, _holding(allocation, kind, NOW_S - since_s)))
        else:
            made.append((job, Queued(since_s, len(past), len(past), not_before_s if delays else 0.0, past)))
    return World(fleet, frozenset(() if all_healthy else silent), tuple(made))


def _failed_on(*names: NodeName) -> PastAttempt:
    return PastAttempt(1, names, Outcome(Result.LOST, failure=FailureClass.NODE_LOST), 7.0)


_states = choices(
    [True, False],
    range(6),
    [Running, Reserved, Stopping],
    [0.0, 5.0, 50.0, 700.0, 9_000.0],
    [
        ((), 0.0),
        ((), 0.0),
        ((), 0.0),
        ((_failed_on(NODE_NAMES[0]),), NOW_S),
        ((_failed_on(*NODE_NAMES[:2]), _failed_on(NODE_NAMES[2])), NOW_S - 5),
        ((_failed_on(NODE_NAMES[1]),), NOW_S + 5),
    ],
)
"""(whether the job waits, where it looks for nodes first, phase, age of it, past attempts and a pause)."""


def _holding(allocation: Allocation, kind: type[Phase], since_s: float) -> Phase:
    if kind is Reserved:
        return Reserved(1, allocation, since_s)
    if kind is Stopping:
        return Stopping(1, allocation, since_s, StopCause.CANCELLED, NOW_S)
    return Running(1, allocation, since_s)


_crowded = choices(
    [1, 1, 2, 3, 4, 8],  # GPUs
    [1, 1, 1, 2],
    [0, 0, 30, 50],
    [WHOLE_GPU, WHOLE_GPU, 500],
    [Within.ANYWHERE, Within.ANYWHERE, Within.ISLAND, Within.RACK],
    [20, 100, 100, 300],  # limit
    [0.0, 20.0, 90.0],  # how long it has run, if it does
    [True, False],
)


@st.composite
def crowds(draw: st.DrawFn) -> World:
    """A few nodes alike, of two islands each, that are full or nearly so, and jobs of many shapes that wait."""
    size, racks, busy = draw(choices([1, 2, 3, 3], [1, 2], range(9)))
    text = " ".join(f"{NODE_NAMES[at]}:4+4/r{at % racks}" for at in range(size))
    fleet = tuple(nodes_of(text))
    rests, made = [Rest(node) for node in fleet], []
    for number in range(1, busy + 9):
        gpus, nodes, cpus, milli, within, limit, ran_s, expects = draw(_crowded)
        share = milli if gpus == nodes == 1 else WHOLE_GPU
        request = Request(gpus, nodes, cpus, gpu_milli=share, within=within)
        expected_s = limit / 2 if expects else None
        job = Job(JobId(number), f"job-{number}", "ada", request, 0.0, time_limit_s=limit, expected_s=expected_s)
        allocation = allocated(request, rests, f"1.{number}") if number <= busy else None
        phase: Phase = Queued(0.0) if allocation is None else Running(1, allocation, NOW_S - ran_s)
        made.append((job, phase))
    return World(fleet, frozenset(), tuple(made))


def shares_on(phases: Iterable[Phase], name: NodeName) -> list[NodeShare]:
    """Return what is held on node *name*."""
    holds = [phase for phase in phases if isinstance(phase, HOLDS_GPUS)]
    return [share for phase in holds for share in phase.allocation.shares if share.node == name]


def overbooked(view: View) -> list[str]:
    """Return, with the counts, every node that gives more than it has."""
    found = []
    for node in view.nodes.values():
        shares = shares_on(view.phases.values(), node.name)
        taken: Counter[int] = Counter()
        for share in shares:
            for gpu in share.gpus:
                taken[gpu] += share.gpu_milli
        if any(milli > WHOLE_GPU for milli in taken.values()):
            found.append(f"{node.name}: thousandths held of each GPU {dict(taken)}")
        if not {gpu.index for gpu in node.gpus}.issuperset(taken):
            found.append(f"{node.name}: GPUs {sorted(taken)} held of {[gpu.index for gpu in node.gpus]}")
        cpus, memory_mib = sum(share.cpus for share in shares), sum(share.memory_mib for share in shares)
        if cpus > node.cpus or memory_mib > node.memory_mib:
            found.append(f"{node.name}: {cpus} of {node.cpus} cores, {memory_mib} of {node.memory_mib} MiB held")
    return found
