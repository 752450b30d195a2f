"""The keeper: starts members of attempts, waits for them, enforces their limits, and keeps how they ended.

One process per node, one thread, no network: it outlives the node worker, and the jobs do not outlive it. A member is
over when its main process has been reaped and no other process of it is left; only then is its end written down and
told.
"""

from __future__ import annotations

import contextlib
import fcntl
import heapq
import os
import selectors
import signal
import socket
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from shunter.agent.keeper.guardian import watch_over
from shunter.agent.keeper.journal import Acked, Begun, Journal
from shunter.agent.keeper.protocol import (
    VERSION,
    Ack,
    Ended,
    Lines,
    Live,
    Ready,
    Report,
    Request,
    Start,
    Stop,
    decode_request,
    encode,
)
from shunter.agent.keeper.spawn import LaunchError, spawn
from shunter.agent.keeper.tree import Cgroup, cgroup_base, end, identify, kill_all, origin, orphans
from shunter.domain.duration import format_duration
from shunter.domain.job import WHOLE_GPU, in_gpus
from shunter.domain.outcome import Exit, FailureClass
from shunter.runtime.paths import socket_path
from shunter.runtime.process import become_subreaper, boot_time_s

LINGER_S: Final = 1.0
"""How long a keeper with nothing to keep waits for a worker before it ends."""

RECEIVE_BYTES: Final = 1 << 16
RECHECK_S: Final = 0.01
"""How often the killed remains of a member are looked at until they are gone."""

MOST_PUZZLED: Final = 50
"""After so many looks orphans of unknown origin are taken for another member's, or out of our reach."""


