"""A cluster in a line, so that a scenario is one call: `decide_on("n1:4 n2:8", waits(1, 2))`.

A node is its name and its GPUs, `n1:8`, or `n1:4+4` for two NVLink islands, `n1-3:8` for three nodes; then what else it
is: `@pool`, `/rack`, `*model`, `#label=value`, `^joined_s`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

from msgspec.structs import replace

from shunter.domain.ids import AllocationId, Incarnation, JobId, NodeName
from shunter.domain.job import WHOLE_GPU, Job, Priority, Request, Within
from shunter.domain.node import Gpu, Node
from shunter.domain.outcome import FailureClass, Outcome, Result
from shunter.domain.phase import Allocation, Ended, NodeShare, PastAttempt, Phase, Queued, Running
from shunter.domain.reason import Reason
from shunter.scheduling.decide import decide
from shunter.scheduling.plan import Plan
from shunter.scheduling.policy import Backfill, Policy
from shunter.scheduling.view import View

NOW_S = 10_000.0
CPUS, MEMORY_MIB = 64, 65_536
PLAIN = Policy(
    order=("priority", "age"),
    placement=("best-fit",),
    backfill=Backfill(depth=1, default_time_s=86_400.0),
    keep_whole_s=0.0,
)
DONE = Ended(Outcome(Result.SUCCEEDED, 0), 9.0)

Waiting = tuple[Job, Phase]


def incarnation(node: str) -> Incarnation:
    return Incarnation(f"{node}-1")


# jobs


def waits(
    job_id: int,
    gpus: float = 1,
    nodes: int = 1,
    *,
    priority: str = "medium",
    waited: float = 0.0,
    owner: str = "ada",
    limit: int | None = None,
    expect: float | None = None,
    failed_on: str = "",
    not_before_s: float = 0.0,
    **wishes: Any,
) -> Waiting:
    """A job that waits for *gpus* on each of *nodes*, since *waited* seconds; *owner*: `team/user`.

    *failed_on*: the nodes of its last attempt.

    *wishes* are fields of `Request`, with names in one text: `avoid="n1 n2"`, `models="A100 H100"`, `labels="zone=a"`.
    """
    job = _job(job_id, _request(gpus, nodes, **wishes), owner, limit, expect)
    lost = Outcome(Result.LOST, failure=FailureClass.NODE_LOST)
    past = (PastAttempt(1, tuple(map(NodeName, failed_on.split())), lost, 1.0),) if failed_on else ()
    queued = Queued(NOW_S - waited, len(past), len(past), not_before_s, past)
    return replace(job, priority=Priority(priority), submitted_s=NOW_S - waited), queued


def runs(
    job_id: int,
    where: str,
    share: float = 1,
    *,
    ran: float = 5.0,
    owner: str = "ada",
    limit: int | None = None,
    expect: float | None = None,
    **needs: int,
) -> Waiting:
    """A job that runs *where*, since *ran* seconds: `n1:0,1 n2:0,1` are GPUs 0 and 1 on each of two nodes."""
    asked = _request(1, 1, **needs)
    milli = round(share * WHOLE_GPU)
    found = shares_of(where)
    shares = tuple(replace(one, cpus=asked.cpus, memory_mib=asked.memory_mib, gpu_milli=milli) for one in found)
    request = replace(asked, gpus_per_node=len(shares[0].gpus), nodes=len(shares), gpu_milli=milli)
    running = Running(1, Allocation(AllocationId(f"1.{job_id}"), shares), NOW_S - ran)
    return _job(job_id, request, owner, limit, expect), running


def _job(job_id: int, request: Request, owner: str, limit: int | None, expect: float | None) -> Job:
    team, _, user = owner.rpartition("/")
    return Job(JobId(job_id), f"job-{job_id}", user, request, 0.0, team=team, time_limit_s=limit, expected_s=expect)


def _request(gpus: float, nodes: int, **wishes: Any) -> Request:
    read: dict[str, Callable[[str], Any]] = {
        "models": lambda text: tuple(text.split()),
        "labels": lambda text: tuple(sorted((pair.split("=")[0], pair.split("=")[1]) for pair in text.split())),
        "avoid": lambda text: tuple(map(NodeName, text.split())),
        "within": Within,
    }
    found: dict[str, Any] = {name: read[name](value) if name in read else value for name, value in wishes.items()}
    if 0 < gpus < 1:
        return Request(1, nodes, gpu_milli=round(gpus * WHOLE_GPU), **found)
    return Request(int(gpus), nodes, **found)


def shares_of(where: str) -> tuple[NodeShare, ...]:
    shares = []
    for part in where.split():
        node, _, gpus = part.partition(":")
        indexes = tuple(int(index) for index in gpus.split(",") if index)
        shares.append(NodeShare(NodeName(node), incarnation(node), indexes))
    return tuple(shares)


# nodes


def nodes_of(
    text: str, *, cordoned: str = "", sick: str = "", cpus: int = CPUS, memory_mib: int = MEMORY_MIB
) -> list[Node]:
    """Return the nodes in *text*; *sick* are GPUs (`n1:0,1`) that are not healthy."""
    broken = {share.node: share.gpus for share in shares_of(sick)}
    return [
        _node(name, traits, name in cordoned.split(), broken.get(NodeName(name), ()), cpus, memory_mib)
        for part in text.split()
        for name, traits in _named(part)
    ]


def _named(part: str) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Yield the nodes that *part* names, with the signs and values behind the name."""
    traits = re.findall(r"([:@/*#^])([^:@/*#^]*)", part)
    several = re.match(r"n(\d+)-(\d+):", part)
    if several is None:
        yield part.partition(":")[0], traits
        return
    for number in range(int(several[1]), int(several[2]) + 1):
        yield f"n{number}", traits


