"""What a line of a trace becomes, what is refused, and what ends the run."""

from __future__ import annotations

import gzip
import random
from pathlib import Path

import pytest

from shunter.domain.ids import Incarnation, JobId, NodeName
from shunter.domain.job import Job, Priority, Request
from shunter.domain.node import Gpu, Node
from shunter.errors import InvalidInput
from shunter.sim.result import Refused
from shunter.sim.trace import PROGRESS_ROWS, read_trace

HEADER = "job_id,submit_s,duration_s,gpus"


def node(name: str, gpus: int = 8, *, model: str = "V100", pool: str = "", cordoned: str = "") -> Node:
    devices = tuple(Gpu(i, model, f"{name}-{i}", 0) for i in range(gpus))
    return Node(NodeName(name), Incarnation(f"{name}-1"), devices, 48, 376 * 1024, 0.0, pool=pool, cordoned=cordoned)


FLEET = (node("a1", pool="a"), node("a2", pool="a"), node("b1", 4, model="T4", pool="b"), node("c1", 0))
NARROW = (node("n1"), node("n2", 6), node("n3", 4))


def written(folder: Path, *rows: str, header: str = HEADER, name: str = "trace.csv") -> Path:
    path = folder / name
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return path


def request(folder: Path, header: str, row: str, nodes: tuple[Node, ...] = FLEET, **options: object) -> Request:
    (only,) = read_trace(written(folder, row, header=header), nodes, **options).jobs  # type: ignore[arg-type]
    return only.job.request


def refusal(folder: Path, header: str, row: str, nodes: tuple[Node, ...] = FLEET, **options: object) -> str:
    workload = read_trace(written(folder, row, header=header), nodes, **options)  # type: ignore[arg-type]
    assert not workload.jobs
    (only,) = workload.refused
    assert (only.line, only.name) == (2, row.split(",", 1)[0])
    return only.message


def test_line_becomes_a_job_with_all_that_its_columns_say(tmp_path: Path) -> None:
    header = "user,job_id,group,team,submit_s,duration_s,gpus,priority,time_limit_s,status"
    workload = read_trace(
        written(tmp_path, "ada,t1,g,red,10.5,97,8,high,3600.2,FAILED", ",t2,g,,11,0,1,,,", header=header), FLEET
    )
    first, second = workload.jobs
    assert (first.name, first.duration_s) == ("t1", 97.0)
    assert first.job == Job(JobId(1), "t1", "ada", Request(8), 10.5, Priority.HIGH, "red", 3601, expected_s=97.0)
    assert (second.name, second.duration_s) == ("t2", 0.0)
    assert second.job == Job(JobId(2), "t2", "nobody", Request(1), 11.0, team="g", expected_s=0.0)
    assert workload.source == str(tmp_path / "trace.csv")
    assert workload.refused == []


@pytest.mark.parametrize(
    ("nodes", "gpus", "expected"),
    [
        (FLEET, 0, Request(0)),
        (FLEET, 8, Request(8)),
        (FLEET, 16, Request(8, nodes=2)),
        (FLEET, 9, Request(8, nodes=2, last_gpus=1)),
        (NARROW, 14, Request(8, nodes=2, last_gpus=6)),
    ],
)
def test_job_wider_than_a_node_takes_whole_ones_and_the_rest(
    tmp_path: Path, nodes: tuple[Node, ...], gpus: int, expected: Request
) -> None:
    assert request(tmp_path, HEADER, f"t,0,1,{gpus}", nodes) == expected


def test_width_is_that_of_the_nodes_that_the_job_may_use(tmp_path: Path) -> None:
    nodes = (*FLEET, node("b2", 4, model="T4", pool="b"))
    by_pool = request(tmp_path, HEADER + ",vc", "t,0,1,8,b", nodes, partition="vc")
    assert by_pool == Request(4, nodes=2, pool="b")
    by_model = request(tmp_path, HEADER + ",gpu_model", "t,0,1,8,T4", nodes)
    assert by_model == Request(4, nodes=2, models=("T4",))


