"""A gateway for tests: it answers what was planned, in the real wire format, and refuses everything else."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Iterator

import httpx
import msgspec

from shunter.domain.ids import AllocationId, Incarnation, JobId, NodeName
from shunter.domain.job import Job, JobSpec, Launch, Request
from shunter.domain.outcome import Exit, classify
from shunter.domain.phase import Allocation, Ended, NodeShare, Phase, Queued, Running
from shunter.domain.reason import NotYetSeen
from shunter.domain.report import ErrorBody, EventView, JobView, view_of
from shunter.errors import ShunterError
from shunter.sdk.client import Client

URL = "http://gateway.test:8470"
TOKEN = "secret-token"
Answer = httpx.Response | Exception | Callable[[httpx.Request], httpx.Response]


class FakeGateway:
    """Requests in order, and the answers still planned for each `METHOD /path`; the last one is not repeated."""

    def __init__(self) -> None:
        self.requests: list[httpx.Request] = []
        self.pauses_s: list[float] = []
        self._plans: dict[str, deque[Answer]] = defaultdict(deque)

    def plan(self, call: str, *answers: Answer) -> None:
        self._plans[call].extend(answers)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        call = f"{request.method} {request.url.path}"
        if not self._plans[call]:
            raise AssertionError(f"unexpected request {len(self.requests)}: {call}?{request.url.query.decode()}")
        answer = self._plans[call].popleft()
        if isinstance(answer, Exception):
            raise answer
        return answer if isinstance(answer, httpx.Response) else answer(request)

    def client(self) -> Client:
        return Client(URL, TOKEN, transport=httpx.MockTransport(self), pause=self.pauses_s.append)

    def sent(self, index: int = -1) -> dict[str, list[str]]:
        """Return the query of a request."""
        params = self.requests[index].url.params
        return {name: params.get_list(name) for name in params}

    def specs(self, index: int = -1) -> list[JobSpec]:
        return msgspec.json.decode(self.requests[index].content, type=list[JobSpec])

    def unused(self) -> list[str]:
        return [call for call, answers in self._plans.items() if answers]


def ok(body: object, status: int = 200, headers: dict[str, str] | None = None) -> httpx.Response:
    return httpx.Response(status, content=msgspec.json.encode(body), headers=headers)


def refusal(error: ShunterError, headers: dict[str, str] | None = None) -> httpx.Response:
    body = ErrorBody(error.code, error.message, error.field or "", error.fix or "")
    return ok(body, error.http_status, headers)


def refused() -> httpx.ConnectError:
    return httpx.ConnectError("[Errno 111] Connection refused")


def stream(*parts: str | bytes, then: Exception | None = None) -> httpx.Response:
    """Return an answer that comes in *parts* and then ends, or breaks with *then*."""

    def chunks() -> Iterator[bytes]:
        for part in parts:
            yield part.encode() if isinstance(part, str) else part
        if then is not None:
            raise then

    return httpx.Response(200, content=chunks())


def broken() -> httpx.ReadError:
    return httpx.ReadError("connection reset")


def message(event: str, data: object, id: str = "") -> str:
    cursor = f"id: {id}\n" if id else ""
    return f"{cursor}event: {event}\ndata: {msgspec.json.encode(data).decode()}\n\n"


def change(id: str, job: int, state: str, kind: str = "moved") -> str:
    return message("change", EventView(id, 1_700_000_000.0, kind, job=job, by="n1", state=state, text=state), id)


def log(text: str, offset: int, attempt: int = 1) -> str:
    return message("log", {"text": text, "offset": offset, "attempt": attempt})


def view(id: int, state: str = "queued", *, name: str = "train", attempt: int = 1, code: int = 0) -> JobView:
    """Return job *id* in *state*: queued, running, succeeded, failed (with *code*) or cancelled."""
    job = Job(JobId(id), name, "ada", Request(), 1_700_000_000.0)
    allocation = Allocation(AllocationId("1.1"), (NodeShare(NodeName("n1"), Incarnation("i1"), (0,)),))
    outcome = classify(Exit(1_700_000_009.0, code=code), cancelled=state == "cancelled")
    phases: dict[str, Phase] = {
        "queued": Queued(1_700_000_000.0),
        "running": Running(attempt, allocation, 1_700_000_004.0),
    }
    phase = phases.get(state) or Ended(outcome, 1_700_000_009.0, attempt, 1_700_000_004.0, allocation)
    seen = view_of(job, phase, cluster="main", now_s=1_700_000_006.0, reason=NotYetSeen())
    assert seen.state == state
    return seen


def one_job(seen: JobView, event: str = "5-0") -> httpx.Response:
    """Return the answer of `GET /v1/jobs/{id}`."""
    launched = msgspec.structs.replace(seen, launch=Launch(["python", "train.py"], "/work"))
    return ok(launched, headers={"Shunter-Event": event})
