"""`shunter submit`: what is sent, and what is refused before anything is sent."""

from __future__ import annotations

import os
import re
from pathlib import Path

import msgspec
import pytest

from shunter.domain.ids import Incarnation, NodeName
from shunter.domain.job import MAX_SCRIPT_BYTES, JobSpec, Priority, Request, Within
from shunter.domain.node import Node
from shunter.domain.reason import SchedulerFails
from shunter.domain.report import ClusterView, NodeView
from shunter.errors import NotFound, RequestTooLarge, Unauthorized, Unavailable
from shunter.runtime.policy_report import PolicyInForce
from shunter.scheduling.policy import Policy
from tests.unit.cli.conftest import Cli
from tests.unit.sdk.fake import FakeGateway, broken, log, message, ok, one_job, refusal, refused, stream, view

SUBMIT = "POST /v1/jobs"
READY = ClusterView("main", "0.1.0", "c1", 1, 2, 16, 4, 3, "7.0")


@pytest.fixture
def accepting(gateway: FakeGateway) -> FakeGateway:
    """A gateway that takes one job, on a cluster that works."""
    gateway.plan(SUBMIT, ok({"jobs": [view(12)]}, 201))
    gateway.plan("GET /v1/cluster", ok(READY))
    return gateway


def sent(gateway: FakeGateway) -> JobSpec:
    [spec] = gateway.specs(0)
    return spec


def test_command_after_dashes_is_sent_as_it_is(cli: Cli, accepting: FakeGateway, home: Path) -> None:
    options = ["--gpus", "2", "--time", "2h", "--priority", "high", "--max-retries", "0", "--split-stderr"]
    ran = cli("submit", *options, "--", "python", "train.py", "--gpus", "7", "--", "x")
    assert ran == (0, "submitted job 12\n", "")
    spec = sent(accepting)
    assert spec.command == ["python", "train.py", "--gpus", "7", "--", "x"]
    assert (spec.gpus, spec.time, spec.priority, spec.max_retries) == (2, "2h", Priority.HIGH, 0)
    assert (spec.cwd, spec.split_stderr) == (str(home), True)


def test_options_that_narrow_the_nodes_are_sent(cli: Cli, accepting: FakeGateway) -> None:
    options = ["--gpus", "0.25", "--gpu-model", "A100|H100", "--label", "zone=a", "--label", "disk=nvme,gen=4"]
    options += ["--avoid", "n3", "--avoid", "n4,n5", "--pool", "gold", "--within", "rack", "--expect", "2h"]
    assert cli("submit", *options, "--", "true").code == 0
    spec = sent(accepting)
    assert (spec.gpus, spec.gpu_model, spec.labels) == (0.25, "A100|H100", {"zone": "a", "disk": "nvme", "gen": "4"})
    assert (spec.avoid, spec.pool, spec.within, spec.expect) == (["n3", "n4,n5"], "gold", Within.RACK, "2h")


def test_whole_gpus_travel_as_whole_numbers(cli: Cli, accepting: FakeGateway) -> None:
    cli("submit", "--gpus", "2", "--", "true")
    assert b'"gpus":2,' in accepting.requests[0].content


def test_labels_of_options_join_those_of_the_file_and_nodes_to_avoid_replace_them(
    cli: Cli, accepting: FakeGateway, home: Path
) -> None:
    (home / "job.yaml").write_text(
        "command: a\ngpus: 0.5\ngpu_model: [A100, H100]\nlabels: {zone: a, disk: nvme}\navoid: n1, n2\nwithin: island\n"
    )
    cli("submit", "job.yaml", "--label", "zone=b", "--avoid", "n3")
    spec = sent(accepting)
    assert (spec.gpus, spec.gpu_model, spec.within) == (0.5, ["A100", "H100"], Within.ISLAND)
    assert (spec.labels, spec.avoid) == ({"zone": "b", "disk": "nvme"}, ["n3"])


