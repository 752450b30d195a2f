"""Starting a member: a session of its own, output straight to its files, death with the keeper.

`subprocess` cannot do it: joining the cgroup and asking for the parent-death signal must happen between fork and exec,
and its `preexec_fn` says nothing of which step failed. The keeper has one thread, so code may run in the child here.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
from pathlib import Path

from shunter.agent.keeper.protocol import Start
from shunter.domain.outcome import FailureClass
from shunter.runtime.process import die_with_parent, fork_into_cgroup

_STEPS = ("joining its cgroup", "changing to its folder", "starting its command")


class LaunchError(Exception):
    """The member did not start. *code* is what a shell would have said (126, 127), for people."""

    def __init__(self, message: str, failure: FailureClass = FailureClass.LAUNCH_FAILED, code: int = 126) -> None:
        super().__init__(message)
        self.failure = failure
        self.code = code


def spawn(start: Start, cgroup: int | None) -> int:
    """Start the member and return its pid once its command runs. Raises LaunchError, saying why, if it does not."""
    out, err = _open_output(start)
    try:
        pid, said = _fork(start, cgroup, out, err)
        if said:
            os.waitpid(pid, 0)
            step, number = said.decode().split()
            error = _explain(start, int(step), int(number))
            with contextlib.suppress(OSError):  # a full disk: the reason is still in the job's record
                os.write(out, f"shunter: {error}\n".encode())
            raise error
        return pid
    finally:
        for descriptor in {out, err}:
            os.close(descriptor)


def _fork(start: Start, cgroup: int | None, out: int, err: int) -> tuple[int, bytes]:
    """Return the child's pid and what it said before its command replaced it: nothing, unless it failed."""
    keeper = os.getpid()
    try:
        read, write = os.pipe2(os.O_CLOEXEC)
        with os.fdopen(read, "rb") as pipe:
            try:
                pid, inside = _fork_there(cgroup)
                if pid == 0:
                    _child(start, None if inside else cgroup, out, err, write, keeper)
            finally:
                os.close(write)
            return pid, pipe.read()
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


def _child(start: Start, cgroup: int | None, out: int, err: int, pipe: int, keeper: int) -> None:
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
        nothing = os.open(os.devnull, os.O_RDONLY)
        for source, target in ((nothing, 0), (out, 1), (err, 2)):
            os.dup2(source, target)
        step = 1
        os.chdir(start.cwd)
        step = 2
        os.execvpe(start.argv[0], start.argv, start.env)
    except OSError as error:
        os.write(pipe, f"{step} {error.errno}".encode())
    except Exception:
        # What Python itself refuses: a zero byte, `=` in a variable's name, no command at all.
        os.write(pipe, f"{step} {errno.EINVAL}".encode())
    finally:
        os._exit(127)


def _explain(start: Start, step: int, number: int) -> LaunchError:
    command = start.argv[0] if start.argv else ""
    if step == 2 and number == errno.ENOENT:
        return LaunchError(f"command not found: {command}", code=127)
    what = f"{_STEPS[step]} {('', start.cwd, command)[step]}".rstrip()
    return LaunchError(f"{what} failed: {os.strerror(number)}")
