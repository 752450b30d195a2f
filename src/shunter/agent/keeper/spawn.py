"""Starting a member: a session of its own, output straight to its files, death with the keeper.

`subprocess` cannot do it: joining the cgroup and asking for the parent-death signal must happen between fork and exec,
and its `preexec_fn` says nothing of which step failed. The keeper has one thread, so code may run in the child here.

The fence may freeze the child at any point. So it is not waited for when the lease has passed: what it says then, by
its pipe, is found when it has ended. And the last that it does before its command replaces it is to look at the clock.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import signal
from pathlib import Path
from typing import Final

from shunter.agent.keeper import oom
from shunter.agent.keeper.protocol import Start
from shunter.agent.keeper.term import Term
from shunter.domain.outcome import FailureClass
from shunter.runtime.process import boot_time_s, die_with_parent, fork_into_cgroup

LATE: Final = b"late"
"""What a child says that came to its command only after the lease had passed: it did not run it."""

HURRY_S: Final = 1.0
"""How long to wait for a command to be started: a file server may not answer, and there are others to care for."""

PEEK_MS: Final = 20
"""How often to see, while a command is being started, whether the lease has passed."""

_STEPS = ("joining its cgroup", "changing to its folder", "starting its command")


class LaunchError(Exception):
    """The member did not start. *code* is what a shell would have said (126, 127), for people."""

    def __init__(self, message: str, failure: FailureClass = FailureClass.LAUNCH_FAILED, code: int = 126) -> None:
        super().__init__(message)
        self.failure = failure
        self.code = code


class Late(Exception):
    """The lease passed before the member's command could be run, and it was not."""


def spawn(start: Start, cgroup: int | None, term: Term, oom_score: int) -> tuple[int, int | None]:
    """Start the member; return its pid, and None: its command runs.

    If the lease passes meanwhile, or its command takes a second to start, a pipe comes in place of None: `outcome`
    tells from it what became of that, once the child has ended. Raises LaunchError, saying why, if it does not start,
    and Late if the lease has passed before it did.
    """
    out, err = _open_output(start)
    try:
        pid, pipe = _fork(start, cgroup, (out, err), term.until_s, oom_score)
        poller = select.poll()
        poller.register(pipe, select.POLLIN)
        hurry_s = boot_time_s() + HURRY_S
        while not poller.poll(PEEK_MS):
            if term.closed() or boot_time_s() > hurry_s:
                return pid, pipe
        try:
            outcome(start, pipe)
        except (LaunchError, Late) as error:
            os.kill(pid, signal.SIGKILL)  # it may have been frozen on its way out
            os.waitpid(pid, 0)
            if isinstance(error, LaunchError):
                with contextlib.suppress(OSError):  # a full disk: the reason is still in the job's record
                    os.write(out, f"shunter: {error}\n".encode())
            raise
        return pid, None
    finally:
        for descriptor in {out, err}:
            os.close(descriptor)


def outcome(start: Start, pipe: int) -> None:
    """Read what the child said by *pipe*, and close that. Raises LaunchError or Late if its command did not run."""
    with os.fdopen(pipe, "rb", buffering=0) as file:
        said = file.read(100)
    if said == LATE:
        raise Late
    if said:
        raise _explain(start, said)


def _fork(
    start: Start, cgroup: int | None, output: tuple[int, int], until_s: float | None, oom_score: int
) -> tuple[int, int]:
    """Return the child's pid, and the pipe by which it says why its command did not replace it."""
    keeper = os.getpid()
    try:
        read, write = os.pipe2(os.O_CLOEXEC)
        try:
            pid, inside = _fork_there(cgroup)
            if pid == 0:
                _child(start, None if inside else cgroup, output, write, keeper, until_s, oom_score)
        except OSError:
            os.close(read)
            raise
        finally:
            os.close(write)
        return pid, read
    except OSError as error:
        # Too many processes or open files on this node: not the job's doing, and no reason to end the other jobs.
        raise LaunchError(f"starting a process failed: {error.strerror}", FailureClass.NOT_STARTED) from error


def _fork_there(cgroup: int | None) -> tuple[int, bool]:
    """Fork, straight into the open *cgroup* where the kernel can; return the pid (0: the child) and whether it did."""
    if cgroup is not None:
        try:
            return fork_into_cgroup(cgroup), True
        except OSError as error:
            if error.errno == errno.EAGAIN:  # too many processes: moving one would fail as well
                raise
    return os.fork(), False


def _open_output(start: Start) -> tuple[int, int]:
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
    out = -1
    try:
        Path(start.folder).mkdir(parents=True, exist_ok=True)
        Path(start.stdout).parent.mkdir(parents=True, exist_ok=True)
        out = os.open(start.stdout, flags, 0o640)
        return out, out if start.stderr == start.stdout else os.open(start.stderr, flags, 0o640)
    except (OSError, ValueError) as error:
        if out >= 0:
            os.close(out)
        if not isinstance(error, OSError):  # a zero byte in a name
            raise LaunchError(f"cannot write its output to {start.folder}: {error}") from error
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        failure = FailureClass.DISK_FULL if full else FailureClass.LAUNCH_FAILED
        raise LaunchError(f"cannot write its output to {error.filename}: {error.strerror}", failure) from error


def _child(
    start: Start,
    cgroup: int | None,
    output: tuple[int, int],
    pipe: int,
    keeper: int,
    until_s: float | None,
    oom_score: int,
) -> None:
    step = 0
    try:
        os.setsid()
        die_with_parent(signal.SIGKILL)
        if os.getppid() != keeper:
            os._exit(127)  # the keeper died before prctl was called: nobody would ever watch us
        if cgroup is not None:
            os.write(os.open("cgroup.procs", os.O_WRONLY | os.O_CLOEXEC, dir_fd=cgroup), b"0")
        signal.set_wakeup_fd(-1)
        for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
            signal.signal(number, signal.SIG_DFL)
        oom.set_score(oom_score)
        nothing = os.open(os.devnull, os.O_RDONLY)
        for target, source in enumerate((nothing, *output)):
            os.dup2(source, target)
        step = 1
        os.chdir(start.cwd)
        step = 2
        if until_s is None or boot_time_s() < until_s:
            os.execvpe(start.argv[0], start.argv, start.env)
        os.write(pipe, LATE)
    except OSError as error:
        os.write(pipe, f"{step} {error.errno}".encode())
    except Exception:
        # What Python itself refuses: a zero byte, `=` in a variable's name, no command at all.
        os.write(pipe, f"{step} {errno.EINVAL}".encode())
    finally:
        os._exit(127)


def _explain(start: Start, said: bytes) -> LaunchError:
    """Return the reason that a child gave."""
    step, number = map(int, said.split())
    command = start.argv[0] if start.argv else ""
    if step == 2 and number == errno.ENOENT:
        return LaunchError(f"command not found: {command}", code=127)
    what = f"{_STEPS[step]} {('', start.cwd, command)[step]}".rstrip()
    return LaunchError(f"{what} failed: {os.strerror(number)}")