def test_environment_carries_what_selects_a_toolchain_and_no_more(
    cli: Cli, accepting: FakeGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VIRTUAL_ENV", "/venv")
    monkeypatch.setenv("ONE_MORE", "1")
    monkeypatch.setenv("NOT_THIS", "1")
    monkeypatch.delenv("CONDA_PREFIX", raising=False)
    cli("submit", "--env", "ONE_MORE", "--env", "A=b=c", "--env", "EMPTY=", "--", "true")
    env = sent(accepting).env
    assert env["PATH"] == os.environ["PATH"]
    assert (env["VIRTUAL_ENV"], env["ONE_MORE"], env["A"], env["EMPTY"]) == ("/venv", "1", "b=c", "")
    assert not {"NOT_THIS", "CONDA_PREFIX", "SHUNTER_TOKEN"} & set(env)


def test_env_all_copies_everything_but_the_token(
    cli: Cli, accepting: FakeGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANYTHING", "1")
    monkeypatch.setenv("BASH_FUNC_f%%", "() { :; }")
    monkeypatch.setenv("LATIN", "\udce9")
    cli("submit", "--env-all", "--env", "ANYTHING=2", "--", "true")
    env = sent(accepting).env
    assert env["ANYTHING"] == "2" and env["SHUNTER_URL"]
    assert not {"SHUNTER_TOKEN", "BASH_FUNC_f%%", "LATIN"} & set(env)


def test_options_win_over_the_job_file(cli: Cli, accepting: FakeGateway, home: Path) -> None:
    file = home / "job.yaml"
    file.write_text("command: python a.py\ngpus: 2\nname: a\nenv: {A: '1', B: '1'}\ncwd: sub\ntime: 1:30:00\n")
    cli("submit", str(file), "--gpus", "4", "--env", "B=2", "--", "python", "b.py")
    spec = sent(accepting)
    assert (spec.command, spec.gpus, spec.name) == (["python", "b.py"], 4, "a")
    assert (spec.env["A"], spec.env["B"], spec.cwd, spec.time) == ("1", "2", str(home / "sub"), 5400)


def test_file_with_a_list_submits_all_its_jobs(cli: Cli, gateway: FakeGateway, home: Path) -> None:
    (home / "jobs.yaml").write_text("- command: a\n- script: |\n    #!/bin/sh\n    echo b\n")
    gateway.plan(SUBMIT, ok({"jobs": [view(1), view(2)]}, 201))
    gateway.plan("GET /v1/cluster", ok(READY))
    assert cli("submit", "jobs.yaml").out == "submitted job 1\nsubmitted job 2\n"
    first, second = gateway.specs(0)
    assert (first.command, second.script) == ("a", "#!/bin/sh\necho b\n")


def test_script_is_sent_and_names_the_job(cli: Cli, accepting: FakeGateway, home: Path) -> None:
    (home / "train.sh").write_text("echo hi\n")
    cli("submit", "--script", "train.sh")
    assert (sent(accepting).script, sent(accepting).name, sent(accepting).command) == ("echo hi\n", "train.sh", None)


@pytest.mark.parametrize("broken_cluster", ["nodes", "leader"])
def test_cluster_that_cannot_run_anything_is_mentioned(cli: Cli, gateway: FakeGateway, broken_cluster: str) -> None:
    nodes, leader = (0, "c1") if broken_cluster == "nodes" else (2, "")
    gateway.plan(SUBMIT, ok({"jobs": [view(12)]}, 201))
    gateway.plan("GET /v1/cluster", ok(ClusterView("main", "0.1.0", leader, 1, nodes, 16, 4, 3, "7.0")))
    ran = cli("submit", "--", "true")
    assert (ran.code, ran.out) == (0, "submitted job 12\n")
    assert ran.err.startswith("shunter: it waits: no ")


def test_job_that_is_in_stays_submitted_when_the_cluster_cannot_be_asked(cli: Cli, gateway: FakeGateway) -> None:
    gateway.plan(SUBMIT, ok({"jobs": [view(12)]}, 201))
    gateway.plan("GET /v1/cluster", refused())
    assert cli("submit", "--", "true") == (0, "submitted job 12\n", "")


def test_json_is_the_job_alone(cli: Cli, gateway: FakeGateway, home: Path) -> None:
    gateway.plan(SUBMIT, ok({"jobs": [view(12)]}, 201), ok({"jobs": [view(13)]}, 201))
    assert cli("submit", "--json", "--", "true").out.startswith('{\n  "id": 12')
    (home / "jobs.yaml").write_text("[{command: a}]")
    assert cli("submit", "--json", "jobs.yaml").out.startswith('[\n  {\n    "id": 13')


# refused before anything is sent: the gateway fixture fails a test whose request nobody planned


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (
            ["--gpus", "-1", "--", "x"],
            "gpus: expected a whole number from 0 to 1000000, or a share below 1 such as 0.25",
        ),
        (["--gpus", "-0.5", "--", "x"], "gpus: expected a whole number from 0 to 1000000, or a share below 1"),
        (["--gpus", "two", "--", "x"], "gpus: expected a whole number, or a share below 1 such as 0.25, got 'two'"),
        (["--gpus", "inf", "--", "x"], "gpus: expected a whole number, or a share below 1 such as 0.25, got 'inf'"),
        (["--label", "zone", "--", "x"], "label: expected NAME=VALUE, got 'zone'; write for example zone=a"),
        (["--label", "zone=a", "--label", "zone=b", "--", "x"], "label: zone is given as 'a' and as 'b'; give it once"),
        (["--within", "row", "--", "x"], "within: 'row' is not one of 'rack', 'island'"),
        (["--expect", "soon", "--", "x"], "expect: expected a duration, got 'soon'; write seconds (90)"),
        (["--time", "2hours", "--", "x"], "time: expected a duration, got '2hours'; write seconds (90)"),
        (["--grace", "0", "--", "x"], "grace: expected 1 s to 366 days, got '0'"),
        (["--memory-gib", "nan", "--", "x"], "memory_gib: expected a number from 0 to 1000000, got nan"),
        (["--priority", "urgent", "--", "x"], "priority: 'urgent' is not one of 'high', 'medium', 'low'"),
        (["--name", "", "--", "x"], "name: expected text of 1 to 128 characters, got ''"),
        ([], "command: expected one, got none; for example: shunter submit"),
        (["--"], "command: expected a program after --, got nothing"),
        (["--", ""], "command: expected a program after --, got nothing"),
        (["python", "train.py"], "file: expected a job file, got 'python train.py'; put a command after --"),
        (["python", "train.py", "--lr", "1"], "no such option --lr; the command and its options go after --"),
        (["--env", "1A=b", "--", "x"], "env: expected NAME=VALUE or NAME, got '1A=b'"),
        (["--env", "NOT_SET_ANYWHERE", "--", "x"], "env: NOT_SET_ANYWHERE is not set here"),
        (["--script", "none.sh"], "script: none.sh: no such file or directory"),
        (["--script", "."], "script: .: is a directory"),
        (["--script", "none.sh", "--", "x"], "script: goes not with a command"),
        (["none.yaml"], "file: none.yaml: no such file or directory"),
        (["--follow", "--json", "--", "x"], "--follow: prints the job's output"),
        (["--", "cat", "\udcff"], "command: expected UTF-8 text, got '\\udcff'"),
    ],
)
def test_bad_input_is_one_line_that_names_field_and_fix(
    cli: Cli, gateway: FakeGateway, argv: list[str], said: str
) -> None:
    ran = cli("submit", *argv)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.splitlines()[0].startswith(f"shunter: {said}")


