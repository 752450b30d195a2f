"""What a member finds in its environment, and where its files are."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shunter.agent.environment import build_start, marker, member_env
from shunter.domain.ids import AllocationId, Incarnation, JobId, NodeName
from shunter.domain.job import Job, Launch, Request
from shunter.domain.phase import Allocation, NodeShare
from shunter.runtime.folders import jobs_folder, output_file
from tests.strategies import BRIEF

JOBS: Final = jobs_folder(PurePosixPath("/mnt/shunter"), "main", "0123abcd89efabcd")
ADDRESSES: Final = {"n1": "10.0.0.1", "n2": "10.0.0.2"}


def job(*, job_id: int = 12, time_limit_s: int | None = None) -> Job:
    return Job(JobId(job_id), "train", "ada", Request(1), 1.0, time_limit_s=time_limit_s, grace_s=9, max_retries=4)


def allocation(*gpus: tuple[int, ...]) -> Allocation:
    shares = (NodeShare(NodeName(f"n{number}"), Incarnation("1"), held) for number, held in enumerate(gpus, 1))
    return Allocation(AllocationId("3.4"), tuple(shares))


def env(*gpus: tuple[int, ...], rank: int = 0, the_job: Job | None = None) -> dict[str, str]:
    return member_env(the_job or job(), allocation(*gpus), 2, rank, cluster="main", retries=1, addresses=ADDRESSES)


def test_a_member_is_told_who_it_is() -> None:
    found = env((0, 3))
    assert {name: value for name, value in found.items() if name.startswith("SHUNTER_")} == {
        "SHUNTER_ATTEMPT": "2",
        "SHUNTER_CLUSTER": "main",
        "SHUNTER_FIRST_RANK": "0",
        "SHUNTER_GPUS": "0,3",
        "SHUNTER_GPU_COUNT": "2",
        "SHUNTER_JOB_ID": "12",
        "SHUNTER_JOB_NAME": "train",
        "SHUNTER_MAX_RETRIES": "4",
        "SHUNTER_MEMBER": "main:3.4:0",
        "SHUNTER_NODE": "n1",
        "SHUNTER_NODES": "n1",
        "SHUNTER_NODE_RANK": "0",
        "SHUNTER_RESTART_COUNT": "1",
        "SHUNTER_RETRIES": "1",
        "SHUNTER_USER": "ada",
        "SHUNTER_WORLD_SIZE": "2",
    }


def test_the_members_of_a_gang_agree_on_their_master_and_differ_in_rank() -> None:
    first, second = env((0,), (1,)), env((0,), (1,), rank=1)
    assert first["MASTER_ADDR"] == second["MASTER_ADDR"] == "10.0.0.1"
    assert first["MASTER_PORT"] == second["MASTER_PORT"] == first["PET_MASTER_PORT"]
    assert [one["RANK"] for one in (first, second)] == ["0", "1"]
    assert [one["PET_NODE_RANK"] for one in (first, second)] == ["0", "1"]
    assert {one["WORLD_SIZE"] for one in (first, second)} == {"2"}
    assert {one["PET_NNODES"] for one in (first, second)} == {"2"}
    assert [one["SHUNTER_NODE"] for one in (first, second)] == ["n1", "n2"]
    assert first["SHUNTER_MEMBER"] != second["SHUNTER_MEMBER"]


def test_alone_a_member_is_its_own_master_wherever_it_is_reached() -> None:
    assert env((0,))["MASTER_ADDR"] == "127.0.0.1"


def test_a_master_whose_address_is_not_known_is_looked_for_here() -> None:
    found = member_env(job(), allocation((0,), (0,)), 1, 1, cluster="main", retries=0, addresses={})
    assert found["MASTER_ADDR"] == "127.0.0.1"


@pytest.mark.parametrize(
    ("gpus", "ranks", "per_node"),
    [((), True, "1"), ((5,), True, "1"), ((0, 1), False, "2"), ((0, 1, 2, 3), False, "4")],
)
def test_ranks_are_set_only_where_one_process_is_started_per_gpu(
    gpus: tuple[int, ...], ranks: bool, per_node: str
) -> None:
    found = env(gpus)
    assert found["NPROC_PER_NODE"] == found["PET_NPROC_PER_NODE"] == per_node
    assert {"RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE"}.isdisjoint(found) != ranks


def test_members_with_fewer_gpus_are_told_their_own_number_the_sum_and_their_first_rank() -> None:
    members = [env((0, 1, 2, 3), (4, 5, 6, 7), (0, 1), rank=rank) for rank in range(3)]
    assert [one["PET_NPROC_PER_NODE"] for one in members] == ["4", "4", "2"]
    assert [one["NPROC_PER_NODE"] for one in members] == ["4", "4", "2"]
    assert [one["SHUNTER_FIRST_RANK"] for one in members] == ["0", "4", "8"]
    assert {one["SHUNTER_WORLD_SIZE"] for one in members} == {"10"}


def test_a_last_member_with_one_gpu_beside_wider_ones_is_given_no_rank() -> None:
    """Its process would be rank 1 of 2 in a group that has three."""
    last = env((0, 1), (0,), rank=1)
    assert {"RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE"}.isdisjoint(last)
    assert (last["PET_NPROC_PER_NODE"], last["SHUNTER_FIRST_RANK"], last["SHUNTER_WORLD_SIZE"]) == ("1", "2", "3")


@pytest.mark.parametrize(
    ("milli", "percent"), [(250, "25"), (1, "1"), (5, "1"), (15, "1"), (333, "33"), (999, "99"), (1_000, None)]
)
def test_a_share_is_told_and_is_a_limit_for_mps(milli: int, percent: str | None) -> None:
    share = NodeShare(NodeName("n1"), Incarnation("1"), (3,), gpu_milli=milli)
    held = Allocation(AllocationId("3.4"), (share,))
    found = member_env(job(), held, 1, 0, cluster="main", retries=0, addresses={})
    assert found.get("CUDA_MPS_ACTIVE_THREAD_PERCENTAGE") == percent
    assert found.get("SHUNTER_GPU_MILLI") == (str(milli) if percent else None)
    assert (found["SHUNTER_GPUS"], found["SHUNTER_GPU_COUNT"], found["RANK"]) == ("3", "1", "0")


def test_a_time_limit_is_told_only_where_there_is_one() -> None:
    assert "SHUNTER_TIME_LIMIT_S" not in env((0,))
    assert env((0,), the_job=job(time_limit_s=60))["SHUNTER_TIME_LIMIT_S"] == "60"


@BRIEF
@given(st.integers(1, 10**12))
def test_the_master_port_is_below_those_that_linux_gives_away(job_id: int) -> None:
    assert 20_000 <= int(env((0,), the_job=job(job_id=job_id))["MASTER_PORT"]) < 32_000


def test_neighbouring_jobs_have_different_master_ports() -> None:
    ports = {env((0,), the_job=job(job_id=number))["MASTER_PORT"] for number in range(1, 1_001)}
    assert len(ports) == 1_000


def test_every_member_that_ever_runs_has_a_marker_of_its_own() -> None:
    assert len({marker(c, a, r) for c in ("a", "b") for a in ("1.1", "1.11", "11.1") for r in (0, 1, 11)}) == 18


# the request to the keeper


def test_the_request_names_the_members_files() -> None:
    launch = Launch(["python", "train.py"], "/home/ada", split_stderr=True)
    start = build_start(
        job(time_limit_s=60), launch, allocation((0,), (2, 3)), 2, 1, env=env((0,), (2, 3), rank=1), jobs=JOBS
    )
    folder = "/mnt/shunter/jobs/main-0123abcd/12/attempt-2"
    assert (start.folder, start.cwd) == (folder, "/home/ada")
    assert (start.stdout, start.stderr) == (f"{folder}/output.1.log", f"{folder}/stderr.1.log")
    assert start.stop_file == start.env["SHUNTER_STOP_FILE"] == f"{folder}/stop.1"
    assert start.env["SHUNTER_JOB_DIR"] == folder
    assert start.env["SHUNTER_CHECKPOINT_DIR"] == "/mnt/shunter/jobs/main-0123abcd/12/checkpoint"
    assert (start.allocation, start.job_id, start.attempt, start.rank) == ("3.4", 12, 2, 1)
    assert (start.argv, start.gpus, start.time_limit_s, start.grace_s) == (["python", "train.py"], (2, 3), 60, 9)
    assert start.marker == start.env["SHUNTER_MEMBER"] == "main:3.4:1"


def test_the_request_carries_the_share() -> None:
    share = NodeShare(NodeName("n1"), Incarnation("1"), (3,), gpu_milli=250)
    held = Allocation(AllocationId("3.4"), (share,))
    start = build_start(job(), Launch(["ls"], ""), held, 1, 0, env=env((3,)), jobs=JOBS)
    assert (start.gpus, start.gpu_milli) == ((3,), 250)


def test_one_log_takes_both_streams_and_a_job_without_a_folder_runs_in_its_own() -> None:
    start = build_start(job(), Launch(["ls"], ""), allocation((0,)), 1, 0, env=env((0,)), jobs=JOBS)
    assert start.stdout == start.stderr == "/mnt/shunter/jobs/main-0123abcd/12/attempt-1/output.log"
    assert start.cwd == "/mnt/shunter/jobs/main-0123abcd/12/attempt-1"


def test_two_data_sets_and_two_clusters_on_one_storage_have_no_folder_in_common() -> None:
    sets = [("main", "0123abcd00000000"), ("main", "1123abcd00000000"), ("eu", "0123abcd00000000")]
    assert len({jobs_folder(PurePosixPath("/mnt/shunter"), *one) for one in sets}) == 3


def test_the_checkpoint_folder_is_the_same_in_every_attempt_and_the_log_is_not() -> None:
    first, second = (
        build_start(job(), Launch(["ls"], ""), allocation((0,)), number, 0, env=env((0,)), jobs=JOBS)
        for number in (1, 2)
    )
    assert first.env["SHUNTER_CHECKPOINT_DIR"] == second.env["SHUNTER_CHECKPOINT_DIR"]
    assert first.stdout != second.stdout


@pytest.mark.parametrize(
    ("rank", "stderr", "name"),
    [(0, False, "output.log"), (1, False, "output.1.log"), (0, True, "stderr.log"), (12, True, "stderr.12.log")],
)
def test_each_member_and_stream_has_a_file(rank: int, stderr: bool, name: str) -> None:
    assert output_file(PurePosixPath("/f"), rank, "stderr" if stderr else "output") == PurePosixPath("/f") / name
