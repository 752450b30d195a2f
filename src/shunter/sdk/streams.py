"""What is read as it happens: events, logs, the ends of jobs. A stream that breaks is resumed where it stopped."""

from __future__ import annotations

import codecs
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

import httpx

from shunter.domain.phase import Ended
from shunter.domain.report import ENDED_STATES, ErrorBody, EventView, JobView
from shunter.errors import BY_CODE, ShunterError
from shunter.sdk import sse
from shunter.sdk.answers import LogPiece
from shunter.sdk.transport import REQUEST_PAUSES_S, Interrupted, Params, Patience, Silence, Transport

_MAX_FILTER = 200
"""Above so many jobs the events are filtered here, for the query would grow past what proxies take."""


class WaitTimedOut(ShunterError, TimeoutError):
    """`wait` ran out of time before every job had ended; the jobs go on."""

    code = "wait_timed_out"
    exit_code = 124


def follow_events(http: Transport, *, after: str, jobs: Sequence[int] = ()) -> Iterator[EventView]:
    """Yield every event after cursor *after*, as they come, without gaps or repeats across broken connections."""
    cursor = after

    def connect() -> Iterator[sse.Message]:
        return _messages(http, "/v1/events", _events_query(cursor, jobs))

    for message in _resumed(http, connect):
        if message.event == "change":
            event = http.decode(message.data, EventView)
            cursor = message.id or event.id
            if not jobs or event.job in jobs:
                yield event


def follow_log(http: Transport, path: str, params: Params) -> Iterator[str]:
    """Yield the log at *path* as it grows, until the job has ended. *params* may hold `tail` for the beginning.

    An offset belongs to one attempt, so a resumed stream names the attempt that it was in; the gateway ends it there,
    and the later attempts are asked for one by one.
    """
    query: Params = {**params, "follow": True}
    at = 0

    def connect() -> Iterator[sse.Message]:
        return _messages(http, path, query)

    while True:
        for message in _resumed(http, connect):
            if message.event == "log":
                piece = http.decode(message.data, LogPiece)
                at = piece.attempt
                query = {"attempt": at, **_without_tail(query), "offset": piece.offset}
                yield piece.text
            elif message.event == "end":
                last = http.decode(message.data, JobView).attempt
                break
        if "attempt" in params or "attempt" not in query or last <= at:
            return
        at += 1
        query = {**query, "attempt": at, "offset": 0}


def _without_tail(query: Params) -> Params:
    return {name: value for name, value in query.items() if name != "tail"}