def test_script_over_16_mib_is_refused_unread(cli: Cli, gateway: FakeGateway, home: Path) -> None:
    with (home / "big.sh").open("wb") as file:
        file.truncate(MAX_SCRIPT_BYTES * 64)
    ran = cli("submit", "--script", "big.sh")
    assert ran.code == 2
    assert ran.err.startswith("shunter: script: expected at most 16 MiB, got 1024.0 MiB in big.sh; keep data in files")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("command: [a\ngpus: 1\n", "2:5: expected ',' or ']', but got ':'"),
        ("\tgpus: 1", "1:1: found character '\\t' that cannot start any token"),
        ("command: a\ngpu: 1", "2:1: gpu: no such field of a job; did you mean gpus?"),
        (
            "command: a\ngpus: -4",
            "2:7: gpus: expected a whole number from 0 to 1000000, or a share below 1 such as 0.25, got -4",
        ),
        ("- command: a\n- command: b\n  nodes: x", "3:10: nodes: expected a whole number from 1 to 10000, got 'x'"),
        ("gpus: 1\ngpus: 2", "2:1: gpus: given twice"),
        ("command: a\n---\ncommand: b", "2:1: expected one document, found another; write the jobs as a list"),
        ("just text", "1:1: expected the fields of a job, got 'just text'"),
        ("command: !!python/object:os.system x", "1:10: could not determine a constructor"),
        ("gpus: !!int x", "1:7: gpus: invalid literal"),
        ("? [a]\n: 1", "1:3: 'a seq': no such field of a job"),
        ("a\x00b: 1", "1: expected text, got the character U+0000"),
        ("", " expected a job or a list of jobs, got nothing"),
        ("[]", "1:1: expected one job or more, got an empty list"),
        ("[" * 5000, " expected the fields of a job, got something nested too deeply"),
    ],
)
def test_bad_job_file_is_named_with_line_and_column(
    cli: Cli, gateway: FakeGateway, home: Path, text: str, said: str
) -> None:
    (home / "job.yaml").write_text(text)
    ran = cli("submit", "job.yaml")
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith(f"shunter: job.yaml:{said}")
    assert ran.err.count("\n") == 1


