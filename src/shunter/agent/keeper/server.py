"""The keeper: starts members of attempts, waits for them, enforces their limits, and keeps how they ended.

One process per node, one thread, no network: it outlives the node worker, and the jobs do not outlive it. What must
happen on time whatever this process does, freezing, is `fence.py`'s, a process of its own.
"""

from __future__ import annotations

import contextlib
import math
import os
import selectors
import signal
import sys
import time
from pathlib import Path
from typing import Final

from msgspec.structs import replace

from shunter import __version__
from shunter.agent.keeper.clients import Client, Clients
from shunter.agent.keeper.estate import Estate, OldFence, Successor, found_estate, own
from shunter.agent.keeper.fence import Fence
from shunter.agent.keeper.journal import Acked, Journal
from shunter.agent.keeper.lost import bury
from shunter.agent.keeper.member import Member
from shunter.agent.keeper.members import Members, waits
from shunter.agent.keeper.protocol import VERSION, Ack, Lease, Leased, Live, Ready, Replace, Request, Start, Stop
from shunter.agent.keeper.term import Term
from shunter.agent.keeper.timers import Timers
from shunter.agent.keeper.tree import Cgroup
from shunter.runtime.paths import socket_path
from shunter.runtime.process import boot_time_s

LINGER_S: Final = 1.0
"""How long a keeper with nothing to keep waits for a worker before it ends."""

AGAIN_S: Final = 0.01
"""How soon to try again what could not be done just now."""