@pytest.mark.parametrize(
    ("column", "cell", "gpus", "expected"),
    [
        ("gpu_model", "V100", 1, Request(models=("V100",))),
        ("gpu_model", "V100|T4", 1, Request(models=("T4", "V100"))),
        ("gpu_model", "", 1, Request()),
        ("gpu_model", "V100", 0, Request(0)),
        ("gpu_milli", "460", 1, Request(gpu_milli=460)),
        ("gpu_milli", "1000", 2, Request(2)),
        ("gpu_milli", "", 0, Request(0)),
        ("gpus_per_node_max", "1", 2, Request(2)),
        ("pool", "b", 1, Request()),
        ("cpus", "9", 1, Request()),
        ("mem_gib", "9", 1, Request()),
    ],
)
def test_columns_narrow_the_request(tmp_path: Path, column: str, cell: str, gpus: int, expected: Request) -> None:
    assert request(tmp_path, f"{HEADER},{column}", f"t,0,1,{gpus},{cell}") == expected


def test_models_do_not_count_where_no_node_names_one(tmp_path: Path) -> None:
    assert request(tmp_path, HEADER + ",gpu_model", "t,0,1,1,V100", (node("n1", model=""),)) == Request()


def test_cores_and_memory_count_when_asked_to_and_are_divided_by_members(tmp_path: Path) -> None:
    header, row = HEADER + ",cpus,mem_gib", "t,0,1,16,31,1.001"
    assert request(tmp_path, header, row, resources=frozenset({"cpus"})) == Request(8, 2, cpus=16)
    assert request(tmp_path, header, row, resources=frozenset({"memory"})) == Request(8, 2, memory_mib=513)
    assert request(tmp_path, header, "t,0,1,8,,", resources=frozenset({"cpus", "memory"})) == Request(8)


def test_order_is_that_of_submission_and_ties_are_as_in_the_file(tmp_path: Path) -> None:
    rows = [f"{number},{random.Random(number).randrange(20)},1,1" for number in range(200)]
    jobs = read_trace(written(tmp_path, *rows), FLEET).jobs
    order = [(one.job.submitted_s, int(one.name)) for one in jobs]
    assert order == sorted(order)
    assert [one.job.id for one in jobs] == list(range(1, 201))


def test_sorted_file_keeps_its_order_and_numbers_accepted_lines_only(tmp_path: Path) -> None:
    workload = read_trace(written(tmp_path, "t1,5,1,1", "t2,5,1,99", "t3,5,1,1"), FLEET)
    assert [(one.name, one.job.id) for one in workload.jobs] == [("t1", 1), ("t3", 2)]
    assert [(one.line, one.name) for one in workload.refused] == [(3, "t2")]


def test_load_is_scaled_by_the_times_of_submission_alone(tmp_path: Path) -> None:
    (only,) = read_trace(written(tmp_path, "t,100,30,1"), FLEET, scale_load=1.25).jobs
    assert (only.job.submitted_s, only.duration_s) == (80.0, 30.0)


@pytest.mark.parametrize("factor", [0.0, -1.0, float("nan"), float("inf"), 1e-9, 1e9])
def test_factor_that_leaves_no_order_is_refused(tmp_path: Path, factor: float) -> None:
    with pytest.raises(InvalidInput, match=r"--scale-load: expected a number from 0\.000001 to 1000000, got "):
        read_trace(written(tmp_path, "t,100,30,1"), FLEET, scale_load=factor)


def test_equal_requests_users_and_teams_are_one_object(tmp_path: Path) -> None:
    header = HEADER + ",user,group,gpu_model"
    rows = [
        f"t{at},{at},1,1{'.0' * (at % 2)},some-user,some-group,{'V100|T4' if at % 2 else 'T4|V100'}" for at in range(9)
    ]
    jobs = [one.job for one in read_trace(written(tmp_path, *rows, header=header), FLEET).jobs]
    assert len({(id(job.request), id(job.user), id(job.team)) for job in jobs}) == 1


def test_progress_is_told_every_so_many_rows(tmp_path: Path) -> None:
    told: list[int] = []
    read_trace(written(tmp_path, *(f"t{n},0,1,1" for n in range(2 * PROGRESS_ROWS + 1))), FLEET, progress=told.append)
    assert told == [PROGRESS_ROWS, 2 * PROGRESS_ROWS]