def read_log(http: Transport, path: str, params: Params) -> Iterator[str]:
    """Yield the log at *path* as it is now. Bytes that are not UTF-8 come as U+FFFD."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    patience = Patience(http.pause, REQUEST_PAUSES_S)
    received = 0
    while True:
        query = {**params, "offset": received} if received else params
        try:
            with http.stream(path, query) as response:
                for chunk in response.iter_bytes():
                    received += len(chunk)
                    patience.renew()
                    if text := decoder.decode(chunk):
                        yield text
            if rest := decoder.decode(b"", final=True):
                yield rest
            return
        except Interrupted as problem:
            if received and "tail" in params:  # where the tail began is not known, so there is no offset to go on from
                raise
            patience.spend(problem)


def as_ended(http: Transport, ids: Sequence[int], timeout_s: float | None) -> Iterator[JobView]:
    """Yield each of the jobs *ids* once it has ended, first come first; raise WaitTimedOut after *timeout_s*.

    No end is missed and nothing is polled: the events are followed from the cursor that was read before the jobs.
    """
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    pending = dict.fromkeys(ids)
    patience = Patience(http.pause)
    while pending:
        try:
            cursor = ""
            for job in list(pending):
                view, newest = read_job(http, job)
                cursor = cursor or newest  # the oldest of the cursors: what ended between two reads comes again
                if view.state in ENDED_STATES:
                    del pending[job]
                    yield view
            patience.renew()
            if pending:
                yield from _ends(http, pending, cursor, deadline)
        except Interrupted as problem:
            left_s = _left_s(deadline, pending)
            if isinstance(problem, Silence):
                patience.renew()
            patience.spend(problem, at_most_s=left_s)


def _ends(http: Transport, pending: dict[int, None], cursor: str, deadline: float | None) -> Iterator[JobView]:
    """Yield the *pending* jobs (and take them out) as they end, until none is left; raise Interrupted before that."""
    left_s = _left_s(deadline, pending)
    with http.stream("/v1/events", _events_query(cursor, list(pending))) as response, _hung_up(response, left_s):
        for message in sse.parse(response.iter_bytes()):
            _left_s(deadline, pending)
            if message.event != "change":
                continue
            event = http.decode(message.data, EventView)
            if event.job in pending and (event.state in ENDED_STATES or isinstance(event.phase, Ended)):
                view, _ = read_job(http, event.job)
                if view.state in ENDED_STATES:
                    del pending[event.job]
                    yield view
            if not pending:
                return
    raise Interrupted(f"{http.url} closed the event stream")


def read_job(http: Transport, job: int) -> tuple[JobView, str]:
    """Return *job* and the cursor of the newest event before the read."""
    response = http.send("GET", f"/v1/jobs/{job}")
    cursor = response.headers.get("shunter-event", "")
    if not cursor:
        raise ShunterError(f"{http.url} gave job {job} without an event cursor", fix="update the gateway there")
    return http.decode(response.content, JobView), cursor


def _left_s(deadline: float | None, pending: dict[int, None]) -> float:
    left_s = float("inf") if deadline is None else deadline - time.monotonic()
    if left_s <= 0:
        jobs = ", ".join(map(str, list(pending)[:10])) + (", ..." if len(pending) > 10 else "")
        raise WaitTimedOut(f"time is up, and {len(pending)} job(s) have not ended: {jobs}", fix="they go on")
    return left_s


@contextmanager
def _hung_up(response: httpx.Response, after_s: float) -> Iterator[None]:
    """Shut the connection of *response* down in *after_s*, which ends a read that waits in this thread."""
    if after_s == float("inf"):
        yield
        return
    timer = threading.Timer(min(after_s, threading.TIMEOUT_MAX), _shut_down, [response])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _shut_down(response: httpx.Response) -> None:
    stream = response.extensions.get("network_stream")
    connection = stream.get_extra_info("socket") if stream else None
    if connection is not None:
        # Not SSLSocket's own shutdown, which would pull the TLS state from under the reading thread.
        with suppress(OSError):  # closed in the meantime
            socket.socket.shutdown(connection, socket.SHUT_RDWR)


def _events_query(cursor: str, jobs: Sequence[int]) -> Params:
    query: dict[str, str | bool | Sequence[int]] = {"after": cursor, "follow": True}
    if 0 < len(jobs) <= _MAX_FILTER:
        query["job"] = list(jobs)
    return query


def _messages(http: Transport, path: str, params: Params) -> Iterator[sse.Message]:
    """Yield the messages of one connection; a refusal that came after the headers is raised."""
    with http.stream(path, params) as response:
        for message in sse.parse(response.iter_bytes()):
            if message.event == "error":
                body = http.decode(message.data, ErrorBody)
                kind = BY_CODE.get(body.code, ShunterError)
                raise (Interrupted if kind.http_status == 503 else kind)(
                    body.message, field=body.field or None, fix=body.fix or None
                )
            yield message


def _resumed(http: Transport, connect: Callable[[], Iterator[sse.Message]]) -> Iterator[sse.Message]:
    """Yield messages, over as many connections as it takes; *connect* knows where to go on. Ends by being closed."""
    patience = Patience(http.pause, REQUEST_PAUSES_S)
    while True:
        try:
            for message in connect():
                patience.renew()
                yield message
            problem = Interrupted(f"{http.url} closed the stream", fix="try again")
        except Interrupted as interrupted:
            problem = interrupted
            if isinstance(problem, Silence):
                patience.renew()
        patience.spend(problem)
