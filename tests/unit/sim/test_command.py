"""`shunter simulate` as people and programs call it: what it prints, writes and refuses."""

from __future__ import annotations

import csv
import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from shunter.sim import study
from shunter.sim.report.page import MARK
from shunter.sim.result import Result
from tests.unit.sim.conftest import SAMPLE, Simulate, given, records

KEYS = [
    "policy", "jobs", "mean_jct_s", "mean_queue_s", "p50_queue_s", "p99_queue_s", "p999_queue_s", "queued_jobs",
    "util_window", "alloc_while_waiting", "makespan_s", "frag_fgd", "wall_s", "refused", "refused_jobs",
    "refused_listed",
]  # fmt: skip


# the table


def test_policies_are_compared_in_a_table_of_a_hundred_columns(simulate: Simulate) -> None:
    ran = simulate(*SAMPLE, "--policy", "fifo-ff,fifo-bf", "--policy", "sjf,easy,default")
    assert (ran.code, ran.err) == (0, "")
    lines = ran.out.splitlines()
    assert lines[0].endswith("small.csv: 300 jobs on 8 nodes, 64 GPUs")
    assert [line.split()[0] for line in lines[4:9]] == ["fifo-ff", "fifo-bf", "sjf", "easy", "default"]
    assert max(map(len, lines)) <= 100
    assert {len(line.split()) for line in lines[4:9]} == {12}
    for column in range(1, 12):
        assert any(line.split()[column].endswith("*") for line in lines[4:9])


def test_figures_of_the_table_are_in_the_unit_that_its_head_says(simulate: Simulate, tmp_path: Path) -> None:
    ran = simulate(*given(tmp_path, "a,0,3600,8", "b,0,18000,8"), "--policy", "fifo-bf")
    words = ran.out.splitlines()[-1].split()
    assert words[:7] == ["fifo-bf", "3.500", "30.00", "30.00", "59.40", "59.94", "1"]  # hours, then minutes
    assert words[7:11] == ["0%", "100%", "6.000", "0%"]
    assert "*" not in ran.out  # there is nothing to choose from


def test_one_policy_is_the_default_one(simulate: Simulate) -> None:
    assert records(simulate(*SAMPLE, "--json"))[0]["policy"] == "default"


# JSON


def test_json_is_an_object_on_a_line_for_each_policy(simulate: Simulate) -> None:
    found = records(simulate(*SAMPLE, "--policy", "fifo-bf,sjf", "--json"))
    assert [list(one) for one in found] == [KEYS, KEYS]
    assert [(one["policy"], one["jobs"], one["refused"]) for one in found] == [("fifo-bf", 300, 0), ("sjf", 300, 0)]


def test_refused_jobs_are_counted_and_the_first_of_them_listed(simulate: Simulate, tmp_path: Path) -> None:
    arguments = given(tmp_path, "fits,0,1,8", *(f"wide{at},0,1,9" for at in range(12)))
    ran = simulate(*arguments, "--policy", "fifo-bf")
    assert ran.code == 0
    listed = ran.err.splitlines()
    assert listed[:2] == [
        "shunter: 12 jobs refused:",
        "  line 3, wide0: gpus: expected at most 8, got 9",
    ]
    assert listed[-1] == "  and 2 more: --json lists them"
    assert len(listed) == 12
    quiet = simulate(*arguments, "--policy", "fifo-bf", "--json")
    assert quiet.err == ""
    (found,) = records(quiet)
    assert (found["jobs"], found["refused"], found["refused_listed"]) == (1, 12, 12)
    assert found["refused_jobs"][11] == {"line": 14, "job_id": "wide11", "message": "gpus: expected at most 8, got 9"}


def test_json_lists_at_most_a_thousand_refused_jobs(simulate: Simulate, tmp_path: Path) -> None:
    arguments = given(tmp_path, *(f"wide{at},0,1,9" for at in range(1_001)))
    (found,) = records(simulate(*arguments, "--json"))
    assert (found["refused"], found["refused_listed"], len(found["refused_jobs"])) == (1_001, 1_000, 1_000)
    assert simulate(*arguments).err.endswith("  and 991 more: --json lists the first 1,000\n")


# options


