"""Streams: nothing is lost or told twice across broken connections, and patience has an end."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice

import httpx
import pytest

from shunter.errors import InvalidInput, NotFound, ShunterError, Unavailable
from shunter.sdk import sse, transport
from shunter.sdk.client import Client, WaitTimedOut
from tests.unit.sdk.fake import (
    FakeGateway,
    broken,
    change,
    log,
    message,
    ok,
    one_job,
    refusal,
    refused,
    stream,
    view,
)

EVENTS = "GET /v1/events"
LOGS = "GET /v1/jobs/7/logs"


def page(*ids: str, last: str) -> httpx.Response:
    return ok({"events": [{"id": id, "at_s": 1.0, "kind": "moved"} for id in ids], "last": last})


# the format


def test_messages_are_the_same_however_the_bytes_are_cut() -> None:
    text = b"id: 1-0\r\nevent: change\ndata: {}\n\n: waiting\n\ndata: a\ndata:b\n\nevent: cut\ndata: off\n"
    whole = list(sse.parse([text]))
    assert whole == [sse.Message("change", "{}", "1-0"), sse.COMMENT, sse.Message("message", "a\nb", "1-0")]
    assert list(sse.parse([text[at : at + 1] for at in range(len(text))])) == whole


def test_line_separators_inside_data_do_not_end_a_line() -> None:
    assert list(sse.parse(["data: a\u2028b\x0bc\n\n".encode()])) == [sse.Message("message", "a\u2028b\x0bc")]


# events


def test_interrupted_events_go_on_after_the_last_one_seen(gateway: FakeGateway) -> None:
    gateway.plan(
        EVENTS,
        stream(change("5-1", 7, "running"), change("5-2", 8, "queued"), "id: 5-3\nevent: cha", then=broken()),
        refused(),
        stream(change("5-3", 7, "succeeded")),
    )
    events = gateway.client().events(after="5-0", follow=True)
    assert [event.id for event in islice(events, 3)] == ["5-1", "5-2", "5-3"]
    assert [gateway.sent(at)["after"] for at in range(3)] == [["5-0"], ["5-2"], ["5-2"]]


def test_following_from_now_loses_nothing_before_the_first_event(gateway: FakeGateway) -> None:
    gateway.plan(
        EVENTS, page("9-1", last="9-1"), stream(then=broken()), stream(": waiting\n\n", change("9-2", 7, "queued"))
    )
    events = gateway.client().events(jobs=[7], follow=True)
    assert [event.id for event in islice(events, 2)] == ["9-1", "9-2"]
    assert "after" not in gateway.sent(0)
    assert gateway.sent(2) == {"after": ["9-1"], "follow": ["true"], "job": ["7"]}


def test_patience_with_a_stream_that_never_comes_back_ends(gateway: FakeGateway) -> None:
    gateway.plan(EVENTS, stream(change("5-1", 7, "running")), *(refused() for _ in transport.STREAM_PAUSES_S))
    events = gateway.client().events(after="0", follow=True)
    next(events)
    with pytest.raises(Unavailable, match="does not answer"):
        next(events)
    assert gateway.pauses_s == list(transport.STREAM_PAUSES_S)


def test_server_that_closes_every_stream_at_once_is_given_up(gateway: FakeGateway) -> None:
    gateway.plan(EVENTS, stream(), stream(), stream())
    with pytest.raises(Unavailable, match="closed the stream"):
        next(gateway.client().events(after="0", follow=True))


def test_quiet_stream_is_asked_for_anew_however_long_it_stays_quiet(gateway: FakeGateway) -> None:
    silences = [stream(then=httpx.ReadTimeout("timed out")) for _ in range(2 * len(transport.STREAM_PAUSES_S))]
    gateway.plan(EVENTS, *silences, stream(change("5-1", 7, "running")))
    assert next(gateway.client().events(after="0", follow=True)).id == "5-1"


def test_refused_stream_is_not_tried_again(gateway: FakeGateway) -> None:
    gateway.plan(EVENTS, refusal(InvalidInput("after: expected a cursor, got 'x'", field="after")))
    with pytest.raises(InvalidInput, match="after"):
        next(gateway.client().events(after="x", follow=True))


def test_kept_events_are_read_page_by_page_from_the_beginning(gateway: FakeGateway) -> None:
    gateway.plan(EVENTS, page("1-0", "2-0", last="2-0"), page("3-0", last="3-0"), page(last="3-0"))
    assert [event.id for event in gateway.client().events()] == ["1-0", "2-0", "3-0"]
    assert [gateway.sent(at)["after"] for at in range(3)] == [["0"], ["2-0"], ["3-0"]]


# logs


def test_followed_log_goes_on_at_its_offset_and_without_the_tail(gateway: FakeGateway) -> None:
    ended = message("end", view(7, "succeeded"))
    gateway.plan(LOGS, stream(log("one\n", 104), then=broken()), stream(log("two\n", 108), ended))
    assert "".join(gateway.client().logs(7, follow=True, tail=1)) == "one\ntwo\n"
    assert gateway.sent(0) == {"stream": ["output"], "follow": ["true"], "tail": ["1"]}
    assert gateway.sent(1) == {"stream": ["output"], "follow": ["true"], "attempt": ["1"], "offset": ["104"]}


def test_attempt_that_began_while_the_stream_was_down_is_read_from_its_start(gateway: FakeGateway) -> None:
    gateway.plan(
        LOGS,
        stream(log("one\n", 4), then=broken()),
        stream(log("rest\n", 9), message("end", view(7, "running", attempt=2))),
        stream(log("again\n", 6, attempt=2), message("end", view(7, "succeeded", attempt=2))),
    )
    assert "".join(gateway.client().logs(7, follow=True)) == "one\nrest\nagain\n"
    assert (gateway.sent(2)["attempt"], gateway.sent(2)["offset"]) == (["2"], ["0"])


def test_log_of_a_chosen_attempt_ends_with_it(gateway: FakeGateway) -> None:
    gateway.plan(
        LOGS,
        stream(log("one\n", 4), then=broken()),
        stream(message("end", view(7, "running", attempt=2))),
    )
    assert "".join(gateway.client().logs(7, follow=True, attempt=1)) == "one\n"


def test_error_inside_a_stream_is_raised_as_its_class(gateway: FakeGateway) -> None:
    gateway.plan(LOGS, stream(message("error", {"code": "not_found", "message": "no log any more"})))
    with pytest.raises(NotFound, match="no log any more"):
        list(gateway.client().logs(7, follow=True))


def test_interrupted_log_goes_on_at_the_next_byte(gateway: FakeGateway) -> None:
    text = "grün\n".encode()
    gateway.plan(LOGS, stream(text[:3], then=broken()), stream(text[3:]))
    assert "".join(gateway.client().logs(7)) == "grün\n"
    assert gateway.sent(1)["offset"] == ["3"]


def test_interrupted_tail_is_an_error_for_its_place_is_not_known(gateway: FakeGateway) -> None:
    gateway.plan(LOGS, stream("half a li", then=broken()))
    with pytest.raises(Unavailable):
        list(gateway.client().logs(7, tail=2))


# waiting


def test_job_that_ended_before_is_not_waited_for(gateway: FakeGateway) -> None:
    gateway.plan("GET /v1/jobs/7", one_job(view(7, "failed", code=3)))
    assert [seen.exit_status for seen in gateway.client().wait(7)] == [3]


def test_job_that_ends_between_the_read_and_the_subscription_is_not_missed(gateway: FakeGateway) -> None:
    gateway.plan("GET /v1/jobs/7", one_job(view(7, "running"), "5-0"), one_job(view(7, "succeeded"), "5-9"))
    gateway.plan("GET /v1/jobs/8", one_job(view(8, "succeeded"), "5-3"))
    gateway.plan(EVENTS, stream(change("5-1", 7, "succeeded")))
    assert [seen.state for seen in gateway.client().wait(7, 8, 7)] == ["succeeded"] * 3
    assert gateway.sent(2) == {"after": ["5-0"], "follow": ["true"], "job": ["7"]}


def test_jobs_come_in_the_order_in_which_they_end(gateway: FakeGateway) -> None:
    gateway.plan("GET /v1/jobs/7", one_job(view(7, "queued")), one_job(view(7, "succeeded")))
    gateway.plan("GET /v1/jobs/8", one_job(view(8, "running")), one_job(view(8, "failed", code=1)))
    gateway.plan(EVENTS, stream(change("6-0", 7, "running"), change("6-1", 8, "failed"), change("6-2", 7, "succeeded")))
    assert [seen.id for seen in gateway.client().as_ended(7, 8)] == [8, 7]


def test_wait_reads_the_jobs_again_when_its_stream_breaks(gateway: FakeGateway) -> None:
    gateway.plan("GET /v1/jobs/7", one_job(view(7, "running"), "5-0"), one_job(view(7, "succeeded"), "6-0"))
    gateway.plan(EVENTS, stream(": waiting\n\n", then=broken()))
    assert gateway.client().wait(7)[0].state == "succeeded"


def test_wait_for_an_unknown_job_is_not_found(gateway: FakeGateway) -> None:
    gateway.plan("GET /v1/jobs/7", refusal(NotFound("job 7: unknown")))
    with pytest.raises(NotFound):
        gateway.client().wait(7)


def test_wait_that_runs_out_is_a_timeout_and_names_the_jobs(gateway: FakeGateway) -> None:
    gateway.plan("GET /v1/jobs/7", one_job(view(7, "running")))
    with pytest.raises(TimeoutError, match=r"1 job\(s\) have not ended: 7") as caught:
        gateway.client().wait(7, timeout_s=0)
    assert isinstance(caught.value, ShunterError) and caught.value.exit_code == 124


def test_more_jobs_than_a_query_takes_are_filtered_here(gateway: FakeGateway) -> None:
    ids = range(1, 202)
    for id in ids:
        gateway.plan(f"GET /v1/jobs/{id}", one_job(view(id, "running")), one_job(view(id, "succeeded")))
    gateway.plan(EVENTS, stream(*(change(f"6-{id}", id, "succeeded") for id in (999, *ids))))
    assert len(gateway.client().wait(*ids)) == 201
    assert "job" not in gateway.sent(len(ids))


class _QuietServer(BaseHTTPRequestHandler):
    """A running job, and an event stream that opens and says nothing until the client hangs up."""

    def do_GET(self) -> None:
        response = one_job(view(7, "running")) if self.path.startswith("/v1/jobs/7") else None
        body = response.content if response else b""
        self.send_response(200)
        self.send_header("Shunter-Event", "5-0")
        if response:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        if response is None:
            self.wfile.flush()
            self.rfile.read(1)
            self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def quiet_url() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _QuietServer)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_wait_ends_in_time_although_the_stream_says_nothing(quiet_url: str) -> None:
    with Client(quiet_url, "t") as client, pytest.raises(WaitTimedOut):
        client.wait(7, timeout_s=0.1)
