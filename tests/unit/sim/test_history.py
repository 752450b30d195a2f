"""Shunter's own history, replayed: from jobs as the API answers them to a workload."""

from __future__ import annotations

import gzip
from pathlib import Path

import msgspec
import pytest

from shunter.domain.ids import AllocationId, Incarnation, JobId, NodeName
from shunter.domain.job import Job, Priority, Request
from shunter.domain.node import Gpu, Node
from shunter.domain.outcome import Outcome, Result
from shunter.domain.phase import Allocation, Ended, NodeShare, PastAttempt, Phase, Queued, Running
from shunter.domain.report import JobView, view_of
from shunter.errors import InvalidInput
from shunter.sim.history import read_history
from shunter.sim.trace import read_trace

GIB = 1024
WIDE = Request(9)
ASK = Request(2, cpus=8, memory_mib=4 * GIB, pool="red")


def node(name: str, *, pool: str = "", model: str = "V100") -> Node:
    gpus = tuple(Gpu(i, model, f"{name}-{i}", 0) for i in range(8))
    return Node(NodeName(name), Incarnation(f"{name}-1"), gpus, 16, 64 * GIB, 0.0, pool=pool)


FLEET = (node("n1"), node("n2"))
POOLS = (node("n1", pool="red"), node("n2", pool="ada"))
HELD = Allocation(AllocationId("1.1"), (NodeShare(NodeName("n1"), Incarnation("n1-1"), (0, 1), 8, 4 * GIB),))
FINE = Outcome(Result.SUCCEEDED, 0)


def view(id: int, submitted_s: float, phase: Phase, request: Request = ASK) -> JobView:
    job = Job(JobId(id), f"train-{id}", "ada", request, submitted_s, Priority.HIGH, "vision", 3600, max_retries=1)
    return view_of(job, phase, cluster="c", now_s=5_000.0)


def ran(start_s: float, end_s: float, result: Result = Result.SUCCEEDED) -> Ended:
    return Ended(Outcome(result, 0), end_s, 1, start_s, HELD)


VIEWS = [
    view(3, 1_030.0, ran(1_040.0, 1_140.5, Result.FAILED), WIDE),
    view(2, 1_020.0, ran(1_040.0, 1_140.5, Result.CANCELLED)),
    view(1, 1_000.0, ran(1_010.0, 1_015.0)),
]


def printed(folder: Path, views: list[JobView], name: str = "history.json") -> Path:
    path = folder / name
    text = msgspec.json.format(msgspec.json.encode(views), indent=2)
    if ".jsonl" in name:
        text = b"\n".join(msgspec.json.encode(one) for one in views) + b"\n\n"
    path.write_bytes(gzip.compress(text) if name.endswith(".gz") else text)
    return path


@pytest.mark.parametrize("name", ["history.json", "history.jsonl", "history.json.gz", "history.jsonl.gz"])
def test_jobs_that_ran_are_replayed_from_the_first_submission_on(tmp_path: Path, name: str) -> None:
    workload = read_trace(printed(tmp_path, VIEWS, name), FLEET)
    first, second = workload.jobs
    assert (first.name, first.duration_s) == ("1", 5.0)
    assert (second.name, second.duration_s) == ("2", 100.5)
    assert second.job == Job(
        JobId(2), "train-2", "ada", Request(2), 20.0, Priority.HIGH, "vision", 3600, max_retries=1, expected_s=100.5
    )
    assert first.job.submitted_s == 0.0
    assert first.job.request is second.job.request
    (refused,) = workload.refused
    assert (refused.line, refused.name, refused.message) == (1, "3", "gpus: expected at most 8 per node, got 9")


@pytest.mark.parametrize(
    ("phase", "said"),
    [
        (Ended(Outcome(Result.CANCELLED), 40.0), "never ran: cancelled before it started"),
        (Ended(FINE, 40.0, 1, None, HELD), "never ran: succeeded before it started"),
        (Queued(0.0), "has not ended: it is queued"),
        (Running(1, HELD, 10.0), "has not ended: it is running"),
    ],
)
def test_job_that_tells_no_run_time_is_listed(tmp_path: Path, phase: Phase, said: str) -> None:
    workload = read_history(printed(tmp_path, [view(7, 900.0, phase), *VIEWS[1:]]), FLEET)
    assert [(one.line, one.name, one.message) for one in workload.refused] == [(1, "7", said)]
    assert [one.job.submitted_s for one in workload.jobs] == [0.0, 20.0]


def test_run_time_is_that_of_the_last_attempt(tmp_path: Path) -> None:
    lost = PastAttempt(1, (NodeName("n2"),), Outcome(Result.LOST), 1_500.0, 1_400.0)
    phase = Ended(FINE, 2_030.0, 2, 2_000.0, HELD, 1, (lost,))
    (only,) = read_history(printed(tmp_path, [view(1, 1_000.0, phase)]), FLEET).jobs
    assert only.duration_s == 30.0


def test_cores_and_memory_count_when_asked_to(tmp_path: Path) -> None:
    path = printed(tmp_path, VIEWS[2:])
    (only,) = read_history(path, FLEET, resources=frozenset({"cpus", "memory"})).jobs
    assert only.job.request == Request(2, cpus=8, memory_mib=4 * GIB)
    (only,) = read_history(path, FLEET, resources=frozenset({"memory"})).jobs
    assert only.job.request == Request(2, memory_mib=4 * GIB)


