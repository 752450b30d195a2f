"""Which Redis serves the cluster's keys: one server, whoever Sentinel calls master, or a Redis Cluster's slot owner.

    redis://…, rediss://…, unix://…                                     one server
    sentinel://[USER:PASSWORD@]HOST:PORT;HOST:PORT;…/MASTER             the master that sentinels name
    rediscluster://[USER:PASSWORD@]HOST:PORT;HOST:PORT;…[/CLUSTER]      the owner of the cluster's slot

Options of all three after `?`: `confirm=N` (replicas that must have a submission or a claim before it counts as safe)
and `confirm_ms=MS`; of the latter two `tls=1` and `ca=FILE`; of Sentinel `sentinel_user`, `sentinel_password`.

Where servers take over from one another, connections ask who serves at each connect, and take every word of a server
that does not serve (any more) for the end of the connection: the next one asks again. Source for the rules that clients
follow: https://redis.io/docs/latest/develop/reference/sentinel-clients/
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections import Counter
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

import redis
import redis.asyncio
from redis.exceptions import (
    AskError,
    AuthenticationError,
    ClusterDownError,
    ConnectionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TryAgainError,
)

from kombu_rediscluster.slot import LoginRefused, NotACluster, Slot, read_slots
from shunter.errors import InvalidInput, SetupError

PLAIN: Final = ("redis", "rediss", "unix")
SENTINEL: Final = "sentinel"
CLUSTER: Final = "rediscluster"
FORMS: Final = (
    "redis://HOST:PORT/DB, rediss://…, unix:///PATH.sock, sentinel://H:P;H:P;H:P/MASTER or rediscluster://H:P;H:P"
)

ASK_S: Final = 1.0
"""How long a sentinel, or another node, may take to say who serves."""

CONFIRM_MS: Final = 1_000
MAX_CONFIRM_MS: Final = 1_500
"""Below the time-out of a node's renewal, so that no confirmation is mistaken for a server that is gone."""

Address = tuple[str, int]

_ELSEWHERE: Final = (AskError, TryAgainError, ReadOnlyError, ClusterDownError)
"""MovedError is an AskError."""

_ELSEWHERE_WORDS: Final = ("UNBLOCKED", "NOREPLICAS", "MASTERDOWN")
"""What a demoted, cut-off or half-way server says. NOREPLICAS may be one that others have replaced meanwhile."""


class Url(NamedTuple):
    """A URL taken apart. *hosts* and *name* are empty for a plain one, whose *plain* form redis-py reads.

    *name*: Sentinel's name of the master, or the cluster's, which is the hash tag. *confirm* None: as the kind has it.
    """

    kind: str
    plain: str
    hosts: tuple[Address, ...] = ()
    name: str = ""
    account: tuple[str | None, str | None] = (None, None)
    sentinel_account: tuple[str | None, str | None] = (None, None)
    tls: bool = False
    ca: str = ""
    confirm: int | None = None
    confirm_ms: int = CONFIRM_MS

    @property
    def replicated(self) -> bool:
        """Whether servers take over from one another here."""
        return self.kind in (SENTINEL, CLUSTER)

    @property
    def replicas(self) -> int:
        """How many replicas shall have what must not be lost, before it counts as safe."""
        return self.confirm if self.confirm is not None else int(self.replicated)


def parse(url: str) -> Url:
    """Read *url*. Raises InvalidInput naming what is wrong with it, never showing a password."""
    scheme, query = url.partition("://")[0], url.partition("?")[2]  # urlsplit chokes on several hosts, one of IPv6
    if scheme not in (*PLAIN, SENTINEL, CLUSTER):
        raise _refused(f"expected {FORMS}, got {url.partition('@')[2] or url!r}")
    options = dict(parse_qsl(query, keep_blank_values=True))
    confirm = _number(options.pop("confirm", None), "confirm", 0, 5)
    confirm_ms = _number(options.pop("confirm_ms", None), "confirm_ms", 1, MAX_CONFIRM_MS) or CONFIRM_MS
    if scheme in PLAIN:
        # urlunsplit would take a slash from unix:///path
        plain = url.partition("?")[0] + (f"?{urlencode(options)}" if options else "")
        return Url(scheme, plain, confirm=confirm, confirm_ms=confirm_ms)
    account, _, rest = url.partition("?")[0].partition("://")[2].rpartition("@")
    hosts, _, name = rest.partition("/")
    tls, ca = options.pop("tls", "") not in ("", "0", "no", "false"), options.pop("ca", "")
    sentinel = (options.pop("sentinel_user", None), options.pop("sentinel_password", None))
    if options:
        raise _refused(
            f"options: expected confirm, confirm_ms, tls, ca and sentinel_*, got {', '.join(sorted(options))}"
        )
    if scheme == SENTINEL and not name:
        raise _refused("expected the master's name after the sentinels: sentinel://H:P;H:P;H:P/mymaster")
    user, _, password = account.partition(":")
    return Url(
        scheme, "", _hosts(hosts, 26_379 if scheme == SENTINEL else 6_379), unquote(name.strip("/")),
        (unquote(user) or None, unquote(password) or None), sentinel, tls or bool(ca), ca, confirm, confirm_ms,
    )  # fmt: skip


