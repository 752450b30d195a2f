"""A model of nodes, keepers, store and leaders in real time. They run the rules of `shunter.domain.lease`.

Real time `t` is known to the model alone: each node and leader has a clock of its own, with an offset and a drift.
Whatever a part does later is an event; what happens within one event is atomic. Jobs never finish by themselves.
What goes wrong is drawn by `lease_faults`.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections import deque
from collections.abc import Callable
from typing import Final, NamedTuple, TypeVar

from shunter.domain import lease as rules
from shunter.domain.ids import NodeName
from shunter.domain.lease import MAX_DRIFT, NORMAL, Lease, LeaseTerms, Mark, Renewal, Stale, Watch

LEADER_S: Final = 3.0
EPSILON_S: Final = 1e-6
T = TypeVar("T")


class Violation(AssertionError):
    """What must never happen has happened in the model."""


class Rules:
    """Where the mutations of `test_lease_mutations` take hold. This is the protocol as it should be."""

    terms: LeaseTerms = NORMAL
    keeper_alone = True
    second_check = True
    rechecks_mark = True
    checks_leader = True

    def renewed(
        self, mark: Mark, record: str, worker: str, asked: Renewal, unfenced: bool
    ) -> tuple[Mark, str, rules.Answer]:
        return rules.renewed(mark, record, worker, asked, unfenced)

    def heard(self, lease: Lease, asked: Renewal, answer: rules.Answer, now_s: float) -> Lease:
        return lease.heard(asked, answer, now_s)

    def run_id(self, run_id: str) -> str:
        return run_id


class Clock:
    """A clock that is right to MAX_DRIFT and shows any time at first."""

    def __init__(self, rng: random.Random) -> None:
        self._offset_s = rng.uniform(0, 1e6)
        self._rate = 1 + rng.choice((-1, 0, 1)) * MAX_DRIFT

    def at(self, t: float) -> float:
        return self._offset_s + t * self._rate

    def wait(self, seconds: float) -> float:
        """Return how much real time passes in *seconds* of this clock."""
        return seconds / self._rate


class Job(NamedTuple):
    """A job as the store has it. *phase* is `queued`, `reserved` or `running`."""

    number: int
    rev: int = 0
    phase: str = "queued"
    attempt: str = ""
    node: str = ""
    not_before: float = 0.0


class Data:
    """What the store keeps; values are immutable, so a copy is shallow."""

    def __init__(self) -> None:
        self.incarnations: dict[NodeName, str] = {}
        self.marks: dict[NodeName, Mark] = {}
        self.unfenced: dict[NodeName, str] = {}
        self.jobs: dict[int, Job] = {}
        self.leader = (0, "", 0.0)
        self.ready_run = ""

    def copy(self) -> Data:
        other = Data()
        for name, value in vars(self).items():
            setattr(other, name, dict(value) if isinstance(value, dict) else value)
        return other


class Process:
    """Something that runs and can be paused. Events that reach it while it is paused happen when it goes on."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.paused_until = 0.0
        self.life = 0

    def resumes(self) -> float:
        return self.paused_until


