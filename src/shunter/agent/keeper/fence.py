"""The fence: freezes all members when the lease has passed, in a process of its own that does nothing else.

Nothing else can be in its way: not a worker that does not read, nor a disk or a file server that does not answer, nor
a keeper that is stopped. And the keeper stays a process with one thread, which its way of forking demands. It ends with
the keeper; if it is killed alone, the keeper starts another at once.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import struct
import sys
import traceback
from collections.abc import Iterable
from typing import Final

from shunter.agent.keeper.freezer import Freezer
from shunter.agent.keeper.tree import Cgroup
from shunter.runtime.process import boot_time_s, die_with_parent

TICK_S: Final = 0.1
"""How often the clock is looked at before the lease has passed: a wait in the kernel does not count suspended time."""

HOLD_S: Final = 0.25
"""How often to look, while all is frozen, whether something runs again."""

RETRY_S: Final = 0.02
"""How soon to look again where something did run, or went wrong."""

_NICE: Final = -10
"""So that jobs which take all cores do not keep it waiting, where that is allowed."""

_MESSAGE: Final = struct.Struct("d")
_UNFENCED: Final = float("inf")
FROZEN: Final = b"f"
THAWED: Final = b"t"


class Fence:
    """The keeper's end. *spare* are children of the keeper that are no members. Raises OSError if it cannot start.

    Until *until_s* members may run; with *frozen* an earlier one had frozen them.
    """

    def __init__(
        self, base: Cgroup | None, spare: Iterable[int], until_s: float | None = None, *, frozen: bool = False
    ) -> None:
        self._base = base
        self._spare = tuple(spare)
        self._until_s = _UNFENCED if until_s is None else until_s
        self._channel: socket.socket
        self.frozen = frozen
        self.pid = 0
        self.start()

    def start(self) -> None:
        """Fork it, or another in its place: that one goes on from what the keeper knows."""
        keeper = os.getpid()
        ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with its:
            try:
                self.pid = os.fork()
            except OSError:
                ours.close()
                raise
            if self.pid == 0:
                try:
                    _become_fence(its, keeper)
                    late = boot_time_s() >= self._until_s
                    freezer = Freezer(keeper, self._base, self._spare, adopt=self.frozen or late)
                    _stand(its, freezer, self._until_s, was_frozen=self.frozen)
                except BaseException:
                    traceback.print_exc(file=sys.stderr)
                finally:
                    os._exit(0)
        ours.setblocking(False)
        self._channel = ours

    def fileno(self) -> int:
        return self._channel.fileno()

    def allow(self, until_s: float | None) -> None:
        """Let members run until *until_s*. What cannot be sent is what the next fence starts with: see `read`."""
        self._until_s = _UNFENCED if until_s is None else until_s
        try:
            self._channel.send(_MESSAGE.pack(self._until_s))
        except BlockingIOError:  # it has not listened for hundreds of renewals
            self._kill()
        except OSError:  # it is gone, which `read` is about to say
            pass

    def read(self) -> bool:
        """Take in what it says; return False if it is gone."""
        while True:
            try:
                said = self._channel.recv(16)
            except BlockingIOError:
                return True
            except OSError:
                said = b""
            if not said:
                self._channel.close()
                self.pid = 0
                return False
            self.frozen = said == FROZEN

    def close(self) -> None:
        """End it, which is for when nothing is left to be frozen."""
        self._kill()
        self._channel.close()
        if self.pid:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(self.pid, 0)

    def _kill(self) -> None:
        if self.pid:  # 0 would be all of us
            with contextlib.suppress(OSError):
                os.kill(self.pid, signal.SIGKILL)


def _become_fence(channel: socket.socket, keeper: int) -> None:
    """Leave all that is the keeper's: its sockets, its lock, its signals; but not its end.

    That shows in the channel too, but not while a child that was frozen at birth has the keeper's end of it.
    """
    die_with_parent(signal.SIGKILL)
    if os.getppid() != keeper:
        os._exit(0)
    os.setsid()
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    for descriptor in map(int, os.listdir("/proc/self/fd")):  # noqa: PTH208
        if descriptor > 2 and descriptor != channel.fileno():
            with contextlib.suppress(OSError):  # the listing's own
                os.close(descriptor)
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, _NICE)


def _stand(channel: socket.socket, freezer: Freezer, until_s: float, *, was_frozen: bool) -> None:
    """Guard until the keeper has gone."""
    frozen = was_frozen
    poller = select.poll()
    poller.register(channel, select.POLLIN)
    wait_s: float | None = 0.0
    while True:
        if poller.poll(None if wait_s is None else wait_s * 1000):
            said = channel.recv(_MESSAGE.size)
            if not said:
                return
            (until_s,) = _MESSAGE.unpack(said)
        try:
            frozen, wait_s = _guard(channel, freezer, until_s, frozen=frozen)
        except Exception:  # a fence that gives up is none: what stood in the way may not do so again
            traceback.print_exc(file=sys.stderr)
            wait_s = RETRY_S


def _guard(channel: socket.socket, freezer: Freezer, until_s: float, *, frozen: bool) -> tuple[bool, float | None]:
    """Do what is due; return whether all is frozen now, and for how long nothing will be due."""
    left_s = until_s - boot_time_s()
    if left_s <= 0:
        if frozen:
            return True, RETRY_S if freezer.hold() else HOLD_S
        freezer.freeze()
        channel.send(FROZEN)
        return True, RETRY_S
    if frozen:
        freezer.thaw()
        channel.send(THAWED)
    return False, None if left_s == _UNFENCED else min(left_s, TICK_S)