def test_error_of_progress_is_not_taken_for_one_of_the_file(tmp_path: Path) -> None:
    def fail(rows: int) -> None:
        raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        read_trace(written(tmp_path, *(f"t{n},0,1,1" for n in range(PROGRESS_ROWS))), FLEET, progress=fail)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\n\n\n"])
def test_form_of_the_file_makes_no_difference(tmp_path: Path, end: str) -> None:
    text = f"\ufeff job_id , submit_s ,duration_s,gpus{end}t1,1e2, 5,2{end}".encode()
    plain, zipped = tmp_path / "t.csv", tmp_path / "t.csv.gz"
    plain.write_bytes(text)
    zipped.write_bytes(gzip.compress(text))
    jobs = read_trace(plain, FLEET).jobs
    assert jobs == read_trace(zipped, FLEET).jobs
    assert [(one.name, one.job.submitted_s, one.duration_s, one.job.request.gpus) for one in jobs] == [
        ("t1", 100, 5, 2)
    ]


REFUSED = [
    (HEADER, "t,0,1,25", "gpus: expected at most 20, got 25"),
    (HEADER, "t,0,1,24", "gpus: expected at most 20, got 24"),
    (HEADER, "t,0,1,1000000000", "gpus: expected at most 20, got 1000000000"),
    (HEADER + ",gpu_model", "t,0,1,17,V100", "gpus: expected at most 16 with V100, got 17"),
    (HEADER + ",gpu_model", "t,0,1,1,H100", "gpu_model: expected one of T4, V100, got 'H100'"),
    (HEADER + ",gpu_milli", "t,0,1,2,500", "gpu_milli: expected 1000 with gpus = 2 (a share is of one GPU), got 500"),
    (HEADER + ",gpu_milli", "t,0,1,0,500", "gpu_milli: expected 1000 with gpus = 0 (a share is of one GPU), got 500"),
]


@pytest.mark.parametrize(("header", "row", "said"), REFUSED)
def test_job_that_no_state_could_hold_is_refused(tmp_path: Path, header: str, row: str, said: str) -> None:
    assert refusal(tmp_path, header, row) == said


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("t,0,1,17,a,", "gpus: expected at most 16 in pool a, got 17"),
        ("t,0,1,5,b,", "gpus: expected at most 4 in pool b, got 5"),
        ("t,0,1,1,b,V100", "gpu_model: expected one of T4 in pool b, got 'V100'"),
        ("t,0,1,1,x,", "vc: unknown pool, expected one of a, b, got 'x'"),
        ("t,0,1,1,,", "vc: unknown pool, expected one of a, b, got ''"),
    ],
)
def test_job_is_measured_against_its_pool(tmp_path: Path, row: str, said: str) -> None:
    assert refusal(tmp_path, HEADER + ",vc,gpu_model", row, partition="vc") == said


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("t,0,1,1,49,", "cpus: expected at most 48 per node, got 49"),
        ("t,0,1,1,,377", "mem_gib: expected at most 376 per node, got 377"),
        ("t,0,1,16,97,", "cpus: expected at most 48 per node, got 49"),
        ("t,0,1,0,,1e11", "mem_gib: expected at most 376 per node, got 100000000000"),
    ],
)
def test_cores_and_memory_are_measured_when_they_count(tmp_path: Path, row: str, said: str) -> None:
    header, all_of_it = HEADER + ",cpus,mem_gib", frozenset({"cpus", "memory"})
    assert refusal(tmp_path, header, row, resources=all_of_it) == said
    assert request(tmp_path, header, row)


def test_members_of_full_width_need_nodes_of_full_width(tmp_path: Path) -> None:
    assert refusal(tmp_path, HEADER, "t,0,1,17", NARROW) == "gpus: expected at most 14, got 17"


def test_nodes_without_gpus_refuse_gpus_and_hold_the_rest(tmp_path: Path) -> None:
    cpu_only = (node("c1", 0),)
    assert refusal(tmp_path, HEADER, "t,0,1,1", cpu_only) == "gpus: expected at most 0 per node, got 1"
    assert request(tmp_path, HEADER, "t,0,1,0", cpu_only) == Request(0)