class World:
    """The queue of events, the network, and what must never happen."""

    def __init__(self, seed: int, rules: Rules, jobs: int = 3) -> None:
        self.rng = random.Random(seed)
        self.rules = rules
        self.terms = rules.terms
        self.t = 0.0
        self.slow_s = 0.0
        self.cut: set[tuple[str, str]] = set()
        self.store = Store(self)
        self.nodes: dict[str, Node] = {}
        self.ended = 0
        self.requeued = 0
        self.frozen = 0
        self.numbers = itertools.count(1)
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self.store.data.jobs = {number: Job(number) for number in range(jobs)}

    def after(self, seconds: float, do: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self.t + seconds, next(self.numbers), do))

    def run(self, until: float) -> None:
        while self._events and self._events[0][0] <= until:
            self.t, _, do = heapq.heappop(self._events)
            do()
        self.t = until

    def when_running(self, process: Process, do: Callable[[], None]) -> None:
        """Do it now, or when *process* goes on; never if it ends before."""
        life = process.life

        def now() -> None:
            if process.life != life:
                return
            if process.resumes() > self.t:
                self.after(process.resumes() - self.t, now)
            else:
                do()

        now()

    def call(self, client: Process, script: Callable[[], T], answered: Callable[[T], None]) -> None:
        """Send *script* to the store, and its answer back; either may be late, and either may be lost."""
        run_id = self.store.run_id

        def reply(value: T) -> None:
            self.when_running(client, lambda: answered(value))

        def arrive() -> None:
            if not self.store.down and (self.store.run_id == run_id or self.rng.random() < 0.5):
                value = self.store.apply(script)
                self._carry((client.name, "in"), lambda: reply(value))

        self._carry((client.name, "out"), arrive)

    def _carry(self, way: tuple[str, str], arrive: Callable[[], None]) -> None:
        """A packet in a cut link is lost, or sent again until it is through: connections survive short cuts."""
        delay_s = self.rng.choice((0.001, 0.02, 0.02, 0.2)) + (self.rng.random() * 8 if self.rng.random() < 0.02 else 0)

        def land() -> None:
            if way not in self.cut:
                arrive()
            elif self.rng.random() < 0.8:
                self.after(1.0, land)

        self.after(delay_s + self.slow_s, land)

    def check_doubles(self) -> None:
        """Never two attempts of a job unfrozen. A machine that has just woken counts for nothing, for a moment."""
        running: dict[int, list[Node]] = {}
        for node in self.nodes.values():
            if node.alive and node.machine.paused_until <= self.t:
                for attempt in node.attempts.values():
                    if not attempt.frozen:
                        running.setdefault(attempt.job, []).append(node)
        for job, nodes in running.items():
            if sum(not node.just_woke() for node in nodes) > 1:
                raise Violation(f"t={self.t:.3f}: job {job} runs on {[node.name for node in nodes]}")