def test_load_is_scaled_by_the_times_of_submission(simulate: Simulate, tmp_path: Path) -> None:
    arguments = (*given(tmp_path, "a,0,5,8", "b,10,5,8"), "--policy", "fifo-bf", "--dump", "-")
    assert simulate(*arguments, "--scale-load", "2").out.splitlines()[1:] == ["a,0,5,n1;n2", "b,5,10,n1;n2"]
    assert simulate(*arguments, "--scale-load", "0.5").out.splitlines()[2] == "b,20,25,n1;n2"


def test_partition_keeps_jobs_on_the_nodes_of_their_pool(simulate: Simulate, tmp_path: Path) -> None:
    arguments = (*given(tmp_path, "a,0,5,2,y", "b,0,5,2,x", nodes=("n1,4,x", "n2,4,y")), "--policy", "fifo-ff")
    assert simulate(*arguments, "--dump", "-").out.splitlines()[1:] == ["a,0,5,n1", "b,0,5,n1"]
    apart = simulate(*arguments, "--dump", "-", "--partition", "group")
    assert apart.out.splitlines()[1:] == ["a,0,5,n2", "b,0,5,n1"]


def test_the_seed_decides_ties_that_are_random(simulate: Simulate, tmp_path: Path) -> None:
    (tmp_path / "random.yaml").write_text("order: [age]\nplacement: [best-fit]\nties: random\n")
    nodes = tuple(f"n{at},1" for at in range(9))
    arguments = (*given(tmp_path, *(f"j{at},0,5,1" for at in range(9)), nodes=nodes), "--policy", "random.yaml")
    one, other = (simulate(*arguments, "--seed", seed, "--dump", "-").out for seed in "12")
    assert one != other
    assert simulate(*arguments, "--seed", "1", "--dump", "-").out == one


def test_resources_are_only_gpus_unless_all_are_asked_for(simulate: Simulate, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("job_id,submit_s,duration_s,gpus,cpus\na,0,1,1,9\n")
    (tmp_path / "n.csv").write_text("node,gpus,cpus\nn,4,8\n")
    assert records(simulate("t.csv", "--nodes", "n.csv", "--json"))[0]["jobs"] == 1
    (found,) = records(simulate("t.csv", "--nodes", "n.csv", "--json", "--resources", "all"))
    assert found["refused_jobs"][0]["message"] == "cpus: expected at most 8 per node, got 9"


def test_policies_of_one_name_are_told_apart(simulate: Simulate, tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "mine.yaml").write_text("order: [age]\n")
    ran = simulate(*SAMPLE, "--policy", "a/mine.yaml,b/mine.yaml,sjf", "--dump", "s.csv", "--json")
    assert [one["policy"] for one in records(ran)] == ["a/mine.yaml", "b/mine.yaml", "sjf"]
    names = ["s.a-mine.yaml.csv", "s.b-mine.yaml.csv", "s.sjf.csv"]
    assert sorted(path.name for path in tmp_path.glob("s.*")) == names


# the dump


def test_dump_has_a_line_for_each_job_in_order_of_start(simulate: Simulate, tmp_path: Path) -> None:
    arguments = given(tmp_path, "wide,0,5,8", "b,1.25,1.5,6", "c,1,0,2")
    assert simulate(*arguments, "--policy", "fifo-bf", "--dump", "out.csv").code == 0
    assert (tmp_path / "out.csv").read_text() == (
        "job_id,start_s,end_s,nodes\nwide,0,5,n1;n2\nc,5,5,n1\nb,5,6.5,n2;n1\n"
    )


def test_dump_of_several_policies_has_their_names(simulate: Simulate, tmp_path: Path) -> None:
    (tmp_path / "starts.sjf.csv").write_text("older\n")
    assert simulate(*SAMPLE, "--policy", "fifo-bf,sjf", "--dump", "starts.csv").code == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["starts.fifo-bf.csv", "starts.sjf.csv"]
    for path in tmp_path.iterdir():
        with path.open() as file:
            rows = list(csv.DictReader(file))
        assert len(rows) == 300
        starts = [float(row["start_s"]) for row in rows]
        assert starts == sorted(starts)


def test_dump_to_stdout_leaves_the_table_to_stderr(simulate: Simulate) -> None:
    ran = simulate(*SAMPLE, "--policy", "sjf", "--dump", "-")
    assert len(ran.out.splitlines()) == 301
    assert "sjf " in ran.err


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (("--dump", "-", "--json"), "--dump: - goes not with --json: both print to stdout; name a file"),
        (("--dump", "-", "--policy", "sjf,easy"), "--dump: -: standard output holds one policy, got 2; name a file"),
        (("--dump", "."), "--dump: .: expected a file, got a folder; name a file; - is standard output"),
        (("--dump", "/dev/null"), "/dev/null: expected a file, got a device; name a file; - is standard output"),
        (("--dump", "s.csv.gz"), "--dump: s.csv.gz: files are written as they are, not as gzip; name it .csv"),
        (("--dump", "jobs.csv"), "--dump: jobs.csv is a file of this run too; name another file"),
        (("--dump", "r.html", "--report", "r.html"), "--dump: r.html is a file of this run too; name another file"),
        (("--report", "no/r.html"), "the folder no does not exist; create it, or name a file elsewhere"),
    ],
)  # fmt: skip
def test_what_cannot_be_written_is_refused_before_anything_runs(
    simulate: Simulate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, argv: tuple[str, ...], said: str
) -> None:
    monkeypatch.setattr(study, "simulate", None)
    arguments = given(tmp_path, "a,0,1,1")
    ran = simulate(*arguments, *argv)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith("shunter: --") and ran.err.endswith(f"{said}\n")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["jobs.csv", "nodes.csv"]


