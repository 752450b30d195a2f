"""The keeper: starts members of attempts, waits for them, enforces their limits, and keeps how they ended.

One process per node, one thread, no network: it outlives the node worker, and the jobs do not outlive it. A member is
over when its main process has been reaped and no other process of it is left; only then is its end written down and
told. What must happen on time whatever this process does, freezing, is `fence.py`'s, a process of its own.
"""

from __future__ import annotations

import contextlib
import fcntl
import math
import os
import selectors
import signal
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Final

import msgspec

from shunter.agent.keeper.clients import Client, Clients
from shunter.agent.keeper.fence import Fence
from shunter.agent.keeper.guardian import watch_over
from shunter.agent.keeper.journal import Acked, Begun, Journal
from shunter.agent.keeper.lost import bury
from shunter.agent.keeper.member import Member
from shunter.agent.keeper.oom import shield
from shunter.agent.keeper.protocol import VERSION, Ack, Ended, Lease, Leased, Live, Ready, Request, Start, Stop
from shunter.agent.keeper.spawn import Late, LaunchError, outcome, spawn
from shunter.agent.keeper.term import Term
from shunter.agent.keeper.timers import Timers
from shunter.agent.keeper.tree import Cgroup, cgroup_base, end, identify, kill_all, origin, orphans
from shunter.domain.job import WHOLE_GPU, in_gpus
from shunter.domain.outcome import Exit, FailureClass
from shunter.runtime.paths import socket_path
from shunter.runtime.process import become_subreaper, boot_time_s

LINGER_S: Final = 1.0
"""How long a keeper with nothing to keep waits for a worker before it ends."""

RECHECK_S: Final = 0.01
"""How often the killed remains of a member are looked at until they are gone."""

MOST_PUZZLED: Final = 50
"""After so many looks orphans of unknown origin are taken for another member's, or out of our reach."""


