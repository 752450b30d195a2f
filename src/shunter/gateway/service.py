"""What the gateway does: one store call per request where it can be, and views for people of what the store says."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any, Final

import fsspec
import msgspec
from msgspec.structs import replace

from shunter import __version__
from shunter.domain.admission import check_fits_ever
from shunter.domain.event import Cancelled, Event, StopAsked
from shunter.domain.ids import JobId, NodeName
from shunter.domain.job import WHOLE_GPU, Job, JobSpec, Submission, in_gpus
from shunter.domain.node import Node
from shunter.domain.phase import LIVE, Ended, Queued, StopCause, Stopping
from shunter.domain.reason import NotYetSeen, Reason, render
from shunter.domain.report import ClusterView, EventView, JobView, NodeView, state_of, view_of
from shunter.errors import Conflict, NotFound, RequestTooLarge, Unavailable
from shunter.gateway.feed import Feed, view_event
from shunter.gateway.inventory import free_milli, in_pools, pools_of
from shunter.gateway.reasons import Reasons
from shunter.gateway.silence import Silence
from shunter.gateway.submission import build, needs_storage
from shunter.runtime.config import Settings
from shunter.runtime.folders import jobs_folder
from shunter.runtime.policy_report import PolicyInForce
from shunter.store import commands, leases, queues, roster
from shunter.store.codec import Record
from shunter.store.keys import Keys
from shunter.store.redis import AsyncStore

UNSAID: Final = "by an operator"
"""Why a node is cordoned, if nobody says why."""

INVENTORY_FRESH_S: Final = 2.0
SCAN_CHUNK: Final = 500
SCAN_MOST: Final = 10_000
CANCEL_TRIES: Final = 20

_decode_policy = msgspec.json.Decoder(PolicyInForce).decode


class Page(msgspec.Struct, frozen=True):
    """A page of jobs; *cursor* continues it, *event* is the newest event before it was read."""

    jobs: list[JobView]
    cursor: str | None
    event: str


class Cancellation(msgspec.Struct, frozen=True):
    """What came of a cancel, by job id. *confirmed* is False if no replica of Redis has said that it has it."""

    cancelled: list[int]
    already_ended: list[int]
    unknown: list[int]
    confirmed: bool = True


class Service:
    """Stateless but for short memories: of the inventory, which only ever delays a refusal, and of silent nodes."""

    def __init__(self, store: AsyncStore, settings: Settings, user: str) -> None:
        self.store = store
        self.keys = Keys(settings.cluster)
        self.settings = settings
        self.user = user
        self.feed = Feed(store, self.keys)
        self._silence = Silence(store, self.keys)
        self._nodes: list[Node] = []
        self._nodes_at = float("-inf")

    @property
    def folders(self) -> PurePosixPath:
        """The folder with the folders of all jobs of the data set that this gateway serves."""
        return jobs_folder(PurePosixPath(self.settings.storage), self.settings.cluster, self.store.identity)

    # submitting

    async def submit(self, specs: Sequence[JobSpec], body: bytes, idempotency_key: str | None) -> list[JobView]:
        """Accept *specs*, all or none. Raises InvalidInput, RequestTooLarge, Conflict or Unavailable."""
        now = time.time()
        submissions = []
        for number, spec in enumerate(specs):
            try:
                submission = build(spec, default_user=self.user, at_s=now)
                await self._check_fits(submission)
            except Exception as error:
                if len(specs) > 1 and hasattr(error, "message"):
                    error.message = f"job {number + 1} of {len(specs)}: {error.message}"
                raise
            submissions.append(await self._stash(submission) if needs_storage(submission) else submission)
        idempotency = None
        if idempotency_key is not None:
            digest = hashlib.sha256(f"{self.user}\0{idempotency_key}".encode()).hexdigest()
            idempotency = (digest, hashlib.sha256(body).hexdigest()[:32])
        ids, confirmed = await self.store.run_confirmed(
            commands.submit(self.keys, submissions, at_s=now, by=submissions[0].job.user, idempotency=idempotency)
        )
        phase = Queued(now)
        views = [
            self._view(replace(one.job, id=job_id), phase, now, NotYetSeen())
            for job_id, one in zip(ids, submissions, strict=True)
        ]
        return views if confirmed else [replace(view, confirmed=False) for view in views]

    async def _check_fits(self, submission: Submission) -> None:
        if time.monotonic() - self._nodes_at > INVENTORY_FRESH_S:
            await self._read_nodes()
        try:
            check_fits_ever(submission.job.request, self._nodes)
        except RequestTooLarge:
            await self._read_nodes()  # a node may have joined since: refuse only on what is true now
            check_fits_ever(submission.job.request, self._nodes)

    async def _read_nodes(self) -> None:
        nodes, policy = await self.store.run_all(commands.nodes(self.keys), commands.policy(self.keys))
        self._nodes = in_pools(nodes, policy)
        self._nodes_at = time.monotonic()

    async def _stash(self, submission: Submission) -> Submission:
        """Move a large script to storage, under the digest of its text. Raises Unavailable if storage is broken."""
        text = (submission.launch.script or "").encode()
        path = str(self.settings.storage / "scripts" / hashlib.sha256(text).hexdigest())
        try:
            await asyncio.to_thread(_put, path, text)  # shared storage may be slow: others go on meanwhile
        except OSError as error:
            raise Unavailable(
                f"script: cannot be stored at {path}: {error.strerror or error}",
                field="script",
                fix="check that the storage is mounted, writable and not full; then submit again",
            ) from error
        return replace(submission, launch=replace(submission.launch, script=None, script_ref=path))

    # reading

    async def job(self, job_id: int) -> tuple[JobView, str]:
        """Return the job and the newest event's id from before it was read. Raises NotFound."""
        keys = self.keys
        event, (job,), (record,), launch, decision = await self.store.run_all(
            commands.last_event(keys),
            commands.jobs(keys, [job_id]),
            commands.records(keys, [job_id]),
            commands.launch(keys, job_id),
            commands.decision(keys),
        )
        if job is None or record is None:
            raise unknown_job(job_id)
        reason = Reasons(decision).of(job, record.phase) or await self._silence.of(record.phase)
        return replace(self._view(job, record.phase, time.time(), reason), launch=launch), event

    async def jobs(
        self,
        *,
        everything: bool,
        states: frozenset[str],
        user: str | None,
        name: str | None,
        limit: int,
        cursor: int | None,
    ) -> Page:
        """Return a page: active jobs oldest first, or with *everything* all jobs newest first."""
        event, decision, last = await self.store.run_all(
            commands.last_event(self.keys), commands.decision(self.keys), commands.last_job(self.keys)
        )
        reasons, now = Reasons(decision), time.time()
        found: list[JobView] = []
        scanned, at = 0, min(cursor or last + 1, last + 1) if everything else cursor or 0
        while scanned < SCAN_MOST:
            ids = await self._next_ids(everything, at)
            if not ids:
                return Page(found, None, event)
            jobs, records = await self.store.run_all(commands.jobs(self.keys, ids), commands.records(self.keys, ids))
            for job_id, job, record in zip(ids, jobs, records, strict=True):
                at = job_id
                if job is None or record is None:
                    continue
                wanted = (not states or state_of(record.phase) in states) and user in (None, job.user)
                if wanted and name in (None, job.name):
                    reason = reasons.of(job, record.phase) or await self._silence.of(record.phase)
                    found.append(self._view(job, record.phase, now, reason))
                    if len(found) == limit:
                        return Page(found, str(at), event)
            scanned += len(ids)
        return Page(found, str(at), event)

    async def _next_ids(self, everything: bool, at: int) -> list[int]:
        if everything:
            return list(range(at - 1, max(at - 1 - SCAN_CHUNK, 0), -1))
        active = await self.store.run(commands.active(self.keys, after=at, count=SCAN_CHUNK))
        return [*active]

    def _view(self, job: Job, phase: Any, now: float, reason: Reason | None) -> JobView:
        view = view_of(job, phase, cluster=self.settings.cluster, now_s=now, reason=reason)
        return view if view.reason is None else replace(view, why=render(view.reason))

    # cancelling

    async def cancel(self, ids: Sequence[int]) -> Cancellation:
        """Cancel *ids*; who has ended is named, not an error."""
        answer = Cancellation([], [], [])
        records = await self.store.run(commands.records(self.keys, ids)) if ids else []
        for job_id, record in zip(ids, records, strict=True):
            if record is None:
                answer.unknown.append(job_id)
            elif await self._cancel(JobId(job_id), record):
                answer.cancelled.append(job_id)
            else:
                answer.already_ended.append(job_id)
        if answer.cancelled:
            return replace(answer, confirmed=await self.store.confirm())
        return answer

    async def _cancel(self, job_id: JobId, record: Record) -> bool:
        for _ in range(CANCEL_TRIES):
            phase, now = record.phase, time.time()
            if isinstance(phase, Ended):
                return False
            if isinstance(phase, Stopping) and phase.cause is StopCause.CANCELLED:
                return True
            event: Event = (
                StopAsked(now, self.user, StopCause.CANCELLED) if isinstance(phase, LIVE) else Cancelled(now, self.user)
            )
            (answer,) = await self.store.run(commands.stop(self.keys, [commands.move(job_id, record, event)]))
            if answer == "ok":
                return True
            if not isinstance(answer, Record):
                return False
            record = answer  # it moved on between our look and our word: look again
        raise Conflict(f"job {job_id}: changes too fast to be cancelled", fix="try again")

    # nodes and the cluster

    async def nodes(self) -> list[NodeView]:
        nodes, cordons, living, policy = await self.store.run_all(
            commands.nodes(self.keys), commands.cordons(self.keys), queues.living(self.keys), commands.policy(self.keys)
        )
        if not nodes:
            return []
        seen = await self.store.run(leases.watch(self.keys))
        held = await self.store.run_all(*(commands.held(self.keys, node.name) for node in nodes))
        pools = pools_of(nodes, policy)
        views = []
        for node, ids in zip(nodes, held, strict=True):
            records = await self.store.run(commands.records(self.keys, ids)) if ids else []
            cordoned, is_lost = cordons.get(node.name, ""), (node.name, node.incarnation) not in living
            state = "silent" if seen.is_silent(node.name) else "cordoned" if cordoned else "ready"
            state = "lost" if is_lost else state
            free = in_gpus(free_milli(node, records)) if state == "ready" else 0
            silent_s, lease = seen.silent_s(node.name), seen.lease_of(node.name)
            shown = replace(node, cordoned=cordoned)
            views.append(NodeView(shown, state, free, tuple(ids), silent_s, pools[node.name], lease))
        return views

    async def cordon(self, name: str, why: str) -> NodeView:
        """Cordon *name*, or with nothing in *why* uncordon it. Raises NotFound for a node that never joined."""
        if why == UNSAID:  # of one that is cordoned the reason stays
            why = (await self.store.run(commands.cordons(self.keys))).get(name, why)
        if await self.store.run(commands.cordon(self.keys, name, why, self.user)) == "unknown":
            raise NotFound(f"node {name!r}: unknown", field="name", fix="see `shunter nodes`")
        return await self._node(name)

    async def lose(self, name: str, why: str) -> NodeView:
        """Have the jobs of *name* run elsewhere: an operator's word that nothing runs there any more.

        Raises NotFound for a node that never joined, Conflict for one that is lost already.
        """
        for _ in range(CANCEL_TRIES):
            ids = await self.store.run(commands.held(self.keys, name))
            lists = (
                await self.store.run_all(commands.jobs(self.keys, ids), commands.records(self.keys, ids))
                if ids
                else ((), ())
            )
            text = f"node {name} was lost: {why}"
            moves = leases.moves_of_lost(zip(*lists, strict=True), NodeName(name), text, at_s=time.time(), by=self.user)
            answer = await self.store.run(leases.lose(self.keys, None, name, text, len(ids), moves))
            if answer == "ok":
                return await self._node(name)
            if answer == "unknown":
                view = await self._node(name)
                raise Conflict(f"node {name!r}: {view.state} already", field="name", fix="see `shunter nodes`")
        raise Conflict(f"node {name!r}: its jobs change too fast to be taken off it", fix="try again")

    async def forget(self, name: str) -> None:
        """Remove *name*, which is lost, for good. Raises NotFound, or Conflict for one that is not, or holds jobs."""
        view = await self._node(name)
        if view.state != "lost":
            raise Conflict(
                f"node {name!r}: expected one that is lost, it is {view.state}",
                field="name",
                fix=f"stop its worker, and wait until it is lost; or `shunter node lost {name}`",
            )
        lost = f"-{view.node.incarnation}"  # not one that joins meanwhile
        answer = await self.store.run(commands.leave(self.keys, name, lost))
        if answer == "stale":
            raise Conflict(f"node {name!r}: has just joined anew", field="name", fix="see `shunter nodes`")
        if answer == "busy":
            raise Conflict(
                f"node {name!r}: gangs that it was part of have not ended elsewhere yet", field="name", fix="try again"
            )

    async def _node(self, name: str) -> NodeView:
        found = next((view for view in await self.nodes() if view.node.name == name), None)
        if found is None:
            raise NotFound(f"node {name!r}: unknown", field="name", fix="see `shunter nodes`")
        return found

    async def cluster(self) -> ClusterView:
        views = await self.nodes()
        leader, active, now_ms, decision, coordinators = await self.store.run_all(
            commands.leader(self.keys),
            commands.active_count(self.keys),
            commands.store_time(self.keys),
            commands.decision(self.keys),
            roster.coordinators(self.keys),
        )
        leads, epoch = int(leader.get("until_ms", 0)) > now_ms, int(leader.get("epoch", 0))
        return ClusterView(
            self.settings.cluster,
            __version__,
            leader.get("name", "") if leads else "",
            epoch,
            sum(view.state != "lost" for view in views),
            sum(len(view.node.gpus) for view in views if view.state != "lost"),
            in_gpus(sum(round(view.free_gpus * WHOLE_GPU) for view in views)),
            active,
            await self.store.run(commands.redis_version(self.keys)),
            Reasons(decision).failing(epoch) if leads else None,
            self.store.identity,
            int(leader.get("since_ms", 0)) / 1000 if leads else None,
            sum(view.state == "lost" for view in views),
            tuple(
                replace(one, leads=leads and one.name == leader["name"])
                for until_ms, one in coordinators
                if until_ms > now_ms
            ),
        )

    async def policy(self) -> PolicyInForce:
        """Return what the last leader published. Raises NotFound before the first one, Conflict if it is unreadable."""
        text = await self.store.run(commands.policy(self.keys))
        if text is None:
            raise NotFound("policy: no coordinator has led this cluster yet", fix="start one: `shunter coordinator`")
        try:
            return _decode_policy(text)
        except msgspec.ValidationError as error:
            raise Conflict(
                "policy: the coordinator that leads is of another version than this gateway", fix="update the older one"
            ) from error

    # events

    async def events(self, after: str, jobs: frozenset[int], limit: int) -> tuple[list[EventView], str]:
        """Return entries after *after* that concern *jobs* (all if empty), and the cursor to go on from."""
        found: list[EventView] = []
        while True:
            count = SCAN_CHUNK if jobs else min(limit - len(found), SCAN_CHUNK)
            entries = await self.store.run(commands.events(self.keys, after, count=count))
            for entry in entries:
                after = entry.id
                if not jobs or entry.job_id in jobs:
                    found.append(view_event(entry))
                    if len(found) == limit:
                        return found, after
            if not entries:
                return found, after


def _put(path: str, text: bytes) -> None:
    filesystem, name = fsspec.core.url_to_fs(path)
    if not filesystem.exists(name):
        filesystem.makedirs(filesystem._parent(name), exist_ok=True)
        part = f"{name}.{time.monotonic_ns()}"
        filesystem.pipe_file(part, text)
        filesystem.mv(part, name)


def unknown_job(job_id: int) -> NotFound:
    return NotFound(f"job {job_id}: unknown", field="id", fix="see `shunter queue --all`")
