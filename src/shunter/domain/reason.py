"""Why a job waits, or stands still, as data. Who refused the job makes it; `render` is only its text."""

from __future__ import annotations

from typing import assert_never

from msgspec import Struct

from shunter.domain.duration import format_duration


class NoNodes(Struct, frozen=True, tag="no_nodes"):
    """No node takes work: none has joined, or all are cordoned or silent."""

    cordoned: int
    silent: int


class NotEnoughFree(Struct, frozen=True, tag="not_enough_free"):
    """The job fits the cluster, not what is free now. *best_free_gpus* is the most free on one schedulable node,
    *best_free_in_island* the most in one NVLink island, for jobs that ask for one. *left_out* are nodes that do not
    count, because they just failed the job."""

    nodes_wanted: int
    gpus_per_node: int
    nodes_that_fit: int
    best_free_gpus: int
    free_gpus: int
    best_free_in_island: int | None = None
    left_out: tuple[str, ...] = ()


class NeverFits(Struct, frozen=True, tag="never_fits"):
    """No set of the nodes that are here now could hold the job, even if they were all idle."""

    nodes_wanted: int
    gpus_per_node: int
    nodes_big_enough: int


class HeldBack(Struct, frozen=True, tag="held_back"):
    """The job fits what is free, but on nodes that are kept for *behind_job*, which has a higher claim."""

    behind_job: int


class InLine(Struct, frozen=True, tag="in_line"):
    """The policy has no backfill: nothing starts before *behind_job*, whether or not it would fit."""

    behind_job: int


class BackingOff(Struct, frozen=True, tag="backing_off"):
    """A retry waits until *until_s* (wall clock)."""

    until_s: float
    retries: int


class NotYetSeen(Struct, frozen=True, tag="not_yet_seen"):
    """No scheduling pass has looked at the job yet (or no coordinator leads)."""


class SchedulerFails(Struct, frozen=True, tag="scheduler_fails"):
    """The leader's work fails, so nothing new starts: *times* since *since_s* (wall clock), the last with *error*, one
    line."""

    since_s: float
    times: int
    error: str


class NodeSilent(Struct, frozen=True, tag="node_silent"):
    """The job runs on *node*, from which nothing has come for *silent_s* seconds.

    After *fence_after_s* it is frozen there, after *requeue_after_s* it runs elsewhere; None: the node has no deadline.
    """

    node: str
    silent_s: float
    fence_after_s: float | None = None
    requeue_after_s: float | None = None


Reason = NoNodes | NotEnoughFree | NeverFits | HeldBack | InLine | BackingOff | NotYetSeen | SchedulerFails | NodeSilent


def render(reason: Reason) -> str:  # one row per reason, and a checker that sees a missing one
    """Return *reason* in one line, for tables."""
    match reason:
        case NoNodes(cordoned=0, silent=0):
            return "no node has joined yet"
        case NoNodes(cordoned=cordoned, silent=silent):
            return f"no node takes work: {cordoned} cordoned, {silent} silent"
        case NotEnoughFree():
            return _not_enough(reason) + _without(reason.left_out)
        case NeverFits(nodes_wanted=nodes, gpus_per_node=gpus, nodes_big_enough=big):
            gpus_and = f"{gpus} GPU{'s' * (gpus > 1)}{' each' * (nodes > 1)} and " if gpus else ""
            needs = f"needs {nodes} nodes" if nodes > 1 else "needs a node"
            here = f"only {big} such node{'s are' if big > 1 else ' is'} here" if big else "no such node is here"
            return f"{needs} with {gpus_and}the cores and memory asked for; {here}"
        case HeldBack(behind_job=job) | InLine(behind_job=job):
            return _behind(job, in_line=isinstance(reason, InLine))
        case BackingOff(retries=retries):
            return f"retry {retries + 1} after a pause"
        case NotYetSeen():
            return "waits for the next scheduling pass"
        case SchedulerFails(since_s=since_s):
            return f"scheduler: {render_failure(reason, _utc(since_s))}"
        case NodeSilent():
            return _silent(reason)
        case _:
            assert_never(reason)


def _not_enough(reason: NotEnoughFree) -> str:
    match reason:
        case NotEnoughFree(nodes_wanted=1, gpus_per_node=0):
            return "waits for free cores or memory"
        case NotEnoughFree(best_free_in_island=int(island)):
            return _island_waits(reason, island)
        case NotEnoughFree(nodes_wanted=1, gpus_per_node=gpus, best_free_gpus=best) if best >= gpus:
            return f"{best} GPUs free on one node, but not the cores or memory asked for"
        case NotEnoughFree(nodes_wanted=1, gpus_per_node=gpus, best_free_gpus=best, free_gpus=free):
            return f"{best} of {gpus} GPUs free on one node ({free} in all)"
        case NotEnoughFree(nodes_wanted=nodes, gpus_per_node=gpus, nodes_that_fit=fit):
            return _gang_waits(nodes, gpus, fit)


def _without(left_out: tuple[str, ...]) -> str:
    return f", without {', '.join(left_out)}, where it failed in the last minute" if left_out else ""


def render_failure(failing: SchedulerFails, since: str) -> str:
    """Return *failing* in words; *since* is its time for whoever reads it."""
    times = f"{failing.times} time{'s' * (failing.times != 1)}"
    return f"failing since {since}, {times} ({failing.error}); nothing new starts; see the coordinator's log"


def _utc(at_s: float) -> str:
    minutes, seconds = divmod(int(at_s) % 86_400, 60)
    return f"{minutes // 60:02}:{minutes % 60:02}:{seconds:02} UTC"


def _silent(reason: NodeSilent) -> str:
    said = f"node {reason.node} has not answered for {format_duration(reason.silent_s)}"
    if reason.fence_after_s is None or reason.requeue_after_s is None:
        return f"{said}; it may run on there, until the node is back or given up (shunter node lost {reason.node})"
    elsewhere = f"after {reason.requeue_after_s:g} s it runs elsewhere"
    if reason.silent_s < reason.fence_after_s:
        return f"{said}; after {reason.fence_after_s:g} s the job is frozen, {elsewhere}"
    return f"{said}, so the job is frozen there; {elsewhere}, unless all nodes are silent"


def _behind(job: int, *, in_line: bool) -> str:
    if in_line:
        return f"waits behind job {job}, which goes first (the policy has no backfill)"
    return f"the free GPUs are kept for job {job}, which goes first"


def _island_waits(reason: NotEnoughFree, island: int) -> str:
    if island >= reason.gpus_per_node:
        return f"{island} GPUs free in one NVLink island, but not the cores or memory asked for"
    free = f"{reason.best_free_gpus} on one node, {reason.free_gpus} in all"
    return f"{island} of {reason.gpus_per_node} GPUs free in one NVLink island ({free})"


def _gang_waits(nodes: int, gpus: int, fit: int) -> str:
    if fit >= nodes:  # only a gang that must be in one rack waits then
        what = f"{gpus} GPUs" if gpus else "the cores and memory"
        return f"{fit} nodes have {what} free now, but no {nodes} of them in one rack"
    if not gpus:
        return f"needs {nodes} nodes with free cores and memory; {fit} have that now"
    return f"{fit} of {nodes} nodes have {gpus} GPUs free now"