def _node(
    name: str, traits: list[tuple[str, str]], cordoned: bool, sick: tuple[int, ...], cpus: int, memory_mib: int
) -> Node:
    one = dict(traits)
    islands = [island for island, size in enumerate(one[":"].split("+")) for _ in range(int(size))]
    gpus = tuple(
        Gpu(index, one.get("*", "H100"), f"{name}-{index}", 81_920, index not in sick, island=island)
        for index, island in enumerate(islands)
    )
    return Node(
        NodeName(name), incarnation(name), gpus, cpus, memory_mib, float(one.get("^", 0)),
        cordoned="new disk" if cordoned else "", pool=one.get("@", ""), rack=one.get("/", ""),
        labels={value.split("=")[0]: value.split("=")[1] for sign, value in traits if sign == "#"},
    )  # fmt: skip


# the call


def view_of(nodes: str, *jobs: Waiting, policy: Policy = PLAIN, silent: str = "", **fleet: Any) -> View:
    """Return a view of *nodes* for *policy*; *fleet* as `nodes_of`."""
    view = View(policy)
    for node in nodes_of(nodes, **fleet):
        view.put_node(node)
    view.set_silent(map(NodeName, silent.split()))
    for job, phase in jobs:
        view.put_job(job, phase)
    view.advance(NOW_S)
    return view


def decide_on(nodes: str, *jobs: Waiting, policy: Policy = PLAIN, silent: str = "", **fleet: Any) -> Plan:
    return decide(view_of(nodes, *jobs, policy=policy, silent=silent, **fleet), policy, NOW_S)


def placed(plan: Plan) -> dict[int, str]:
    """Return where each placed job goes, in the order of the decisions: `{1: "n1:0,1"}`."""
    return {
        placement.job_id: " ".join(f"{s.node}:{','.join(map(str, s.gpus))}" for s in placement.shares)
        for placement in plan.placements
    }


def nodes_taken(plan: Plan) -> dict[int, str]:
    """Return the nodes of each placed job: `{1: "n1 n2"}`."""
    return {made.job_id: " ".join(share.node for share in made.shares) for made in plan.placements}


def refused(plan: Plan) -> dict[int, Reason]:
    """Return why the foremost job of each group waits."""
    return {refusal.first: refusal.reason for refusal in plan.refusals}


def reserved(plan: Plan) -> dict[int, tuple[float, str]]:
    """Return in how many seconds each reservation is for, and on which nodes: `{1: (60.0, "n1 n2")}`."""
    return {made.job_id: (made.at_s - NOW_S, " ".join(made.nodes)) for made in plan.reservations}
