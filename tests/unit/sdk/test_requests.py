"""Requests: what is sent, when it is sent again, and what a refusal becomes."""

from __future__ import annotations

import getpass
from pathlib import Path

import httpx
import pytest

import shunter
from shunter.domain.job import JobSpec
from shunter.errors import BY_CODE, InvalidInput, NotFound, ShunterError, Unauthorized, Unavailable
from shunter.sdk import transport
from shunter.sdk.answers import CancelResult
from shunter.sdk.client import Client
from tests.unit.sdk.fake import TOKEN, URL, FakeGateway, ok, one_job, refusal, refused, view

SUBMIT = "POST /v1/jobs"


def submitted(*ids: int) -> httpx.Response:
    return ok({"jobs": [view(id) for id in ids]}, 201)


def test_the_public_name_is_this_client() -> None:
    assert shunter.Client is Client


def test_submit_is_sent_again_with_the_same_key_after_no_answer_and_after_503(gateway: FakeGateway) -> None:
    gateway.plan(SUBMIT, refused(), refusal(Unavailable("the store is away")), submitted(12))
    assert gateway.client().submit(command="true").id == 12
    keys = {request.headers["idempotency-key"] for request in gateway.requests}
    assert len(keys) == 1 and len(keys.pop()) >= 32
    assert len({request.content for request in gateway.requests}) == 1
    assert gateway.pauses_s == list(transport.REQUEST_PAUSES_S)


def test_two_submissions_have_different_keys(gateway: FakeGateway) -> None:
    gateway.plan(SUBMIT, submitted(1), submitted(2))
    with gateway.client() as client:
        client.submit(command="true")
        client.submit(command="true")
    first, second = gateway.requests
    assert first.headers["idempotency-key"] != second.headers["idempotency-key"]


def test_given_idempotency_key_is_the_one_sent(gateway: FakeGateway) -> None:
    gateway.plan(SUBMIT, submitted(1))
    gateway.client().submit(command="true", idempotency_key="night-7")
    assert gateway.requests[0].headers["idempotency-key"] == "night-7"


@pytest.mark.parametrize("key", ["x" * 256, "nön", "a\nb"])
def test_idempotency_key_that_cannot_be_sent_is_refused_here(gateway: FakeGateway, key: str) -> None:
    with pytest.raises(InvalidInput, match="idempotency_key"):
        gateway.client().submit(command="true", idempotency_key=key)


def test_no_answer_three_times_is_unavailable_and_names_the_url(gateway: FakeGateway) -> None:
    gateway.plan("GET /v1/cluster", *(refused() for _ in range(3)))
    with pytest.raises(Unavailable) as caught:
        gateway.client().cluster()
    assert URL in caught.value.message and "SHUNTER_URL" in (caught.value.fix or "")
    assert caught.value.exit_code == 7


def test_a_store_that_is_away_is_waited_for_as_long_as_a_takeover_takes_and_no_longer(gateway: FakeGateway) -> None:
    away = refusal(Unavailable("the store is away"))
    gateway.plan(SUBMIT, *(away for _ in transport.STORE_PAUSES_S), submitted(3))
    assert gateway.client().submit(command="true").id == 3
    assert gateway.pauses_s == list(transport.STORE_PAUSES_S)
    assert 8 < sum(transport.STORE_PAUSES_S) < transport.STORE_PATIENCE_S
    gateway.plan(SUBMIT, *(away for _ in range(len(transport.STORE_PAUSES_S) + 1)))
    with pytest.raises(Unavailable, match="the store is away"):
        gateway.client().submit(command="true")


def test_retry_after_is_honoured_within_a_bound(gateway: FakeGateway) -> None:
    busy = Unavailable("busy")
    gateway.plan(
        "GET /v1/nodes",
        refusal(busy, {"Retry-After": "2"}),
        refusal(busy, {"Retry-After": "3600"}),
        ok({"nodes": []}),
    )
    assert gateway.client().nodes() == []
    assert gateway.pauses_s == [2.0, transport.RETRY_AFTER_MAX_S]


def test_answer_that_takes_too_long_is_not_asked_for_again(gateway: FakeGateway) -> None:
    gateway.plan("GET /v1/nodes", httpx.ReadTimeout("timed out"))
    with pytest.raises(Unavailable, match="no answer within 30 s"):
        gateway.client().nodes()


@pytest.mark.parametrize("kind", [kind for kind in BY_CODE.values() if kind.http_status not in (500, 503)])
def test_error_body_becomes_the_class_of_its_code(gateway: FakeGateway, kind: type[ShunterError]) -> None:
    gateway.plan("GET /v1/jobs/7", refusal(kind("gpus: expected 1, got 2", field="gpus", fix="ask for 1")))
    with pytest.raises(kind) as caught:
        gateway.client().job(7)
    assert type(caught.value) is kind
    assert (caught.value.message, caught.value.field, caught.value.fix) == (
        "gpus: expected 1, got 2",
        "gpus",
        "ask for 1",
    )