def with_cluster(url: str, cluster: str) -> str:
    """Return *url* with the hash tag of *cluster*, where a Redis Cluster needs it. Raises InvalidInput for another."""
    found = parse(url)
    if found.kind != CLUSTER or found.name == cluster:
        return url
    if found.name:
        raise _refused(f"the URL is for cluster {found.name!r}, this is {cluster!r}", "leave the name out of the URL")
    head, question, options = url.partition("?")
    return f"{head.rstrip('/')}/{cluster}{question}{options}"


def _hosts(text: str, port: int) -> tuple[Address, ...]:
    found = []
    for one in text.replace(",", ";").split(";"):
        parts = urlsplit(f"//{one}")
        try:
            host, given = parts.hostname, parts.port
        except ValueError:
            host, given = None, None
        if not host:
            raise _refused(f"expected HOST:PORT;HOST:PORT, got {one!r}")
        found.append((host, given or port))
    return tuple(dict.fromkeys(found))


def _number(text: str | None, name: str, least: int, most: int) -> int | None:
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and least <= int(text) <= most):
        raise _refused(f"{name}: expected {least} to {most}, got {text!r}")
    return int(text)


def _refused(what: str, fix: str = "give the URL of the cluster's Redis") -> InvalidInput:
    return InvalidInput(f"redis: {what}", field="redis", fix=fix)


class Finder:
    """Says who serves now. *settings* are what connections to data servers need."""

    def __init__(self, url: Url) -> None:
        self._url = url
        self.settings = _settings(url)
        self._slot: Slot | None = None
        if url.kind == CLUSTER:
            kind = redis.SSLConnection if url.tls else redis.Connection
            self._slot = Slot(url.hosts, url.name, self.settings, kind)

    def master(self) -> Address:
        """Return who serves now, by the first that says so. Blocks for up to ASK_S for each that does not answer.

        Raises redis.exceptions.ConnectionError if nobody says so, AuthenticationError if the login is refused, and
        SetupError if the servers are no Redis Cluster.
        """
        if self._slot is not None:
            return self._owner(self._slot)
        problems = []
        for host in self._url.hosts:
            try:
                found = self._named_by(host)
            except redis.AuthenticationError:
                raise
            except (RedisError, OSError) as error:
                problems.append(f"{host[0]}:{host[1]}: {error}")
                continue
            if found is not None:
                return found
            problems.append(f"{host[0]}:{host[1]}: knows no master {self._url.name!r}")
        raise ConnectionError(f"no sentinel names a master ({'; '.join(problems)})")

    def _owner(self, slot: Slot) -> Address:
        try:
            return slot.master()
        except LoginRefused as error:
            raise AuthenticationError(str(error)) from error
        except NotACluster as error:
            raise SetupError(f"redis: {error}", fix="redis:// is for one server") from error

    def sentinel(self) -> dict[str, str]:
        """Return what the first sentinel that answers says of the master; nothing if none does."""
        for host in self._url.hosts:
            with contextlib.suppress(RedisError, OSError):
                flat = [word.decode() for word in self._ask(host, "SENTINEL", "MASTER", self._url.name)]
                return dict(zip(flat[::2], flat[1::2], strict=True))
        return {}

    def majority_names(self, address: Address) -> bool:
        """Return whether more than half of all sentinels, or masters, say that *address* serves."""
        votes: Counter[Address | None] = Counter()
        voters = self._voters(address)
        for voter in voters:
            with contextlib.suppress(RedisError, OSError):
                votes[self._named_by(voter)] += 1
        return 2 * votes[address] > len(voters)

    def _voters(self, address: Address) -> tuple[Address, ...]:
        """Every sentinel, or every master as *address* knows them."""
        if self._slot is None:
            return self._url.hosts
        with contextlib.suppress(RedisError, OSError):
            ranges = self._ask(address, "CLUSTER", "SLOTS")
            return tuple(
                dict.fromkeys(one for span in ranges for one in read_slots([span], span[0], address[0])[:1] if one)
            )
        return ()

    def _named_by(self, voter: Address) -> Address | None:
        """Return who serves by the word of *voter*."""
        if self._slot is not None:
            return read_slots(self._ask(voter, "CLUSTER", "SLOTS"), self._slot.number, voter[0])[0]
        reply = self._ask(voter, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._url.name)
        return None if reply is None else (reply[0].decode(), int(reply[1]))

    def _ask(self, voter: Address, *command: str) -> Any:
        settings = self.settings
        if self._slot is None:
            user, password = self._url.sentinel_account
            settings = {**settings, "username": user, "password": password}
        kind = redis.SSLConnection if self._url.tls else redis.Connection
        connection = kind(host=voter[0], port=voter[1], **{**settings, **_BRIEF})
        try:
            connection.connect()
            connection.send_command(*command)
            return connection.read_response()
        finally:
            connection.disconnect()