class Store:
    """One Redis: scripts are atomic; a restart may forget up to a second, and has another run id."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.data = Data()
        self.down = False
        self.step_s = 0.0
        self.run_id = "run-0"
        self._history: deque[tuple[float, Data]] = deque()

    def apply(self, script: Callable[[], T]) -> T:
        self._history.append((self.world.t, self.data.copy()))
        while len(self._history) > 1 and self._history[1][0] < self.world.t - 2:
            self._history.popleft()
        return script()

    def stop(self, rollback_s: float) -> None:
        """End, and forget what was written in the last *rollback_s*."""
        self.down = True
        for at, before in reversed(self._history):
            if at <= self.world.t - rollback_s:
                break
            self.data = before
        self._history.clear()

    def start(self) -> None:
        self.down = False
        self.run_id = f"run-{next(self.world.numbers)}"

    # scripts of nodes

    def register(self, node: NodeName, incarnation: str) -> bool:
        self.data.incarnations[node] = incarnation
        self.data.marks[node] = Mark(incarnation)
        return True

    def renew(self, node: Node, incarnation: str, asked: Renewal) -> tuple[rules.Answer, dict[str, Job]]:
        data, name = self.data, NodeName(node.name)
        if data.incarnations.get(name) != incarnation:
            return Stale(), {}
        alone = node.by_operator or len(data.incarnations) == 1
        data.marks[name], record, answer = self.world.rules.renewed(
            data.marks[name], data.unfenced.get(name, ""), incarnation, asked, alone
        )
        data.unfenced.pop(name, None)
        if record:
            data.unfenced[name] = record
        return answer, {job.attempt: job for job in data.jobs.values() if job.node == name}

    def claim(self, node: str, incarnation: str, job: Job) -> bool:
        if self.data.incarnations.get(NodeName(node)) != incarnation or self.data.jobs[job.number] != job:
            return False
        self.data.jobs[job.number] = job._replace(rev=job.rev + 1, phase="running")
        return True

    def not_started(self, node: str, incarnation: str, attempt: str) -> bool:
        if self.data.incarnations.get(NodeName(node)) == incarnation:
            for job in self.data.jobs.values():
                if job.attempt == attempt and job.node == node:
                    self._queue(job)
        return True

    def leave(self, node: NodeName) -> bool:
        if any(job.node == node for job in self.data.jobs.values()):
            return False
        for kept in (self.data.incarnations, self.data.marks, self.data.unfenced):
            kept.pop(node, None)
        return True

    def _queue(self, job: Job) -> None:
        later = self.world.t + rules.SETTLE_S + EPSILON_S
        self.data.jobs[job.number] = Job(job.number, job.rev + 1, not_before=later)

    # scripts of leaders

    def lead(self, token: str) -> tuple[int, bool]:
        epoch, holder, until = self.data.leader
        now = self.world.t + self.step_s
        if holder != token:
            if until > now:
                return epoch, False
            epoch += 1
        self.data.leader = (epoch, token, now + LEADER_S)
        return epoch, True

    def read(self) -> tuple[str, Data]:
        return self.run_id, self.data.copy()

    def _leads(self, leader: tuple[int, str, str]) -> bool:
        """(epoch, token, run id): a decision is about one run of the store."""
        same_run = self.world.rules.run_id
        if same_run(leader[2]) != same_run(self.run_id):
            return False
        return not self.world.rules.checks_leader or leader[:2] == self.data.leader[:2]

    def _changed_by(self, leader: tuple[int, str, str]) -> None:
        if leader[:2] != self.data.leader[:2]:
            raise Violation(f"t={self.world.t:.3f}: a stale leader changed something")

    def lose(self, leader: tuple[int, str, str], node: NodeName, incarnation: str, mark: Mark | None) -> bool:
        """A node is lost; by an operator if *mark* is None."""
        data = self.data
        if data.incarnations.get(node) != incarnation:
            return False
        if mark is not None:
            if not self._leads(leader) or node in data.unfenced:
                return False
            if self.world.rules.rechecks_mark and data.marks[node] != mark:
                return False
            if self.world.nodes[node].alive and self.world.nodes[node].term is None:
                raise Violation(f"t={self.world.t:.3f}: {node} runs unfenced, and is lost by time")
            self._changed_by(leader)
        for kept in (data.incarnations, data.marks, data.unfenced):
            kept.pop(node, None)
        for job in list(data.jobs.values()):
            if job.node == node:
                self.world.requeued += job.phase == "running"
                self._queue(job)
        return True

    def place(self, leader: tuple[int, str, str], job: Job, node: NodeName) -> bool:
        if not self._leads(leader) or self.data.jobs[job.number] != job or node not in self.data.incarnations:
            return False
        self._changed_by(leader)
        attempt = f"{job.number}/{next(self.world.numbers)}"
        self.data.jobs[job.number] = job._replace(rev=job.rev + 1, phase="reserved", attempt=attempt, node=node)
        return True

    def ready(self, leader: tuple[int, str, str]) -> bool:
        if self._leads(leader):
            self.data.ready_run = leader[2]
        return True


class Attempt:
    """A process tree on a node. It may be started frozen: then none of its instructions has run."""

    def __init__(self, job: int, since_s: float, frozen: bool) -> None:
        self.job = job
        self.since_s = since_s
        self.frozen = frozen


class Node:
    """A machine with a worker, a keeper, and the keeper's fence, which is a process of its own."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.alive = True
        self.by_operator = False
        self.machine = Process(name)
        self.worker = Worker(self)
        self.keeper = Held(name, self)
        self.clock = Clock(world.rng)
        self.attempts: dict[str, Attempt] = {}
        self.term: float | None = float("-inf")
        self.woke = float("-inf")
        world.nodes[name] = self

    def now_s(self) -> float:
        return self.clock.at(self.world.t)

    def open(self) -> bool:
        return self.term is None or self.now_s() < self.term

    def just_woke(self) -> bool:
        return self.world.t <= self.woke + self.clock.wait(self.world.terms.freeze_within_s) + EPSILON_S

    # the keeper

    def obey(self, ends: list[str], term: float | None) -> None:
        for attempt in ends:
            self.world.ended += self.attempts.pop(attempt, None) is not None
        self.term = term
        if self.open():
            for one in self.attempts.values():
                one.frozen = False
            self.world.check_doubles()
        self._arm()

    def spawn(self, attempt: str, job: int, since_s: float) -> None:
        if self.world.rules.second_check and not self.open():
            return  # a keeper would keep it for later; the worker reports it as not started instead
        self.attempts[attempt] = Attempt(job, since_s, frozen=False)
        self.world.check_doubles()

    def _arm(self) -> None:
        """The fence freezes all within freeze_within_s after the deadline; mostly as late as it may."""
        term, terms, share = self.term, self.world.terms, self.world.rng.choice((0.1, 0.999, 0.999))
        if term is None:
            return

        def fence() -> None:
            if self.machine.paused_until > self.world.t:
                late = self.machine.paused_until - self.world.t
                self.world.after(late + self.clock.wait(terms.freeze_within_s * share), fence)
            elif self.term == term and (self.world.rules.keeper_alone or self.worker.runs()):
                self.freeze()

        left_s = max(term - self.now_s(), 0.0)
        self.world.after(self.clock.wait(left_s + terms.freeze_within_s * share), fence)

    def freeze(self) -> None:
        for one in self.attempts.values():
            self.world.frozen += not one.frozen
            one.frozen = True

    # what befalls it

    def pause(self, seconds: float) -> None:
        """The whole machine stands still; its clock goes on."""
        self.machine.paused_until = max(self.machine.paused_until, self.world.t + seconds)
        self.world.after(self.machine.paused_until - self.world.t, self._wake)

    def _wake(self) -> None:
        if self.machine.paused_until <= self.world.t:
            self.woke = self.world.t
            self.world.check_doubles()
            self.world.after(
                self.clock.wait(self.world.terms.freeze_within_s) + 2 * EPSILON_S, self.world.check_doubles
            )

    def crash(self) -> None:
        """All its processes end, and it stays off."""
        self.alive = False
        self.worker.end()
        self.keeper.life += 1
        self.attempts.clear()
        self.term = float("-inf")

    def boot(self) -> None:
        if not self.alive:
            self.alive, self.clock = True, Clock(self.world.rng)
            self.worker.start()


