"""HTTP to one gateway: bounded retries, and every refusal raised as its class in `shunter.errors`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Final, TypeVar

import httpx
import msgspec

from shunter import __version__
from shunter.domain.report import ErrorBody
from shunter.errors import (
    BY_CODE,
    Conflict,
    InvalidInput,
    NotFound,
    RequestTooLarge,
    ShunterError,
    Unauthorized,
    Unavailable,
)
from shunter.sdk.home import Server, is_loopback

T = TypeVar("T")
Params = Mapping[str, str | int | bool | Sequence[str | int]]

REQUEST_PAUSES_S: Final = (0.5, 1.5)
"""Waits between the three tries of a request."""
STORE_PAUSES_S: Final = (0.5, 1.5, 2.0, 2.0, 2.0, 2.0)
"""The same where a gateway answers that its store is away: a take-over of Redis lasts 5 to 6 s."""
STORE_PATIENCE_S: Final = 12.0
"""No further try so long after the first failed, however long each took."""
STREAM_PAUSES_S: Final = (0.2, 0.5, 1.0, 2.0, 4.0, 8.0, 8.0, 8.0, 8.0, 8.0, 8.0)
"""Waits before a stream that worked is given up: a gateway may take most of a minute to come back."""
RETRY_AFTER_MAX_S: Final = 5.0
SILENCE_S: Final = 60.0
"""A followed stream without even a comment for so long is taken for dead."""

_TRY_AGAIN: Final = frozenset({429, 502, 503, 504})
_BY_STATUS: Final[Mapping[int, type[ShunterError]]] = {
    400: InvalidInput,
    401: Unauthorized,
    403: Unauthorized,
    404: NotFound,
    409: Conflict,
    413: RequestTooLarge,
    422: InvalidInput,
}


class Interrupted(Unavailable):
    """No answer, or an answer that says `try again`: the same request may be sent once more.

    *store*: it is a gateway's answer, and the trouble is behind it.
    """

    retry_after_s = 0.0
    store = False


class Silence(Interrupted):
    """An open stream said nothing for SILENCE_S: the job may just be quiet, or the connection dead. Ask anew."""


class Patience:
    """How often to try again: *pauses_s* until something works, STREAM_PAUSES_S whenever it worked before."""

    def __init__(self, pause: Callable[[float], object], pauses_s: Sequence[float] = ()) -> None:
        self._pause = pause
        self._left = iter(pauses_s)

    def renew(self) -> None:
        self._left = iter(STREAM_PAUSES_S)

    def spend(self, problem: Interrupted, *, at_most_s: float = float("inf")) -> None:
        """Wait before the next try; raise *problem* when patience has run out."""
        planned_s = next(self._left, None)
        if planned_s is None:
            raise problem
        self._pause(min(max(planned_s, min(problem.retry_after_s, RETRY_AFTER_MAX_S)), at_most_s))


class Transport:
    """One gateway, spoken to over kept-alive connections. Every call is idempotent there, so each may be repeated."""

    def __init__(
        self,
        server: Server,
        *,
        timeout_s: float,
        transport: httpx.BaseTransport | None = None,
        pause: Callable[[float], object] = time.sleep,
    ) -> None:
        self.url = server.url
        self.pause = pause
        self._timeout_s = timeout_s
        headers = {"user-agent": f"shunter/{__version__}"}
        if server.token:
            headers["authorization"] = f"Bearer {server.token}"
        self._http = httpx.Client(
            base_url=server.url,
            headers=headers,
            timeout=httpx.Timeout(timeout_s, connect=min(timeout_s, 5.0)),
            transport=transport,
            verify=server.url.startswith("https:"),  # loading the trust store takes 40 ms, for nothing on http
            trust_env=not is_loopback(server.url),
        )

    def close(self) -> None:
        self._http.close()

    def call(
        self,
        method: str,
        path: str,
        answer: type[T],
        *,
        params: Params | None = None,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> T:
        """Send a request and return its answer as *answer*."""
        return self.decode(self.send(method, path, params=params, body=body, headers=headers).content, answer)

    def send(
        self,
        method: str,
        path: str,
        *,
        params: Params | None = None,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> httpx.Response:
        """Send a request, up to three times, through a take-over of Redis for longer, and return the response.

        Raises what a refusal says.
        """
        patience, failed_s = Patience(self.pause, STORE_PAUSES_S), list[float]()
        extra = dict(headers or {})
        if body is not None:
            extra["content-type"] = "application/json"
        while True:
            try:
                with self._problems():
                    response = self._http.request(method, path, params=_query(params), content=body, headers=extra)
                if not response.is_success:
                    raise self._refusal(response)
                return response
            except Interrupted as problem:
                failed_s.append(time.monotonic())
                for_store = problem.store and failed_s[-1] - failed_s[0] < STORE_PATIENCE_S
                if len(failed_s) > len(REQUEST_PAUSES_S) and not for_store:
                    raise
                patience.spend(problem)

    @contextmanager
    def stream(self, path: str, params: Params) -> Iterator[httpx.Response]:
        """Open a long answer, once; raise Interrupted when it cannot be opened or breaks off while being read."""
        timeout = httpx.Timeout(self._timeout_s, read=SILENCE_S)
        headers = {"accept-encoding": "identity"}  # so that an offset counts the bytes that come
        answer = self._http.stream("GET", path, params=_query(params), timeout=timeout, headers=headers)
        with ExitStack() as stack:
            with self._problems(timed_out=Interrupted):
                response = stack.enter_context(answer)
                if not response.is_success:
                    response.read()
                    raise self._refusal(response)
            with self._problems(timed_out=Silence):
                yield response

    def decode(self, content: bytes | str, answer: type[T]) -> T:
        """Return *content* as *answer*; a gateway that speaks otherwise is named with its URL."""
        try:
            return msgspec.json.decode(content, type=answer)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ShunterError(
                f"{self.url} gave an answer that this client ({__version__}) cannot read: {error}",
                fix="see that SHUNTER_URL is a Shunter gateway, of the same version",
            ) from error

    @contextmanager
    def _problems(self, *, timed_out: type[Unavailable] = Unavailable) -> Iterator[None]:
        """Turn httpx's errors into ours. Only a stream is tried again when an answer took too long."""
        try:
            yield
        except httpx.ReadTimeout as error:
            waited_s = self._timeout_s if timed_out is Unavailable else SILENCE_S
            raise timed_out(
                f"{self.url} gave no answer within {waited_s:g} s",
                fix="try again; if it stays so, look at the gateway's log",
            ) from error
        except httpx.HTTPError as error:
            raise Interrupted(
                f"{self.url} does not answer: {str(error) or type(error).__name__}",
                fix="see that Shunter runs there (`shunter up`, `shunter gateway`) or that SHUNTER_URL is right",
            ) from error

    def _refusal(self, response: httpx.Response) -> ShunterError:
        """Return the error that a *response* (already read) with a bad status stands for."""
        status = response.status_code
        try:
            body = msgspec.json.decode(response.content, type=ErrorBody)
        except (msgspec.DecodeError, UnicodeDecodeError):
            body = ErrorBody("", f"{self.url} answered HTTP {status} {response.reason_phrase}".rstrip())
        if status in _TRY_AGAIN:
            return self._try_again(response, body)
        fix = body.fix
        kind = BY_CODE.get(body.code) or _BY_STATUS.get(status, ShunterError)
        if kind is Unauthorized and not fix:
            fix = "set SHUNTER_TOKEN to the token that `shunter up` or your administrator gave you"
        elif not body.code and not fix:
            fix = "see that SHUNTER_URL is a Shunter gateway"
        return kind(body.message, field=body.field or None, fix=fix or None)

    def _try_again(self, response: httpx.Response, body: ErrorBody) -> Interrupted:
        message = body.message if self.url in body.message else f"{self.url}: {body.message}"
        problem = Interrupted(message, field=body.field or None, fix=body.fix or "try again in a few seconds")
        problem.store = body.code == Unavailable.code
        after = response.headers.get("retry-after", "")
        problem.retry_after_s = float(after) if after.isascii() and after.isdigit() else 0.0
        return problem


def _query(params: Params | None) -> dict[str, str | list[str]] | None:
    return {name: _in_query(value) for name, value in params.items()} if params else None


def _in_query(value: str | int | bool | Sequence[str | int]) -> str | list[str]:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, str | int) else [str(one) for one in value]
