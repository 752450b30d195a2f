"""One step of the leader: read, decide, verify, commit, dispatch. Plain calls, no waiting; `loop.py` does that."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import Final

import msgspec
import structlog

from shunter.coordinator.follower import Changes, Follower, before
from shunter.coordinator.policy_source import PolicySource
from shunter.dispatch.celery import CeleryDispatcher, Destination, Hint
from shunter.domain.event import Event, Placed, Returned
from shunter.domain.ids import AllocationId, Incarnation, JobId, NodeName
from shunter.domain.node import SILENT_AFTER_MS
from shunter.domain.phase import HOLDS_GPUS, Allocation, Reserved
from shunter.errors import StaleLeader, Unavailable
from shunter.scheduling.cycle import cycle
from shunter.scheduling.plan import Decision, Plan
from shunter.scheduling.policy import Policy
from shunter.store import commands
from shunter.store.codec import Entry, Record
from shunter.store.command import Command
from shunter.store.commands import Leadership, Move
from shunter.store.keys import Keys
from shunter.store.redis import Store

PUBLISH_EVERY_S: Final = 0.2
USAGE_EVERY_S: Final = 10.0
RETENTION_S: Final = 7 * 86_400.0
RETENTION_JOBS: Final = 100_000

log = structlog.get_logger("coordinator")


class Coordinator:
    """A leader under *leadership*. Raises StaleLeader when it no longer leads, Unavailable when the store is away.

    *numbers* makes its allocation ids unique within the epoch, so whoever leads on in the same epoch goes on with them.
    """

    def __init__(
        self,
        store: Store,
        keys: Keys,
        dispatcher: CeleryDispatcher,
        policy: Policy,
        leadership: Leadership,
        name: str,
        numbers: Iterator[int],
    ) -> None:
        self._store = store
        self._keys = keys
        self._dispatcher = dispatcher
        self.policy = policy
        self._leadership = leadership
        self._name = name
        self._numbers = numbers
        self._plan: Plan | None = None
        self._published: tuple[object, ...] | None = None
        self._published_at = self._usage_at = 0.0
        self._pass_due = False
        self.follower = Follower(store, keys, policy)

    def begin(self) -> None:
        """Rebuild the view and do whatever an earlier leader left undone."""
        self._rebuild()
        self.check_nodes()
        self.publish_usage()
        self._act(Changes())
        log.info("leading", epoch=self._leadership.epoch, jobs=len(self.follower.records))

    def use(self, policy: Policy) -> None:
        """Go by *policy* from the next pass on, and have one soon, whether or not anything else asks for it."""
        self.policy = policy
        self.follower.use(policy)
        self._pass_due = True

    def _rebuild(self) -> None:
        self.follower.rebuild()
        self.use(self.policy)

    def step(self, entries: list[Entry]) -> None:
        """Follow *entries*, and act on what they changed."""
        self._act(self.follower.follow(entries))

    def tick(self) -> None:
        """Once a second: notice silent nodes, due retries and patience that ended, and forget old jobs."""
        changes = Changes()
        view = self.follower.view
        now_s = time.time()
        due = bool(view.delayed) and view.delayed.peekitem(0)[0][0] <= now_s
        again = self._plan is not None and self._plan.again_s is not None and self._plan.again_s <= now_s
        changes.decide = self.check_nodes() or due or again
        if time.monotonic() - self._usage_at >= USAGE_EVERY_S:
            self.publish_usage()
        self._store.run(commands.forget(self._keys, keep_s=RETENTION_S, keep=RETENTION_JOBS))
        self._act(changes)

    def check_nodes(self) -> bool:
        """Note which nodes are silent; return whether that changed. Rebuilds a view that fell behind the stream."""
        seen, now_ms, first = self._store.run_all(
            commands.seen(self._keys), commands.store_time(self._keys), commands.first_event(self._keys)
        )
        if before(self.follower.cursor, first) and self.follower.cursor != "0-0":
            log.warning("fell behind the event stream", cursor=self.follower.cursor, first=first)
            self._rebuild()
        view = self.follower.view
        silent = frozenset(NodeName(name) for name, at_ms in seen.items() if now_ms - at_ms > SILENT_AFTER_MS)
        changed = silent != view.silent
        if changed:
            log.info("silent nodes", nodes=sorted(silent))
        view.set_silent(silent)
        return changed

    # acting

    def _act(self, changes: Changes) -> None:
        hints: dict[Destination, list[Hint]] = {}
        for name, incarnation in changes.restarted:
            self._bury_queue(name, incarnation)
        if changes.decide or self._pass_due:
            self._pass_due = False
            self._take_back()
            for job_id, record in self._pass():
                _address(hints, job_id, record)
        for job_id, record in changes.tell.items():
            _address(hints, job_id, record)
        if hints:
            try:
                self._dispatcher.send(hints)
            except Unavailable as error:
                log.warning("hints not sent", error=str(error))  # the next lease answers say the same
        self.publish()

    def _bury_queue(self, name: NodeName, incarnation: str) -> None:
        queue = self._dispatcher.forget(Destination(name, Incarnation(incarnation)))
        self._store.run(commands.delete(queue))

    def _take_back(self) -> None:
        """Return reservations whose node restarted or left before it claimed them."""
        stranded = self.follower.stranded()
        if stranded:
            event = Returned(time.time(), self._name, "the node's worker restarted before it claimed the job")
            self._commit([commands.move(job_id, record, event) for job_id, record in stranded])

    def _pass(self) -> list[tuple[JobId, Record]]:
        """One scheduling pass; return what was placed."""
        now_s = time.time()
        found = cycle(self.follower.view, now_s)
        self._plan = found.plan
        for violation in found.violations:
            log.error("plan violates a rule", job=violation.job_id, rule=violation.rule, detail=violation.detail)
        moves = []
        for placement in found.placements:
            allocation_id = AllocationId(f"{self._leadership.epoch}.{next(self._numbers)}")
            event: Event = Placed(now_s, self._name, Allocation(allocation_id, placement.shares))
            moves.append(commands.move(placement.job_id, self.follower.records[placement.job_id], event))
        return self._commit(moves)

    def _commit(self, moves: list[Move]) -> list[tuple[JobId, Record]]:
        """Commit *moves* under our epoch.

        Return those that took effect. What moved on meanwhile is followed instead.
        """
        done = []
        for batch in _batches(moves):
            answers = self._store.run(commands.place(self._keys, self._leadership, batch))
            for made, answer in zip(batch, answers, strict=True):
                job = self.follower.view.jobs.get(made.job_id)
                if answer == "stale":
                    raise StaleLeader(f"leader: epoch {self._leadership.epoch} is over")
                if job is None:
                    continue
                if answer == "ok":
                    self.follower.put(job, made.after)
                    done.append((made.job_id, made.after))
                elif isinstance(answer, Record):
                    self.follower.put(job, answer)
        return done

    def publish(self) -> None:
        """Say why jobs wait, at most five times a second and only when it changed."""
        now = time.monotonic()
        if not self.unpublished or self._plan is None or now - self._published_at < PUBLISH_EVERY_S:
            return
        decision = Decision(self._leadership.epoch, time.time(), self._plan.refusals, self._plan.reservations)
        self._put(commands.put_decision(self._keys, self._leadership, msgspec.json.encode(decision)))
        self._published, self._published_at = _said(self._plan), now

    def publish_usage(self) -> None:
        """Write down who has used how much, for the next leader."""
        usage = self.follower.usage(time.time())
        self._put(commands.put_usage(self._keys, self._leadership, msgspec.json.encode(usage)))
        self._usage_at = time.monotonic()

    def publish_policy(self, source: PolicySource) -> None:
        """Say which policy is in force, and what is wrong with the file if it is not the one that the file has now."""
        before = self._store.run(commands.policy(self._keys))
        in_force = source.in_force(before, self._name, self._leadership.epoch)
        self._put(commands.put_policy(self._keys, self._leadership, msgspec.json.encode(in_force)))

    def _put(self, command: Command[bool]) -> None:
        if not self._store.run(command):
            raise StaleLeader(f"leader: epoch {self._leadership.epoch} is over")

    @property
    def unpublished(self) -> bool:
        return self._plan is not None and _said(self._plan) != self._published


def _said(plan: Plan) -> tuple[object, ...]:
    """Return what people are told of *plan*."""
    return plan.refusals, plan.reservations


def _address(hints: dict[Destination, list[Hint]], job_id: JobId, record: Record) -> None:
    phase = record.phase
    if not isinstance(phase, HOLDS_GPUS):
        return
    for rank, share in enumerate(phase.allocation.shares):
        if isinstance(phase, Reserved) and rank in phase.claimed:
            continue
        hints.setdefault(Destination(share.node, share.incarnation), []).append((job_id, record.value))


def _batches(moves: list[Move]) -> Iterable[list[Move]]:
    for start in range(0, len(moves), commands.MAX_BATCH):
        yield moves[start : start + commands.MAX_BATCH]