def test_a_run_that_fails_leaves_what_was_there(
    simulate: Simulate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "out.csv").write_text("older\n")

    def failing(*_: object, **__: object) -> Result:
        raise KeyboardInterrupt

    monkeypatch.setattr(study, "simulate", failing)
    ran = simulate(*SAMPLE, "--dump", "out.csv")
    assert (ran.code, ran.out, ran.err.strip()) == (130, "", "")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("out.csv", "older\n")]


# the report


def test_report_says_how_it_was_made(simulate: Simulate, tmp_path: Path) -> None:
    arguments = given(tmp_path, "a,0,5,8", "b,1,5,9")
    ran = simulate(*arguments, "--policy", "fifo-bf,sjf", "--report", "r.html", "--seed", "3", "--scale-load", "1.5")
    assert ran.code == 0 and "wrote r.html" in ran.err
    page = (tmp_path / "r.html").read_text()
    assert MARK in page
    for said in (
        "Simulation of jobs.csv",
        "2 nodes",
        "gpus: expected at most 8, got 9",
        "none: all nodes are one pool",
        "divided by 1.5",
        f"shunter simulate {arguments[0]} --nodes {arguments[2]} --policy fifo-bf,sjf --report r.html",
    ):
        assert said in page, said


# input


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ((), "TRACE is missing"),
        (("jobs.csv",), "NODES is missing"),
        (("no.csv", "--nodes", "nodes.csv"), "no.csv: no such file or directory"),
        (("jobs.csv", "--nodes", "no.csv"), "no.csv: no such file or directory"),
        (("nodes.csv", "--nodes", "nodes.csv"), "nodes.csv:1: expected the columns job_id, submit_s, duration_s, got"),
        (("jobs.csv", "--nodes", "nodes.csv", "--policy", "esy"), "of that name: esy; did you mean easy?"),
        (("jobs.csv", "--nodes", "nodes.csv", "--policy", "sjf,"), "--policy: expected a name or a file, got 'sjf,'"),
        (("jobs.csv", "--nodes", "nodes.csv", "--policy", "sjf,sjf"), "--policy: sjf is named twice; leave one out"),
        (("jobs.csv", "--nodes", "nodes.csv", "--partition", "vc"), "expected a column of the trace, got 'vc'"),
        (("jobs.csv", "--nodes", "nodes.csv", "--scale-load", "nan"), "--scale-load: expected a number from"),
        (("jobs.csv", "--nodes", "nodes.csv", "--max-rows", "1"), "at most 1 jobs, got more; raise --max-rows"),
        (("jobs.csv", "--nodes", "nodes.csv", "--seed", "-1"), "seed: -1 is not in the range x>=0"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line_and_exit_code_2(
    simulate: Simulate, tmp_path: Path, argv: tuple[str, ...], said: str
) -> None:
    given(tmp_path, "a,0,1,1,g", "b,0,1,1,g", nodes=("n,4,g",))
    ran = simulate(*argv)
    assert (ran.code, ran.out) == (2, "")
    assert said in ran.err.splitlines()[0]


def test_a_policy_that_lets_a_job_wait_for_ever_is_an_error(simulate: Simulate, tmp_path: Path) -> None:
    (tmp_path / "narrow.yaml").write_text(
        "order: [age]\npools: {one: 50%, two: 50%}\nclasses: {medium: {home: one}}\nstrict: true\nshare-all-below: 0\n"
    )
    trace, *nodes = given(tmp_path, "wide,0,1,8")
    rows = "job_id,submit_s,duration_s,gpus,priority\nwide,0,1,8,medium\nother,0,1,1,high\n"  # two classes: pools count
    Path(trace).write_text(rows)
    ran = simulate(trace, *nodes, "--policy", "narrow.yaml", "--dump", "s.csv")
    assert ran.code == 1
    assert ran.err.startswith("shunter: narrow: job wide waits for ever, for 8 GPUs: needs 2 nodes with 4 GPUs each")
    assert len(ran.err.splitlines()) == 1
    assert not (tmp_path / "s.csv").exists()


def test_a_history_is_a_trace_too(simulate: Simulate, tmp_path: Path) -> None:
    job = {"id": 7, "name": "a", "user": "ada", "request": {"gpus_per_node": 2}, "submitted_s": 1e9}
    past = {"id": 7, "state": "succeeded", "submitted_s": 1e9, "ran_s": 5.5, "job": job}
    (tmp_path / "history.json").write_text(json.dumps([past, {**past, "id": 8, "state": "queued", "ran_s": None}]))
    ran = simulate("history.json", *given(tmp_path)[1:], "--dump", "-")
    assert ran.out == "job_id,start_s,end_s,nodes\n7,0,5.5,n1\n"
    assert "1 job refused" in ran.err and "has not ended" in ran.err


# processes


def test_help_explains_every_figure_and_option(simulate: Simulate) -> None:
    ran = simulate("--help")
    assert ran.code == 0
    for word in (
        *KEYS[1:13],
        "Example",
        "shunter queue --all --limit 100000 --json > history.json",
        "starts.fifo-bf.csv",
    ):
        assert word in ran.out, word


def test_help_needs_nothing_slow() -> None:
    code = (
        "import sys; from shunter.cli.main import main; main(['simulate', '--help']);"
        "sys.exit(','.join({'rich', 'yaml', 'httpx', 'redis', 'celery', 'litestar'} & set(sys.modules)) or 0)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, f"imported: {ran.stderr}"


def long_run(folder: Path) -> list[str]:
    """Return a command line that runs for many seconds."""
    rows = [f"j{at},{at % 977},{at % 7 + 1},{at % 5}" for at in range(60_000)]
    return [sys.executable, "-m", "shunter", "simulate", *given(folder, *rows), "--dump", str(folder / "out.csv")]


def test_ctrl_c_ends_it_with_130_and_no_half_written_file(tmp_path: Path) -> None:
    running = subprocess.Popen(long_run(tmp_path), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob(".out.csv.*")):
        assert time.monotonic() < deadline and running.poll() is None
        time.sleep(0.02)
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=30)
    assert (running.returncode, out, err.strip()) == (130, b"", b"")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["jobs.csv", "nodes.csv"]


def test_progress_is_shown_on_a_terminal(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    running = subprocess.Popen(
        long_run(tmp_path), stdout=subprocess.PIPE, stderr=theirs, env={**os.environ, "COLUMNS": "100"}
    )
    os.close(theirs)
    seen = ""
    while not re.search(r"default .*[1-9][0-9,]* of 60,000 jobs .*left", seen):
        seen += os.read(ours, 65_536).decode(errors="replace")  # raises at the end of the process
    running.send_signal(signal.SIGINT)
    running.communicate(timeout=30)
    assert "rows" in seen
    assert running.returncode == 130
    os.close(ours)