def test_job_file_that_is_no_text_or_too_large_is_refused(cli: Cli, gateway: FakeGateway, home: Path) -> None:
    (home / "a.yaml").write_bytes(b"command: a\nname: \xff\n")
    assert cli("submit", "a.yaml").err == "shunter: a.yaml:2: expected UTF-8 text, got the byte 0xff\n"
    (home / "b.yaml").write_bytes(b"#" * 2**21)
    assert cli("submit", "b.yaml").err.startswith("shunter: file: expected at most 1 MiB, got 2.0 MiB in b.yaml")


def test_current_folder_that_is_gone_is_refused(cli: Cli, gateway: FakeGateway, home: Path) -> None:
    gone = home / "gone"
    gone.mkdir()
    os.chdir(gone)
    gone.rmdir()
    assert cli("submit", "--", "x").err.startswith("shunter: cwd: the current folder is gone; change to one")


# refused by the server


def test_refusal_of_the_gateway_is_said_and_gives_the_exit_code(cli: Cli, gateway: FakeGateway) -> None:
    error = RequestTooLarge("gpus: expected at most 8 per node, got 9", field="gpus", fix="ask for 2 nodes")
    gateway.plan(SUBMIT, refusal(error), refusal(Unauthorized("token: wrong", fix="set SHUNTER_TOKEN")), refused())
    assert cli("submit", "--gpus", "9", "--", "x") == (
        2, "", "shunter: gpus: expected at most 8 per node, got 9; ask for 2 nodes\n"
    )  # fmt: skip
    assert cli("submit", "--", "x") == (5, "", "shunter: token: wrong; set SHUNTER_TOKEN\n")
    unreachable = cli("submit", "--", "x")
    assert unreachable.code == 7 and "does not answer: [Errno 111] Connection refused" in unreachable.err


