"""The other commands: what they ask, what they print, and their exit codes."""

from __future__ import annotations

import io
import json
import time

import httpx
import msgspec
import pytest

from shunter.cli.output import clock
from shunter.domain.ids import Incarnation, NodeName
from shunter.domain.job import Request, Within
from shunter.domain.node import Gpu, Node
from shunter.domain.outcome import Outcome, Result
from shunter.domain.reason import SchedulerFails
from shunter.domain.report import ClusterView, CoordinatorView, EventView, NodeView
from shunter.errors import Conflict, NotFound, Unauthorized
from shunter.sdk.answers import CancelResult
from tests.unit.cli.conftest import Cli
from tests.unit.sdk.fake import URL, FakeGateway, change, log, message, ok, one_job, refusal, stream, view

JOBS = "GET /v1/jobs"
GPUS = (Gpu(0, "H100", "u0", 81_559), Gpu(1, "H100", "u1", 81_559, healthy=False, problem="XID 79"))
NODE = Node(NodeName("n1"), Incarnation("i1"), GPUS, 64, 524_288, 1_700_000_000.0)


def test_queue_prints_counts_and_aligned_columns(cli: Cli, gateway: FakeGateway) -> None:
    waiting = msgspec.structs.replace(view(11, name="a-longer-name"), why="needs 4 GPUs; most free is 2")
    gateway.plan(JOBS, ok({"jobs": [view(7, "running"), waiting], "cursor": None}))
    ran = cli("queue")
    assert ran.out.splitlines() == [
        "2 jobs: 1 queued, 1 running; 1 GPU in use",
        "ID  NAME           USER  STATE    PRIO    GPUS  NODES  TIME  REASON",
        " 7  train          ada   running  medium     1  n1     2.0s  -",
        "11  a-longer-name  ada   queued   medium     1  -      6.0s  needs 4 GPUs; most free is 2",
    ]


def test_queue_says_when_there_are_no_jobs_and_when_there_are_more(cli: Cli, gateway: FakeGateway) -> None:
    gateway.plan(JOBS, ok({"jobs": [], "cursor": None}), ok({"jobs": [view(1), view(2)], "cursor": "2"}))
    assert cli("queue").out == "no jobs\n"
    assert cli("queue", "--limit", "1").out.startswith("the first 1 jobs (--limit shows more): 1 queued")


def test_queue_asks_for_ended_jobs_when_an_ended_state_is_wanted(cli: Cli, gateway: FakeGateway) -> None:
    gateway.plan(JOBS, ok({"jobs": [view(1, "failed", code=2)], "cursor": None}))
    assert json.loads(cli("queue", "--state", "failed", "--user", "ada", "--json").out)[0]["exit_status"] == 2
    assert gateway.sent(0)["all"] == ["true"] and gateway.sent(0)["state"] == ["failed"]


def test_name_of_a_job_cannot_steer_the_terminal(cli: Cli, gateway: FakeGateway) -> None:
    gateway.plan(JOBS, ok({"jobs": [view(1, name="a\x1b[2J\nb")], "cursor": None}))
    assert "a\ufffd[2J b" in cli("queue").out


def test_watch_needs_a_terminal(cli: Cli, gateway: FakeGateway) -> None:
    ran = cli("queue", "--watch")
    assert ran.code == 2 and "--watch: needs a terminal" in ran.err


def test_show_prints_what_it_runs_and_how_it_ended(cli: Cli, gateway: FakeGateway) -> None:
    gateway.plan("GET /v1/jobs/7", one_job(view(7, "failed", code=3)))
    rows = dict(line.split("  ", 1) for line in cli("show", "7").out.splitlines())
    told = {name.strip(): value.strip() for name, value in rows.items()}
    assert told["state"] == "failed: exit code 3"
    assert (told["command"], told["folder"], told["ran"]) == ("python train.py", "/work", "5.0s")
    assert (told["nodes"], told["exit status"]) == ("n1 (GPU 0)", "3")


