"""The HTTP API. Handlers are thin: read the request, one call on the service, answer."""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncIterator
from typing import Annotated, Any, Final

import msgspec
import structlog
from litestar import Litestar, MediaType, Request, Response, Router, delete, get, post
from litestar.di import Provide
from litestar.exceptions import HTTPException
from litestar.openapi.config import OpenAPIConfig
from litestar.params import Parameter
from litestar.response import Stream

from shunter import __version__
from shunter.domain.report import STATES, ClusterView, ErrorBody, EventView, JobView, NodeView
from shunter.errors import InvalidInput, NotFound, RequestTooLarge, ShunterError, Unauthorized, Unavailable
from shunter.gateway import docs_page, feed, logs
from shunter.gateway.auth import TokenGuard
from shunter.gateway.door import check_request
from shunter.gateway.hub import Hub
from shunter.gateway.service import UNSAID, Cancellation, Page, Service
from shunter.gateway.submission import MAX_JOBS, read_specs
from shunter.runtime.log import Complaint
from shunter.runtime.policy_report import PolicyInForce
from shunter.store import commands

MAX_BODY_BYTES: Final = 64 * 1024 * 1024
MAX_KEY: Final = 255
log = structlog.get_logger("gateway")
_CURSOR: Final = re.compile(r"[0-9]{1,18}(-[0-9]{1,18})?")
"""An id in a Redis stream, as far as it is surely below 2**64 in both parts."""


class Submitted(msgspec.Struct, frozen=True):
    """The jobs that were accepted, in the order in which they were sent."""

    jobs: list[JobView]