class Keeper:
    """*folder* holds the journal, the lock and the socket. Raises SystemExit if another keeper has it.

    *estate* is what the program before has handed over. With SHUNTER_CGROUP=off in its environment a keeper makes no
    cgroups, as on a machine where it cannot.
    """

    def __init__(self, folder: Path, node: str, estate: Estate | None = None) -> None:
        self._arguments = [str(folder), node]
        self._estate = estate or found_estate(folder, node)
        own(self._estate)
        self._cgroups = Path(self._estate.cgroups) if self._estate.cgroups else None
        self.journal = Journal(folder / "keeper.journal")
        self._term = Term(boot_time_s, self._estate.until_s, self._estate.lost_s)
        self._lessor = self._estate.lessor
        self._soon = Timers(boot_time_s)
        self._idle_since = boot_time_s()
        self._successor: Successor | None = None
        if estate is None:
            bury(self.journal)
        self._selector = selectors.DefaultSelector()
        # Before there is anybody who could ask for a start.
        self.fence = self._new_fence(self._estate.fence)
        self._selector.register(self.fence, selectors.EVENT_READ, self._on_fence)
        self.members = Members(
            self.journal, self._term, self._soon, self._cgroups, self._estate.oom_score, self._tell, self._helpers
        )
        path = socket_path(folder / "keeper.sock")
        self.clients = Clients(path, self._selector, self._greet, self._handle, self._estate.kin)
        self.members.inherit(self._estate.members, self._estate.waiting)
        self._catch_signals()
        self._reap(0)  # who ended while there was no handler
        if estate is not None:
            self.clients.tell(self._ready())

    def _new_fence(self, old: OldFence | None) -> Fence:
        base = Cgroup(self._cgroups) if self._cgroups else None
        if old is None:
            return Fence(base, [self._estate.guardian])
        # First, for each would freeze the other. What is frozen stays so meanwhile.
        with contextlib.suppress(OSError):
            os.kill(old.pid, signal.SIGKILL)
            os.waitpid(old.pid, 0)
        os.close(old.channel)
        return Fence(base, [self._estate.guardian], self._term.until_s, frozen=old.frozen)

    def _catch_signals(self) -> None:
        self._wakeup, self._write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for number in (signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)  # a Ctrl-C meant for the worker's terminal is not for the jobs
        self._selector.register(self._wakeup, selectors.EVENT_READ, self._reap)

    # the loop

    def run(self) -> None:
        """Serve until there is nothing to keep and nobody asks."""
        while not self._done():
            limits_s = math.inf if self._term.closed() else self.members.limits.wait_s()
            for key, ready in self._selector.select(min(self._soon.wait_s(), limits_s, 1.0)):
                key.data(ready)
            self._soon.run()
            self.members.limits.run()
            self._announce()
            self.journal.flush()
            self.clients.tidy()
        self.clients.close()
        self.fence.close()
        if self._successor is not None:
            os.kill(self._successor.pid, signal.SIGKILL)
        if self._cgroups:
            Cgroup(self._cgroups).remove()

    def _done(self) -> bool:
        if self.members or self.clients or not self.journal.flush():
            self._idle_since = boot_time_s()
        return boot_time_s() - self._idle_since > LINGER_S

    # clients

    def _greet(self, client: Client) -> None:
        self._announce()
        for member in (*self.members.all.values(), *map(waits, self.members.waiting.values())):
            self.clients.send(client, self._live(member))
        for ended in self.journal.ended.values():
            self.clients.send(client, ended)
        self.clients.send(client, self._ready())

    def _ready(self) -> Ready:
        return Ready(VERSION, os.getpid(), self._estate.cgroups, __version__)

    def _handle(self, request: Request, client: Client) -> None:
        match request:
            case Start():
                self.members.start(request)
            case Stop():
                self.members.stop(request)
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
            case Replace():
                self._try(request)

    # the lease

    def _renew(self, lease: Lease) -> None:
        self._term.renew(lease.until_boot_s)
        self.fence.allow(self._term.until_s)
        if not self._term.closed():
            self.members.go_on()

    def _on_fence(self, _: int) -> None:
        before = self.fence.frozen
        channel = self.fence.fileno()
        if not self.fence.read():
            self._selector.unregister(channel)
            self._replace_fence()
        if self.fence.frozen != before:
            if self.members:
                _say("the lease has passed: members are frozen" if self.fence.frozen else "members go on")
            for member in list(self.members.all.values()):
                self._tell(member)

    def _replace_fence(self) -> None:
        """Somebody killed it."""
        _say("the fence is gone; starting another")
        try:
            self.fence.start()
        except OSError:
            self._soon.after(AGAIN_S, self._replace_fence)
        else:
            self._selector.register(self.fence, selectors.EVENT_READ, self._on_fence)

    def _live(self, member: Member) -> Live:
        return member.live(frozen=self.fence.frozen or not member.pid)

    def _tell(self, member: Member) -> None:
        self.clients.tell(self._live(member))

    def _helpers(self) -> set[int]:
        """Return our children that are no members."""
        return {self._estate.guardian, self.fence.pid, self._successor.pid if self._successor else 0}

    # the processes below

    def _reap(self, _: int) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._wakeup, 4096)
        statuses: dict[int, int] = {}
        with contextlib.suppress(ChildProcessError):
            while (found := os.waitpid(-1, os.WNOHANG))[0]:
                statuses[found[0]] = found[1]
        self.members.reaped(statuses)
        if self._successor and self._successor.pid in statuses:
            self._tried(self._successor, statuses[self._successor.pid])

    def _announce(self) -> None:
        """Tell the ends of this round, once they are on disk: one sync for all of them."""
        if self.members.untold:
            self.journal.flush(durable=True)
            untold, self.members.untold = self.members.untold, []
            for ended in untold:
                self.clients.tell(ended)

    # the program that goes on

    def _try(self, wanted: Replace) -> None:
        """Have it look at what there is, in a process of its own: `_tried` hears what became of that."""
        if self._successor is not None:
            return
        successor = Successor(wanted, self._arguments)
        try:
            successor.try_it(self._bequest())
        except OSError as error:
            _say(f"{wanted.python} does not start: {error.strerror}")
        else:
            self._successor = successor

    def _tried(self, successor: Successor, status: int) -> None:
        if status == 0:
            self._hand_over(successor)
        else:
            self._successor = None
            _say("the program that was to replace this one cannot go on with what is here; this one stays")

    def _hand_over(self, successor: Successor) -> None:
        """Replace this program, once all that has happened is on disk and told, and there is a fence."""
        self._announce()
        if not self.journal.flush() or not self.fence.pid:
            self._soon.after(AGAIN_S, lambda: self._hand_over(successor))
            return
        signal.set_wakeup_fd(-1)
        try:
            successor.take_over(self._bequest())
        except OSError as error:
            self._successor = None
            signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
            self._reap(0)
            _say(f"the program that was to replace this one does not start: {error.strerror}")

    def _bequest(self) -> Estate:
        """Return the estate as it is now."""
        fence = OldFence(self.fence.pid, self.fence.fileno(), self.fence.frozen) if self.fence.pid else None
        members, waiting = list(self.members.all.values()), list(self.members.waiting.values())
        return replace(
            self._estate, until_s=self._term.until_s, lost_s=self._term.lost_s, lessor=self._lessor,
            fence=fence, members=members, waiting=waiting, kin=self.clients.kin(),
        )  # fmt: skip


def _say(text: str) -> None:
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    print(f"{at} keeper: {text}", file=sys.stderr, flush=True)  # noqa: T201