@pytest.mark.parametrize(("partition", "pool"), [("pool", "red"), ("user", "ada")])
def test_pool_is_that_of_the_partition(tmp_path: Path, partition: str, pool: str) -> None:
    (only,) = read_trace(printed(tmp_path, VIEWS[2:]), POOLS, partition=partition).jobs
    assert only.job.request == Request(2, pool=pool)


def test_pool_that_no_node_has_is_refused(tmp_path: Path) -> None:
    (refused,) = read_trace(printed(tmp_path, VIEWS[2:]), POOLS, partition="team").refused
    assert refused.message == "team: unknown pool, expected one of ada, red, got 'vision'"


def test_load_is_scaled(tmp_path: Path) -> None:
    jobs = read_trace(printed(tmp_path, VIEWS[1:]), FLEET, scale_load=2.0).jobs
    assert [one.job.submitted_s for one in jobs] == [0.0, 10.0]


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        (Request(8, nodes=3), "gpus: expected at most 16, got 24"),
        (Request(0, nodes=3), "nodes: expected at most 2, got 3"),
        (Request(1, labels=(("disk", "nvme"),)), "labels, avoid: no node is left"),
        (Request(1, avoid=(NodeName("n1"), NodeName("n2"))), "labels, avoid: no node is left"),
        (Request(8, nodes=2, avoid=(NodeName("n1"),)), "gpus: expected at most 8, got 16"),
        (Request(1, models=("H100",)), "gpu_model: expected one of V100, got 'H100'"),
    ],
)
def test_job_that_these_nodes_could_never_hold_is_refused(tmp_path: Path, request_: Request, said: str) -> None:
    workload = read_history(printed(tmp_path, [view(1, 0.0, ran(1.0, 2.0), request_)]), FLEET)
    assert [one.message for one in workload.refused] == [said]


def test_models_do_not_count_where_no_node_names_one(tmp_path: Path) -> None:
    path = printed(tmp_path, [view(1, 0.0, ran(1.0, 2.0), Request(1, models=("H100",)))])
    (only,) = read_history(path, (node("n1", model=""),)).jobs
    assert only.job.request == Request()


@pytest.mark.parametrize("within", ["rack", "island"])
def test_closeness_that_these_nodes_do_not_have_is_refused(tmp_path: Path, within: str) -> None:
    ask = msgspec.convert({"gpus_per_node": 8, "nodes": 2 if within == "rack" else 1, "within": within}, Request)
    split = tuple(
        msgspec.structs.replace(
            one, rack=one.name, gpus=tuple(msgspec.structs.replace(gpu, island=gpu.index // 4) for gpu in one.gpus)
        )
        for one in FLEET
    )
    path = printed(tmp_path, [view(1, 0.0, ran(1.0, 2.0), ask)])
    assert len(read_history(path, FLEET).jobs) == 1
    (refused,) = read_history(path, split).refused
    assert refused.message == f"within: no {within} holds {8 * ask.nodes} GPUs on {ask.nodes} node(s)"


def test_unknown_partition_names_those_that_work(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="--partition: expected pool, team, user, got 'group'"):
        read_trace(printed(tmp_path, VIEWS), POOLS, partition="group")


def test_job_that_is_there_twice_ends_the_run(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r":3: id: expected each id once \(it is in 1 too\), got 1"):
        read_history(printed(tmp_path, [VIEWS[2], VIEWS[1], VIEWS[2]]), FLEET)


def test_more_jobs_than_the_limit_end_the_run(tmp_path: Path) -> None:
    assert read_trace(printed(tmp_path, VIEWS), FLEET, max_rows=3).jobs
    with pytest.raises(InvalidInput, match="expected at most 2 jobs, got more; raise --max-rows"):
        read_trace(printed(tmp_path, VIEWS), FLEET, max_rows=2)


@pytest.mark.parametrize("factor", [0.0, float("nan")])
def test_factor_that_leaves_no_order_is_refused(tmp_path: Path, factor: float) -> None:
    with pytest.raises(InvalidInput, match="--scale-load"):
        read_trace(printed(tmp_path, VIEWS), FLEET, scale_load=factor)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", ": expected jobs, got none; `shunter queue --all --json` prints them"),
        ("[]", ": expected jobs, got none; `shunter queue --all --json` prints them"),
        ("[1]", ": not what `shunter ... --json` prints: Expected `object`, got `int` - at `$[0]`"),
        ("[{}]", ": not what `shunter ... --json` prints: Object missing required field `id` - at `$[0]`"),
        ('[{"x":' + "[" * 100_000, ": not what `shunter ... --json` prints: "),
        ('{"x":' + "[" * 100_000, ":1: not a job as `shunter queue --json` prints it: "),
        ('{"id": 1}', ":1: not a job as `shunter queue --json` prints it: Object missing required field `state`"),
        ("\njob_id,submit_s", ":2: not a job as `shunter queue --json` prints it: JSON is malformed"),
    ],
)
def test_file_that_is_no_history_is_refused_in_one_line(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "history.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InvalidInput) as caught:
        read_trace(path, FLEET)
    assert str(caught.value).startswith(f"{path}{said}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("seconds", ["-1", "1e13"])
def test_time_that_cannot_be_is_refused(tmp_path: Path, seconds: str) -> None:
    path = printed(tmp_path, VIEWS[2:], "history.jsonl")
    path.write_text(path.read_text("utf-8").replace('"ran_s":5.0', f'"ran_s":{seconds}'), encoding="utf-8")
    with pytest.raises(InvalidInput, match=r":1: .*Expected `float` .*`\$\.ran_s`"):
        read_history(path, FLEET)
