"""A second opinion on a plan, by other code than `decide()`: run on the freshest view just before the commit.

It starts from the nodes' inventories and the phases themselves, not from the shelves that `decide()` used.
"""

from __future__ import annotations

from collections import Counter, defaultdict

from shunter.domain.ids import JobId, NodeName
from shunter.domain.job import WHOLE_GPU, Request, Within
from shunter.domain.narrow import is_model
from shunter.domain.node import Node
from shunter.domain.phase import HOLDS_GPUS, NodeShare, Queued
from shunter.scheduling.plan import Placement, Plan, Violation
from shunter.scheduling.view import View

Problem = tuple[str, str]


def verify(plan: Plan, view: View) -> tuple[Violation, ...]:
    """Return every rule that *plan* would break, in plan order; an empty tuple means that it may be committed."""
    touched = {share.node for placement in plan.placements for share in placement.shares}
    held: dict[NodeName, list[NodeShare]] = defaultdict(list)
    for name in touched:
        for job_id in view.held.get(name, ()):
            phase = view.phases.get(job_id)
            if isinstance(phase, HOLDS_GPUS):
                held[name] += [share for share in phase.allocation.shares if share.node == name]
    violations = []
    placed: set[JobId] = set()
    for placement in plan.placements:
        problem = ("placed twice", "") if placement.job_id in placed else _problem(placement, view, held)
        placed.add(placement.job_id)
        if problem is None:
            for share in placement.shares:
                held[share.node].append(share)
        else:
            violations.append(Violation(placement.job_id, *problem))
    return tuple(violations)


def _problem(placement: Placement, view: View, held: dict[NodeName, list[NodeShare]]) -> Problem | None:
    job, phase = view.jobs.get(placement.job_id), view.phases.get(placement.job_id)
    if job is None or not isinstance(phase, Queued):
        return "job is not queued", str(phase)
    request, shares = job.request, placement.shares
    if len(shares) != request.nodes:
        return "gang not whole", f"{len(shares)} of {request.nodes} members"
    if len({share.node for share in shares}) != request.nodes:
        return "two members on one node", str(shares)
    for rank, share in enumerate(shares):
        asked = (request.gpus_of(rank), request.gpu_milli, request.cpus, request.memory_mib)
        if (len(share.gpus), share.gpu_milli, share.cpus, share.memory_mib) != asked:
            return "share is not what was asked", str(share)
        node = view.nodes.get(share.node)
        if node is None or node.cordoned or share.node in view.silent or node.incarnation != share.incarnation:
            return "node does not take work", share.node
        problem = _not_asked_for(node, share, request, view) or _over_capacity(node, [*held[share.node], share])
        if problem:
            return problem
    if request.within is Within.RACK and len({view.nodes[share.node].rack for share in shares}) > 1:
        return "gang in more than one rack", str(shares)
    return None


def _not_asked_for(node: Node, share: NodeShare, request: Request, view: View) -> Problem | None:
    """Return which wish of *request* does not hold for *share* of *node*."""
    if node.name in request.avoid:
        return "node is to be avoided", node.name
    if request.pool and view.pools.get(node.name) != request.pool:
        return "node of another pool", f"{node.name}: {view.pools.get(node.name)!r}, not {request.pool!r}"
    if any(node.labels.get(key) != value for key, value in request.labels):
        return "node lacks a label", f"{node.name}: {node.labels}"
    devices = [gpu for gpu in node.gpus if gpu.index in share.gpus]
    if request.models and not all(is_model(request.models, gpu.model) for gpu in devices):
        return "GPU of another model", f"{node.name} {share.gpus}"
    if request.within is Within.ISLAND and len({gpu.island for gpu in devices}) > 1:
        return "GPUs in more than one NVLink island", f"{node.name} {share.gpus}"
    return None


def _over_capacity(node: Node, shares: list[NodeShare]) -> Problem | None:
    """Return the rule that *shares*, of which the last is the new one, break on *node*."""
    new = f"{node.name} {shares[-1]}"
    if not {gpu.index for gpu in node.gpus if gpu.healthy}.issuperset(shares[-1].gpus):
        return "GPU not there or not healthy", new
    taken: Counter[int] = Counter()
    for share in shares:
        for gpu in share.gpus:
            taken[gpu] += share.gpu_milli
    if any(taken[gpu] > WHOLE_GPU for gpu in shares[-1].gpus) or len(set(shares[-1].gpus)) < len(shares[-1].gpus):
        return "GPU held twice", new
    if sum(share.cpus for share in shares) > node.cpus:
        return "node over its cores", new
    if sum(share.memory_mib for share in shares) > node.memory_mib:
        return "node over its memory", new
    return None
