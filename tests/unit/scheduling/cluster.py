"""A cluster in a line, so that a scenario is one call: `decide_on("n1:4 n2:8", waits(1, gpus=2))`."""

from __future__ import annotations

from msgspec.structs import replace

from shunter.domain.ids import AllocationId, Incarnation, JobId, NodeName
from shunter.domain.job import Job, Priority, Request
from shunter.domain.node import Gpu, Node
from shunter.domain.outcome import FailureClass, Outcome, Result
from shunter.domain.phase import Allocation, NodeShare, PastAttempt, Phase, Queued, Running
from shunter.domain.reason import Reason
from shunter.scheduling.decide import decide
from shunter.scheduling.plan import Plan
from shunter.scheduling.policy import Policy
from shunter.scheduling.view import View

NOW_S = 10_000.0
OVERTAKE_S = 600.0
CPUS, MEMORY_MIB = 64, 65_536

Waiting = tuple[Job, Phase]


def incarnation(node: str) -> Incarnation:
    return Incarnation(f"{node}-1")


def waits(
    job_id: int,
    gpus: int = 1,
    *,
    nodes: int = 1,
    cpus: int = 0,
    memory_mib: int = 0,
    priority: str = "medium",
    waited_s: float = 0.0,
    avoid: str = "",
    not_before_s: float = 0.0,
) -> Waiting:
    """A job that waits for *gpus* on each of *nodes*; *avoid* are the nodes of the attempt that just failed."""
    request = Request(gpus, nodes, cpus, memory_mib)
    job = Job(JobId(job_id), f"job-{job_id}", "ada", request, submitted_s=0.0, priority=Priority(priority))
    lost = Outcome(Result.LOST, failure=FailureClass.NODE_LOST)
    past = (PastAttempt(1, tuple(map(NodeName, avoid.split())), lost, 1.0),) if avoid else ()
    return job, Queued(NOW_S - waited_s, len(past), len(past), not_before_s, past)


def runs(job_id: int, where: str, *, cpus: int = 0, memory_mib: int = 0) -> Waiting:
    """A job that runs *where*: `n1:0,1 n2:0,1` are GPUs 0 and 1 on each of two nodes."""
    shares = tuple(replace(share, cpus=cpus, memory_mib=memory_mib) for share in shares_of(where))
    request = Request(len(shares[0].gpus), len(shares), cpus, memory_mib)
    job = Job(JobId(job_id), f"job-{job_id}", "ada", request, submitted_s=0.0)
    return job, Running(1, Allocation(AllocationId(f"1.{job_id}"), shares), 5.0)


def shares_of(where: str) -> tuple[NodeShare, ...]:
    shares = []
    for part in where.split():
        node, _, gpus = part.partition(":")
        indexes = tuple(int(index) for index in gpus.split(",") if index)
        shares.append(NodeShare(NodeName(node), incarnation(node), indexes))
    return tuple(shares)


def view_of(
    nodes: str,
    *jobs: Waiting,
    cordoned: str = "",
    silent: str = "",
    sick: str = "",
    cpus: int = CPUS,
    memory_mib: int = MEMORY_MIB,
) -> View:
    """Return a view of *nodes* (`n1:4 n2:8`: name and GPUs); *sick* are GPUs (`n1:0,1`) that are not healthy."""
    view = View()
    broken = {share.node: share.gpus for share in shares_of(sick)}
    for part in nodes.split():
        name, _, count = part.partition(":")
        gpus = tuple(
            Gpu(index, "H100", f"{name}-{index}", 81_920, index not in broken.get(NodeName(name), ()))
            for index in range(int(count))
        )
        out = "new disk" if name in cordoned.split() else ""
        view.put_node(Node(NodeName(name), incarnation(name), gpus, cpus, memory_mib, 0.0, cordoned=out))
    view.silent = frozenset(map(NodeName, silent.split()))
    for job, phase in jobs:
        view.put_job(job, phase)
    view.advance(NOW_S)
    return view


def decide_on(
    nodes: str,
    *jobs: Waiting,
    cordoned: str = "",
    silent: str = "",
    sick: str = "",
    cpus: int = CPUS,
    memory_mib: int = MEMORY_MIB,
) -> Plan:
    view = view_of(nodes, *jobs, cordoned=cordoned, silent=silent, sick=sick, cpus=cpus, memory_mib=memory_mib)
    return decide(view, Policy(overtake_s=OVERTAKE_S), NOW_S)


def placed(plan: Plan) -> dict[int, str]:
    """Return where each placed job goes, in the order of the decisions: `{1: "n1:0,1"}`."""
    return {
        placement.job_id: " ".join(f"{s.node}:{','.join(map(str, s.gpus))}" for s in placement.shares)
        for placement in plan.placements
    }


def refused(plan: Plan) -> dict[int, Reason]:
    """Return why the foremost job of each group waits."""
    return {refusal.first: refusal.reason for refusal in plan.refusals}