@pytest.mark.parametrize(
    ("status", "kind"), [(401, Unauthorized), (404, NotFound), (500, ShunterError), (301, ShunterError)]
)
def test_refusal_that_is_not_ours_still_names_url_and_fix(
    gateway: FakeGateway, status: int, kind: type[ShunterError]
) -> None:
    gateway.plan("GET /v1/jobs/7", httpx.Response(status, text="<html>nginx</html>"))
    with pytest.raises(kind, match=f"{URL} answered HTTP {status}") as caught:
        gateway.client().job(7)
    assert caught.value.fix


def test_answer_that_is_no_json_is_an_error_of_ours(gateway: FakeGateway) -> None:
    gateway.plan("GET /v1/jobs/7", httpx.Response(200, text="<html>hello</html>"))
    with pytest.raises(ShunterError, match="cannot read"):
        gateway.client().job(7)


def test_token_goes_into_the_header(gateway: FakeGateway) -> None:
    gateway.plan("GET /v1/health", ok({"status": "ok"}))
    assert gateway.client().health().status == "ok"
    assert gateway.requests[0].headers["authorization"] == f"Bearer {TOKEN}"


def test_submit_fills_in_folder_and_user(gateway: FakeGateway, monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    monkeypatch.chdir(home)
    gateway.plan(SUBMIT, submitted(1, 2, 3))
    gateway.client().submit_many([JobSpec(command="a"), JobSpec(command="b", cwd="sub", user="eve"), JobSpec(cwd="/x")])
    first, second, third = gateway.specs()
    assert (first.cwd, first.user) == (str(home), getpass.getuser())
    assert (second.cwd, second.user, third.cwd) == (str(home / "sub"), "eve", "/x")


def test_fields_change_a_given_spec(gateway: FakeGateway) -> None:
    gateway.plan(SUBMIT, submitted(1))
    gateway.client().submit(JobSpec(command="a", gpus=2, name="n"), gpus=4)
    assert b'"gpus":4' in gateway.requests[0].content and b'"name":"n"' in gateway.requests[0].content


def test_many_jobs_go_in_requests_of_a_thousand_with_keys_of_their_own(gateway: FakeGateway) -> None:
    gateway.plan(SUBMIT, submitted(*range(1, 1001)), submitted(1001))
    views = gateway.client().submit_many([JobSpec(command="a")] * 1001, idempotency_key="k")
    assert [seen.id for seen in views] == list(range(1, 1002))
    assert [request.headers["idempotency-key"] for request in gateway.requests] == ["k", "k-1"]


def test_jobs_follows_the_cursor_to_the_last_page(gateway: FakeGateway) -> None:
    gateway.plan(
        "GET /v1/jobs",
        ok({"jobs": [view(1), view(2)], "cursor": "2", "event": "9-0"}),
        ok({"jobs": [], "cursor": "500", "event": "9-0"}),
        ok({"jobs": [view(501)], "cursor": None, "event": "9-0"}),
    )
    found = gateway.client().jobs(all=True, states=["queued", "running"], user="ada", name="train")
    assert [seen.id for seen in found] == [1, 2, 501]
    assert gateway.sent(0) == {
        "all": ["true"], "state": ["queued", "running"], "user": ["ada"], "name": ["train"], "limit": ["1000"]
    }  # fmt: skip
    assert gateway.sent(2)["cursor"] == ["500"]


def test_jobs_stops_at_the_limit(gateway: FakeGateway) -> None:
    gateway.plan(
        "GET /v1/jobs", ok({"jobs": [view(1), view(2)], "cursor": "2"}), ok({"jobs": [view(3)], "cursor": "3"})
    )
    assert [seen.id for seen in gateway.client().jobs(limit=3)] == [1, 2, 3]
    assert [gateway.sent(0)["limit"], gateway.sent(1)["limit"]] == [["3"], ["1"]]


def test_unknown_state_is_refused_here(gateway: FakeGateway) -> None:
    with pytest.raises(InvalidInput, match="state: expected one of queued"):
        list(gateway.client().jobs(states=["done"]))


def test_cancel_sums_up_what_several_requests_answered(gateway: FakeGateway) -> None:
    gateway.plan(
        "POST /v1/jobs/cancel",
        ok(CancelResult([1], [2], [])),
        ok(CancelResult([1001], [], [1002])),
    )
    assert gateway.client().cancel(*range(1, 1003)) == CancelResult([1, 1001], [2], [1002])


def test_name_of_a_node_is_quoted_in_the_path(gateway: FakeGateway) -> None:
    gateway.plan("POST /v1/nodes/a/b/cordon", refusal(NotFound("node 'a/b': unknown")))
    with pytest.raises(NotFound):
        gateway.client().cordon("a/b")
    assert gateway.requests[0].url.raw_path == b"/v1/nodes/a%2Fb/cordon"
    assert gateway.requests[0].content == b"{}"


def test_job_has_its_launch(gateway: FakeGateway) -> None:
    gateway.plan("GET /v1/jobs/7", one_job(view(7)))
    launch = gateway.client().job(7).launch
    assert launch is not None and launch.argv == ["python", "train.py"]
