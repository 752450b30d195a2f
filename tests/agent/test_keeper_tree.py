"""A member is over when no process of it is left, however its processes hide; and only its own are ended."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import psutil
import pytest

from shunter.agent.keeper.protocol import Ended
from tests.agent.conftest import BOTH
from tests.agent.rig import Rig, eventually, gone
from tests.agent.stamps import HEADLESS, Stamps, assert_still

pytestmark = BOTH

DAEMON = "(setsid bash -c 'echo $$ > $SIGNS/child; exec sleep 600' $0 &) ; read -r < $SIGNS/go; exit 5"
"""Double-forks a child into a session of its own, says its pid, and ends when it is told to."""


def wait_for_child(rig: Rig, script: str) -> tuple[str, int]:
    """Start *script*; return its allocation and the pid that it gives in the sign `child`."""
    child = rig.sign("child")
    rig.sign("go")
    return rig.send(script), int(child.word())


def go(rig: Rig) -> None:
    (rig.jobs / "go").write_text("\n")


def test_a_double_forked_child_in_its_own_session_is_ended_before_the_end_is_told(rig: Rig) -> None:
    allocation, child = wait_for_child(rig, DAEMON)
    assert not gone(child)
    go(rig)
    ended = rig.ended(allocation)
    assert gone(child)
    assert (ended.exit.code, ended.exit.signal, ended.exit.failure) == (5, None, None)


def test_a_tree_cut_loose_is_ended_down_to_its_last_branch_before_the_end_is_told(rig: Rig) -> None:
    """Three sessions below one another, each hidden behind the one above until that has ended."""
    other = rig.start("sleep 600")
    last = "setsid bash -c 'echo $$ > $SIGNS/child; exec sleep 600' $0"
    (rig.jobs / "last").write_text(f"{last} & wait\n")
    (rig.jobs / "middle").write_text("setsid bash $SIGNS/last & wait\n")
    allocation, child = wait_for_child(rig, "(setsid bash $SIGNS/middle &); read -r < $SIGNS/go; exit 5")
    go(rig)
    assert rig.ended(allocation).exit.code == 5
    assert gone(child)
    assert not gone(other.pid)


def test_a_child_in_the_background_is_ended_before_the_end_is_told(rig: Rig) -> None:
    allocation, child = wait_for_child(rig, "sleep 600 & echo $! > $SIGNS/child; exit 5")
    assert rig.ended(allocation).exit.code == 5
    assert gone(child)


def test_a_child_that_cleared_its_environment_is_known_by_its_session(rig: Rig) -> None:
    other = rig.start("sleep 600")
    script = "env -i bash -c 'echo $$ > '$SIGNS'/child; exec sleep 600' $0 & read -r < $SIGNS/go; exit 5"
    allocation, child = wait_for_child(rig, script)
    go(rig)
    assert rig.ended(allocation).exit.code == 5
    assert gone(child)
    assert not gone(other.pid)


HIDDEN = "(setsid env -i bash -c 'echo $$ > '$SIGNS'/child; exec sleep 600' $0 &); read -r < $SIGNS/go; exit 5"
"""As DAEMON, and the child has nothing of the job's environment."""


def test_a_child_that_hides_by_session_and_environment_is_ended_when_it_can_be_no_other_jobs(rig: Rig) -> None:
    allocation, child = wait_for_child(rig, HIDDEN)
    go(rig)
    assert rig.ended(allocation).exit.code == 5
    assert gone(child)


def test_a_child_that_hides_next_to_another_job_is_known_by_its_cgroup(rig: Rig, containment: str) -> None:
    if containment != "cgroup":
        pytest.skip("without cgroups nobody can say whose such a child is: docs/limits.md says so")
    other = rig.start("sleep 600")
    allocation, child = wait_for_child(rig, HIDDEN)
    go(rig)
    assert rig.ended(allocation).exit.code == 5
    assert gone(child)
    assert not gone(other.pid)


def test_a_hidden_child_that_may_be_another_jobs_does_not_hold_up_the_end_for_ever(rig: Rig) -> None:
    allocation, child = wait_for_child(rig, HIDDEN)
    assert rig.run("exit 4").exit.code == 4
    assert not gone(child)
    go(rig)
    rig.ended(allocation)
    assert gone(child)


def test_a_stop_now_ends_a_tree_with_all_its_hidden_branches(rig: Rig) -> None:
    allocation, child = wait_for_child(rig, DAEMON)
    live = rig.live(allocation)
    rig.stop(live, now=True)
    assert rig.ended(live).exit.signal == signal.SIGKILL
    assert gone(child)


