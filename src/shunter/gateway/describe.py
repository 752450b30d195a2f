"""What an event says, in one line, for people."""

from __future__ import annotations

from shunter.domain.event import (
    Exited,
    MemberClaimed,
    MemberExited,
    MemberFailed,
    Placed,
    Requeued,
    Returned,
    StopAsked,
)
from shunter.domain.job import WHOLE_GPU, in_gpus
from shunter.domain.outcome import describe_exit
from shunter.domain.phase import Allocation
from shunter.domain.words import counted
from shunter.store import codec
from shunter.store.codec import Entry


def describe(entry: Entry) -> str:
    """Return the line for *entry*, without its time and subject."""
    if entry.job_id is None:
        return _describe_node(entry)
    match entry.event():
        case Placed(by=by, allocation=allocation):
            return f"placed on {where(allocation)} by {by}"
        case MemberClaimed(by=by, rank=rank):
            return f"member {rank} claimed by {by}"
        case Returned(reason=reason):
            return f"back in the queue: {reason}"
        case StopAsked(by=by, cause=cause):
            return f"asked to stop ({cause}) by {by}"
        case MemberExited(rank=rank, exit=exit) | MemberFailed(rank=rank, exit=exit):
            return f"member {rank} ended: {exit.message or describe_exit(exit)}"
        case Exited(outcome=outcome):
            return f"{outcome.result}" + (f": {outcome.message}" if outcome.message else "")
        case Requeued(outcome=outcome):
            return f"requeued: {outcome.message}"
        case event:
            return f"{entry.kind} by {event.by}"


def _describe_node(entry: Entry) -> str:
    match entry.kind:
        case "node_joined":
            node = codec.read_node(entry.value)
            place = "".join(f", {kind} {name}" for kind, name in (("pool", node.pool), ("rack", node.rack)) if name)
            version = f", version {node.version}" if node.version else ""
            offers = f"{counted(len(node.gpus), 'GPU')} ({node.source}), {counted(node.cpus, 'core')}"
            return f"joined with {offers}{place}{version}"
        case "node_cordoned":
            return f"cordoned: {entry.value.decode()}"
        case "node_lost" | "thawed":
            return entry.value.decode()
        case "leader":
            return f"leads with epoch {entry.value.decode()}"
        case kind:
            return kind.removeprefix("node_")


def where(allocation: Allocation) -> str:
    """Return `n1 gpu 0,1 + n2 gpu 0` for an allocation, `n1 0.25 of gpu 0` for a share."""
    parts = []
    for share in allocation.shares:
        gpus = ",".join(map(str, share.gpus))
        part_of = "" if share.gpu_milli == WHOLE_GPU else f"{in_gpus(share.gpu_milli)} of "
        parts.append(f"{share.node} {part_of}gpu {gpus}" if gpus else share.node)
    return " + ".join(parts)