def test_show_and_queue_tell_a_share_and_what_the_nodes_are_narrowed_to(cli: Cli, gateway: FakeGateway) -> None:
    request = Request(
        1, gpu_milli=250, models=("A100", "H100"), labels=(("zone", "a"),), avoid=(NodeName("n3"),), pool="gold",
        within=Within.ISLAND,
    )  # fmt: skip
    running = view(7, "running")
    share = msgspec.structs.replace(
        running, gpus=0.25, job=msgspec.structs.replace(running.job, request=request, expected_s=7200.0)
    )
    gateway.plan("GET /v1/jobs/7", one_job(share))
    told = dict(line.split("  ", 1) for line in cli("show", "7").out.splitlines())
    told = {name.strip(): value.strip() for name, value in told.items()}
    assert told["asks for"] == "0.25 of a GPU"
    assert told["only on"] == "pool gold; zone=a; A100 or H100; not n3; all in one NVLink island"
    assert (told["expected"], told["nodes"]) == ("2h00m", "n1 (0.25 of GPU 0)")
    tenth = msgspec.structs.replace(
        share, gpus=0.1, job=msgspec.structs.replace(share.job, request=Request(1, gpu_milli=100))
    )
    gateway.plan(JOBS, ok({"jobs": [share, *[tenth] * 3, running], "cursor": None}))
    header, _, first, second, *_ = cli("queue").out.splitlines()
    assert header == "5 jobs: 5 running; 1.55 GPUs in use"
    assert (first.split()[5], second.split()[5]) == ("0.25", "0.1")


def test_show_says_nothing_about_nodes_that_are_not_narrowed(cli: Cli, gateway: FakeGateway) -> None:
    gateway.plan("GET /v1/jobs/7", one_job(view(7, "running")))
    said = cli("show", "7").out
    assert "only on" not in said and "expected" not in said


@pytest.mark.parametrize("argv", [["show"], ["logs"], ["wait"], ["cancel"]])
@pytest.mark.parametrize("id", ["abc", "0", "-1", "1_7", "9" * 30, "１"])
def test_id_that_is_no_number_is_refused_here(cli: Cli, gateway: FakeGateway, argv: list[str], id: str) -> None:
    ran = cli(*argv, "--", id)
    assert ran.code == 2
    assert ran.err == f"shunter: id: expected a job's number such as 12, got {id!r}; `shunter queue` lists them\n"


def test_unknown_job_exits_4_and_wrong_token_5(cli: Cli, gateway: FakeGateway) -> None:
    unknown = refusal(NotFound("job 7: unknown", fix="see `shunter queue --all`"))
    gateway.plan("GET /v1/jobs/7", unknown, refusal(Unauthorized("token: wrong")))
    assert cli("show", "7") == (4, "", "shunter: job 7: unknown; see `shunter queue --all`\n")
    assert cli("show", "7").code == 5


def test_logs_are_written_as_they_are(cli: Cli, gateway: FakeGateway) -> None:
    gateway.plan("GET /v1/jobs/7/logs", stream("a\r50%\r100%\nno newline"))
    assert cli("logs", "7", "--stderr", "--tail", "5", "--attempt", "2").out == "a\r50%\r100%\nno newline"
    assert gateway.sent(0) == {"stream": ["stderr"], "tail": ["5"], "attempt": ["2"]}


def test_logs_follow_until_the_end(cli: Cli, gateway: FakeGateway) -> None:
    gateway.plan("GET /v1/jobs/7/logs", stream(log("a\n", 2), log("b\n", 4), message("end", view(7, "succeeded"))))
    assert cli("logs", "-f", "7") == (0, "a\nb\n", "")


def test_cancel_says_what_became_of_each_and_fails_for_unknown_ones(cli: Cli, gateway: FakeGateway) -> None:
    gateway.plan("POST /v1/jobs/cancel", ok(CancelResult([1], [2], [3])))
    ran = cli("cancel", "1", "2", "3")
    assert (ran.code, ran.out) == (4, "cancelled job 1\njob 2 had already ended\n")
    assert ran.err == "shunter: no such job: 3; `shunter queue --all` lists them\n"


def test_wait_exits_with_the_first_failure_in_the_order_asked(cli: Cli, gateway: FakeGateway) -> None:
    gateway.plan("GET /v1/jobs/7", one_job(view(7, "running")), one_job(view(7, "failed", code=3)))
    gateway.plan("GET /v1/jobs/8", one_job(view(8, "failed", code=4)))
    gateway.plan("GET /v1/jobs/9", one_job(view(9, "succeeded")))
    gateway.plan("GET /v1/events", stream(change("6-0", 7, "failed")))
    ran = cli("wait", "9", "7", "8")
    assert ran.code == 3
    assert ran.out.splitlines() == [
        "job 9 succeeded after 5.0s",
        "job 8 failed after 5.0s: exit code 4",
        "job 7 failed after 5.0s: exit code 3",
    ]