def test_cordoned_node_holds_nothing(tmp_path: Path) -> None:
    nodes = (node("n1"), node("n2", cordoned="fan noise"))
    assert refusal(tmp_path, HEADER, "t,0,1,9", nodes) == "gpus: expected at most 8, got 9"


BAD_CELLS = [
    ("", "t,x,1,1", "submit_s: expected a number from 0 to 1e+12, got 'x'"),
    ("", "t,,1,1", "submit_s: expected a number from 0 to 1e+12, got ''"),
    ("", "t,-1,1,1", "submit_s: expected a number from 0 to 1e+12, got '-1'"),
    ("", "t,nan,1,1", "submit_s: expected a number from 0 to 1e+12, got 'nan'"),
    ("", "t,1.7e12,1,1", "submit_s: expected a number from 0 to 1e+12, got '1.7e12'"),
    ("", "t,1_000,1,1", "submit_s: expected a number from 0 to 1e+12, got '1_000'"),
    ("", "t,٣,1,1", "submit_s: expected a number from 0 to 1e+12, got '٣'"),
    ("", "t,0,inf,1", "duration_s: expected a number from 0 to 1e+12, got 'inf'"),
    ("", "t,0,-0.5,1", "duration_s: expected a number from 0 to 1e+12, got '-0.5'"),
    ("", "t,0,two hours,1", "duration_s: expected a number from 0 to 1e+12, got 'two hours'"),
    ("", "t,0,1,-1", "gpus: expected a whole number from 0 to 1e+12, got '-1'"),
    ("", "t,0,1,0.5", "gpus: expected a whole number from 0 to 1e+12, got '0.5'"),
    ("", "t,0,1,", "gpus: expected a whole number from 0 to 1e+12, got ''"),
    ("", "t,0,1," + "9" * 5000, "gpus: expected a whole number from 0 to 1e+12, got '" + "9" * 59),
    ("", ",0,1,1", "job_id: expected an id, got ''"),
    (",gpu_milli", "t,0,1,1,0", "gpu_milli: expected a whole number from 1 to 1000, got '0'"),
    (",gpu_milli", "t,0,1,1,1001", "gpu_milli: expected a whole number from 1 to 1000, got '1001'"),
    (",cpus", "t,0,1,1,few", "cpus: expected a number from 0 to 1e+12, got 'few'"),
    (",mem_gib", "t,0,1,1,-1", "mem_gib: expected a number from 0 to 1e+12, got '-1'"),
    (",priority", "t,0,1,1,urgent", "priority: expected high, medium, low or nothing, got 'urgent'"),
    (",time_limit_s", "t,0,1,1,0", "time_limit_s: expected a number from 1 to 1e+12, got '0'"),
]


@pytest.mark.parametrize(("columns", "row", "said"), BAD_CELLS)
def test_cell_that_means_nothing_ends_the_run(tmp_path: Path, columns: str, row: str, said: str) -> None:
    path = written(tmp_path, row, header=HEADER + columns)
    with pytest.raises(InvalidInput) as caught:
        read_trace(path, FLEET)
    assert str(caught.value) == f"{path}:2: {said}"
    assert caught.value.field == said.partition(":")[0]


def test_bad_cell_ends_the_run_whatever_else_would_refuse_its_row(tmp_path: Path) -> None:
    path = written(tmp_path, "t,0,1,99,none,x", header=HEADER + ",vc,gpu_milli")
    with pytest.raises(InvalidInput, match="gpu_milli"):
        read_trace(path, FLEET, partition="vc")


