"""The members that a keeper has: how they start, how they are asked to end, and when one is over.

A member is over when its main process has been reaped and no other process of it is left; only then is its end written
down and told.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Final

import msgspec

from shunter.agent.keeper.journal import Begun, Journal
from shunter.agent.keeper.member import Member
from shunter.agent.keeper.protocol import Ended, Start, Stop
from shunter.agent.keeper.spawn import Late, LaunchError, outcome, spawn
from shunter.agent.keeper.term import Term
from shunter.agent.keeper.timers import Timers
from shunter.agent.keeper.tree import Cgroup, end, identify, kill_all, origin, orphans
from shunter.domain.job import WHOLE_GPU, in_gpus
from shunter.domain.outcome import Exit, FailureClass

RECHECK_S: Final = 0.01
"""How often the killed remains of a member are looked at until they are gone."""

MOST_PUZZLED: Final = 50
"""After so many looks orphans of unknown origin are taken for another member's, or out of our reach."""


class Members:
    """*cgroups* is the folder of theirs, if there are any, *oom_score* what their processes get.

    *tell* is called with each that starts or changes, *helpers* gives the keeper's children that are no members. Ends
    gather in `untold`, for whoever tells them once they are on disk.
    """

    def __init__(
        self,
        journal: Journal,
        term: Term,
        soon: Timers,
        cgroups: Path | None,
        oom_score: int,
        tell: Callable[[Member], None],
        helpers: Callable[[], set[int]],
    ) -> None:
        self.all: dict[str, Member] = {}
        self.waiting: dict[str, Start] = {}
        self.untold: list[Ended] = []
        self.limits = Timers(term.run_s)
        self._journal = journal
        self._term = term
        self._soon = soon
        self._cgroups = cgroups
        self._oom_score = oom_score
        self._tell = tell
        self._helpers = helpers
        self._by_pid: dict[int, Member] = {}

    def __bool__(self) -> bool:
        return bool(self.all or self.waiting)

    def inherit(self, members: Sequence[Member], waiting: Sequence[Start]) -> None:
        """Go on with what an earlier program of this process had."""
        self.waiting = {start.allocation: start for start in waiting}
        self.all = {member.start.allocation: member for member in members}
        self._by_pid = {member.pid: member for member in members if member.status is None}
        for member in members:
            self._set_limits(member)
            if member.status is not None:
                self._soon.after(0.0, partial(self._clean, member))

    def go_on(self) -> None:
        """There is a lease again: begin the ends that were asked for, then start what had to wait."""
        for member in list(self.all.values()):
            if member.asked:
                self._ask_to_end(member)
        waiting, self.waiting = self.waiting, {}
        for start in waiting.values():
            self.start(start)

    def start(self, start: Start) -> None:
        name = start.allocation
        if name in self.all or name in self._journal.ended or name in self.waiting:
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
        self._journal.add(Begun(name, start.job_id, start.attempt, start.rank, start.marker, folder))
        try:
            pid, pipe = spawn(start, descriptor, self._term, self._oom_score)
            member = Member(start, pid, pipe, cgroup, self._term.run_s(), stood_s=self._term.stood_s())
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
        self.waiting[start.allocation] = start
        self._tell(waits(start))

    def _watch(self, member: Member) -> None:
        start = member.start
        self.all[start.allocation] = member
        self._by_pid[member.pid] = member
        if member.cgroup is None:  # then only its session tells the next keeper what an emptied environment hides
            begun = self._journal.begun[start.allocation]
            self._journal.add(msgspec.structs.replace(begun, leader=identify(member.pid)))
        self._set_limits(member)
        self._tell(member)

    def _set_limits(self, member: Member) -> None:
        """Have its time limit and its grace end when they should, by the clock that stands still without a lease."""
        if member.start.time_limit_s is not None:
            self.limits.at(member.began_s + member.start.time_limit_s, lambda: self._time_is_up(member))
        if member.stop_s is not None:
            self.limits.at(member.stop_s + member.start.grace_s, lambda: self._kill(member))

    def _busy(self, start: Start) -> str:
        """Return why the members that are here leave no room on the GPUs of *start*; nothing if they do.

        The second lock on a GPU: the store gave it out although what held it here is not gone.
        """
        held = Counter[int]()
        for member in self.all.values():
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

    def stop(self, stop: Stop) -> None:
        if start := self.waiting.pop(stop.allocation, None):
            self._failed(start, _never_started())
        elif member := self.all.get(stop.allocation):
            self._kill(member) if stop.now else self._ask_to_end(member)

    def _time_is_up(self, member: Member) -> None:
        if member.status is None and self.all.get(member.start.allocation) is member:
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
        member.stop_s = self._term.run_s()
        self.limits.at(member.stop_s + member.start.grace_s, lambda: self._kill(member))
        self._tell(member)

    def _kill(self, member: Member) -> None:
        if self.all.get(member.start.allocation) is not member:
            return
        member.stopping = True
        if member.cgroup:
            member.cgroup.kill()
        end(member.pid, member.start.marker)

    def reaped(self, statuses: dict[int, int]) -> None:
        """Take in the wait statuses of processes that have ended, by pid."""
        ended = [(member, status) for pid, status in statuses.items() if (member := self._by_pid.pop(pid, None))]
        for member, status in ended:
            member.status = status
        for member, _ in ended:  # after all were reaped, so that only what still lives stands in the way
            self._clean(member)

    def _clean(self, member: Member) -> None:
        """End what the main process left behind; finish once nothing is left."""
        if self._remains(member):
            self._kill(member)
            self._soon.after(RECHECK_S, lambda: self._clean(member))
            return
        if member.cgroup:
            member.cgroup.remove()
        del self.all[member.start.allocation]
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
                self._failed(start, _never_started()) if member.stopping or member.asked else self.start(start)
                return
        self._finish(
            Ended(start.allocation, start.job_id, start.attempt, start.rank, member.exit(self._term.stood_s()))
        )

    def _remains(self, member: Member) -> bool:
        if member.cgroup:
            return member.cgroup.populated()
        ours, unknown = [], []
        for pid in orphans({*self._by_pid} | self._helpers()):
            whose = origin(pid, member.pid, member.start.marker)
            if whose == "ours":
                kill_all([pid])
                ours.append(pid)
            elif whose == "unknown":
                unknown.append(pid)
        if len(self.all) == 1:
            kill_all(unknown)  # nobody else's
        # Unknown ones are looked at again, but not for ever: one may be another member's, or out of our reach.
        member.puzzled = 0 if ours else member.puzzled + 1
        return bool(ours) or (bool(unknown) and member.puzzled < MOST_PUZZLED)

    def _finish(self, ended: Ended) -> None:
        self._journal.add(ended)
        self.untold.append(ended)


def _never_started() -> LaunchError:
    return LaunchError("stopped before it was started", FailureClass.NOT_STARTED)


def waits(start: Start) -> Member:
    """Return *start* as a member that has not been started."""
    return Member(start, 0, None, None)
