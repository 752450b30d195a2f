"""How a job ended is what waitpid said; what could not start says why. Seen through the worker's client."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from shunter.agent.keeper.protocol import Ended
from shunter.agent.keeper.spawn import LaunchError, spawn
from shunter.agent.keeper.term import Term
from shunter.domain.outcome import FailureClass
from tests.agent.conftest import fill
from tests.agent.rig import Rig, eventually, gone


def verdict(ended: Ended) -> tuple[int | None, int | None, FailureClass | None]:
    return ended.exit.code, ended.exit.signal, ended.exit.failure


# true exit statuses


@pytest.mark.parametrize("code", [0, 1, 3, 127, 255])
def test_the_exit_code_is_the_jobs_own(rig: Rig, code: int) -> None:
    assert verdict(rig.run(f"exit {code}")) == (code, None, None)


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGTERM, signal.SIGHUP, 40])
def test_a_job_killed_by_a_signal_is_reported_with_that_signal(rig: Rig, number: int) -> None:
    assert verdict(rig.run(f"kill -{int(number)} $$")) == (None, int(number), None)


def test_a_job_whose_whole_group_is_killed_from_outside_is_reported_with_sigkill(rig: Rig) -> None:
    started = rig.sign("started")
    live = rig.start("sleep 600 & echo $! > $SIGNS/started; wait; true")
    child = int(started.word())
    os.killpg(live.pid, signal.SIGKILL)
    assert verdict(rig.ended(live)) == (None, signal.SIGKILL, None)
    assert gone(child)


def test_the_end_names_the_attempt_that_ended(rig: Rig) -> None:
    ended = rig.run("true; true", job_id=77, attempt=5, rank=2)
    assert (ended.job_id, ended.attempt, ended.rank, ended.exit.ended_s > 1e9) == (77, 5, 2, True)


# what could not start


def refusal(ended: Ended) -> tuple[FailureClass | None, int | None, str]:
    return ended.exit.failure, ended.exit.code, ended.exit.message


def test_a_command_that_is_not_found_is_a_failed_launch_with_127(rig: Rig) -> None:
    ended = rig.run("no-such-command")
    assert refusal(ended) == (FailureClass.LAUNCH_FAILED, 127, "command not found: no-such-command")
    assert rig.output(ended) == "shunter: command not found: no-such-command\n"


def test_a_command_is_looked_for_in_the_jobs_own_path(rig: Rig, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("#!/bin/sh\nexit 9\n")
    (tmp_path / "mine").chmod(0o755)
    assert rig.run("mine", env={"PATH": str(tmp_path)}).exit.code == 9
    assert rig.run("bash", env={"PATH": str(tmp_path)}).exit.code == 127


def test_a_file_that_is_not_executable_is_a_failed_launch_with_126(rig: Rig, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("hello")
    message = f"starting its command {tmp_path}/text failed: Permission denied"
    assert refusal(rig.run(str(tmp_path / "text"))) == (FailureClass.LAUNCH_FAILED, 126, message)


def test_a_folder_that_is_missing_is_a_failed_launch(rig: Rig) -> None:
    message = "changing to its folder /no/such/folder failed: No such file or directory"
    assert refusal(rig.run("true", cwd="/no/such/folder")) == (FailureClass.LAUNCH_FAILED, 126, message)


@pytest.mark.parametrize("which", ["folder", "stdout", "stderr"])
def test_an_output_folder_that_cannot_be_made_is_a_failed_launch(rig: Rig, tmp_path: Path, which: str) -> None:
    (tmp_path / "file").write_text("")
    ended = rig.run("true", **{which: str(tmp_path / "file" / "below")})
    failure, code, message = refusal(ended)
    assert (failure, code) == (FailureClass.LAUNCH_FAILED, 126)
    assert message.startswith(f"cannot write its output to {tmp_path}/file")
    assert message.endswith(("Not a directory", "File exists"))


def test_an_output_folder_that_is_read_only_is_a_failed_launch(rig: Rig, small_disk: Callable[..., Path]) -> None:
    disk = small_disk()
    os.system(f"mount -o remount,ro {disk}")
    ended = rig.run("true", folder=f"{disk}/job")
    message = f"cannot write its output to {disk}/job: Read-only file system"
    assert refusal(ended) == (FailureClass.LAUNCH_FAILED, 126, message)


def test_a_disk_without_room_for_the_output_file_is_disk_full(rig: Rig, small_disk: Callable[..., Path]) -> None:
    disk = small_disk(inodes=1)
    ended = rig.run("true", folder=f"{disk}/job", stdout=f"{disk}/job/output.log", stderr=f"{disk}/job/output.log")
    message = f"cannot write its output to {disk}/job: No space left on device"
    assert refusal(ended) == (FailureClass.DISK_FULL, None, message)


def test_a_disk_without_room_for_the_reason_does_not_take_the_keeper_down(
    rig: Rig, small_disk: Callable[..., Path]
) -> None:
    """The output file can still be made, but not one byte written to it."""
    disk = small_disk()
    fill(disk)
    other = rig.start("sleep 600")
    ended = rig.run("no-such-command", stdout=f"{disk}/output.log", stderr=f"{disk}/output.log")
    assert refusal(ended) == (FailureClass.LAUNCH_FAILED, 127, "command not found: no-such-command")
    assert not gone(other.pid)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"argv": []}, "starting its command failed"),
        ({"argv": [""]}, "starting its command failed"),
        ({"argv": ["true", "a\0b"]}, "starting its command true failed"),
        ({"cwd": "/a\0b"}, "changing to its folder /a\0b failed"),
        ({"env": {"A=B": "x"}}, "starting its command true failed"),
    ],
    ids=["no command", "empty command", "zero in an argument", "zero in the folder", "= in a name"],
)
def test_what_the_kernel_cannot_be_asked_is_a_failed_launch(rig: Rig, changes: dict[str, Any], says: str) -> None:
    failure, code, message = refusal(rig.run("true", **changes))
    assert (failure, code) == (FailureClass.LAUNCH_FAILED, 126)
    assert message.startswith(says)


@pytest.mark.parametrize("step", ["fork", "pipe2"])
def test_a_node_that_can_start_no_process_now_is_not_the_jobs_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """A job that uses up the process ids must not take the keeper, and with it every other job, down."""

    def fail(*_: object) -> int:
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    rig = Rig(tmp_path)
    before = open_files(os.getpid())
    with monkeypatch.context() as patch:
        patch.setattr(f"os.{step}", fail)
        with pytest.raises(LaunchError, match="starting a process failed: Resource temporarily unavailable") as raised:
            spawn(rig.request("true"), None, Term(), 0)
    assert raised.value.failure is FailureClass.NOT_STARTED
    assert open_files(os.getpid()) == before


def open_files(pid: int) -> dict[str, str]:
    found = {}
    for one in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found[one.name] = str(one.readlink())
    return found


def test_launches_that_fail_leave_no_open_file_behind(rig: Rig, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    ways: list[dict[str, Any]] = [
        {"cwd": "/no/such"},
        {"stderr": f"{tmp_path}/file/below"},
        {"folder": f"{tmp_path}/file/x"},
    ]
    before = rig.keeper.num_fds()
    for way in ways:
        rig.run("true", **way)
    eventually(lambda: rig.keeper.num_fds() == before, "all are closed")


# what a job finds


def test_stdout_and_stderr_go_to_one_file_in_order(rig: Rig) -> None:
    assert rig.output(rig.run("echo a; echo b >&2; echo c")) == "a\nb\nc\n"


def test_stdout_and_stderr_can_be_split(rig: Rig) -> None:
    stderr = str(rig.jobs / "1" / "stderr.log")
    ended = rig.run("echo a; echo b >&2; echo c", stderr=stderr)
    assert rig.output(ended) == "a\nc\n"
    assert Path(stderr).read_text() == "b\n"


def test_output_is_added_to_what_is_there(rig: Rig) -> None:
    file = str(rig.jobs / "output.log")
    for word in ("first", "second"):
        rig.run(f"echo {word}", stdout=file, stderr=file)
    assert Path(file).read_text() == "first\nsecond\n"


def test_a_job_reads_nothing_and_has_no_other_file_open(rig: Rig) -> None:
    live = rig.start("sleep", "600")
    output = f"{rig.jobs}/1/output.log"
    wanted = {"0": "/dev/null", "1": output, "2": output}
    eventually(lambda: open_files(live.pid) == wanted, "it has these three, and none more once it is loaded")


def test_a_job_leads_a_session_and_a_group_of_its_own(rig: Rig) -> None:
    live = rig.start("sleep 600")
    assert os.getsid(live.pid) == os.getpgid(live.pid) == live.pid
    rig.stop(live, now=True)
    rig.ended(live)


def test_a_job_has_exactly_the_environment_and_folder_it_was_given(rig: Rig, tmp_path: Path) -> None:
    ended = rig.run("/usr/bin/env", "-0", cwd=str(tmp_path), env={"WORD": "a b\n=c", "EMPTY": ""})
    pairs = dict(one.split("=", 1) for one in rig.output(ended).split("\0") if one)
    marker = f"{rig.mark}:{ended.job_id}"
    given = {
        "PATH": os.environ["PATH"],
        "SHUNTER_MEMBER": marker,
        "SIGNS": str(rig.jobs),
        "WORD": "a b\n=c",
        "EMPTY": "",
    }
    assert pairs == given
    assert rig.output(rig.run("pwd; true", cwd=str(tmp_path))) == f"{tmp_path}\n"


def test_a_job_starts_with_no_signal_blocked_or_ignored(rig: Rig) -> None:
    """An ignored signal is inherited across exec: a job would wonder why SIGXFSZ or SIGQUIT does nothing."""
    ended = rig.run("grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status")
    assert {int(line.split()[1], 16) for line in rig.output(ended).splitlines()} == {0}