class Held(Process):
    """A process of a node: it stands still with its machine."""

    def __init__(self, name: str, node: Node) -> None:
        super().__init__(name)
        self.node = node

    def resumes(self) -> float:
        return max(self.paused_until, self.node.machine.paused_until)


class Worker(Held):
    """The node worker: renews, claims, starts; all that it keeps dies with it."""

    def __init__(self, node: Node) -> None:
        super().__init__(node.name, node)
        self.world = node.world
        self.lease: Lease | None = None
        self.incarnation = ""
        self.life_ended = True
        self.starting: set[str] = set()
        self.given_up: set[str] = set()

    def start(self) -> None:
        if self.node.alive and self.life_ended:
            self.life_ended = False
            self._join()
            self._tick()

    def end(self) -> None:
        self.life += 1
        self.life_ended = True

    def runs(self) -> bool:
        return not self.life_ended and self.resumes() <= self.world.t

    def _join(self) -> None:
        self.lease, self.starting, self.given_up = None, set(), set()
        incarnation = self.incarnation = f"{self.name}-{next(self.world.numbers)}"
        for attempt in self.node.attempts.values():
            attempt.since_s = float("-inf")

        def registered(_: bool) -> None:
            if incarnation == self.incarnation:
                self.lease = Lease(self.world.terms, self.node.now_s())

        store = self.world.store
        self.world.call(self, lambda: store.register(NodeName(self.name), incarnation), registered)

    def _tick(self) -> None:
        """Every renew_s, whatever has become of the renewal before."""
        if self.lease is None:
            if self.world.rng.random() < 0.5:
                self._join()
        else:
            self.lease, asked = self.lease.ask(self.node.now_s())
            incarnation, store = self.incarnation, self.world.store
            self.world.call(
                self,
                lambda: store.renew(self.node, incarnation, asked),
                lambda reply: self._heard(incarnation, asked, *reply),
            )
        life = self.life

        def again() -> None:
            if life == self.life:
                self.world.when_running(self, self._tick)

        self.world.after(self.node.clock.wait(self.world.terms.renew_s), again)

    def _heard(self, incarnation: str, asked: Renewal, answer: rules.Answer, listed: dict[str, Job]) -> None:
        if self.lease is None or incarnation != self.incarnation:
            return
        before = self.lease.answered
        self.lease = self.world.rules.heard(self.lease, asked, answer, self.node.now_s())
        node, until = self.node, self.lease.until_s
        if self.lease.stale:
            self.world.when_running(node.keeper, lambda: node.obey([], float("-inf")))
            self.world.when_running(node.keeper, node.freeze)
            self._join()
        elif self.lease.answered != before:
            since_s = {name: one.since_s for name, one in node.attempts.items()}
            ends = rules.to_end(since_s, listed, asked)
            self.world.when_running(node.keeper, lambda: self._obey(ends, until, asked, listed))

    def _obey(self, ends: list[str], until: float | None, asked: Renewal, listed: dict[str, Job]) -> None:
        """In the keeper; what the worker hears of it, it hears at once, for it lives on this machine."""
        self.node.obey(ends, until)
        incarnation = self.incarnation

        def told() -> None:
            if self.lease is not None and self.incarnation == incarnation:
                self.lease = self.lease.carried_out(asked.number)
                for attempt, job in listed.items():
                    self._consider(attempt, job)

        self.world.when_running(self, told)

    def _consider(self, attempt: str, job: Job) -> None:
        store, incarnation = self.world.store, self.incarnation
        if attempt in self.starting or self.lease is None:
            return
        if attempt in self.node.attempts:
            if job.phase == "reserved":  # the store forgot the claim
                self.world.call(self, lambda: store.claim(self.name, incarnation, job), lambda _: None)
            return
        if job.phase == "running":
            self.given_up.add(attempt)  # an answer to its claim that is still under way starts nothing
            self.world.call(self, lambda: store.not_started(self.name, incarnation, attempt), lambda _: None)
        elif attempt not in self.given_up and self.lease.may_claim(self.node.now_s()):
            self.world.call(
                self, lambda: store.claim(self.name, incarnation, job), lambda ok: self._claimed(ok, attempt, job)
            )

    def _claimed(self, ok: bool, attempt: str, job: Job) -> None:
        """Claimed: now a while may pass before it is started, in the worker and in the keeper."""
        if not ok or attempt in self.given_up | self.starting:
            return
        self.starting.add(attempt)
        since_s, node, life, incarnation = self.node.now_s(), self.node, self.life, self.incarnation

        def start() -> None:
            """In the keeper, which heeds nothing that a worker before its present one sent."""
            if life == self.life and incarnation == self.incarnation:
                self.starting.discard(attempt)
                node.spawn(attempt, job.number, since_s)

        pause_s = 30.0 if self.world.rng.random() < 0.1 else 0.01
        self.world.after(
            pause_s, lambda: self.world.when_running(self, lambda: self.world.when_running(node.keeper, start))
        )