@pytest.mark.parametrize(
    ("header", "rows", "said"),
    [
        ("job_id,submit_s,gpus", ["t,0,1"], "1: expected the column duration_s, got 'job_id, submit_s, gpus'"),
        ("a", ["t"], "1: expected the columns job_id, submit_s, duration_s, gpus, got 'a'"),
        (HEADER + ",gpus", ["t,0,1,1,1"], "1: expected each column once, got 'gpus' twice"),
        (HEADER, ["t,0,1,1", "u,0,1"], "3: expected 4 cells, got 3"),
        (HEADER, ["t,0,1,1", "", "u,0,1,1,"], "4: expected 4 cells, got 5"),
        (HEADER, ["t,0,1,1", "u,0,1,99", "t,0,1,1"], "4: job_id: expected each id once (it is in line 2 too), got 't'"),
        (HEADER, ["t,0,1,1", "u,0,1,99", "u,0,1,1"], "4: job_id: expected each id once (it is in line 3 too), got 'u'"),
        (HEADER, ["t,0,1,1", '"u,0,1,1'], "3: not a row of CSV: unexpected end of data; look for a quote"),
        (HEADER, ["x" * 140_000 + ",0,1,1"], "2: not a row of CSV: field larger than field limit (131072)"),
    ],
)
def test_file_of_the_wrong_form_ends_the_run(tmp_path: Path, header: str, rows: list[str], said: str) -> None:
    path = written(tmp_path, *rows, header=header)
    with pytest.raises(InvalidInput) as caught:
        read_trace(path, FLEET)
    assert str(caught.value).startswith(f"{path}:{said}")
    assert "\n" not in str(caught.value)


def test_row_above_the_limit_ends_the_run_whether_accepted_or_not(tmp_path: Path) -> None:
    path = written(tmp_path, "t,0,1,1", "u,0,1,99")
    assert len(read_trace(path, FLEET, max_rows=2).refused) == 1
    with pytest.raises(InvalidInput, match=r"expected at most 1 jobs, got more; raise --max-rows"):
        read_trace(path, FLEET, max_rows=1)


def test_partition_by_a_column_that_is_not_there_names_those_that_are(tmp_path: Path) -> None:
    with pytest.raises(
        InvalidInput, match=r"expected a column of the trace, got 'vc'; its columns are job_id, submit_s,"
    ):
        read_trace(written(tmp_path, "t,0,1,1"), FLEET, partition="vc")


BYTES = [
    ("t.csv", b"", "t.csv: is empty; its first line names the columns: job_id, submit_s, duration_s, gpus, ..."),
    ("t.csv", b"\n", "t.csv: is empty"),
    ("t.csv", HEADER.encode(), "t.csv: expected a line for each job after the header, got none"),
    ("t.csv", f"{HEADER}\nt,0,1,1\n\xe9,0,1,1\n".encode("latin-1"), "t.csv:3: expected UTF-8 text, got the byte 0xe9"),
    ("t.csv", HEADER.encode("utf-16"), "t.csv:1: expected UTF-8 text, got the byte 0xff"),
    ("t.csv.gz", gzip.compress(HEADER.encode() + b"\n\xff"), "t.csv.gz:2: expected UTF-8 text, got the byte 0xff"),
    ("t.csv.gz", HEADER.encode(), "t.csv.gz: expected a gzip file, as its name says: Not a gzipped file"),
    ("t.csv.gz", gzip.compress(b"x" * 9999)[:-9], "t.csv.gz: the gzip file is cut off; copy it again"),
    ("t.csv.gz", gzip.compress(b"x")[:10] + b"\xff" * 20, "t.csv.gz: expected a gzip file, as its name says: Error"),
    ("t.csv.gz", b"", "t.csv.gz: is empty"),
]


@pytest.mark.parametrize(("name", "content", "said"), BYTES)
def test_file_that_cannot_be_read_ends_the_run(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InvalidInput) as caught:
        read_trace(tmp_path / name, FLEET)
    assert str(caught.value).startswith(f"{tmp_path}/{said}")


def test_file_that_is_not_there_or_is_a_folder_ends_the_run(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"none\.csv: no such file or directory"):
        read_trace(tmp_path / "none.csv", FLEET)
    with pytest.raises(InvalidInput, match="is a directory"):
        read_trace(tmp_path, FLEET)


def test_refused_rows_are_told_with_their_lines(tmp_path: Path) -> None:
    workload = read_trace(written(tmp_path, "t,0,1,1", "u,0,1,99"), FLEET)
    assert workload.refused == [Refused(3, "u", "gpus: expected at most 20, got 99")]