def test_wait_gives_1_for_an_end_without_a_status(cli: Cli, gateway: FakeGateway) -> None:
    lost = msgspec.structs.replace(view(7, "failed", code=3), state="lost", outcome=Outcome(Result.LOST))
    gateway.plan("GET /v1/jobs/7", one_job(lost))
    assert cli("wait", "7").code == 1


def test_wait_that_times_out_exits_124(cli: Cli, gateway: FakeGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shunter.cli.wait.parse_duration", lambda *_, **__: 0)
    gateway.plan("GET /v1/jobs/7", one_job(view(7, "running")))
    ran = cli("wait", "7", "--timeout", "1s")
    assert ran.code == 124
    assert ran.err == "shunter: time is up, and 1 job(s) have not ended: 7; they go on\n"


def test_wait_json_is_one_list(cli: Cli, gateway: FakeGateway) -> None:
    gateway.plan("GET /v1/jobs/7", one_job(view(7, "succeeded")))
    assert [job["id"] for job in json.loads(cli("wait", "7", "--json").out)] == [7]


def test_nodes_shows_what_is_free_and_what_is_sick(cli: Cli, gateway: FakeGateway) -> None:
    gateway.plan("GET /v1/nodes", ok({"nodes": [NodeView(NODE, "ready", 1, (7,), 0.4)]}), ok({"nodes": []}))
    row = "n1    ready  -        2     1  H100     64  512  0.4s  7     GPU 1: XID 79"
    assert cli("nodes").out.splitlines()[1] == row
    assert "no nodes" in cli("nodes").out


def test_nodes_shows_the_pool_and_parts_of_gpus_and_wide_what_else_tells_nodes_apart(
    cli: Cli, gateway: FakeGateway
) -> None:
    gpus = tuple(Gpu(index, "A100", f"u{index}", 40_960, island=index // 4) for index in range(6))
    node = msgspec.structs.replace(NODE, gpus=gpus, rack="r7", labels={"disk": "nvme", "zone": "a"})
    view = NodeView(node, "ready", 1.75, (7,), 0.4, pool="gold")
    gateway.plan("GET /v1/nodes", *(ok({"nodes": [view]}) for _ in range(3)))
    assert cli("nodes").out.splitlines()[1].split()[:5] == ["n1", "ready", "gold", "6", "1.75"]
    header, row = (line.split() for line in cli("nodes", "--wide").out.splitlines())
    told = dict(zip(header, row, strict=False))
    assert (told["RACK"], told["LABELS"], told["ISLANDS"]) == ("r7", "disk=nvme,zone=a", "4+2")
    [shown] = json.loads(cli("nodes", "--json").out)
    assert (shown["free_gpus"], shown["node"]["rack"], shown["node"]["labels"]["zone"]) == (1.75, "r7", "a")
    assert shown["node"]["gpus"][5]["island"] == 1


def test_cordon_and_uncordon_say_what_they_did(cli: Cli, gateway: FakeGateway) -> None:
    gateway.plan("POST /v1/nodes/n1/cordon", ok(NodeView(NODE, "cordoned", 1, (7,), 0.4)))
    gateway.plan("POST /v1/nodes/n1/uncordon", ok(NodeView(NODE, "ready", 1, (), 0.4)))
    assert cli("node", "cordon", "n1", "--reason", "fan").out == "cordoned n1; it still runs job 7\n"
    assert gateway.requests[0].content == b'{"reason":"fan"}'
    cordoned = msgspec.structs.replace(NODE, cordoned="fan")
    gateway.plan("GET /v1/nodes", ok({"nodes": [NodeView(cordoned, "cordoned", 0, (), 0.4)]}))
    assert cli("node", "uncordon", "n1").out == "uncordoned n1\n"


def of_node(state: str, *jobs: int, silent_s: float = 0.4, lease: str = "normal") -> NodeView:
    return NodeView(NODE, state, 1, jobs, silent_s, lease=lease)


@pytest.fixture
def looks_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shunter.cli.nodes.LOOK_EVERY_S", 0.0)


@pytest.mark.usefixtures("looks_at_once")
def test_drain_waits_until_the_node_is_empty_and_says_each_change_once(cli: Cli, gateway: FakeGateway) -> None:
    gateway.plan("POST /v1/nodes/n1/cordon", ok(of_node("cordoned", 7, 8)))
    looks = [[of_node("cordoned", *jobs)] for jobs in ((7, 8), (8,), (8,), ())]
    gateway.plan("GET /v1/nodes", *(ok({"nodes": views}) for views in looks))
    ran = cli("node", "drain", "n1", "--reason", "driver")
    assert (ran.code, ran.out) == (0, "drained n1\n")
    assert ran.err == "n1 still runs job 7, job 8\nn1 still runs job 8\n"
    assert gateway.requests[0].content == b'{"reason":"driver"}'


def test_drain_of_an_empty_node_is_done_at_once(cli: Cli, gateway: FakeGateway) -> None:
    gateway.plan("POST /v1/nodes/n1/cordon", ok(of_node("cordoned")))
    assert cli("node", "drain", "n1") == (0, "drained n1\n", "")
    assert gateway.requests[0].content == b"{}"


@pytest.mark.usefixtures("looks_at_once")
def test_drain_that_times_out_exits_124_and_the_node_stays_cordoned(
    cli: Cli, gateway: FakeGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.monotonic", iter(range(10, 100)).__next__)
    gateway.plan("POST /v1/nodes/n1/cordon", ok(of_node("cordoned", 7)))
    gateway.plan("GET /v1/nodes", ok({"nodes": [of_node("cordoned", 7)]}))
    ran = cli("node", "drain", "n1", "--timeout", "2")
    assert (ran.code, ran.out) == (124, "")
    assert ran.err.startswith("n1 still runs job 7\n")
    assert [request.url.path for request in gateway.requests] == ["/v1/nodes/n1/cordon", "/v1/nodes"]


def test_drain_of_an_unknown_node_exits_4(cli: Cli, gateway: FakeGateway) -> None:
    gateway.plan("POST /v1/nodes/n9/cordon", refusal(NotFound("node 'n9': unknown", fix="see `shunter nodes`")))
    assert cli("node", "drain", "n9") == (4, "", "shunter: node 'n9': unknown; see `shunter nodes`\n")


def test_resume_is_uncordon_and_says_when_there_was_nothing_to_do(cli: Cli, gateway: FakeGateway) -> None:
    gateway.plan("GET /v1/nodes", ok({"nodes": [of_node("ready")]}))
    gateway.plan("POST /v1/nodes/n1/uncordon", ok(of_node("ready")))
    assert cli("node", "resume", "n1") == (0, "n1 was not cordoned\n", "")


def test_nodes_tells_of_different_versions(cli: Cli, gateway: FakeGateway) -> None:
    views = [msgspec.structs.replace(of_node("ready"), node=msgspec.structs.replace(NODE, version=v)) for v in "121"]
    gateway.plan("GET /v1/nodes", ok({"nodes": views}), ok({"nodes": views[::2]}))
    assert cli("nodes").out.endswith("\nversions: 2 of 1, 1 of 2\n")
    assert "versions" not in cli("nodes").out


def test_forget_says_so_and_a_refusal_is_told(cli: Cli, gateway: FakeGateway) -> None:
    why = Conflict("node 'n1': expected one that is lost, it is ready", fix="stop its worker")
    gateway.plan("DELETE /v1/nodes/n1", httpx.Response(204), refusal(why))
    assert cli("node", "forget", "n1") == (0, "forgot n1\n", "")
    assert cli("node", "forget", "n1") == (6, "", f"shunter: {why}\n")


@pytest.mark.parametrize(
    ("view", "note"),
    [
        (of_node("silent", 7, silent_s=12.0), "does not renew; freezes at 20 s, lost at 30 s"),
        (of_node("silent", 7, silent_s=6.0, lease="fast"), "does not renew; its jobs are frozen, lost at 8 s"),
        (of_node("silent", 7, silent_s=90.0, lease="unfenced"), "does not renew; its jobs may run on"),
        (of_node("lost"), "given up; comes back when it joins, `shunter node forget` removes it"),
    ],
)
def test_nodes_notes_what_silence_means(cli: Cli, gateway: FakeGateway, view: NodeView, note: str) -> None:
    gateway.plan("GET /v1/nodes", ok({"nodes": [view]}))
    assert f"  {note}; GPU 1: XID 79" in cli("nodes").out.splitlines()[1]


def test_lost_asks_whether_nothing_runs_there_any_more(
    cli: Cli, gateway: FakeGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    gateway.plan("GET /v1/nodes", ok({"nodes": [of_node("silent", 7, 8, silent_s=90.0)]}))
    gateway.plan("POST /v1/nodes/n1/lost", ok(of_node("lost", lease="")))
    ran = cli("node", "lost", "n1", "--reason", "burnt")
    question, said = ran.out.split("?", 1)
    assert question == "n1 has 2 jobs, and it renewed its lease 1m30s ago. Does nothing run there any more"
    assert said.endswith("n1 is lost; taken off it: job 7, job 8\n")
    assert (ran.code, gateway.requests[-1].content) == (0, b'{"reason":"burnt"}')


@pytest.mark.parametrize("answer", ["n\n", "\n", ""])
def test_lost_does_nothing_without_a_yes(
    cli: Cli, gateway: FakeGateway, monkeypatch: pytest.MonkeyPatch, answer: str
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(answer))
    gateway.plan("GET /v1/nodes", ok({"nodes": [of_node("ready", 7)]}))
    assert cli("node", "lost", "n1").code != 0
    assert [request.method for request in gateway.requests] == ["GET"]


def test_lost_with_yes_does_not_ask(cli: Cli, gateway: FakeGateway) -> None:
    gateway.plan("GET /v1/nodes", ok({"nodes": [of_node("silent")]}))
    gateway.plan("POST /v1/nodes/n1/lost", ok(of_node("lost", lease="")))
    assert cli("node", "lost", "n1", "--yes") == (0, "n1 is lost\n", "")
    assert gateway.requests[-1].content == b"{}"


def test_lost_of_an_unknown_node_asks_nothing_and_exits_4(cli: Cli, gateway: FakeGateway) -> None:
    gateway.plan("GET /v1/nodes", ok({"nodes": [of_node("ready")]}))
    gateway.plan("POST /v1/nodes/n9/lost", refusal(NotFound("node 'n9': unknown", fix="see `shunter nodes`")))
    assert cli("node", "lost", "n9") == (4, "", "shunter: node 'n9': unknown; see `shunter nodes`\n")


def test_lost_of_a_node_that_is_lost_exits_6(cli: Cli, gateway: FakeGateway) -> None:
    gateway.plan("GET /v1/nodes", ok({"nodes": [of_node("lost", lease="")]}))
    gateway.plan(
        "POST /v1/nodes/n1/lost", refusal(Conflict("node 'n1': lost already", field="name", fix="see `shunter nodes`"))
    )
    assert cli("node", "lost", "n1", "--yes") == (6, "", "shunter: node 'n1': lost already; see `shunter nodes`\n")


def test_events_json_is_one_object_a_line(cli: Cli, gateway: FakeGateway) -> None:
    kept = [EventView("1-0", 1.7e9, "submitted", job=7, text="submitted by ada"), EventView("2-0", 1.7e9, "node_lost")]
    gateway.plan("GET /v1/events", *(ok({"events": found, "last": "2-0"}) for found in (kept, [], kept, [])))
    assert [json.loads(line)["id"] for line in cli("events", "--json").out.splitlines()] == ["1-0", "2-0"]
    first, second = cli("events", "--after", "0-1", "--job", "7").out.splitlines()
    assert first.endswith("  job 7         submitted by ada") and second.endswith("  cluster       node_lost")
    assert gateway.sent(2) == {"after": ["0-1"], "job": ["7"]}


def test_cluster_says_when_nobody_leads(cli: Cli, gateway: FakeGateway) -> None:
    gateway.plan("GET /v1/cluster", ok(ClusterView("main", "0.1.0", "", 3, 2, 16, 4, 3, "7.0.15")))
    out = cli("cluster").out
    assert "none: nothing is placed now" in out and "16, 4 free" in out


def test_cluster_says_since_when_and_why_its_scheduler_fails(cli: Cli, gateway: FakeGateway) -> None:
    failing = SchedulerFails(1.7e9, 14, "KeyError: 'x'")
    working = ClusterView("main", "0.1.0", "c1", 3, 2, 16, 4, 3, "7.0.15")
    gateway.plan("GET /v1/cluster", ok(msgspec.structs.replace(working, failing=failing)), ok(working))
    said = f"failing since {clock(1.7e9)}, 14 times (KeyError: 'x'); nothing new starts; see the coordinator's log"
    assert f"scheduler    {said}\n" in cli("cluster").out
    assert "scheduler" not in cli("cluster").out


LEADS = ClusterView("main", "0.1.0", "c1", 3, 2, 16, 4, 3, "7.0.15")


def test_coordinator_status_says_who_leads_since_when_and_how_old_leases_are(cli: Cli, gateway: FakeGateway) -> None:
    leads = msgspec.structs.replace(LEADS, leads_since_s=time.time() - 90)
    nodes = [of_node("ready", 7, 8), of_node("silent", silent_s=25.0, lease="fast"), of_node("lost", lease="")]
    gateway.plan("GET /v1/cluster", ok(leads))
    gateway.plan("GET /v1/nodes", ok({"nodes": nodes}))
    ran = cli("coordinator", "status")
    assert ran.code == 0
    head, table = (part.splitlines() for part in ran.out.split("\n\n"))
    told = dict(line.split(None, 1) for line in head)
    assert (told["leader"], told["epoch"]) == ("c1", "3")
    assert told["since"].endswith(", 1m30s ago")
    assert "scheduler" not in told
    assert [line.split() for line in table] == [
        ["NODE", "STATE", "LEASE", "RENEWED", "JOBS"],
        ["n1", "ready", "normal", "0.4s", "ago", "2"],
        ["n1", "silent", "fast", "25s", "ago", "0"],
        ["n1", "lost", "none", "0.4s", "ago", "0"],
    ]


def test_coordinator_status_says_when_nobody_leads_and_there_are_no_nodes(cli: Cli, gateway: FakeGateway) -> None:
    gateway.plan("GET /v1/cluster", ok(msgspec.structs.replace(LEADS, leader="")))
    gateway.plan("GET /v1/nodes", ok({"nodes": []}))
    ran = cli("coordinator", "status")
    assert ran.code == 0
    assert [line.split(None, 1) for line in ran.out.splitlines()] == [
        ["leader", "nobody: nothing is placed now"],
        ["epoch", "3"],
        ["gateway", f"{URL}, 0.1.0"],
    ]


def test_coordinator_status_shows_who_stands_by_and_of_which_version(cli: Cli, gateway: FakeGateway) -> None:
    both = (
        CoordinatorView("a-9", "a", 9, "0.2.0", 1.7e9),
        CoordinatorView("c1", "b", 12, "0.1.0", 1.7e9, leads=True),
    )
    gateway.plan("GET /v1/cluster", ok(msgspec.structs.replace(LEADS, coordinators=both)))
    gateway.plan("GET /v1/nodes", ok({"nodes": []}))
    _, table = cli("coordinator", "status").out.split("\n\n")
    assert [" ".join(line.split()) for line in table.splitlines()] == [
        "COORDINATOR ROLE HOST PID STARTED VERSION",
        f"c1 leads b 12 {clock(1.7e9)} 0.1.0",
        f"a-9 stands by a 9 {clock(1.7e9)} 0.2.0",
    ]


def test_coordinator_status_says_why_the_scheduler_fails(cli: Cli, gateway: FakeGateway) -> None:
    failing = SchedulerFails(1.7e9, 14, "KeyError: 'x'")
    gateway.plan("GET /v1/cluster", ok(msgspec.structs.replace(LEADS, failing=failing)))
    gateway.plan("GET /v1/nodes", ok({"nodes": []}))
    assert f"failing since {clock(1.7e9)}, 14 times (KeyError: 'x')" in cli("coordinator", "status").out


@pytest.mark.parametrize("leader", ["c1", ""])
def test_coordinator_status_json_has_the_cluster_and_its_nodes(cli: Cli, gateway: FakeGateway, leader: str) -> None:
    gateway.plan("GET /v1/cluster", ok(msgspec.structs.replace(LEADS, leader=leader)))
    gateway.plan("GET /v1/nodes", ok({"nodes": [of_node("ready", 7)]}))
    told = json.loads(cli("coordinator", "status", "--json").out)
    assert (told["cluster"]["leader"], told["cluster"]["leads_since_s"]) == (leader, None)
    ((node, state, lease, jobs),) = [(n["node"]["name"], n["state"], n["lease"], n["jobs"]) for n in told["nodes"]]
    assert (node, state, lease, jobs) == ("n1", "ready", "normal", [7])
