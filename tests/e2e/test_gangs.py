"""Jobs on several nodes: they start whole or not at all, and end as one."""

from __future__ import annotations

import pytest

from shunter.domain.outcome import FailureClass
from shunter.domain.reason import NotEnoughFree
from shunter.errors import RequestTooLarge
from tests.e2e.yard import Yard, eventually

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(90)]

WHO = 'echo "$SHUNTER_NODE $RANK $NODE_RANK $PET_NODE_RANK $WORLD_SIZE $NNODES" >"$FILES/member.$SHUNTER_NODE_RANK"'


def env(yard: Yard) -> dict[str, str]:
    return {"FILES": str(yard.files), "GO": str(yard.files / "go")}


def test_both_members_run_each_with_its_rank_and_one_master(yard: Yard) -> None:
    job = yard.submit(
        WHO + '; echo "$MASTER_ADDR $MASTER_PORT $SHUNTER_NODES" >>"$FILES/masters"', gpus=2, nodes=2, env=env(yard)
    )
    (view,) = yard.ended(job)
    assert view.state == "succeeded"
    nodes = {yard.lines(f"member.{rank}")[0].split()[0] for rank in (0, 1)}
    assert nodes == {"n1", "n2"}
    for rank in (0, 1):
        assert yard.lines(f"member.{rank}")[0].split()[1:] == [str(rank)] * 3 + ["2", "2"]
    assert len(set(yard.lines("masters"))) == 1
    audit = yard.replayed()
    assert audit.shape(job) == (1, 1)
    assert [audit.count(job, kind) for kind in ("member_claimed", "started", "member_exited", "exited")] == [1, 1, 1, 1]


def test_every_member_has_a_log_of_its_own(yard: Yard) -> None:
    job = yard.submit('echo "I am $SHUNTER_NODE_RANK"', gpus=2, nodes=2)
    yard.ended(job)
    assert "".join(yard.client.logs(job)) == "I am 0\n"
    folder = yard.folder(job) / "attempt-1"
    assert (folder / "output.1.log").read_text() == "I am 1\n"


def test_a_gang_waits_until_all_of_it_fits_and_no_member_runs_before(yard: Yard) -> None:
    blocker = yard.held("blocker", gpus=4)
    yard.wait_for_lines("blocker")
    gang = yard.submit(WHO, gpus=8, nodes=2, env=env(yard))
    single = yard.submit(["true"], gpus=4, time="1m")  # ends before the gang could start at the earliest
    assert yard.ended(single)[0].state == "succeeded"  # a pass after the gang's was made, and went by it
    assert yard.client.job(gang).state == "queued"
    assert yard.waiting_for(gang, NotEnoughFree).nodes_wanted == 2
    assert not (yard.files / "member.0").exists()
    assert not (yard.files / "member.1").exists()
    yard.let_go("blocker")
    views = yard.ended(blocker, gang)
    assert [view.state for view in views] == ["succeeded"] * 2
    assert yard.replayed().shape(gang) == (4, 4)
    assert yard.audit.count(gang, "placed") == 1


def test_a_member_that_fails_stops_the_others_and_is_named(yard: Yard) -> None:
    job = yard.submit(
        f"{WHO}; if [ $SHUNTER_NODE_RANK = 1 ]; then exit 7; fi; trap 'echo stopped >\"$FILES/stopped\"; exit 0' TERM; "
        "while :; do sleep 0.05; done",
        gpus=2, nodes=2, env=env(yard), grace="5s",
    )  # fmt: skip
    (view,) = yard.ended(job)
    node = yard.lines("member.1")[0].split()[0]
    assert (view.state, view.exit_status) == ("failed", 7)
    assert view.outcome is not None
    assert view.outcome.failure is FailureClass.USER_ERROR
    assert view.outcome.message == f"member 1 on {node}: exit code 7"
    assert yard.replayed().count(job, "member_failed") == 1


def test_a_member_that_was_stopped_for_another_is_not_blamed(yard: Yard) -> None:
    job = yard.submit(
        "if [ $SHUNTER_NODE_RANK = 0 ]; then exit 5; fi; while :; do sleep 0.05; done", gpus=2, nodes=2, grace="5s"
    )
    (view,) = yard.ended(job)
    assert view.outcome is not None
    assert (view.outcome.code, view.outcome.signal) == (5, None)
    assert view.outcome.message.startswith("member 0 on n")


def test_members_may_end_one_after_the_other(yard: Yard) -> None:
    job = yard.submit('until [ -e "$GO.$SHUNTER_NODE_RANK" ]; do sleep 0.05; done', gpus=2, nodes=2, env=env(yard))
    yard.in_state(job, "running")
    (yard.files / "go.1").touch()
    eventually(lambda: yard.replayed().count(job, "member_exited") == 1, "member 1 ended")
    assert yard.client.job(job).state == "running"
    assert len(yard.audit.holding()) == 2  # the gang keeps its GPUs until it is over
    (yard.files / "go.0").touch()
    assert yard.ended(job)[0].state == "succeeded"


def test_a_gang_that_is_cancelled_ends_everywhere(yard: Yard) -> None:
    job = yard.submit(f"{WHO}; while :; do sleep 0.05; done", gpus=8, nodes=2, env=env(yard), grace="5s")
    yard.wait_for_lines("member.0")
    yard.wait_for_lines("member.1")
    assert yard.client.cancel(job).cancelled == [job]
    (view,) = yard.ended(job)
    assert view.state == "cancelled"
    assert yard.processes(job) == []


def test_a_gang_that_no_set_of_nodes_could_hold_is_refused(yard: Yard) -> None:
    with pytest.raises(RequestTooLarge, match=r"nodes: expected at most 2 with 1 GPUs each, got 3") as refused:
        yard.submit(["true"], gpus=3, nodes=3)
    assert refused.value.fix == "ask for at most 2 nodes, or fewer GPUs per node"