class Coordinator(Process):
    """Leads or stands by; looks at every node at each tick."""

    def __init__(self, world: World, name: str, tick_s: float = 0.5) -> None:
        super().__init__(name)
        self.world = world
        self.clock = Clock(world.rng)
        self.tick_s = tick_s
        self.token = name
        self.watch: Watch | None = None
        self.silent_s: dict[NodeName, float] = {}
        self._tick()

    def _tick(self) -> None:
        token = self.token
        self.world.call(self, lambda: self.world.store.lead(token), lambda reply: self._led(token, *reply))
        self.world.after(self.clock.wait(self.tick_s), lambda: self.world.when_running(self, self._tick))

    def _led(self, token: str, epoch: int, leads: bool) -> None:
        if token != self.token:
            return
        if leads:
            self.world.call(self, self.world.store.read, lambda reply: self._checked(token, epoch, *reply))
        elif self.watch is not None:
            self.watch, self.token = None, f"{self.name}-{next(self.world.numbers)}"

    def _checked(self, token: str, epoch: int, run_id: str, data: Data) -> None:
        if token != self.token:
            return
        store, seen_run = self.world.store, self.world.rules.run_id(run_id)
        now_s, leader = self.clock.at(self.world.t), (epoch, token, run_id)
        watch = self.watch or Watch(self.world.terms, data.ready_run)
        self.watch, found = watch.check(now_s, seen_run, data.marks, data.unfenced)
        self.silent_s = found.silent_s
        for node in found.lost:
            self._lose(leader, node, data)
        if found.behind:
            return
        if data.ready_run != run_id:
            self.world.call(self, lambda: store.ready(leader), lambda _: None)
        awake = [node for node, silent_s in found.silent_s.items() if silent_s < 2 * self.world.terms.renew_s + 1]
        for job in data.jobs.values():
            if job.phase == "queued" and job.not_before <= self.world.t and awake:
                self._place(leader, job, self.world.rng.choice(awake))

    def _lose(self, leader: tuple[int, str, str], node: NodeName, data: Data) -> None:
        """Decided; a while may pass before it is sent."""
        incarnation, mark, store = data.incarnations[node], data.marks[node], self.world.store

        def send() -> None:
            self.world.call(self, lambda: store.lose(leader, node, incarnation, mark), lambda _: None)

        pause_s = self.world.rng.choice((0.01, 0.01, 0.5, 3.0))
        self.world.after(pause_s, lambda: self.world.when_running(self, send))

    def _place(self, leader: tuple[int, str, str], job: Job, node: NodeName) -> None:
        self.world.call(self, lambda: self.world.store.place(leader, job, node), lambda _: None)
