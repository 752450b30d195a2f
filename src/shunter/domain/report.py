"""What people and programs see of jobs, nodes and the cluster: the bodies of the API's answers."""

from __future__ import annotations

from msgspec import Struct

from shunter.domain.ids import NodeName
from shunter.domain.job import Job, Launch, in_gpus
from shunter.domain.node import Node
from shunter.domain.outcome import Outcome
from shunter.domain.phase import Ended, PastAttempt, Phase, Queued, Reserved, Running
from shunter.domain.reason import NodeSilent, Reason, SchedulerFails, render


class JobView(Struct, frozen=True, omit_defaults=True):
    """A job as the API answers it. Times are wall-clock seconds since 1970; *waited_s* and *ran_s* are of the last
    attempt.

    *state* is queued, starting, running or stopping, then one of succeeded, failed, cancelled, timeout, lost.
    *gpus* is a float only for a share of one GPU. *devices* are the GPU indexes by node. *reason* is on queued jobs,
    and on those that run where nothing is heard from; *why* is its text. *confirmed* is False only in the answer to a
    submission that is accepted, but that no replica of Redis has yet: a take-over in this moment may forget it.
    """

    id: int
    cluster: str
    name: str
    user: str
    state: str
    priority: str
    gpus: int | float
    nodes: tuple[NodeName, ...]
    submitted_s: float
    waited_s: float
    job: Job
    team: str = ""
    attempt: int = 0
    retries: int = 0
    started_s: float | None = None
    ended_s: float | None = None
    ran_s: float | None = None
    exit_status: int | None = None
    outcome: Outcome | None = None
    devices: dict[str, tuple[int, ...]] = {}
    reason: Reason | None = None
    why: str = ""
    past: tuple[PastAttempt, ...] = ()
    launch: Launch | None = None
    confirmed: bool = True


def state_of(phase: Phase) -> str:
    """Return the one word that people see for *phase*."""
    match phase:
        case Queued():
            return "queued"
        case Reserved():
            return "starting"
        case Running():
            return "running"
        case Ended(outcome=outcome):
            return outcome.result.value
        case _:
            return "stopping"


STATES = ("queued", "starting", "running", "stopping", "succeeded", "failed", "cancelled", "timeout", "lost")
ENDED_STATES = frozenset(STATES[4:])


class NodeView(Struct, frozen=True):
    """A node as the API answers it. *state*: ready, cordoned, silent or lost. *silent_s*: since its last renewal.

    *lease*: by which terms it renews (normal, fast; restart: its worker was asked to end), or that it is unfenced;
    nothing once it was lost. *free_gpus* counts what can be given out now: of a ready node what is left of
    healthy devices, a float where one is partly held; of others nothing. *pool* is the one that the node is in now: its
    own, else the one that the policy deals it to.
    """

    node: Node
    state: str
    free_gpus: int | float
    jobs: tuple[int, ...]
    silent_s: float
    pool: str = ""
    lease: str = ""


class EventView(Struct, frozen=True, omit_defaults=True):
    """One entry of the event stream. *id* is its cursor, *at_s* the store's clock in seconds since 1970."""

    id: str
    at_s: float
    kind: str
    job: int | None = None
    node: str = ""
    by: str = ""
    rev: int = 0
    state: str = ""
    text: str = ""
    phase: Phase | None = None


class CoordinatorView(Struct, frozen=True):
    """A coordinator that lives: the one that leads, or one that stands by. *since_s* is when it was started, by its own
    clock, in seconds since 1970."""

    name: str
    host: str
    pid: int
    version: str
    since_s: float
    leads: bool = False


class ClusterView(Struct, frozen=True):
    """The cluster in one look. *leader* is empty when no coordinator leads now; *failing* if it leads and starts
    nothing, because its work fails. *identity* names the data set in Redis that the cluster lives in. *leads_since_s*
    is by the store's clock, in seconds since 1970. *nodes* and *gpus* leave out the *lost_nodes*. *coordinators* are
    those that were heard from within the last seconds."""

    cluster: str
    version: str
    leader: str
    epoch: int
    nodes: int
    gpus: int
    free_gpus: int | float
    active_jobs: int
    redis_version: str
    failing: SchedulerFails | None = None
    identity: str = ""
    leads_since_s: float | None = None
    lost_nodes: int = 0
    coordinators: tuple[CoordinatorView, ...] = ()


class ErrorBody(Struct, frozen=True, omit_defaults=True):
    """Every refusal: *code* is stable, *message* names field, value and limit, *fix* says what to do."""

    code: str
    message: str
    field: str = ""
    fix: str = ""


def view_of(job: Job, phase: Phase, *, cluster: str, now_s: float, reason: Reason | None = None) -> JobView:
    """Return *job* as people see it at *now_s* (wall clock)."""
    started = getattr(phase, "started_s", None)
    if not isinstance(phase, Queued) and not isinstance(reason, NodeSilent):
        reason = None
    allocation = getattr(phase, "allocation", None)
    ended = phase.ended_s if isinstance(phase, Ended) else None
    queued_since = phase.past[-1].ended_s if phase.past else job.submitted_s
    until = started if started is not None else ended if ended is not None else now_s
    return JobView(
        id=job.id,
        cluster=cluster,
        name=job.name,
        user=job.user,
        team=job.team,
        state=state_of(phase),
        priority=job.priority.value,
        gpus=in_gpus(job.request.milli),
        nodes=allocation.nodes if allocation else (),
        submitted_s=job.submitted_s,
        waited_s=max(until - queued_since, 0.0),
        job=job,
        attempt=phase.attempt,
        retries=phase.retries,
        started_s=started,
        ended_s=ended,
        ran_s=None if started is None else max((ended if ended is not None else now_s) - started, 0.0),
        exit_status=phase.outcome.exit_status if isinstance(phase, Ended) else None,
        outcome=phase.outcome if isinstance(phase, Ended) else None,
        devices={share.node: share.gpus for share in allocation.shares} if allocation else {},
        reason=reason,
        why="" if reason is None else render(reason),
        past=phase.past,
    )
