"""The decision: which pending jobs start now, where, and why the others do not.

A pure function of (view, policy, now). It reads as the numbered steps of one pass:

1. take pending jobs in claim order (order.py);
2. place each where it fits best, all members or none (fit.py), but not on nodes kept for a job before it (earmark.py);
3. a job that does not fit speaks for all of its class and shape, for what is free only shrinks within a pass;
4. the first of each class that does not fit earmarks the nodes that it waits for: a wide job is not starved.
"""

from __future__ import annotations

from collections import Counter

from shunter.domain.ids import NodeName
from shunter.domain.job import Request
from shunter.domain.reason import HeldBack, NeverFits, NoNodes, NotEnoughFree, Reason
from shunter.scheduling.earmark import Earmarks
from shunter.scheduling.fit import FreeNow, candidates, could_hold, place
from shunter.scheduling.order import Turns
from shunter.scheduling.plan import Placement, Plan, Refusal
from shunter.scheduling.policy import Policy
from shunter.scheduling.view import Group, Pending, View


def decide(view: View, policy: Policy, now_s: float) -> Plan:
    """Return the plan for *view* at *now_s* (wall clock). Same input, same plan; *view* is not changed."""
    free = FreeNow(view)
    placements: list[Placement] = []
    refusals: list[Refusal] = []
    earmarks = Earmarks()
    placed: Counter[Group] = Counter()
    turns = Turns(view)
    for group, pending in turns:
        barred = earmarks.barred(group.rank)
        shares = place(group.request, free, group.avoid, barred)
        if shares is not None:
            free.take(shares)
            placements.append(Placement(pending.job.id, shares))
            placed[group] += 1
            continue
        turns.refuse()
        reason: Reason
        if barred and place(group.request, free, group.avoid) is not None:
            reason = HeldBack(next(iter(barred.values())))
        else:
            reason = why_not(group.request, group.avoid, view, free)
        refusals.append(_refusal(view, group, pending, placed[group], reason))
        if isinstance(reason, NotEnoughFree):
            overdue = now_s - pending.phase.since_s > policy.overtake_s
            nodes = candidates(group.request, free, group.avoid)
            earmarks.add(group, pending.job.id, nodes, free, overdue=overdue)
    return Plan(tuple(placements), tuple(refusals))


def why_not(request: Request, avoid: frozenset[NodeName], view: View, free: FreeNow) -> Reason:
    """Return why *request* was refused with *free* left, in numbers of the nodes that it may use."""
    if not free.nodes:
        cordoned = sum(bool(node.cordoned) for node in view.nodes.values())
        return NoNodes(cordoned, len(view.nodes) - cordoned)
    nodes = candidates(request, free, avoid)
    big_enough = sum(could_hold(node, request) for node in nodes)
    if big_enough < request.nodes:
        return NeverFits(request.nodes, request.gpus_per_node, big_enough)
    frees = [free.on(node.name) for node in nodes]
    return NotEnoughFree(
        request.nodes,
        request.gpus_per_node,
        sum(one.fits(request) for one in frees),
        max(len(one.gpus) for one in frees),
        sum(len(one.gpus) for one in frees),
    )


def _refusal(view: View, group: Group, pending: Pending, placed: int, reason: Reason) -> Refusal:
    """Return the refusal of what is left of *group* after *placed* of its jobs found a place."""
    return Refusal(group.rank, group.request, pending.job.id, len(view.groups[group]) - placed, reason)