class Ids(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Job ids, up to 1,000."""

    ids: Annotated[list[int], msgspec.Meta(min_length=1, max_length=MAX_JOBS)]


class Why(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Why a node is to take no new work, or is lost."""

    reason: Annotated[str, msgspec.Meta(min_length=1, max_length=200)] = UNSAID


class Events(msgspec.Struct, frozen=True):
    """Entries of the event stream, and the cursor to go on from."""

    events: list[EventView]
    last: str


class Nodes(msgspec.Struct, frozen=True):
    """All nodes, by name."""

    nodes: list[NodeView]


class Health(msgspec.Struct, frozen=True):
    """*status* is ok: the store answers."""

    status: str


def make_app(service: Service, hub: Hub, token: str) -> Litestar:
    """Return the gateway as an ASGI application."""

    async def provide_service() -> Service:
        return service

    async def provide_hub() -> Hub:
        return hub

    @contextlib.asynccontextmanager
    async def lifespan(_: Litestar) -> AsyncIterator[None]:
        yield
        await hub.close()
        await service.store.close()

    guarded = [
        submit, list_jobs, show_job, cancel_jobs, job_logs, events, list_nodes, cordon_node, uncordon_node, lose_node,
        forget_node, cluster, policy,
    ]  # fmt: skip
    api = Router("/", guards=[TokenGuard(token)], route_handlers=guarded, before_request=check_request)
    return Litestar(
        [api, health, openapi_json, docs],
        dependencies={"service": Provide(provide_service), "hub": Provide(provide_hub)},
        exception_handlers={
            ShunterError: _answer_error,
            HTTPException: _answer_http_error,
            Exception: _answer_bug,
        },
        lifespan=[lifespan],
        logging_config=None,
        openapi_config=OpenAPIConfig(
            "Shunter", __version__, path="/_openapi", render_plugins=[], use_handler_docstrings=True
        ),
        request_max_body_size=MAX_BODY_BYTES,
    )


# errors: the one table from our classes to statuses is `ShunterError.http_status`


_trouble: Final = Complaint()


def _answer_error(_: Request[Any, Any, Any], error: ShunterError) -> Response[ErrorBody]:
    if isinstance(error, Unavailable) and _trouble.due(str(error)):
        log.warning("unavailable", error=str(error))
    headers = {503: {"Retry-After": "1"}, 401: {"WWW-Authenticate": "Bearer"}}.get(error.http_status, {})
    return Response(_body(error), status_code=error.http_status, headers=headers, media_type=MediaType.JSON)


def _body(error: ShunterError) -> ErrorBody:
    return ErrorBody(error.code, error.message, error.field or "", error.fix or "")


def _answer_http_error(request: Request[Any, Any, Any], error: HTTPException) -> Response[ErrorBody]:
    """Litestar's own refusals (no such path, a query value that cannot be read), in our form."""
    if error.status_code == 413:
        too_large = RequestTooLarge(
            f"body: expected at most {MAX_BODY_BYTES // 2**20} MiB", field="body", fix="a script may have 16 MiB"
        )
        return _answer_error(request, too_large)
    if error.status_code == 404:
        return _answer_error(request, NotFound(f"path: nothing is at {request.url.path}", fix="see /docs"))
    if error.status_code == 401:
        return _answer_error(request, Unauthorized(error.detail))
    problems = [
        (_WIRE_NAMES.get(one["key"], str(one["key"])), str(one["message"]))
        for one in error.extra or ()
        if isinstance(one, dict) and "key" in one
    ]
    message = "; ".join(_say_wrong(request, name, said) for name, said in problems) or error.detail
    field = problems[0][0] if problems else None
    answer = _answer_error(request, InvalidInput(message, field=field, fix="see /docs"))
    answer.status_code = error.status_code
    return answer


_WIRE_NAMES: Final = {"everything": "all", "states": "state", "idempotency_key": "Idempotency-Key"}
"""What people call the parameters whose names differ in our handlers, which Litestar's refusals use."""


def _say_wrong(request: Request[Any, Any, Any], name: str, said: str) -> str:
    """Return Litestar's ``Expected `int`, got `str` - at `$.limit` `` as `limit: expected int, got 'x'`."""
    expected = said.partition(" - at ")[0].partition(", got ")[0].replace("`", "").lower()
    return f"{name}: {expected}, got {request.query_params.get(name, request.headers.get(name))!r:.60}"


def _answer_bug(_: Request[Any, Any, Any], error: Exception) -> Response[ErrorBody]:
    log.error("unexpected error", exc_info=error)
    return Response(ErrorBody("error", "the gateway failed; its log says why"), status_code=500)


# jobs


@post("/v1/jobs", summary="Submit jobs")
async def submit(
    request: Request[Any, Any, Any],
    service: Service,
    idempotency_key: Annotated[str | None, Parameter(header="Idempotency-Key", max_length=MAX_KEY)] = None,
) -> Submitted:
    """Accept one job, or up to 1,000, all or none. A repeat with the same Idempotency-Key answers the first ids."""
    body = await request.body()
    return Submitted(await service.submit(read_specs(body), body, idempotency_key))


@get("/v1/jobs", summary="List jobs")
async def list_jobs(
    service: Service,
    everything: Annotated[bool, Parameter(query="all", description="ended jobs too, newest first")] = False,
    states: Annotated[list[str] | None, Parameter(query="state", description="repeatable")] = None,
    user: str | None = None,
    name: str | None = None,
    limit: Annotated[int, Parameter(ge=1, le=1000)] = 100,
    cursor: Annotated[int | None, Parameter(ge=0)] = None,
) -> Page:
    """Jobs that have not ended, oldest first; with `all` every job, newest first. Follow `cursor` for more."""
    unknown = sorted(set(states or ()) - set(STATES))
    if unknown:
        raise InvalidInput(f"state: unknown {unknown[0]!r}", field="state", fix=f"use one of {', '.join(STATES)}")
    return await service.jobs(
        everything=everything, states=frozenset(states or ()), user=user, name=name, limit=limit, cursor=cursor
    )


@get("/v1/jobs/{job_id:int}", summary="Show a job")
async def show_job(service: Service, job_id: int) -> Response[JobView]:
    """One job with what it runs. The header Shunter-Event is the newest event's id from before the read."""
    view, event = await service.job(job_id)
    return Response(view, headers={"Shunter-Event": event})


@post("/v1/jobs/cancel", summary="Cancel jobs", status_code=200)
async def cancel_jobs(service: Service, request: Request[Any, Any, Any]) -> Cancellation:
    """Cancel jobs, queued or running. Who has ended already, or is unknown, is named in the answer."""
    try:
        ids = msgspec.json.decode(await request.body(), type=Ids).ids
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidInput(f"ids: {error}", field="ids", fix='send {"ids": [12, 13]}') from error
    return await service.cancel(ids)


@get("/v1/jobs/{job_id:int}/logs", summary="Read a job's log", media_type=MediaType.TEXT)
async def job_logs(
    service: Service,
    hub: Hub,
    job_id: int,
    attempt: Annotated[int | None, Parameter(ge=1)] = None,
    stream: str = "output",
    tail: Annotated[int | None, Parameter(ge=0, le=1_000_000)] = None,
    offset: Annotated[int, Parameter(ge=0)] = 0,
    rank: Annotated[int, Parameter(ge=0, description="member of a gang")] = 0,
    follow: bool = False,
) -> Response[Any]:
    """What the job printed, as text; with `follow` as server-sent events until the job has ended."""
    view, _ = await service.job(job_id)
    which = logs.Which(attempt, stream, offset, tail, rank)
    await logs.check(service, view, which)
    if follow:
        return _event_stream(_log_messages(logs.follow(service, hub, job_id, which)))
    return Stream(logs.whole(service, view, which), media_type="text/plain; charset=utf-8")


async def _log_messages(parts: AsyncIterator[logs.LogPart | JobView | None]) -> AsyncIterator[bytes]:
    async for part in parts:
        if part is None:
            yield feed.WAITING
        else:
            yield feed.frame("end" if isinstance(part, JobView) else "log", part)


def _event_stream(messages: AsyncIterator[bytes]) -> Stream:
    headers = {
        "Content-Type": "text/event-stream; charset=utf-8",  # as a header: a handler's own media type would win
        "Cache-Control": "no-cache",
        "Connection": "keep-alive",
        "X-Accel-Buffering": "no",
    }
    return Stream(_told(messages), headers=headers)


async def _told(messages: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Pass *messages* on; an error of ours becomes the last of them, for the status was sent long ago."""
    try:
        async for message in messages:
            yield message
    except ShunterError as error:
        yield feed.frame("error", _body(error))


@get("/v1/events", summary="Read or follow events")
async def events(
    service: Service,
    hub: Hub,
    after: Annotated[str | None, Parameter(description="cursor; 0: all that is kept")] = None,
    job: list[int] | None = None,
    limit: Annotated[int, Parameter(ge=1, le=10_000)] = 1000,
    follow: bool = False,
) -> Response[Any]:
    """Every change of a job, node or leader. With `follow`, server-sent events for ever."""
    if after is not None and not _CURSOR.fullmatch(after):
        raise InvalidInput(
            f"after: expected an event's id or 0, got {after!r:.60}",
            field="after",
            fix="use the last id that an earlier answer gave",
        )
    start = after if after is not None else await service.store.run(commands.last_event(service.keys))
    jobs = frozenset(job or ())
    if follow:
        return _event_stream(_event_messages(service, hub, start, jobs))
    found, last = await service.events(start, jobs, limit)
    return Response(Events(found, last))


async def _event_messages(service: Service, hub: Hub, after: str, jobs: frozenset[int]) -> AsyncIterator[bytes]:
    news = hub.news()  # before the first read: nothing that comes after that read is missed
    yield feed.comment(f"after {after}")
    while True:
        frames, after, more = await service.feed.batch(after, jobs)
        if frames:
            yield frames
        if not more:
            yield feed.WAITING
            await anext(news)


# nodes and the cluster


@get("/v1/nodes", summary="List nodes")
async def list_nodes(service: Service) -> Nodes:
    """All nodes with their GPUs, what is free, and what they run."""
    return Nodes(await service.nodes())


@post("/v1/nodes/{name:str}/cordon", summary="Cordon a node", status_code=200)
async def cordon_node(service: Service, request: Request[Any, Any, Any], name: str) -> NodeView:
    """Give the node no new work; what runs there goes on."""
    return await service.cordon(name, (await _why(request)).reason)


@post("/v1/nodes/{name:str}/lost", summary="Declare a node lost", status_code=200)
async def lose_node(service: Service, request: Request[Any, Any, Any], name: str) -> NodeView:
    """Have the node's jobs run elsewhere: your word that nothing runs there any more."""
    return await service.lose(name, (await _why(request)).reason)


async def _why(request: Request[Any, Any, Any]) -> Why:
    try:
        return msgspec.json.decode(await request.body() or b"{}", type=Why)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidInput(f"reason: {error}", field="reason", fix='send {"reason": "new disk"}') from error


@delete("/v1/nodes/{name:str}", summary="Forget a lost node", status_code=204)
async def forget_node(service: Service, name: str) -> None:
    """Remove a node that is lost and that nothing is held on any more."""
    await service.forget(name)


@post("/v1/nodes/{name:str}/uncordon", summary="Uncordon a node", status_code=200)
async def uncordon_node(service: Service, name: str) -> NodeView:
    """Let the node take work again."""
    return await service.cordon(name, "")


@get("/v1/cluster", summary="The cluster in one look")
async def cluster(service: Service) -> ClusterView:
    """Who leads, and how many nodes, GPUs and jobs there are."""
    return await service.cluster()


@get("/v1/policy", summary="The policy in force")
async def policy(service: Service) -> PolicyInForce:
    """The policy that the leader goes by, as a structure and as its file has it; and why a newer file was refused."""
    return await service.policy()


@get("/v1/health", summary="Health of this gateway", before_request=check_request)
async def health(service: Service) -> Health:
    """200 while the store answers, else 503: for load balancers. Needs no token."""
    await service.store.run(commands.store_time(service.keys))
    if (for_s := _trouble.over()) is not None:
        log.info("the store answers again", after_s=for_s)
    return Health("ok")


@get("/openapi.json", include_in_schema=False, media_type=MediaType.JSON, sync_to_thread=False)
def openapi_json(request: Request[Any, Any, Any]) -> dict[str, Any]:
    return docs_page.openapi(request.app)


@get("/docs", include_in_schema=False, media_type=MediaType.HTML, sync_to_thread=False)
def docs(request: Request[Any, Any, Any]) -> str:
    return docs_page.page(docs_page.openapi(request.app))
