"""What jobs leave behind: nothing, however they hide, whatever they ignore, and when the disk is full."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from shunter.domain.outcome import FailureClass
from tests.e2e.yard import Yard, eventually, yard_of

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

DEAF = "trap '' TERM HUP INT; "
HIDDEN = """
( setsid sh -c 'trap "" TERM HUP; echo $$ >>"$FILES/tree"; while :; do sleep 0.1; done' & )
( setsid setsid perl -e 'use POSIX; exit if fork; POSIX::setsid(); exit if fork; $SIG{TERM} = "IGNORE";
  open F, ">>", "$ENV{FILES}/tree"; print F "$$\\n"; close F; sleep 1 while 1' & )
until [ "$(cat "$FILES/tree" 2>/dev/null | wc -l)" -ge 2 ]; do sleep 0.05; done
echo hidden
"""
"""Starts two processes that have left its session, one of them forked twice, both deaf; says so once they are there."""


def env(yard: Yard, name: str) -> dict[str, str]:
    folder = yard.files / name
    folder.mkdir(exist_ok=True)
    return {"FILES": str(folder)}


def tree(yard: Yard, name: str) -> list[int]:
    return [int(line) for line in (yard.files / name / "tree").read_text().split()]


def gone(pids: list[int]) -> bool:
    return not any(psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE for pid in pids)


def check_nothing_is_left(yard: Yard, name: str, job: int) -> None:
    """Once the job has ended: at once, not some time later."""
    assert gone(tree(yard, name))
    assert yard.processes(job) == []
    for view in yard.client.nodes():
        assert view.free_gpus == len(view.node.gpus)


def test_what_a_job_leaves_running_is_ended_with_it_and_its_code_is_kept(yard: Yard) -> None:
    job = yard.submit(HIDDEN + "exit 6", gpus=2, env=env(yard, "left"))
    (view,) = yard.ended(job)
    assert view.exit_status == 6
    check_nothing_is_left(yard, "left", job)


def test_a_tree_that_ignores_sigterm_and_left_its_session_is_cancelled_whole(yard: Yard) -> None:
    command = DEAF + HIDDEN + "while :; do sleep 0.1; done"
    job = yard.submit(command, gpus=4, grace="1s", env=env(yard, "deaf"))
    assert next(yard.client.logs(job, follow=True)) == "hidden\n"
    yard.client.cancel(job)
    (view,) = yard.ended(job)
    assert view.state == "cancelled"
    check_nothing_is_left(yard, "deaf", job)


def test_a_tree_that_ignores_sigterm_is_over_soon_after_its_time_limit(yard: Yard) -> None:
    command = DEAF + HIDDEN + "while :; do sleep 0.1; done"
    job = yard.submit(command, gpus=1, time="1s", grace="1s", env=env(yard, "slow"))
    (view,) = yard.ended(job)
    assert view.state == "timeout"
    check_nothing_is_left(yard, "slow", job)


def test_a_job_that_stopped_itself_is_cancelled_all_the_same(yard: Yard) -> None:
    job = yard.submit('echo $$; kill -STOP $$; echo "woke up"', grace="5s")
    pid = int(next(yard.client.logs(job, follow=True)))
    eventually(lambda: psutil.Process(pid).status() == psutil.STATUS_STOPPED, "the job stopped itself")
    yard.client.cancel(job)
    (view,) = yard.ended(job)
    assert view.outcome is not None
    assert (view.state, view.outcome.signal) == ("cancelled", 15)


def test_many_children_are_all_ended(yard: Yard) -> None:
    job = yard.submit(
        DEAF + 'for n in $(seq 40); do sleep 600 & echo $! >>"$FILES/tree"; done; echo ready; wait',
        grace="1s",
        env=env(yard, "many"),
    )
    assert next(yard.client.logs(job, follow=True)) == "ready\n"
    assert len(yard.processes(job)) == 41
    yard.client.cancel(job)
    yard.ended(job)
    check_nothing_is_left(yard, "many", job)


# a full disk


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount a file system")
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(folder)], capture_output=True, text=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_job_that_fills_the_disk_ends_with_its_own_code_and_leaves_nothing_behind(
    small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHUNTER_STORAGE", str(small_disk))
    with yard_of("n1=simulated:2") as yard:
        job = yard.submit(
            'dd if=/dev/zero of="$SHUNTER_JOB_DIR/big" bs=64k; yes >>"$SHUNTER_JOB_DIR/more";' + HIDDEN + "exit 28",
            env=env(yard, "full"),
        )
        (view,) = yard.ended(job)
        assert (view.state, view.exit_status) == ("failed", 28)
        check_nothing_is_left(yard, "full", job)

        # Folders still fit into a tmpfs that is full; a script does not.
        refused = yard.client.submit(script=f"# {'x' * 20_000}\nexit 0\n").id
        (view,) = yard.ended(refused)
        assert view.state == "failed"
        assert view.outcome is not None
        assert view.outcome.failure is FailureClass.DISK_FULL, view.outcome
        assert "No space left on device" in view.outcome.message
        assert yard.client.nodes()[0].free_gpus == 2

        (yard.folder(job, small_disk) / "attempt-1" / "big").unlink()
        again = yard.client.submit(script=f"# {'x' * 20_000}\nexit 5\n").id
        assert yard.ended(again)[0].exit_status == 5
