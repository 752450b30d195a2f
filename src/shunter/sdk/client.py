"""The Python client of a Shunter cluster.

from shunter import Client

with Client() as shunter:
    job = shunter.submit(command=["python", "train.py"], gpus=2, time="2h")
    for text in shunter.logs(job.id, follow=True):
        print(text, end="")
    [done] = shunter.wait(job.id)
    assert done.state == "succeeded"
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import Final, Literal, Self
from urllib.parse import quote

import httpx
import msgspec

from shunter.domain.job import MAX_SCRIPT_BYTES, JobSpec
from shunter.domain.report import STATES, ClusterView, EventView, JobView, NodeView
from shunter.errors import InvalidInput, ShunterError
from shunter.runtime.policy_report import PolicyInForce
from shunter.sdk import streams
from shunter.sdk.answers import CancelResult, EventsPage, Health, JobsPage, Nodes, Submitted
from shunter.sdk.home import find_server
from shunter.sdk.spec import checked, encode, located, make_spec
from shunter.sdk.streams import WaitTimedOut
from shunter.sdk.transport import Params, Transport

__all__ = ["CancelResult", "Client", "Health", "WaitTimedOut"]

PAGE: Final = 1_000
"""The most jobs in one answer, one submission and one cancel."""
MAX_KEY: Final = 255


class Client:
    """One cluster, over HTTP. Threads may share a client; `close` it, or use it in a `with` statement.

    *url* and *token* default to SHUNTER_URL and SHUNTER_TOKEN, then to the server that runs on this machine (in
    *home*). A request that gets no answer is sent up to three times within a few seconds; while a gateway
    says that its store is away, for up to 12 s, which a take-over of Redis does not take. Every refusal is
    a `shunter.ShunterError`: NotFound, InvalidInput, Unavailable, ... with *message*, *field* and *fix*.
    *transport* and *pause* (how to wait) are for tests.
    """

    def __init__(
        self,
        url: str | None = None,
        token: str | None = None,
        *,
        home: str | Path | None = None,
        timeout_s: float = 30,
        transport: httpx.BaseTransport | None = None,
        pause: Callable[[float], object] = time.sleep,
    ) -> None:
        server = find_server(url, token, home=home)
        self.url = server.url
        self._http = Transport(server, timeout_s=timeout_s, transport=transport, pause=pause)

    def __repr__(self) -> str:
        return f"Client({self.url!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    # ---------------------------------------------------------------- jobs

    def submit(
        self, spec: JobSpec | None = None, /, *, idempotency_key: str | None = None, **fields: object
    ) -> JobView:
        """Submit one job: a JobSpec, its fields by name, or a JobSpec with some fields changed.

        *cwd* defaults to the current folder and *user* to the current user. The same *idempotency_key* (up to 255
        characters) answers the same job; without one a new key is made, so that a retry never submits twice.
        """
        if spec is not None:
            fields = {**msgspec.structs.asdict(spec), **fields}
        job = located(make_spec(fields))
        return self._submit([job], encode(job), idempotency_key)[0]

    def submit_many(self, specs: Iterable[JobSpec], *, idempotency_key: str | None = None) -> list[JobView]:
        """Submit *specs*, in requests of up to 1,000 jobs, each of which is accepted whole or not at all."""
        jobs = [located(checked(spec)) for spec in specs]
        key = idempotency_key or uuid.uuid4().hex
        views: list[JobView] = []
        for number, part in enumerate(_parts(jobs)):
            views += self._submit(part, encode(part), f"{key}-{number}" if number else key)
        return views

    def _submit(self, jobs: Sequence[JobSpec], body: bytes, key: str | None) -> list[JobView]:
        key = key or uuid.uuid4().hex
        if not (key.isascii() and key.isprintable() and len(key) <= MAX_KEY):
            raise InvalidInput(
                f"idempotency_key: expected up to {MAX_KEY} printable ASCII characters, got {key[:40]!r}",
                field="idempotency_key",
            )
        answer = self._http.call("POST", "/v1/jobs", Submitted, body=body, headers={"idempotency-key": key})
        if len(answer.jobs) != len(jobs):
            raise ShunterError(f"{self.url} answered {len(answer.jobs)} jobs to {len(jobs)} submitted")
        return answer.jobs

    def job(self, id: int) -> JobView:
        """Return job *id*, with its launch; raise NotFound."""
        return self._http.call("GET", f"/v1/jobs/{id}", JobView)

    def jobs(
        self,
        *,
        all: bool = False,
        states: Iterable[str] = (),
        user: str | None = None,
        name: str | None = None,
        limit: int | None = None,
    ) -> Iterator[JobView]:
        """Yield the active jobs, oldest first, or with *all* the ended ones too, newest first; at most *limit*."""
        query = self._jobs_query(all, tuple(states), user, name)
        left = limit
        while left is None or left > 0:
            page = self._http.call(
                "GET", "/v1/jobs", JobsPage, params={**query, "limit": PAGE if left is None else min(left, PAGE)}
            )
            yield from page.jobs[:left]
            if page.cursor is None:
                return
            query = {**query, "cursor": page.cursor}
            left = None if left is None else left - len(page.jobs)

    def _jobs_query(self, all: bool, states: tuple[str, ...], user: str | None, name: str | None) -> Params:
        unknown = next((state for state in states if state not in STATES), None)
        if unknown is not None:
            raise InvalidInput(f"state: expected one of {', '.join(STATES)}, got {unknown!r}", field="state")
        query: dict[str, str | bool | Sequence[str]] = {}
        if all:
            query["all"] = True
        if states:
            query["state"] = states
        if user is not None:
            query["user"] = user
        if name is not None:
            query["name"] = name
        return query

    def cancel(self, *ids: int) -> CancelResult:
        """Ask jobs to end: waiting ones end at once, running ones within their grace period."""
        parts = []
        for start in range(0, len(ids), PAGE):
            body = msgspec.json.encode({"ids": ids[start : start + PAGE]})
            parts.append(self._http.call("POST", "/v1/jobs/cancel", CancelResult, body=body))
        return CancelResult(
            [id for part in parts for id in part.cancelled],
            [id for part in parts for id in part.already_ended],
            [id for part in parts for id in part.unknown],
            all(part.confirmed for part in parts),
        )

    def wait(self, *ids: int, timeout_s: float | None = None) -> list[JobView]:
        """Return the jobs *ids*, in that order, once all have ended. Raises WaitTimedOut, a TimeoutError."""
        ended = {view.id: view for view in self.as_ended(*ids, timeout_s=timeout_s)}
        return [ended[id] for id in ids]

    def as_ended(self, *ids: int, timeout_s: float | None = None) -> Iterator[JobView]:
        """Yield the jobs *ids* as they end, each once; raise WaitTimedOut when *timeout_s* is over before the last."""
        return streams.as_ended(self._http, ids, timeout_s)

    def logs(
        self,
        id: int,
        *,
        follow: bool = False,
        attempt: int | None = None,
        stream: Literal["output", "stderr"] = "output",
        tail: int | None = None,
    ) -> Iterator[str]:
        """Yield the output of a job in pieces, of *attempt* (default: the last); with *follow* until the job has ended.

        *tail*: only so many lines from the end, and what comes after. *stream* `stderr` needs `split_stderr`.
        """
        if tail is not None and tail < 0:
            raise InvalidInput(f"tail: expected 0 lines or more, got {tail}", field="tail")
        query: dict[str, str | int] = {"stream": stream}
        if attempt is not None:
            query["attempt"] = attempt
        if tail is not None:
            query["tail"] = tail
        return (streams.follow_log if follow else streams.read_log)(self._http, f"/v1/jobs/{id}/logs", query)

    # ---------------------------------------------------------------- events, nodes, cluster

    def events(
        self, *, after: str | None = None, jobs: Sequence[int] = (), follow: bool = False
    ) -> Iterator[EventView]:
        """Yield the events after the cursor *after* (an event's id); with *follow* also all to come.

        Without *after*: everything that is kept, or with *follow* everything from now on.
        """
        if follow:
            if after is not None:
                return streams.follow_events(self._http, after=after, jobs=tuple(jobs))
            now = self._events_page(None, jobs)  # a cursor to begin with: a stream may break before its first event
            return chain(now.events, streams.follow_events(self._http, after=now.last, jobs=tuple(jobs)))
        return self._kept_events(after or "0", tuple(jobs))

    def _kept_events(self, cursor: str, jobs: Sequence[int]) -> Iterator[EventView]:
        while (page := self._events_page(cursor, jobs)).events:
            yield from page.events
            cursor = page.last

    def _events_page(self, after: str | None, jobs: Sequence[int]) -> EventsPage:
        query: dict[str, str | Sequence[int]] = {}
        if after is not None:
            query["after"] = after
        if jobs:
            query["job"] = jobs
        return self._http.call("GET", "/v1/events", EventsPage, params=query)

    def nodes(self) -> list[NodeView]:
        return self._http.call("GET", "/v1/nodes", Nodes).nodes

    def cordon(self, node: str, reason: str = "") -> NodeView:
        """Give *node* no new work; what runs there goes on."""
        body = msgspec.json.encode({"reason": reason} if reason else {})
        return self._http.call("POST", f"/v1/nodes/{quote(node, safe='')}/cordon", NodeView, body=body)

    def forget(self, node: str) -> None:
        """Remove *node*, which is lost, for good. Raises NotFound, or Conflict for one that is not lost."""
        self._http.send("DELETE", f"/v1/nodes/{quote(node, safe='')}")

    def uncordon(self, node: str) -> NodeView:
        return self._http.call("POST", f"/v1/nodes/{quote(node, safe='')}/uncordon", NodeView)

    def lose(self, node: str, reason: str = "") -> NodeView:
        """Have the jobs of *node* run elsewhere: the caller's word that nothing runs there any more."""
        body = msgspec.json.encode({"reason": reason} if reason else {})
        return self._http.call("POST", f"/v1/nodes/{quote(node, safe='')}/lost", NodeView, body=body)

    def cluster(self) -> ClusterView:
        return self._http.call("GET", "/v1/cluster", ClusterView)

    def policy(self) -> PolicyInForce:
        """Return the policy that the leader goes by."""
        return self._http.call("GET", "/v1/policy", PolicyInForce)

    def health(self) -> Health:
        """Return at once when the gateway and its store work; raise Unavailable when not. Needs no token."""
        return self._http.call("GET", "/v1/health", Health)


def _parts(jobs: list[JobSpec]) -> Iterator[list[JobSpec]]:
    """Yield *jobs* in order, in parts of at most PAGE jobs and MAX_SCRIPT_BYTES of scripts."""
    part: list[JobSpec] = []
    size = 0
    for job in jobs:
        weight = len(job.script or "")
        if part and (len(part) == PAGE or size + weight > MAX_SCRIPT_BYTES):
            yield part
            part, size = [], 0
        part.append(job)
        size += weight
    if part:
        yield part