class Keeper:
    """*folder* holds the journal, the lock and the socket. Raises SystemExit if another keeper has it.

    With SHUNTER_CGROUP=off in its environment it makes no cgroups, as on a machine where it cannot.
    """

    def __init__(self, folder: Path, node: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = os.open(folder / "keeper.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise SystemExit(f"keeper: another one keeps {folder}") from None
        os.ftruncate(self._lock, 0)
        os.write(self._lock, f"{os.getpid()}\n".encode())
        self._oom_score = shield()
        become_subreaper()
        self.journal = Journal(folder / "keeper.journal")
        self.members: dict[str, Member] = {}
        self._by_pid: dict[int, Member] = {}
        self._waiting: dict[str, Start] = {}
        self._term = Term()
        self._lessor = 0
        self._soon = Timers(boot_time_s)
        self._limits = Timers(self._term.run_s)
        self._untold: list[Ended] = []
        self._idle_since = boot_time_s()
        wanted = os.environ.get("SHUNTER_CGROUP") != "off"
        self._cgroups = cgroup_base(f"shunter-{node}") if wanted else None
        self._guardian, self._guarded = watch_over(self._cgroups) if self._cgroups else (0, -1)
        bury(self.journal)
        self._selector = selectors.DefaultSelector()
        # Before there is anybody who could ask for a start.
        self.fence = Fence(Cgroup(self._cgroups) if self._cgroups else None, [self._guardian])
        self._selector.register(self.fence, selectors.EVENT_READ, self._on_fence)
        self.clients = Clients(socket_path(folder / "keeper.sock"), self._selector, self._greet, self._handle)
        self._catch_signals()

    def _catch_signals(self) -> None:
        self._wakeup, write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for number in (signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)  # a Ctrl-C meant for the worker's terminal is not for the jobs
        self._selector.register(self._wakeup, selectors.EVENT_READ, self._reap)

    # the loop

    def run(self) -> None:
        """Serve until there is nothing to keep and nobody asks."""
        while not self._done():
            limits_s = math.inf if self._term.closed() else self._limits.wait_s()
            for key, ready in self._selector.select(min(self._soon.wait_s(), limits_s, 1.0)):
                key.data(ready)
            self._soon.run()
            self._limits.run()
            self._announce()
            self.journal.flush()
            self.clients.tidy()
        self.clients.close()
        self.fence.close()
        if self._cgroups:
            Cgroup(self._cgroups).remove()

    def _done(self) -> bool:
        if self.members or self._waiting or self.clients or not self.journal.flush():
            self._idle_since = boot_time_s()
        return boot_time_s() - self._idle_since > LINGER_S

    # clients

    def _greet(self, client: Client) -> None:
        self._announce()
        for member in self.members.values():
            self.clients.send(client, self._live(member))
        for start in self._waiting.values():
            self.clients.send(client, _waits(start))
        for ended in self.journal.ended.values():
            self.clients.send(client, ended)
        self.clients.send(client, Ready(VERSION, os.getpid(), str(self._cgroups or "")))

    def _handle(self, request: Request, client: Client) -> None:
        match request:
            case Start():
                self._start(request)
            case Stop():
                self._stop(request)
            case Ack():
                if request.allocation in self.journal.ended:
                    self.journal.add(Acked(request.allocation))
            case Lease():
                # What an earlier worker had sent before it was superseded may be read after its successor's.
                if client.number >= self._lessor:
                    self._lessor = client.number
                    self._renew(request)
                    if request.number:
                        self.clients.send(client, Leased(request.number))

    # the lease

    def _renew(self, lease: Lease) -> None:
        self._term.renew(lease.until_boot_s)
        self.fence.allow(self._term.until_s)
        if self._term.closed():
            return
        for member in list(self.members.values()):
            if member.asked:
                self._ask_to_end(member)
        waiting, self._waiting = self._waiting, {}
        for start in waiting.values():
            self._start(start)

    def _on_fence(self, _: int) -> None:
        before = self.fence.frozen
        channel = self.fence.fileno()
        if not self.fence.read():
            self._selector.unregister(channel)
            self._replace_fence()
        if self.fence.frozen != before:
            for member in list(self.members.values()):
                self.clients.tell(self._live(member))

    def _replace_fence(self) -> None:
        """Somebody killed it."""
        print("keeper: the fence is gone; starting another", file=sys.stderr, flush=True)  # noqa: T201
        try:
            self.fence.start()
        except OSError:
            self._soon.after(RECHECK_S, self._replace_fence)
        else:
            self._selector.register(self.fence, selectors.EVENT_READ, self._on_fence)

    def _live(self, member: Member) -> Live:
        return member.live(frozen=self.fence.frozen)

    # members

    def _start(self, start: Start) -> None:
        name = start.allocation
        if name in self.members or name in self.journal.ended or name in self._waiting:
            return
        if self._term.closed():
            self._wait(start)
            return
        if refusal := self._busy(start):
            self._failed(start, LaunchError(refusal, FailureClass.NOT_STARTED))
            return
        cgroup, descriptor = self._make_cgroup(start)
        # Noted before it runs: a keeper that dies in between leaves a note without processes, never the reverse.
        folder = str(cgroup.folder) if cgroup else ""
        self.journal.add(Begun(name, start.job_id, start.attempt, start.rank, start.marker, folder))
        try:
            member = Member(start, *spawn(start, descriptor, self._term, self._oom_score), cgroup)
        except (LaunchError, Late) as error:
            if cgroup:
                cgroup.remove()
            self._wait(start) if isinstance(error, Late) else self._failed(start, error)
            return
        finally:
            if descriptor is not None:
                os.close(descriptor)
        self._watch(member)

    def _wait(self, start: Start) -> None:
        """Keep it for when there is a lease again."""
        self._waiting[start.allocation] = start
        self.clients.tell(_waits(start))

    def _watch(self, member: Member) -> None:
        start = member.start
        self.members[start.allocation] = member
        self._by_pid[member.pid] = member
        if member.cgroup is None:  # then only its session tells the next keeper what an emptied environment hides
            begun = self.journal.begun[start.allocation]
            self.journal.add(msgspec.structs.replace(begun, leader=identify(member.pid)))
        if start.time_limit_s is not None:
            self._limits.after(start.time_limit_s, lambda: self._time_is_up(member))
        self.clients.tell(self._live(member))

    def _busy(self, start: Start) -> str:
        """Return why the members that are here leave no room on the GPUs of *start*; nothing if they do.

        The second lock on a GPU: the store gave it out although what held it here is not gone.
        """
        held = Counter[int]()
        for member in self.members.values():
            held.update(dict.fromkeys(member.start.gpus, member.start.gpu_milli))
        busy = sorted(gpu for gpu in start.gpus if held[gpu] + start.gpu_milli > WHOLE_GPU)
        if not busy:
            return ""
        room = "" if start.gpu_milli == WHOLE_GPU else f", which leave less than {in_gpus(start.gpu_milli)} of it"
        return f"GPU {busy} still has processes of another job{room}"

    def _make_cgroup(self, start: Start) -> tuple[Cgroup | None, int | None]:
        if self._cgroups is None:
            return None, None
        cgroup = Cgroup(self._cgroups / start.allocation)
        try:
            return cgroup, cgroup.create()
        except OSError:
            return None, None

    def _failed(self, start: Start, error: LaunchError) -> None:
        code = error.code if error.failure is FailureClass.LAUNCH_FAILED else None
        exit = Exit(time.time(), code, failure=error.failure, message=str(error))
        self._finish(Ended(start.allocation, start.job_id, start.attempt, start.rank, exit))

    def _stop(self, stop: Stop) -> None:
        if start := self._waiting.pop(stop.allocation, None):
            self._failed(start, _never_started())
        elif member := self.members.get(stop.allocation):
            self._kill(member) if stop.now else self._ask_to_end(member)

    def _time_is_up(self, member: Member) -> None:
        if member.status is None and self.members.get(member.start.allocation) is member:
            member.timed_out = True
            self._ask_to_end(member)

    def _ask_to_end(self, member: Member) -> None:
        """Stop file, SIGTERM, grace; of a frozen member when it is thawed, for SIGCONT would wake it."""
        if member.stopping or member.status is not None:
            return
        member.asked = self._term.closed()
        if member.asked:
            return
        member.stopping = True
        if member.start.stop_file:
            with contextlib.suppress(OSError):
                Path(member.start.stop_file).touch()
        with contextlib.suppress(OSError):
            os.killpg(member.pid, signal.SIGTERM)
            os.killpg(member.pid, signal.SIGCONT)  # a stopped process would sleep through its grace
        self._limits.after(member.start.grace_s, lambda: self._kill(member))
        self.clients.tell(self._live(member))

    def _kill(self, member: Member) -> None:
        if self.members.get(member.start.allocation) is not member:
            return
        member.stopping = True
        if member.cgroup:
            member.cgroup.kill()
        end(member.pid, member.start.marker)

    def _reap(self, _: int) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._wakeup, 4096)
        ended: list[Member] = []
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if pid == 0:
                break
            member = self._by_pid.pop(pid, None)
            if member is not None:
                member.status = status
                ended.append(member)
        for member in ended:  # after all were reaped, so that only what still lives stands in the way
            self._clean(member)

    def _clean(self, member: Member) -> None:
        """End what the main process left behind; finish once nothing is left."""
        if self._remains(member):
            self._kill(member)
            self._soon.after(RECHECK_S, lambda: self._clean(member))
            return
        if member.cgroup:
            member.cgroup.remove()
        del self.members[member.start.allocation]
        self._conclude(member)

    def _conclude(self, member: Member) -> None:
        """It is over, if it ever began."""
        start = member.start
        if member.pipe is not None:
            try:
                outcome(start, member.pipe)
            except LaunchError as error:
                self._failed(start, error)
                return
            except Late:
                self._failed(start, _never_started()) if member.stopping or member.asked else self._start(start)
                return
        self._finish(Ended(start.allocation, start.job_id, start.attempt, start.rank, member.exit()))

    def _remains(self, member: Member) -> bool:
        if member.cgroup:
            return member.cgroup.populated()
        ours, unknown = [], []
        for pid in orphans({*self._by_pid, self._guardian, self.fence.pid}):
            whose = origin(pid, member.pid, member.start.marker)
            if whose == "ours":
                kill_all([pid])
                ours.append(pid)
            elif whose == "unknown":
                unknown.append(pid)
        if len(self.members) == 1:
            kill_all(unknown)  # nobody else's
        # Unknown ones are looked at again, but not for ever: one may be another member's, or out of our reach.
        member.puzzled = 0 if ours else member.puzzled + 1
        return bool(ours) or (bool(unknown) and member.puzzled < MOST_PUZZLED)

    def _finish(self, ended: Ended) -> None:
        self.journal.add(ended)
        self._untold.append(ended)

    def _announce(self) -> None:
        """Tell the ends of this round, once they are on disk: one sync for all of them."""
        if self._untold:
            self.journal.flush(durable=True)
            untold, self._untold = self._untold, []
            for ended in untold:
                self.clients.tell(ended)


def _never_started() -> LaunchError:
    return LaunchError("stopped before it was started", FailureClass.NOT_STARTED)


def _waits(start: Start) -> Live:
    return Member(start, 0, None, None).live(frozen=True)
