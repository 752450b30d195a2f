"""Kombu's Redis transport without redelivery, for messages that may be lost: our hints.

Kombu 5.5–5.7 write each message that they deliver into two more keys, remove it again at its acknowledgement, and look
every few minutes for what was not acknowledged. A queue consumed with `no_ack` skips the first of these, not the others
(`virtual.Channel.no_ack_consumers` is never set), and the keys carry no hash tag. Here none of it happens. The blocking
client that publishes is also kept, where Kombu makes one per message. And a queue expires when nobody has written to
it for a while: a leader that was paused may send to an incarnation whose queue was deleted long ago.
"""

from __future__ import annotations

import ssl
from typing import Any, Final

from kombu.transport import TRANSPORT_ALIASES
from kombu.transport import redis as kombu_redis
from kombu.utils.json import dumps

from shunter.store import routes

KEPT_S: Final = 600
"""How long hints are kept that nobody reads. They are worth nothing after the next lease answer, 2 s later."""

_PUT: Final = "redis.call('LPUSH', KEYS[1], ARGV[1]) return redis.call('EXPIRE', KEYS[1], ARGV[2])"
"""One command instead of the four of a transaction; shorter than what EVALSHA would save."""


class HintQoS(kombu_redis.QoS):
    """Remembers nothing: a message is gone once it was read."""

    restore_at_shutdown = False

    def append(self, message: Any, delivery_tag: str) -> None:
        """Do not remember what was delivered."""

    def ack(self, delivery_tag: str) -> None:
        """Nothing was remembered."""

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        """Nothing was remembered, so nothing can be requeued."""

    def restore_visible(self, *args: Any, **_: Any) -> None:
        """Nothing can be overdue."""


class HintChannel(kombu_redis.Channel):
    QoS = HintQoS
    _kept: Any = None

    def _create_client(self, asynchronous: bool = False) -> Any:
        if asynchronous:
            return super()._create_client(asynchronous=True)  # type: ignore[no-untyped-call]
        # After a disconnect the channel has another pool, and the client of the old one is of no use.
        if self._kept is None or self._kept.connection_pool is not self.pool:
            self._kept = super()._create_client()  # type: ignore[no-untyped-call]
        return self._kept

    def _put(self, queue: str, message: Any, **_: Any) -> None:
        """Deliver *message*, and have the queue expire in the same step, so that none can stay for ever."""
        priority = self._get_message_priority(message, reverse=False)  # type: ignore[no-untyped-call]
        key = self._q_for_pri(queue, priority)  # type: ignore[no-untyped-call]
        with self.conn_or_acquire() as client:
            client.eval(_PUT, 1, key, dumps(message), KEPT_S)


class RoutedChannel(HintChannel):
    """The same, over the connections of `store.routes`: queue and state follow a take-over by the same code."""

    from_transport_options: Any = (*HintChannel.from_transport_options, "route")
    connection_class: Any = routes.Routed
    route = ""

    def _connparams(self, asynchronous: bool = False) -> dict[str, Any]:
        url = routes.parse(self.route)
        if url.tls:
            self.connection_class = routes.RoutedTls
        params: dict[str, Any] = super()._connparams(asynchronous=asynchronous)  # type: ignore[no-untyped-call]
        for name in ("host", "port"):
            params.pop(name, None)
        finder = routes.Finder(url)
        return {**params, **finder.settings, "finder": finder}


class HintTransport(kombu_redis.Transport):
    Channel = HintChannel


class RoutedTransport(kombu_redis.Transport):
    Channel = RoutedChannel


_ALIAS: Final = "shunter"
_CLASS: Final = f"{__name__}:{HintTransport.__name__}"
_ROUTED: Final = f"{__name__}:{RoutedTransport.__name__}"
TRANSPORT_ALIASES[_ALIAS] = _CLASS


def broker_settings(redis_url: str) -> dict[str, Any]:
    """Return what Celery must be told to use this transport on *redis_url*, as `store.routes` describes it.

    What is said of transport options there has to be merged into others.
    """
    url = routes.parse(redis_url)
    if url.replicated:
        return {
            "broker_url": "redis://by-route/0",
            "broker_transport": _ROUTED,
            "broker_transport_options": {"route": redis_url},
        }
    if url.kind == "unix":
        # Kombu takes a socket's transport from the part before `+`, whatever else it was told.
        return {"broker_url": url.plain.replace("unix://", f"{_ALIAS}+socket://", 1)}
    settings: dict[str, Any] = {"broker_url": url.plain, "broker_transport": _CLASS}
    if url.kind == "rediss":
        settings["broker_use_ssl"] = {"ssl_cert_reqs": ssl.CERT_REQUIRED}
    return settings
