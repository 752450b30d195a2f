"""One step of the leader: read, decide, verify, commit, dispatch. Plain calls, no waiting; `loop.py` does that."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Final

import msgspec
import structlog

from shunter.coordinator.follower import Changes, Follower, before
from shunter.coordinator.nodes import NodeWatch, StoreChanged
from shunter.coordinator.policy_source import PolicySource
from shunter.coordinator.trouble import Trouble
from shunter.dispatch.celery import CeleryDispatcher, Destination, Hint
from shunter.domain.event import Event, Placed, Returned
from shunter.domain.ids import AllocationId, JobId
from shunter.domain.phase import HOLDS_GPUS, Allocation, Reserved
from shunter.errors import StaleLeader, Unavailable
from shunter.scheduling.cycle import Cycle, cycle
from shunter.scheduling.plan import Decision, Plan
from shunter.scheduling.policy import Policy
from shunter.store import commands, queues
from shunter.store.codec import Entry, Record
from shunter.store.command import Command
from shunter.store.commands import Leadership, Move
from shunter.store.keys import Keys
from shunter.store.redis import Store

PUBLISH_EVERY_S: Final = 0.2
USAGE_EVERY_S: Final = 10.0
BURY_EVERY_S: Final = 60.0
RETENTION_S: Final = 7 * 86_400.0
RETENTION_JOBS: Final = 100_000

log = structlog.get_logger("coordinator")


class Coordinator:
    """A leader under *leadership*. Raises StaleLeader when it no longer leads, Unavailable when the store is away.

    Whatever else is raised in its work does not end it: nothing new starts, people are told, and it tries again at the
    next change and, ever more rarely, by itself. *numbers* makes its allocation ids unique within the epoch, so whoever
    leads on in the same epoch goes on with them.
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
        self._published_at = self._usage_at = self._buried_at = 0.0
        self._pass_due = False
        self._trouble = Trouble()
        self._reread_due = False
        self._blind = True
        """The view may lack something: nothing may be placed by it, nor its use published."""
        self._nodes = NodeWatch(store, keys, leadership, name)
        self.follower = Follower(store, keys, policy)

    def begin(self) -> None:
        """Rebuild the view and do whatever an earlier leader left undone."""
        with self._surviving(blind=True):
            self._rebuild()
            self.check_nodes()
            self.publish_usage()
            self._bury_queues()  # also of who died while nobody led
        self._act(Changes())
        log.info("leading", epoch=self._leadership.epoch, jobs=len(self.follower.records))

    def use(self, policy: Policy) -> None:
        """Go by *policy* from the next pass on, and have one soon, whether or not anything else asks for it."""
        self.policy = policy
        self.follower.use(policy)
        self._pass_due = True

    def _rebuild(self) -> None:
        self._blind = True  # until all has been read
        self.follower.rebuild()
        self.use(self.policy)
        self._blind = self._reread_due = False

    @contextmanager
    def _surviving(self, *, blind: bool) -> Iterator[None]:
        """Note what is raised inside instead of ending with it. *blind*: it may have left the view half changed.

        The view is read anew once before the first retry even if not: what is wrong may be in this process only.
        """
        try:
            yield
        except (StaleLeader, StoreChanged, Unavailable):
            raise
        except Exception as error:
            self._reread_due |= self._trouble.failed(error, time.monotonic()) or blind
            self._blind |= blind

    def step(self, entries: list[Entry]) -> None:
        """Follow *entries*, and act on what they changed."""
        changes = Changes()
        with self._surviving(blind=True):
            changes = self.follower.follow(entries)
            if changes.reread:
                self._rebuild()
        self._act(changes)

    def tick(self) -> None:
        """Twice a second: notice silent nodes, due retries and patience that ended, and forget old jobs."""
        changes = Changes()
        with self._surviving(blind=True):
            changes.decide = self._look_around()
        self._act(changes)

    def _look_around(self) -> bool:
        """Return whether a pass is due though nothing was followed."""
        retry = self._trouble.due(time.monotonic())
        if retry and self._reread_due:
            self._rebuild()
        now_s = time.time()
        due = self.follower.view.due_s <= now_s
        again = self._plan is not None and self._plan.again_s is not None and self._plan.again_s <= now_s
        changed = self.check_nodes()
        if time.monotonic() - self._usage_at >= USAGE_EVERY_S and not self._blind:
            self.publish_usage()
        if time.monotonic() - self._buried_at >= BURY_EVERY_S:
            self._bury_queues()
        self._done(commands.forget(self._keys, self._leadership, keep_s=RETENTION_S, keep=RETENTION_JOBS))
        return changed or due or again or retry

    def check_nodes(self) -> bool:
        """Look at the nodes; return whether a pass may find something new. Rebuilds a view that fell behind."""
        first = self._store.run(commands.first_event(self._keys))
        if before(self.follower.cursor, first) and self.follower.cursor != "0-0":
            log.warning("fell behind the event stream", cursor=self.follower.cursor, first=first)
            self._rebuild()
        return self._nodes.check(self.follower)

    # acting

    def _act(self, changes: Changes) -> None:
        hints: dict[Destination, list[Hint]] = {}
        if changes.bury:
            self._bury_queues()
        due = (changes.decide or self._pass_due) and not self._blind
        if due and self._nodes.behind:
            self._pass_due = True
        elif due:
            self._pass_due = False
            for job_id, record in self._pass():
                _address(hints, job_id, record)
        for job_id, record in changes.tell.items():
            _address(hints, job_id, record)
        if hints:
            try:
                self._dispatcher.send(hints, self._store.identity)
            except Unavailable as error:
                log.warning("hints not sent", error=str(error))  # the next lease answers say the same
        self.publish()

    def _bury_queues(self) -> None:
        """Delete the queues of incarnations that are no more, whenever they died."""
        self._buried_at = time.monotonic()
        known, living = self._store.run_all(queues.known(self._keys), queues.living(self._keys))
        dead = [one for one in known if one not in living]
        for start in range(0, len(dead), commands.MAX_BATCH):
            self._done(queues.bury(self._keys, self._leadership, dead[start : start + commands.MAX_BATCH]))
        for name, incarnation in dead:
            self._dispatcher.forget(Destination(name, incarnation))

    def _take_back(self) -> None:
        """Return reservations whose node restarted or left before it claimed them."""
        stranded = self.follower.stranded()
        if stranded:
            event = Returned(time.time(), self._name, "the node's worker restarted before it claimed the job")
            self._commit([commands.move(job_id, record, event) for job_id, record in stranded])

    def _pass(self) -> list[tuple[JobId, Record]]:
        """One scheduling pass; return what was placed."""
        placed: list[tuple[JobId, Record]] = []
        with self._surviving(blind=True):
            self._take_back()
            now_s, found = time.time(), None
            with self._surviving(blind=False):
                found = cycle(self.follower.view, now_s)
            if found is not None:
                placed = self._carry_out(found, now_s)
                self._trouble.worked()
        return placed

    def _carry_out(self, found: Cycle, now_s: float) -> list[tuple[JobId, Record]]:
        self._plan = found.plan
        for violation in found.violations:
            log.error("plan violates a rule", job=violation.job_id, rule=violation.rule, detail=violation.detail)
        moves = []
        for placement in found.placements:
            allocation_id = self._allocation_id()
            event: Event = Placed(now_s, self._name, Allocation(allocation_id, placement.shares))
            moves.append(commands.move(placement.job_id, self.follower.records[placement.job_id], event))
        return self._commit(moves)

    def _allocation_id(self) -> AllocationId:
        return AllocationId(f"{self._leadership.epoch}.{next(self._numbers)}.{self._leadership.token[:8]}")

    def _commit(self, moves: list[Move]) -> list[tuple[JobId, Record]]:
        """Commit *moves* under our epoch.

        Return those that took effect. What moved on meanwhile is followed instead.
        """
        done = []
        for batch in _batches(moves):
            answers = self._store.run(commands.place(self._keys, self._leadership, batch, run_id=self._nodes.run_id))
            for made, answer in zip(batch, answers, strict=True):
                job = self.follower.view.jobs.get(made.job_id)
                if answer == "stale":
                    raise self._stale()
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
        if not self.unpublished or now - self._published_at < PUBLISH_EVERY_S:
            return
        said = self._said
        self._put(commands.put_decision(self._keys, self._leadership, msgspec.json.encode(self._decision())))
        self._published, self._published_at = said, now

    def _decision(self) -> Decision:
        plan = self._plan or Plan((), ())
        return Decision(self._leadership.epoch, time.time(), plan.refusals, plan.reservations, self._trouble.said)

    def publish_usage(self) -> None:
        """Write down who has used how much, for the next leader."""
        usage = self.follower.usage(time.time())
        if usage is not None:
            self._put(commands.put_usage(self._keys, self._leadership, msgspec.json.encode(usage)))
            self._usage_at = time.monotonic()

    def publish_policy(self, source: PolicySource) -> None:
        """Say which policy is in force, and what is wrong with the file if it is not the one that the file has now."""
        before = self._store.run(commands.policy(self._keys))
        in_force = source.in_force(before, self._name, self._leadership.epoch)
        self._put(commands.put_policy(self._keys, self._leadership, msgspec.json.encode(in_force)))

    def _put(self, command: Command[bool]) -> None:
        if not self._store.run(command):
            raise self._stale()

    def _done(self, command: Command[int | None]) -> None:
        if self._store.run(command) is None:
            raise self._stale()

    def _stale(self) -> StaleLeader:
        return StaleLeader(f"leader: epoch {self._leadership.epoch} is over")

    @property
    def unpublished(self) -> bool:
        return self._said not in (None, self._published)

    @property
    def _said(self) -> tuple[object, ...] | None:
        """What people are to be told: nothing before the first pass, but that it fails."""
        if self._plan is None:
            return None if self._trouble.said is None else (self._trouble.said,)
        return self._plan.refusals, self._plan.reservations, self._trouble.said


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
