"""Over HTTP: a bad request is refused before the answer begins, and what fails after that is told in the stream."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any, Final

import httpx
import msgspec
import pytest
from litestar.testing import TestClient
from structlog.testing import capture_logs

from shunter.domain.ids import JobId
from shunter.domain.job import Job, Request
from shunter.domain.outcome import Outcome, Result
from shunter.domain.phase import Ended, Phase, Queued
from shunter.domain.report import ErrorBody, JobView, view_of
from shunter.errors import NotFound, ShunterError, Unavailable
from shunter.gateway.app import make_app
from shunter.gateway.hub import Hub
from shunter.gateway.logs import Which
from shunter.gateway.service import Service
from shunter.runtime.config import Settings
from shunter.runtime.folders import jobs_folder
from shunter.sdk import sse
from shunter.store.command import Command
from shunter.store.keys import Keys
from shunter.store.redis import AsyncStore

# The app is written for Litestar 2.12 on; the newest has other names for some of it.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

GANG: Final = Job(JobId(7), "train", "ada", Request(1, nodes=2), 1.0)
DONE: Final = Ended(Outcome(Result.SUCCEEDED, 0), 9.0, 1)
GONE: Final = Unavailable("redis: cannot be reached", fix="it is retried")


class BrokenStore(AsyncStore):
    """Every command fails."""

    identity = ""

    def __init__(self) -> None:
        pass

    async def run(self, _: Command[Any]) -> Any:
        raise GONE

    async def close(self) -> None:
        pass


class OneJob(Service):
    """Job 7 in *phases*, one after the other at each look; a phase that is an error is raised."""

    phases: list[Phase | ShunterError]

    async def job(self, job_id: int) -> tuple[JobView, str]:
        if job_id != GANG.id:
            raise NotFound(f"job {job_id}: unknown", field="id", fix="see `shunter queue --all`")
        phase = self.phases.pop(0) if len(self.phases) > 1 else self.phases[0]
        if isinstance(phase, ShunterError):
            raise phase
        return view_of(GANG, phase, cluster="main", now_s=2.0), "1-0"


@pytest.fixture
def service(tmp_path: Path) -> OneJob:
    service = OneJob(BrokenStore(), Settings("main", "redis://nowhere", tmp_path, tmp_path), "ada")
    service.phases = [DONE]
    return service


@pytest.fixture
def http(service: OneJob) -> Iterator[httpx.Client]:
    app = make_app(service, Hub(service.store, Keys("main")), "secret")
    with TestClient(app) as client:
        client.headers["authorization"] = "Bearer secret"
        yield client


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = Which().path(jobs_folder(PurePosixPath(tmp_path), "main", ""), 7, 1)
    path.parent.mkdir(parents=True)
    return path


def refusal(response: httpx.Response) -> tuple[int, str, str]:
    body = msgspec.json.decode(response.content, type=ErrorBody)
    assert body.message
    assert body.fix
    return response.status_code, body.code, body.field


def messages(response: httpx.Response) -> list[tuple[str, str]]:
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.headers["cache-control"] == "no-cache"
    return [(one.event, one.data) for one in sse.parse([response.content]) if one != sse.COMMENT]


# logs


@pytest.mark.parametrize("follow", ["", "&follow=true"])
@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ("attempt=2", (404, "not_found", "attempt")),
        ("stream=sound", (400, "invalid_input", "stream")),
        ("rank=2", (404, "not_found", "rank")),
        ("rank=99999999999999999999", (404, "not_found", "rank")),
    ],
)
def test_a_log_that_cannot_be_is_refused_before_the_answer_begins(
    http: httpx.Client, query: str, wanted: tuple[int, str, str], follow: str
) -> None:
    assert refusal(http.get(f"/v1/jobs/7/logs?{query}{follow}")) == wanted


@pytest.mark.parametrize("query", ["", "?tail=3", "?follow=true"])
def test_a_fifo_in_place_of_a_log_is_refused_at_once(http: httpx.Client, log: Path, query: str) -> None:
    os.mkfifo(log)
    assert refusal(http.get(f"/v1/jobs/7/logs{query}")) == (409, "conflict", "")


def test_a_log_and_its_tail_are_read_and_every_member_has_one(http: httpx.Client, log: Path) -> None:
    log.write_bytes(b"a\nb\nc\n")
    log.with_name("output.1.log").write_bytes(b"second\n")
    assert http.get("/v1/jobs/7/logs").text == "a\nb\nc\n"
    assert http.get("/v1/jobs/7/logs?tail=2").text == "b\nc\n"
    assert http.get("/v1/jobs/7/logs?rank=1").text == "second\n"


def test_a_tail_longer_than_a_piece_comes_whole(http: httpx.Client, log: Path) -> None:
    text = "x" * 100 + "\n"
    log.write_text("first\n" + text * 20_000)
    assert http.get("/v1/jobs/7/logs?tail=20000").text == text * 20_000


def test_a_followed_log_ends_with_the_job(http: httpx.Client, log: Path) -> None:
    log.write_bytes(b"caf\xc3\xa9\r\n")
    (first, data), (last, view) = messages(http.get("/v1/jobs/7/logs?follow=true"))
    assert (first, last) == ("log", "end")
    assert msgspec.json.decode(data) == {"text": "caf\u00e9\r\n", "offset": 7, "attempt": 1}
    assert msgspec.json.decode(view, type=JobView).state == "succeeded"


def test_what_fails_while_a_log_is_followed_is_the_last_message(http: httpx.Client, service: OneJob, log: Path) -> None:
    log.write_bytes(b"so far\n")
    service.phases = [Queued(1.0, attempt=1), GONE]
    with capture_logs() as logged:
        ((event, data),) = messages(http.get("/v1/jobs/7/logs?follow=true"))
    assert event == "error"
    assert msgspec.json.decode(data, type=ErrorBody) == ErrorBody("unavailable", GONE.message, "", "it is retried")
    assert logged == []


# events


def test_what_fails_while_events_are_followed_is_the_last_message(
    http: httpx.Client, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with capture_logs() as logged:
        ((event, data),) = messages(http.get("/v1/events?after=0&follow=true"))
    assert event == "error"
    assert msgspec.json.decode(data, type=ErrorBody).code == "unavailable"
    assert (logged, caplog.records, "Traceback" in capsys.readouterr().err) == ([], [], False)


# at the door


@pytest.mark.parametrize(
    ("method", "path", "name", "fix"),
    [
        ("GET", "/v1/jobs?stat=running", "stat", "did you mean 'state'?"),
        ("GET", "/v1/jobs?everything=true", "everything", "known parameters: all, state, user, name, limit, cursor"),
        ("POST", "/v1/jobs?idempotency_key=x", "idempotency_key", "known parameters: none"),
        ("GET", "/v1/jobs/7?full=1", "full", "known parameters: none"),
        ("GET", "/v1/jobs/7?job_id=8", "job_id", "known parameters: none"),
        ("GET", "/v1/jobs/7/logs?lines=3", "lines", "known parameters: attempt, stream, tail, offset, rank, follow"),
        ("GET", "/v1/events?since=0", "since", "known parameters: after, job, limit, follow"),
        ("GET", "/v1/nodes?service=1", "service", "known parameters: none"),
        ("POST", "/v1/nodes/n1/cordon?reason=disk", "reason", "known parameters: none"),
        ("GET", "/v1/cluster?x", "x", "known parameters: none"),
        ("GET", "/v1/health?x=1", "x", "known parameters: none"),
    ],
)
def test_an_unknown_parameter_is_refused_with_the_known_ones(
    http: httpx.Client, method: str, path: str, name: str, fix: str
) -> None:
    response = http.request(method, path)
    assert refusal(response) == (400, "invalid_input", name)
    assert response.json()["message"] == f"{name}: unknown parameter"
    assert response.json()["fix"] == fix


def test_without_the_token_nothing_is_told_about_parameters(http: httpx.Client) -> None:
    assert http.get("/v1/jobs?x=1", headers={"authorization": "Bearer wrong"}).status_code == 401


@pytest.mark.parametrize("job", ["+7", "%2B7", "%D9%A7", "0_7", "-7", "%207", "7" * 5_000])
@pytest.mark.parametrize("rest", ["", "/logs"])
def test_an_id_is_of_plain_digits(http: httpx.Client, job: str, rest: str) -> None:
    assert refusal(http.get(f"/v1/jobs/{job}{rest}")) == (404, "not_found", "")
    assert http.get(f"/v1/jobs/7{rest}").status_code == 200