_BRIEF: Final = {"socket_timeout": ASK_S, "socket_connect_timeout": ASK_S}


def _settings(url: Url) -> dict[str, Any]:
    user, password = url.account
    settings: dict[str, Any] = {"username": user, "password": password, "protocol": 2}
    if url.tls:
        settings |= {"ssl_cert_reqs": "required", "ssl_ca_certs": url.ca or None}
    return settings


_IN_SCRIPT: Final = re.compile(r"@user_script: ?\d+: -(([A-Z]+) .*)", re.DOTALL)
_CODES: Final = {"OOM": OutOfMemoryError, "READONLY": ReadOnlyError, "CLUSTERDOWN": ClusterDownError}


def unwrapped(error: ResponseError) -> ResponseError:
    """Return what a command in a script was told, where Redis 6 only says that the script failed; else *error*."""
    found = _IN_SCRIPT.search(str(error))
    return error if found is None else _CODES.get(found[2], ResponseError)(found[1])


def _moved(error: ResponseError) -> bool:
    error = unwrapped(error)
    return isinstance(error, _ELSEWHERE) or str(error).startswith(_ELSEWHERE_WORDS)


class Routed(redis.Connection):
    """A connection to whoever serves, asked anew at each connect."""

    def __init__(self, finder: Finder, **settings: Any) -> None:
        self._finder = finder
        super().__init__(**settings)  # type: ignore[no-untyped-call]

    def connect_check_health(self, *args: Any, **options: Any) -> None:
        if self._sock is None:
            self.host, self.port = self._finder.master()
        super().connect_check_health(*args, **options)

    def read_response(self, *args: Any, **options: Any) -> Any:
        try:
            return super().read_response(*args, **options)
        except ResponseError as error:
            if not _moved(error):
                raise
            self.disconnect()  # type: ignore[no-untyped-call]
            raise ConnectionError(f"{self.host}:{self.port} does not serve now: {error}") from error


class RoutedTls(Routed, redis.SSLConnection):
    """The same with TLS."""


class AsyncRouted(redis.asyncio.Connection):
    """The same for asyncio; who serves is asked in a thread, for that is seldom."""

    def __init__(self, finder: Finder, **settings: Any) -> None:
        self._finder = finder
        super().__init__(**settings)

    async def connect_check_health(self, *args: Any, **options: Any) -> None:
        if not self.is_connected:
            self.host, self.port = await asyncio.to_thread(self._finder.master)
        await super().connect_check_health(*args, **options)

    async def read_response(self, *args: Any, **options: Any) -> Any:
        try:
            return await super().read_response(*args, **options)
        except ResponseError as error:
            if not _moved(error):
                raise
            await self.disconnect()
            raise ConnectionError(f"{self.host}:{self.port} does not serve now: {error}") from error


class AsyncRoutedTls(AsyncRouted, redis.asyncio.SSLConnection):
    """The same with TLS."""


def client(url: Url, finder: Finder, options: dict[str, Any]) -> redis.Redis:
    """Return a blocking client; *options* are for each connection and for the pool."""
    if not url.replicated:
        return redis.Redis.from_url(url.plain, **options)
    kind = RoutedTls if url.tls else Routed
    pool = redis.ConnectionPool(kind, finder=finder, **{**finder.settings, **options})
    return redis.Redis.from_pool(pool)


def async_client(url: Url, finder: Finder, options: dict[str, Any]) -> redis.asyncio.Redis:
    if not url.replicated:
        return redis.asyncio.Redis.from_url(url.plain, **options)
    kind = AsyncRoutedTls if url.tls else AsyncRouted
    pool = redis.asyncio.ConnectionPool(kind, finder=finder, **{**finder.settings, **options})
    return redis.asyncio.Redis.from_pool(pool)