class Member(msgspec.Struct):
    """A member that this keeper started. *status* is what waitpid gave, once it did.

    *puzzled* counts how often only orphans of unknown origin stood in the way of its end.
    """

    start: Start
    pid: int
    cgroup: Cgroup | None
    status: int | None = None
    stopping: bool = False
    timed_out: bool = False
    puzzled: int = 0

    def live(self) -> Live:
        of = self.start
        return Live(of.allocation, of.job_id, of.attempt, of.rank, self.pid, of.gpus, self.stopping, of.gpu_milli)


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
        become_subreaper()
        self.journal = Journal(folder / "keeper.journal")
        self.members: dict[str, Member] = {}
        self._by_pid: dict[int, Member] = {}
        self._clients: dict[socket.socket, Lines] = {}
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._timer_count = 0
        self._untold: list[Ended] = []
        self._idle_since = boot_time_s()
        wanted = os.environ.get("SHUNTER_CGROUP") != "off"
        self._cgroups = cgroup_base(f"shunter-{node}") if wanted else None
        self._guardian, self._guarded = watch_over(self._cgroups) if self._cgroups else (0, -1)
        self._bury_the_lost()
        self._selector = selectors.DefaultSelector()
        self._listen(socket_path(folder / "keeper.sock"))
        self._catch_signals()

    def _listen(self, path: Path) -> None:
        path.unlink(missing_ok=True)
        self._server = socket.socket(socket.AF_UNIX)
        before = os.umask(0o177)
        self._server.bind(str(path))
        os.umask(before)
        self._server.listen()
        self._server.setblocking(False)
        self._selector.register(self._server, selectors.EVENT_READ, self._accept)

    def _catch_signals(self) -> None:
        self._wakeup, write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for number in (signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)  # a Ctrl-C meant for the worker's terminal is not for the jobs
        self._selector.register(self._wakeup, selectors.EVENT_READ, self._reap)

    def _bury_the_lost(self) -> None:
        """End what an earlier keeper left: it died, so its members' ends cannot be known."""
        lost_members = list(self.journal.begun.values())
        quiet = 0
        # A process that is just in exec shows no marker: it escapes one look, not two.
        while lost_members and quiet < 2:
            left = [begun for begun in lost_members if _end_lost(begun)]
            quiet = 0 if left else quiet + 1
            time.sleep(RECHECK_S)
        for begun in lost_members:
            if begun.cgroup:
                Cgroup(Path(begun.cgroup)).remove()
                with contextlib.suppress(OSError):
                    Path(begun.cgroup).parent.rmdir()
            lost = Exit(
                time.time(), failure=FailureClass.KEEPER_LOST, message="the node's keeper died, and with it the job"
            )
            self.journal.add(Ended(begun.allocation, begun.job_id, begun.attempt, begun.rank, lost), durable=True)

    # the loop

    def run(self) -> None:
        """Serve until there is nothing to keep and nobody asks."""
        while not self._done():
            timeout = max(self._timers[0][0] - boot_time_s(), 0.0) if self._timers else 1.0
            for key, _ in self._selector.select(min(timeout, 1.0)):
                key.data(key.fileobj)
            while self._timers and self._timers[0][0] <= boot_time_s():
                heapq.heappop(self._timers)[2]()
            self._announce()
            self.journal.flush()
        socket_name = self._server.getsockname()
        self._server.close()
        Path(socket_name).unlink(missing_ok=True)
        if self._cgroups:
            Cgroup(self._cgroups).remove()

    def _done(self) -> bool:
        if self.members or self._clients or not self.journal.flush():
            self._idle_since = boot_time_s()
        return boot_time_s() - self._idle_since > LINGER_S

    def _after(self, delay_s: float, action: Callable[[], None]) -> None:
        self._timer_count += 1
        heapq.heappush(self._timers, (boot_time_s() + delay_s, self._timer_count, action))

    # clients

    def _accept(self, server: socket.socket) -> None:
        self._announce()
        client, _ = server.accept()
        client.settimeout(5.0)  # a worker that stopped reading must not stop the keeper
        self._clients[client] = Lines()
        self._selector.register(client, selectors.EVENT_READ, self._read)
        for member in list(self.members.values()):
            self._send(client, member.live())
        for ended in list(self.journal.ended.values()):
            self._send(client, ended)
        self._send(client, Ready(VERSION, os.getpid(), str(self._cgroups or "")))

    def _read(self, client: socket.socket) -> None:
        try:
            data = client.recv(RECEIVE_BYTES)
        except OSError:
            data = b""
        if not data:
            self._drop(client)
            return
        for line in self._clients[client].feed(data):
            try:
                request = decode_request(line)
            except msgspec.MsgspecError as error:
                print(f"keeper: request not understood: {error}", file=sys.stderr, flush=True)  # noqa: T201
            else:
                self._handle(request)

    def _drop(self, client: socket.socket) -> None:
        if client in self._clients:
            del self._clients[client]
            self._selector.unregister(client)
            client.close()

    def _send(self, client: socket.socket, report: Report) -> None:
        try:
            client.sendall(encode(report) + b"\n")
        except OSError:
            self._drop(client)

    def _tell(self, report: Report) -> None:
        for client in list(self._clients):
            self._send(client, report)

    def _handle(self, request: Request) -> None:
        match request:
            case Start():
                self._start(request)
            case Stop():
                if member := self.members.get(request.allocation):
                    self._kill(member) if request.now else self._ask_to_end(member)
            case Ack():
                if request.allocation in self.journal.ended:
                    self.journal.add(Acked(request.allocation))

    # members

    def _start(self, start: Start) -> None:
        if start.allocation in self.members or start.allocation in self.journal.ended:
            return
        if refusal := self._busy(start):
            self._failed(start, LaunchError(refusal, FailureClass.NOT_STARTED))
            return
        cgroup, descriptor = self._make_cgroup(start)
        # Noted before it runs: a keeper that dies in between leaves a note without processes, never the reverse.
        folder = str(cgroup.folder) if cgroup else ""
        self.journal.add(Begun(start.allocation, start.job_id, start.attempt, start.rank, start.marker, folder))
        try:
            pid = spawn(start, descriptor)
        except LaunchError as error:
            if cgroup:
                cgroup.remove()
            self._failed(start, error)
            return
        finally:
            if descriptor is not None:
                os.close(descriptor)
        member = Member(start, pid, cgroup)
        self.members[start.allocation] = member
        self._by_pid[pid] = member
        if cgroup is None:  # then only its session tells the next keeper what an emptied environment hides
            self.journal.add(msgspec.structs.replace(self.journal.begun[start.allocation], leader=identify(pid)))
        if start.time_limit_s is not None:
            self._after(start.time_limit_s, lambda: self._time_is_up(member))
        self._tell(member.live())

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

    def _time_is_up(self, member: Member) -> None:
        if member.status is None and self.members.get(member.start.allocation) is member:
            member.timed_out = True
            self._ask_to_end(member)

    def _ask_to_end(self, member: Member) -> None:
        if member.stopping or member.status is not None:
            return
        member.stopping = True
        if member.start.stop_file:
            with contextlib.suppress(OSError):
                Path(member.start.stop_file).touch()
        with contextlib.suppress(OSError):
            os.killpg(member.pid, signal.SIGTERM)
            os.killpg(member.pid, signal.SIGCONT)  # a stopped process would sleep through its grace
        self._after(member.start.grace_s, lambda: self._kill(member))
        self._tell(member.live())

    def _kill(self, member: Member) -> None:
        if self.members.get(member.start.allocation) is not member:
            return
        member.stopping = True
        if member.cgroup:
            member.cgroup.kill()
        end(member.pid, member.start.marker)

    def _reap(self, _: object) -> None:
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
            self._after(RECHECK_S, lambda: self._clean(member))
            return
        if member.cgroup:
            member.cgroup.remove()
        del self.members[member.start.allocation]
        start = member.start
        self._finish(Ended(start.allocation, start.job_id, start.attempt, start.rank, self._exit(member)))

    def _remains(self, member: Member) -> bool:
        if member.cgroup:
            return member.cgroup.populated()
        ours, unknown = [], []
        for pid in orphans({*self._by_pid, self._guardian}):
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

    def _exit(self, member: Member) -> Exit:
        assert member.status is not None
        code = os.waitstatus_to_exitcode(member.status)
        failure, message = None, ""
        if member.timed_out:
            failure = FailureClass.TIME_LIMIT
            message = f"time limit of {format_duration(member.start.time_limit_s or 0)} reached"
        return Exit(time.time(), code if code >= 0 else None, -code if code < 0 else None, failure, message)

    def _finish(self, ended: Ended) -> None:
        self.journal.add(ended)
        self._untold.append(ended)

    def _announce(self) -> None:
        """Tell the ends of this round, once they are on disk: one sync for all of them."""
        if self._untold:
            self.journal.flush(durable=True)
            untold, self._untold = self._untold, []
            for ended in untold:
                self._tell(ended)


def _end_lost(begun: Begun) -> bool:
    """Kill what is left of a member of an earlier keeper; return whether there was anything."""
    populated = False
    if begun.cgroup:
        cgroup = Cgroup(Path(begun.cgroup))
        populated = cgroup.populated()
        cgroup.kill()
    session = begun.leader.pid if begun.leader is not None and begun.leader.is_ours() else None
    return bool(end(session, begun.marker)) or populated