def test_children_that_ignore_sigterm_are_ended_with_a_job_that_obeys_it(rig: Rig) -> None:
    script = "trap '' TERM; sleep 600 & trap - TERM; echo $! > $SIGNS/child; wait"
    allocation, child = wait_for_child(rig, script)
    live = rig.live(allocation)
    rig.stop(live)
    assert rig.ended(live).exit.signal == signal.SIGTERM
    assert gone(child)


GROWING = """
grow() {{
    echo >> $SIGNS/generations
    if [ $1 -gt 0 ]; then sleep 0.001; grow $(($1 - 1)) & fi
}}
for branch in 1 2 3; do grow 400 & done
echo $$ > $SIGNS/child
{then}
"""
"""Three branches, in each of which a process starts its successor and ends, for some seconds if nobody is quicker."""


@pytest.mark.parametrize("then", ["read -r < $SIGNS/go", "exit 5"])
def test_a_tree_that_grows_while_it_is_killed_is_ended(rig: Rig, then: str) -> None:
    """Also next to a job that lives on: then the keeper cannot tell by having no child left."""
    other = rig.start("sleep 600")
    generations = rig.jobs / "generations"
    generations.touch()
    allocation, _ = wait_for_child(rig, GROWING.format(then=then))
    if then != "exit 5":
        eventually(lambda: len(generations.read_text()) > 30, "the tree has grown")
        rig.stop(rig.live(allocation), now=True)
    ended = rig.ended(allocation)
    last = generations.read_text()
    assert ended.exit.code == (5 if then == "exit 5" else None)
    rig.run("sleep 0.05; true")
    assert generations.read_text() == last
    assert not gone(other.pid)


def test_a_child_whose_main_thread_has_ended_looks_like_a_zombie_and_is_ended(rig: Rig, containment: str) -> None:
    stamps = Stamps(rig.jobs / "stamps")
    if containment == "cgroup":  # without one, nobody could say whose it is
        rig.start("sleep 600")
    rig.sign("go")
    script = '(setsid "$0" -SEc "$HEADLESS" $SIGNS/stamps &); read -r < $SIGNS/go; exit 5'
    live = rig.start("bash", "-c", script, sys.executable, env={"HEADLESS": HEADLESS})
    stamps.wait()
    go(rig)
    assert rig.ended(live).exit.code == 5
    assert_still(stamps)


def test_a_frozen_child_is_ended(rig: Rig) -> None:
    allocation, child = wait_for_child(rig, DAEMON)
    psutil.Process(child).suspend()
    go(rig)
    assert rig.ended(allocation).exit.code == 5
    assert gone(child)


def test_the_end_of_one_job_leaves_the_others_alone(rig: Rig) -> None:
    one, its_child = wait_for_child(rig, DAEMON)
    others = [rig.start("sleep 600 & wait") for _ in range(2)]
    children = eventually(
        lambda: [child for live in others for child in psutil.Process(live.pid).children()] or None,
        "the others have children",
    )
    go(rig)
    rig.ended(one)
    assert gone(its_child)
    assert not any(gone(pid) for pid in [*(live.pid for live in others), *(child.pid for child in children)])


def test_orphans_that_end_by_themselves_are_reaped(rig: Rig) -> None:
    before = len(rig.keeper.children())  # its guardian, where there are cgroups
    live = rig.start("for n in 1 2 3; do (sleep 0 &); done; exec sleep 600")
    eventually(lambda: len(rig.keeper.children()) == before + 1, "the keeper has one more child, the job")
    rig.stop(live, now=True)
    assert isinstance(rig.ended(live), Ended)


def test_the_cgroup_of_a_job_is_there_while_it_runs_and_gone_with_it(rig: Rig, containment: str) -> None:
    if containment != "cgroup":
        pytest.skip("about cgroups")
    base = Path(rig.ready.cgroup)
    live = rig.start("sleep 600")
    assert str(live.pid) in (base / live.allocation / "cgroup.procs").read_text().split()
    rig.stop(live, now=True)
    rig.ended(live)
    assert [path.name for path in base.iterdir() if path.is_dir()] == []


def test_a_job_whose_cgroup_cannot_be_made_is_held_together_as_without_cgroups(rig: Rig, containment: str) -> None:
    """And the keeper's guardian, an orphan of unknown origin by its looks, is let alone."""
    if containment != "cgroup":
        pytest.skip("about cgroups")
    (Path(rig.ready.cgroup) / "cgroup.max.descendants").write_text("0")
    guardians = rig.keeper.children()
    for script in (DAEMON, HIDDEN):
        allocation, child = wait_for_child(rig, script)
        assert not (Path(rig.ready.cgroup) / allocation).exists()
        go(rig)
        assert rig.ended(allocation).exit.code == 5
        assert gone(child)
    assert not any(gone(guardian.pid) for guardian in guardians)