def test_who_waits_for_a_takeover_of_the_store_is_told(
    cli: Cli, gateway: FakeGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shunter.sdk.transport.STORE_PAUSES_S", (0.001,))
    monkeypatch.setattr("shunter.cli.connect.QUIET_S", 0.0)
    gateway.plan(SUBMIT, refusal(Unavailable("redis: cannot be reached")), ok({"jobs": [view(12, "queued")]}, 201))
    gateway.plan("GET /v1/cluster", refused())
    ran = cli("submit", "--", "x")
    assert (ran.code, ran.out) == (0, "submitted job 12\n")
    assert ran.err.startswith("shunter: no answer yet; trying again\n")


def test_a_submission_without_an_answer_can_be_repeated_without_doubling_it(cli: Cli, gateway: FakeGateway) -> None:
    away = Unavailable("redis: cannot be reached", fix="try again")
    gateway.plan(SUBMIT, refusal(away), ok({"jobs": [view(12, "queued")]}, 201))
    failed = cli("submit", "--", "x")
    assert failed.code == 7
    assert "it is not known whether the job was accepted: " in failed.err
    found = re.search("redis: cannot be reached; try again; then .* --key ([0-9a-f]{32}),", failed.err)
    assert found, failed.err
    gateway.plan("GET /v1/cluster", refused())
    assert cli("submit", "--key", found[1], "--", "x").out == "submitted job 12\n"
    assert {request.headers["idempotency-key"] for request in gateway.requests if request.method == "POST"} == {
        found[1]
    }


def test_no_server_known_says_what_to_do(cli: Cli) -> None:
    assert cli("submit", "--", "x") == (
        3, "", "shunter: no Shunter is running here; run `shunter up`, or set SHUNTER_URL and SHUNTER_TOKEN\n"
    )  # fmt: skip


# what is named and not there


def narrowed(gateway: FakeGateway, *, avoid: str = "", pool: str = "", nodes: tuple[str, ...] = ("n1",)) -> None:
    """Plan for one job that avoids *avoid* and asks for *pool*, on *nodes* of the pool gold."""
    seen = view(12, "running")
    request = Request(avoid=tuple(map(NodeName, avoid.split())), pool=pool)
    job = msgspec.structs.replace(seen.job, request=request)
    gateway.plan(SUBMIT, ok({"jobs": [msgspec.structs.replace(seen, job=job)]}, 201))
    made = [Node(NodeName(name), Incarnation("1"), (), 4, 1024, 1.0) for name in nodes]
    gateway.plan("GET /v1/nodes", ok({"nodes": [NodeView(node, "ready", 0, (), 0.1, "gold") for node in made]}))


def test_nodes_to_avoid_that_are_not_there_are_told(cli: Cli, gateway: FakeGateway) -> None:
    narrowed(gateway, avoid="n1 n8 n9")
    assert cli("submit", "--avoid", "n1,n8,n9", "--", "x") == (0, "submitted job 12\n", (
        "shunter: no node n8 now; the job will avoid it if it joins\n"
        "shunter: no node n9 now; the job will avoid it if it joins\n"
    ))  # fmt: skip
    narrowed(gateway, avoid="n1", pool="gold")
    assert cli("submit", "--avoid", "n1", "--pool", "gold", "--", "x").err == ""


def test_a_pool_that_neither_nodes_nor_the_policy_know_is_told(cli: Cli, gateway: FakeGateway) -> None:
    said = "shunter: no node is in a pool gold now, and the policy has none; the job will wait for a node of it\n"
    for pools, err in (({"iron": 0.5}, said), ({"gold": 0.5}, ""), (None, said)):
        narrowed(gateway, pool="gold", nodes=())
        report = PolicyInForce(Policy(pools=pools or {}), "", "f", 1.0, "c", 1, "")
        gateway.plan("GET /v1/policy", refusal(NotFound("policy: none")) if pools is None else ok(report))
        assert cli("submit", "--pool", "gold", "--", "x").err == err


def test_it_is_told_beside_json_too_and_trouble_with_it_is_not(cli: Cli, gateway: FakeGateway) -> None:
    narrowed(gateway, avoid="n9")
    ran = cli("submit", "--avoid", "n9", "--json", "--", "x")
    assert msgspec.json.decode(ran.out)["id"] == 12
    assert ran.err == "shunter: no node n9 now; the job will avoid it if it joins\n"
    seen = view(12, "running")
    job = msgspec.structs.replace(seen.job, request=Request(avoid=(NodeName("n9"),)))
    gateway.plan(SUBMIT, ok({"jobs": [msgspec.structs.replace(seen, job=job)]}, 201))
    gateway.plan("GET /v1/nodes", refused())
    assert cli("submit", "--avoid", "n9", "--", "x") == (0, "submitted job 12\n", "")


def test_a_scheduler_that_fails_is_told(cli: Cli, gateway: FakeGateway) -> None:
    gateway.plan(SUBMIT, ok({"jobs": [view(12)]}, 201))
    failing = SchedulerFails(1.7e9, 14, "KeyError: 'x'")
    gateway.plan("GET /v1/cluster", ok(msgspec.structs.replace(READY, failing=failing)))
    said = "shunter: it waits: the scheduler fails (KeyError: 'x'); `shunter cluster` says since when\n"
    assert cli("submit", "--", "x").err == said


# following


def test_follow_prints_only_the_jobs_output_and_exits_with_its_code(cli: Cli, accepting: FakeGateway) -> None:
    ended = view(12, "failed", code=9)
    accepting.plan("GET /v1/jobs/12/logs", stream(log("epoch 1\n", 8), message("end", ended)))
    accepting.plan("GET /v1/jobs/12", one_job(ended))
    ran = cli("submit", "--follow", "--", "x")
    assert (ran.code, ran.out) == (9, "epoch 1\n")
    assert ran.err == "submitted job 12\nshunter: job 12 failed after 5.0s: exit code 9\n"


def test_follower_of_a_job_that_must_wait_is_told(cli: Cli, gateway: FakeGateway) -> None:
    ended = view(12, "succeeded")
    gateway.plan(SUBMIT, ok({"jobs": [view(12)]}, 201))
    gateway.plan("GET /v1/cluster", ok(msgspec.structs.replace(READY, free_gpus=0)))
    gateway.plan("GET /v1/jobs/12/logs", stream(message("end", ended)))
    gateway.plan("GET /v1/jobs/12", one_job(ended))
    said = cli("submit", "--follow", "--", "x").err.splitlines()[1]
    assert said == "shunter: it waits for GPUs (0 of 16 free); `shunter show 12` says why"


def test_interrupt_while_following_leaves_the_job_and_says_so(
    cli: Cli, accepting: FakeGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    accepting.plan("GET /v1/jobs/12/logs", stream(log("epoch 1\n", 8), then=broken()))

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("shunter.sdk.transport.Patience.spend", interrupt)
    ran = cli("submit", "--follow", "--", "x")
    assert (ran.code, ran.out) == (130, "epoch 1\n")
    assert ran.err == "submitted job 12\nshunter: job 12 goes on; `shunter cancel 12` ends it\n"


def test_trouble_while_following_says_that_the_job_goes_on(cli: Cli, accepting: FakeGateway) -> None:
    accepting.plan("GET /v1/jobs/12/logs", refusal(NotFound("attempt: unknown")))
    ran = cli("submit", "--follow", "--", "x")
    assert (ran.code, ran.err.splitlines()[1]) == (
        4, "shunter: job 12 goes on, but following it failed: attempt: unknown"
    )  # fmt: skip
