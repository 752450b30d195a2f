"""Whatever is sent, the answer names the field, what was got and the fix, and no state is harmed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import httpx
import msgspec
import pytest

from shunter.domain.report import ErrorBody
from tests.e2e.yard import Yard

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(90)]

RUN = {"command": ["true"]}


@pytest.fixture(scope="module")
def http(untouched: Yard) -> Iterator[httpx.Client]:
    token = (untouched.home / "token").read_text().strip()
    url, headers = untouched.cluster.url, {"authorization": f"Bearer {token}"}
    with httpx.Client(base_url=url, headers=headers, timeout=30) as client:
        yield client


@pytest.fixture(scope="module")
def anonymous(untouched: Yard) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=untouched.cluster.url, timeout=30) as client:
        yield client


class Bad(NamedTuple):
    """A submission and what its refusal must say: *message* and *fix* are parts of the text."""

    body: Any
    status: int
    code: str
    field: str
    message: str
    fix: str


INVALID, TOO_LARGE = (400, "invalid_input"), (422, "too_large")
SEE = "see /docs"

SUBMISSIONS = {
    "unknown field": Bad({**RUN, "gpu": 1}, *INVALID, "gpu", "gpu: unknown field", "did you mean 'gpus'?"),
    "unlike any field": Bad({**RUN, "xyzzy": 1}, *INVALID, "xyzzy", "xyzzy: unknown field", "known fields: command"),
    "negative gpus": Bad({**RUN, "gpus": -1}, *INVALID, "gpus", "gpus: expected int >= 0, got -1", SEE),
    "gpus in words": Bad({**RUN, "gpus": "two"}, *INVALID, "gpus", 'gpus: expected int | float, got "two"', SEE),
    "one and a half gpus": Bad(
        {**RUN, "gpus": 1.5}, *INVALID, "gpus", "gpus: expected a whole number, or a share below 1, got 1.5", "ask for"
    ),
    "more gpus than a node has": Bad(
        {**RUN, "gpus": 5}, *TOO_LARGE, "gpus", "gpus: expected at most 4 per node, got 5", "at most 4"
    ),
    "gpus that two nodes could give": Bad(
        {**RUN, "gpus": 8}, *TOO_LARGE, "gpus", "gpus: expected at most 4 per node, got 8", "nodes: 2"
    ),
    "absurdly many gpus": Bad({**RUN, "gpus": 10**9}, *INVALID, "gpus", "gpus: expected int <= 1000000", SEE),
    "gpus that do not divide": Bad(
        {**RUN, "gpus": 3, "nodes": 2}, *INVALID, "gpus", "gpus: expected a multiple of nodes (2), got 3", "ask for 2"
    ),
    "gang larger than the cluster": Bad(
        {**RUN, "gpus": 3, "nodes": 3}, *TOO_LARGE, "nodes", "nodes: expected at most 2 with 1 GPUs each, got 3",
        "ask for at most 2 nodes",
    ),
    "no nodes": Bad({**RUN, "nodes": 0}, *INVALID, "nodes", "nodes: expected int >= 1, got 0", SEE),
    "more cores than a node has": Bad(
        {**RUN, "cpus": 65}, *TOO_LARGE, "cpus", "cpus: expected at most 64 per node, got 65", "ask for at most 64"
    ),
    "more memory than a node has": Bad(
        {**RUN, "memory_gib": 900_000}, *TOO_LARGE, "memory_gib", "per node, got 900000", "ask for at most"
    ),
    "nothing to run": Bad({}, *INVALID, "command", "command: missing", "give a command"),
    "command and script": Bad({**RUN, "script": "ls"}, *INVALID, "command", "given together with script", "only one"),
    "empty command": Bad({"command": []}, *INVALID, "command", "and its arguments, got []", "name the program"),
    "empty program": Bad({"command": [""]}, *INVALID, "command", 'its arguments, got [""]', "name the program"),
    "blank command": Bad({"command": "  "}, *INVALID, "command", "got an empty string", "name it"),
    "blank script": Bad({"script": " \n"}, *INVALID, "script", "script: expected some text", "write the commands"),
    "command of numbers": Bad({"command": ["a", 1]}, *INVALID, "command[1]", "command[1]: expected str, got 1", SEE),
    "NUL in the command": Bad({"command": ["a\0b"]}, *INVALID, "command", "command: contains a NUL", "remove it"),
    "an argument beyond Linux": Bad(
        {"command": ["echo", "x" * 131_072]}, *TOO_LARGE, "command", "below 128 KiB", "send it as a script"
    ),
    "script of 17 MiB": Bad(
        {"script": "#" * (17 * 2**20)}, *TOO_LARGE, "script", "script: expected at most 16 MiB, got 17.0 MiB", "storage"
    ),
    "bad time": Bad({**RUN, "time": "soon"}, *INVALID, "time", "expected a duration, got 'soon'", "write seconds"),
    "no time": Bad({**RUN, "time": 0}, *INVALID, "time", "time: expected 1 s to 366 days, got 0", "write seconds"),
    "time without end": Bad({**RUN, "time": "400d"}, *INVALID, "time", "1 s to 366 days, got '400d'", "write seconds"),
    "bad grace": Bad({**RUN, "grace": "a while"}, *INVALID, "grace", "got 'a while'", "write seconds"),
    "a node without a name to avoid": Bad(
        {**RUN, "avoid": ["n1", ""]}, *INVALID, "avoid", "avoid: expected 1 to 63 letters", "give a name"
    ),
    "island without GPUs": Bad(
        {**RUN, "gpus": 0, "within": "island"}, *INVALID, "within", "without GPUs, got island", "ask for a GPU"
    ),
    "no model": Bad({**RUN, "gpu_model": "|"}, *INVALID, "gpu_model", "expected a model", "A100|H100 where either"),
    "unknown class": Bad(
        {**RUN, "priority": "urgent"}, *INVALID, "priority",
        'priority: expected one of high, medium, low, got "urgent"', SEE,
    ),
    "bad name of a variable": Bad({**RUN, "env": {"A B": "1"}}, *INVALID, "env", "got 'A B'", "rename the variable"),
    "variable with =": Bad({**RUN, "env": {"A=B": "1"}}, *INVALID, "env", "got 'A=B'", "rename the variable"),
    "NUL in a variable": Bad({**RUN, "env": {"A": "1\0"}}, *INVALID, "env.A", "env.A: contains a NUL", "remove it"),
    "variables beyond reason": Bad(
        {**RUN, "env": {"A": "x" * 300_000}}, *TOO_LARGE, "env", "at most 256 KiB in all, got 292 KiB", "into a file"
    ),
    "relative folder": Bad({**RUN, "cwd": "runs"}, *INVALID, "cwd", "an absolute path, got 'runs'", "begin it with /"),
    "negative retries": Bad({**RUN, "max_retries": -1}, *INVALID, "max_retries", "int >= 0, got -1", SEE),
    "name without end": Bad({**RUN, "name": "n" * 129}, *INVALID, "name", "name: expected str of length <= 128", SEE),
    "a number": Bad(7, *INVALID, "body", "body: expected", SEE),
    "no jobs": Bad([], *INVALID, "body", "body: expected 1 to 1000 jobs, got 0", "several requests"),
    "too many jobs": Bad([RUN] * 1_001, *INVALID, "body", "expected 1 to 1000 jobs, got 1001", "several requests"),
    "one bad of three": Bad(
        [RUN, {**RUN, "gpus": 3, "nodes": 2}, RUN], *INVALID, "gpus", "job 2 of 3: gpus: expected a multiple", "ask for"
    ),
}  # fmt: skip


def check(response: httpx.Response, status: int, code: str, field: str, message: str, fix: str) -> None:
    body = msgspec.json.decode(response.content, type=ErrorBody)
    assert (response.status_code, body.code, body.field) == (status, code, field), body
    assert message in body.message, body
    assert fix in body.fix, body


@pytest.mark.parametrize("case", list(SUBMISSIONS))
def test_a_bad_submission_is_refused_with_field_value_and_fix(untouched: Yard, http: httpx.Client, case: str) -> None:
    bad = SUBMISSIONS[case]
    cursor = untouched.replayed().cursor
    check(http.post("/v1/jobs", json=bad.body), *bad[1:])
    assert untouched.replayed().cursor == cursor


@pytest.mark.parametrize(
    ("body", "field", "message"),
    [
        (b"{", "body", "body: not valid JSON"),
        (b"", "body", "body: not valid JSON"),
        (b'{"command": ["true"]} extra', "body", "body: not valid JSON"),
        (b'{"command": ["\xff"]}', "body", "body: not valid JSON"),
        (b'{"command": ["\\ud800"]}', "body", "body: not valid JSON"),
        (b"\x00" * 100, "body", "body: not valid JSON"),
        (b'{"gpus": "two", "command": [', "gpus", "gpus: expected int"),
        (b"[" * 5_000, "[0]", "[0]: expected object"),
        (b'{"env": ' + b'{"a": ' * 5_000, "env[...]", "env[...]: expected str"),
        (b'{"gpus": 1e400}', "gpus", "gpus: number out of range"),
        (b'{"": 1}', "", ": unknown field"),
    ],
)
def test_malformed_json_is_refused(http: httpx.Client, body: bytes, field: str, message: str) -> None:
    check(http.post("/v1/jobs", content=body), 400, "invalid_input", field, message, "")


def test_a_body_that_never_should_have_been_sent_is_refused(http: httpx.Client) -> None:
    response = http.post("/v1/jobs", content=b'{"script": "' + b"#" * (65 * 2**20) + b'"}')
    check(response, 422, "too_large", "body", "body: expected at most 64 MiB", "16 MiB")


@pytest.mark.parametrize(
    ("headers", "message"),
    [
        ({}, "token: missing"),
        ({"authorization": "Bearer"}, "token: missing"),
        ({"authorization": "Basic YTpi"}, "token: missing"),
        ({"authorization": "Bearer wrong"}, "token: wrong"),
        ({"authorization": "Bearer w\u00f6rng".encode("latin-1")}, "token: wrong"),
    ],
    ids=["none", "empty", "basic", "wrong", "not ASCII"],
)
def test_without_the_token_nothing_is_told_or_done(
    untouched: Yard, anonymous: httpx.Client, headers: dict[str, Any], message: str
) -> None:
    cursor = untouched.replayed().cursor
    for path in ("/v1/jobs", "/v1/nodes", "/v1/events", "/v1/jobs/1", "/v1/jobs/1/logs", "/v1/cluster"):
        response = anonymous.get(path, headers=headers)
        check(response, 401, "unauthorized", "", message, "")
        assert response.headers["www-authenticate"] == "Bearer"
    for path in ("/v1/jobs", "/v1/jobs/cancel", "/v1/nodes/n1/cordon", "/v1/nodes/n1/uncordon"):
        assert anonymous.post(path, json=RUN, headers=headers).status_code == 401
    assert untouched.replayed().cursor == cursor


def test_health_and_the_description_need_no_token(anonymous: httpx.Client) -> None:
    assert anonymous.get("/v1/health").json() == {"status": "ok"}
    assert "/v1/jobs" in anonymous.get("/openapi.json").json()["paths"]
    assert "shunter" in anonymous.get("/docs").text.lower()


class Call(NamedTuple):
    method: str
    path: str
    body: Any
    status: int
    code: str
    field: str
    message: str


CALLS = [
    Call("GET", "/v1/jobs/987654", None, 404, "not_found", "id", "job 987654: unknown"),
    Call("GET", "/v1/jobs/987654/logs", None, 404, "not_found", "id", "job 987654: unknown"),
    Call("GET", "/v1/jobs/0", None, 404, "not_found", "id", "job 0: unknown"),
    Call("GET", "/v1/jobs/99999999999999999999999999", None, 404, "not_found", "id", "unknown"),
    Call("GET", "/v1/jobs/twelve", None, 404, "not_found", "", "nothing is at /v1/jobs/twelve"),
    Call("GET", "/v2/jobs", None, 404, "not_found", "", "nothing is at /v2/jobs"),
    Call("GET", "/v1/jobs?state=sleeping", None, 400, "invalid_input", "state", "state: unknown 'sleeping'"),
    Call("GET", "/v1/jobs?limit=0", None, 400, "invalid_input", "limit", "limit: expected int >= 1, got '0'"),
    Call("GET", "/v1/jobs?limit=5000", None, 400, "invalid_input", "limit", "limit: expected int <= 1000, got '5000'"),
    Call("GET", "/v1/jobs?cursor=x", None, 400, "invalid_input", "cursor", "got 'x'"),
    Call("GET", "/v1/jobs?all=perhaps", None, 400, "invalid_input", "all", "got 'perhaps'"),
    Call("GET", "/v1/events?after=yesterday", None, 400, "invalid_input", "after", "got 'yesterday'"),
    Call("GET", "/v1/events?after=1-2-3", None, 400, "invalid_input", "after", "got '1-2-3'"),
    Call("GET", "/v1/events?after=" + "9" * 30, None, 400, "invalid_input", "after", "got '999"),
    Call("GET", "/v1/events?after=1-" + "9" * 30, None, 400, "invalid_input", "after", "got '1-999"),
    Call("GET", "/v1/events?after=%D9%A1", None, 400, "invalid_input", "after", "got '\u0661'"),
    Call("GET", "/v1/events?job=x", None, 400, "invalid_input", "job", "got 'x'"),
    Call("POST", "/v1/jobs/cancel", {}, 400, "invalid_input", "ids", "ids: Object missing required field `ids`"),
    Call("POST", "/v1/jobs/cancel", {"ids": []}, 400, "invalid_input", "ids", "length >= 1"),
    Call("POST", "/v1/jobs/cancel", {"ids": ["1"]}, 400, "invalid_input", "ids", "Expected `int`, got `str`"),
    Call("POST", "/v1/jobs/cancel", {"ids": [1], "force": True}, 400, "invalid_input", "ids", "unknown field `force`"),
    Call("POST", "/v1/nodes/nowhere/cordon", {}, 404, "not_found", "name", "node 'nowhere': unknown"),
    Call("POST", "/v1/nodes/n1/cordon", {"reason": ""}, 400, "invalid_input", "reason", "`str` of length >= 1"),
    Call("POST", "/v1/nodes/n1/cordon", {"why": "disk"}, 400, "invalid_input", "reason", "unknown field `why`"),
    Call("POST", "/v1/nodes/nowhere/uncordon", None, 404, "not_found", "name", "node 'nowhere': unknown"),
    Call("DELETE", "/v1/jobs/1", None, 405, "invalid_input", "", "Method Not Allowed"),
]  # fmt: skip


@pytest.mark.parametrize("call", CALLS, ids=lambda call: f"{call.method} {call.path[:40]}")
def test_a_bad_call_is_refused_with_what_was_wrong(untouched: Yard, http: httpx.Client, call: Call) -> None:
    cursor = untouched.replayed().cursor
    response = http.request(call.method, call.path, json=call.body)
    check(response, call.status, call.code, call.field, call.message, "")
    assert untouched.replayed().cursor == cursor


def test_cancelling_what_is_unknown_is_told_not_refused(http: httpx.Client) -> None:
    ids = [-5, 0, 10**15, 10**30]
    answer = http.post("/v1/jobs/cancel", json={"ids": ids})
    assert answer.status_code == 200
    assert answer.json() == {"cancelled": [], "already_ended": [], "unknown": ids, "confirmed": True}


@pytest.mark.parametrize("path", ["/v1/jobs/cancel", "/v1/nodes/n1/cordon"])
@pytest.mark.parametrize("body", [b"{", b'{"ids": ["\xff"], "reason": "\xff"}', b"[" * 5_000, b"7"])
def test_any_body_that_cannot_be_read_is_the_senders_fault(http: httpx.Client, path: str, body: bytes) -> None:
    response = http.post(path, content=body)
    assert (response.status_code, response.json()["code"]) == (400, "invalid_input")
    assert response.json()["fix"].startswith("send {")


def test_a_limit_of_events_is_kept_and_the_cursor_goes_on_from_there(yard: Yard, http: httpx.Client) -> None:
    jobs = [yard.submit(["true"]) for _ in range(3)]
    yard.ended(*jobs)
    found: list[str] = []
    after = "0"
    while True:
        page = http.get("/v1/events", params={"after": after, "job": jobs[1:], "limit": 3}).json()
        assert len(page["events"]) <= 3
        if not page["events"]:
            break
        found += [f"{event['job']} {event['kind']}" for event in page["events"]]
        after = page["last"]
    assert sorted(found) == sorted(
        f"{job} {k}" for job in jobs[1:] for k in ("submitted", "placed", "started", "exited")
    )


def test_logs_of_what_never_was_are_refused(yard: Yard, http: httpx.Client) -> None:
    job = yard.submit(["true"])
    yard.ended(job)
    for query, field, message in (
        ("attempt=2", "attempt", "attempt: expected 1 to 1, got 2"),
        ("stream=sound", "stream", "stream: expected output or stderr, got 'sound'"),
    ):
        response = http.get(f"/v1/jobs/{job}/logs?{query}")
        check(response, 404 if field == "attempt" else 400, *(
            ("not_found" if field == "attempt" else "invalid_input"), field, message, ""
        ))  # fmt: skip
    for query in ("attempt=0", "tail=-1", "offset=-1", "offset=x"):
        field = query.partition("=")[0]
        response = http.get(f"/v1/jobs/{job}/logs?{query}")
        check(response, 400, "invalid_input", field, f"{field}: expected int", "")


def test_an_idempotency_key_that_is_too_long_is_refused(untouched: Yard, http: httpx.Client) -> None:
    cursor = untouched.replayed().cursor
    response = http.post("/v1/jobs", json=RUN, headers={"idempotency-key": "k" * 256})
    assert response.status_code == 400
    body = msgspec.json.decode(response.content, type=ErrorBody)
    assert body.field == "Idempotency-Key", body
    assert body.message.startswith("Idempotency-Key: expected str of length <= 255, got 'kkk"), body
    assert len(body.message) < 120
    assert untouched.replayed().cursor == cursor


def test_the_same_key_for_another_request_is_a_conflict(yard: Yard, http: httpx.Client) -> None:
    headers = {"idempotency-key": "once"}
    first = http.post("/v1/jobs", json={"command": ["true"], "gpus": 0}, headers=headers)
    second = http.post("/v1/jobs", json={"command": ["false"], "gpus": 0}, headers=headers)
    assert first.status_code == 201
    check(second, 409, "conflict", "Idempotency-Key", "already used for another request", "use a new key")
