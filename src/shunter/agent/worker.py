"""The node worker's shell: threads feed facts into one queue; one thread takes them out, asks the supervisor, does
the effects.

| thread | does |
|---|---|
| main | Celery's worker loop: hints in |
| lease | renews every 2 s: lease answers in; joins anew once declared lost. Nothing that may hang is done here |
| inventory | looks at the GPUs every 10 s; re-registers when something changed |
| keeper | reads the keeper's socket: starts and ends in |
| agent | everything else, in batches: one claim script and one report script for all that is waiting |
"""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable
from typing import Final, TypeVar

import structlog
from msgspec import Struct
from msgspec.structs import replace

from shunter.agent.frost import Frost
from shunter.agent.gpus.port import GpuSource
from shunter.agent.keeper.client import Gone, KeeperClient
from shunter.agent.keeper.protocol import Ack, Ended, Lease, Live, Ready, Report, Request, Stop
from shunter.agent.keeper.protocol import Leased as Enforced
from shunter.agent.launcher import Launcher, LaunchRefused
from shunter.agent.node_lease import DeclaredLost, Leased, NodeLease, Superseded
from shunter.agent.supervisor import (
    Acknowledge,
    Claim,
    Effect,
    ReportExit,
    Stage,
    StartMember,
    StopMember,
    Supervisor,
)
from shunter.dispatch.celery import Hint
from shunter.domain.node import Node
from shunter.domain.outcome import Exit
from shunter.domain.phase import HOLDS_GPUS
from shunter.errors import Conflict, LoginRefused, Unavailable
from shunter.runtime.log import Complaint
from shunter.runtime.process import boot_time_s
from shunter.store import commands, leases
from shunter.store.codec import read_record
from shunter.store.command import Command
from shunter.store.keys import Keys
from shunter.store.redis import Store

INVENTORY_EVERY_S: Final = 10.0
REPLACE_AFTER_MS: Final = 10_000
RETRY_S: Final = 0.25
STOP_WITHIN_S: Final = 3.0
"""For a renewal that is under way."""

T = TypeVar("T")

log = structlog.get_logger("agent")


class Hinted(Struct, frozen=True):
    hints: list[Hint]


Fact = Hinted | Leased | Report | Gone


class NodeAgent:
    """One incarnation of a node. `join()`, then `start()`; `on_hints` is what Celery's task calls."""

    def __init__(
        self, store: Store, keys: Keys, keeper: KeeperClient, launcher: Launcher, source: GpuSource, lease: NodeLease
    ) -> None:
        self._lease = lease
        self._store = store
        self._keys = keys
        self._keeper = keeper
        self._launcher = launcher
        self._source = source
        self._facts: queue.SimpleQueue[Fact] = queue.SimpleQueue()
        self._stopping = threading.Event()
        self._joined = False
        self._renewing: threading.Thread | None = None
        self._frost = Frost()
        self._ending: set[str] = set()
        """Stale attempts that were told to end: until they have, this node takes no work."""
        self.node: Node
        self.supervisor: Supervisor

    # joining

    def join(self, describe: Callable[[str], Node], host: str) -> None:
        """Register a new incarnation and take over what the keeper has. Raises Conflict if the name is taken."""
        has = self._keeper.connect()
        incarnation = self._patiently(commands.next_incarnation(self._keys))
        self.node = describe(incarnation)
        self._host = host
        self._patiently(self._registration(self.node))
        self._lease.begin(self.node.name, incarnation)
        self.supervisor = Supervisor(self.node.name, incarnation)
        self._adopt(has)
        self._facts.put(has[-1])
        self._joined = True
        log.info("joined", node=self.node.name, incarnation=incarnation, gpus=len(self.node.gpus), kept=len(has) - 1)

    def _registration(self, node: Node, *, joined: bool = False) -> Command[None]:
        return commands.register(
            self._keys, node, self._host,
            replace_after_ms=REPLACE_AFTER_MS, worker=self._lease.token, joined=joined,
        )  # fmt: skip

    def _adopt(self, has: Iterable[Report]) -> None:
        members = [one for one in has if isinstance(one, Live | Ended)]
        if members:
            ids = [member.job_id for member in members]
            jobs = self._patiently(commands.jobs(self._keys, ids))
            records = self._patiently(commands.records(self._keys, ids))
            for member, job, record in zip(members, jobs, records, strict=True):
                self._do(self.supervisor.adopt(member, job, record, boot_time_s()))

    def _patiently(self, command: Command[T], *, surely: bool = False) -> T:
        """Run a command that may be repeated, for as long as the store cannot answer; see `Store.run_surely`.

        So it is too while Redis holds another data set than ours: nothing is done until an operator has decided.
        """
        complaint = Complaint()
        while True:
            try:
                return self._store.run_surely(command) if surely else self._store.run(command)
            except Unavailable as error:
                if isinstance(error, LoginRefused) and not self._joined:
                    raise  # nobody has seen this account work
                if complaint.due(str(error)):
                    log.warning("store unavailable", error=str(error))
                if self._stopping.wait(RETRY_S):
                    raise

    # threads

    def start(self) -> None:
        work = ("lease", self._renew), ("agent", self._work), ("inventory", self._watch_inventory)
        for name, target in work:
            thread = threading.Thread(target=self._guard, args=(target,), name=name, daemon=True)
            thread.start()
            if name == "lease":
                self._renewing = thread

    def stop(self) -> None:
        """Stop renewing and acting; jobs stay with the keeper, and go on for five minutes if the store agrees."""
        self._stopping.set()
        self._lease.hurry()
        if self._renewing is not None:
            self._renewing.join(STOP_WITHIN_S)
            if not self._renewing.is_alive() and self.supervisor.attempts:
                self._hold()
        self._keeper.close()

    def _hold(self) -> None:
        """Ask for a longer lease: this worker is being restarted. Without one, jobs freeze when the last is over."""
        try:
            leased = self._lease.renew(restart=True)
        except (Superseded, DeclaredLost, Unavailable) as error:
            log.warning("no longer lease", error=str(error) or type(error).__name__)
            return
        held = leased.held.values() if leased is not None else ()
        listed = {str(one.phase.allocation.id) for one in held if isinstance(one.phase, HOLDS_GPUS)}
        if leased is not None and listed.issuperset(self.supervisor.attempts):
            self._keeper.send(Lease(leased.until_s))
            log.info("jobs go on without a worker", attempts=len(listed), until_boot_s=leased.until_s)

    def on_hints(self, hints: list[Hint], identity: str) -> None:
        """Take *hints* sent in the name of the data set *identity*, if it is ours: another's jobs may have our ids."""
        if identity == self._store.identity:
            self._facts.put(Hinted(hints))
        else:
            log.warning("hints of another data set dropped", expected=self._store.identity, found=identity)

    def _guard(self, target: Callable[[], None]) -> None:
        """A thread that fails takes the worker down, loudly: the next incarnation takes over from store and keeper."""
        try:
            target()
        except Superseded:
            log.error("superseded", node=self.node.name, incarnation=self.node.incarnation)
            os._exit(6)
        except DeclaredLost:
            log.warning("lost, or not known to the store: joins anew", incarnation=self.node.incarnation)
            self._keeper.send(Lease(0.0))
            os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
        except Exception:
            if not self._stopping.is_set():
                log.exception("worker thread failed")
                os._exit(70)

    def _renew(self) -> None:
        complaint = Complaint()
        while not self._stopping.is_set():
            try:
                leased = self._lease.renew()
                if (for_s := complaint.over()) is not None:
                    log.info("the lease is renewed again", after_s=for_s)
                if leased is not None:
                    self._facts.put(leased)
            except Unavailable as error:
                if complaint.due(str(error)):
                    log.warning("lease not renewed", error=str(error))
            self._lease.pause()

    def _watch_inventory(self) -> None:
        complaint = Complaint()
        while not self._stopping.wait(INVENTORY_EVERY_S):
            try:
                self._refresh_inventory()
                complaint.over()
            except Unavailable as error:
                if complaint.due(str(error)):
                    log.warning("inventory not told", error=str(error))
            except Conflict:
                self._lease.hurry()  # whatever has become of us, the next answer says so

    def _refresh_inventory(self) -> None:
        gpus = self._source.inventory()
        if gpus != self.node.gpus:
            changed = replace(self.node, gpus=gpus)
            self._store.run(self._registration(changed, joined=True))
            self.node = changed
            log.warning("inventory changed", problems={gpu.index: gpu.problem for gpu in gpus if not gpu.healthy})

    def _work(self) -> None:
        threading.Thread(target=self._forward, args=(self._keeper.reports,), name="forward", daemon=True).start()
        while not self._stopping.is_set():
            facts = [self._facts.get()]
            while not self._facts.empty():
                facts.append(self._facts.get())
            effects: list[Effect] = []
            for fact in facts:
                effects += self._consider(fact)
            self._do(effects)
            self._tell_thaw()

    def _tell_thaw(self) -> None:
        thaw = self._frost.thawed()
        if thaw is not None:
            with contextlib.suppress(Unavailable):
                self._store.run(leases.tell(self._keys, self.node.name, self.node.incarnation, "thawed", thaw.text))

    def _forward(self, reports: queue.SimpleQueue[Report | Gone]) -> None:
        while True:
            report = reports.get()
            self._facts.put(report)
            if isinstance(report, Gone):
                return

    # facts

    def _consider(self, fact: Fact) -> list[Effect]:
        now_s, boot_s = time.time(), boot_time_s()
        if isinstance(fact, Live | Ended):
            self._frost.heard(fact, boot_s)
        match fact:
            case Hinted(hints):
                return [
                    one for job_id, value in hints for one in self.supervisor.offered(job_id, read_record(value), now_s)
                ]
            case Leased(held, asked, until_s):
                effects = self._obey(self.supervisor.leased(held, asked.asked_s, now_s), asked.number, until_s)
                for job_id, record, rank in self.supervisor.missing(held):
                    (job,) = self._patiently(commands.jobs(self._keys, [job_id]))
                    if job is not None:
                        effects += self.supervisor.report_missing(job, record, rank, now_s, boot_s)
                return effects
            case Enforced(number):
                self._lease.carried_out(number)
                return []
            case Live():
                return self.supervisor.live(fact)
            case Ended():
                self._ended(fact.allocation)
                return self.supervisor.ended(fact)
            case Gone():
                return self._replace_keeper()
            case Ready():
                to_be_replaced = self._keeper.renew(fact)
                log.info("keeper", pid=fact.pid, version=fact.build or "unknown", to_be_replaced=to_be_replaced)
                return []

    def _obey(self, effects: list[Effect], number: int, until_s: float | None) -> list[Effect]:
        """Have what is not listed ended, then the rest go on until *until_s*; return what else is to be done."""
        stops = [effect for effect in effects if isinstance(effect, StopMember) and effect.now]
        self._do(list(stops))
        self._keeper.send(Lease(until_s, number))
        return [effect for effect in effects if effect not in stops]

    def _ended(self, allocation: str) -> None:
        if allocation in self._ending:
            self._ending.remove(allocation)
            if not self._ending:
                self._lease.hurry()  # what could not be claimed meanwhile is listed again

    def _replace_keeper(self) -> list[Effect]:
        if self._stopping.is_set():
            return []
        log.error("keeper lost", node=self.node.name)
        has = self._keeper.connect()
        self._keeper.send(Lease(self._lease.until_s))  # before anything can start there
        self._ending.clear()
        threading.Thread(target=self._forward, args=(self._keeper.reports,), name="forward", daemon=True).start()
        self._facts.put(has[-1])
        members = [one for one in has if isinstance(one, Live | Ended)]
        effects: list[Effect] = []
        for member in members:
            effects += self.supervisor.ended(member) if isinstance(member, Ended) else self.supervisor.live(member)
        return effects + self.supervisor.keeper_replaced({member.allocation for member in members}, time.time())

    # effects

    def _do(self, effects: list[Effect]) -> None:
        """Carry out *effects* and those that follow from them, in batches by kind."""
        while effects:
            following: list[Effect] = []
            claims = _once([effect.move for effect in effects if isinstance(effect, Claim)])
            if claims and not self._ending and self._lease.may_claim():  # else a later lease answer says it again
                following += self._claim(claims)
            reports = {effect.allocation: effect for effect in effects if isinstance(effect, ReportExit)}
            if reports:
                following += self._report(list(reports.values()))
            requests: list[Request] = []
            for effect in effects:
                match effect:
                    case StartMember(attempt) if attempt.stage is not Stage.SENT:
                        pass  # its keeper died since, and this batch has reported that it never started
                    case StartMember(attempt):
                        try:
                            requests.append(self._launcher.request(attempt))
                        except LaunchRefused as error:
                            exit = Exit(time.time(), failure=error.failure, message=str(error))
                            following += self.supervisor.refused(attempt, exit)
                    case StopMember(allocation, now):
                        if now:
                            self._ending.add(allocation)
                        requests.append(Stop(allocation, now))
                    case Acknowledge(allocation):
                        requests.append(Ack(allocation))
                    case _:
                        pass
            if requests:
                self._keeper.send(*requests)
            effects = following

    def _claim(self, moves: list[commands.Move]) -> list[Effect]:
        if any(len(getattr(one.after.phase, "allocation").shares) > 1 for one in moves):  # noqa: B009
            self._launcher.addresses = {node.name: node.address for node in self._patiently(commands.nodes(self._keys))}
        claim = commands.claim(self._keys, self.node.name, self.node.incarnation, moves)
        answers = self._patiently(claim, surely=True)
        effects: list[Effect] = []
        for made, (answer, spec) in zip(moves, answers, strict=True):
            if answer == "stale":
                return self._deposed()
            effects += self.supervisor.claimed(made, answer, spec, now_s=time.time(), boot_s=boot_time_s())
        return effects

    def _report(self, reports: list[ReportExit]) -> list[Effect]:
        moves = [one.move for one in reports]
        report = commands.report(self._keys, self.node.name, self.node.incarnation, moves)
        answers = self._patiently(report, surely=True)
        effects: list[Effect] = []
        for one, answer in zip(reports, answers, strict=True):
            if answer == "stale":
                return self._deposed()
            effects += self.supervisor.reported(one.allocation, answer, boot_time_s())
        return effects

    def _deposed(self) -> list[Effect]:
        """Do nothing more: the lease thread is about to hear why, and ends this process or joins anew."""
        self._lease.hurry()
        self._stopping.wait()
        return []


def _once(moves: list[commands.Move]) -> list[commands.Move]:
    """Drop doubled moves: a hint and a lease answer may say the same in one batch."""
    return list({(one.job_id, one.before.rev): one for one in moves}.values())


def end_softly(agent: NodeAgent) -> None:
    """Stop the agent and end the process as SIGTERM asks: nothing needs Celery's warm shutdown."""
    agent.stop()
    os.kill(os.getpid(), signal.SIGTERM)
