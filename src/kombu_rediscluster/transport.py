"""Kombu's Redis transport on one slot of a Redis Cluster."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any, Final

import redis
from kombu.transport import redis as kombu_redis
from kombu.transport import virtual
from kombu.utils.json import dumps
from redis.exceptions import ConnectionError

from kombu_rediscluster.slot import Slot, SlotConnection, SlotSSLConnection
from kombu_rediscluster.url import DEFAULT_PORT, Url, checked_tag, parse_url

PAUSE_S: Final = 0.2
"""Between two tries to note what became of a message."""

LOOKUP_NEEDS: Final = ("username", "password", "credential_provider", "client_name")
"""What the connections that ask for the slot have in common with the others, beside what begins with `ssl_`."""


class NotConfirmed(ConnectionError):
    """A message was written, but too few replicas have it: a failover may lose it. Publishing again may double it."""


class _Prefixing(kombu_redis.GlobalKeyPrefixMixin):
    """Prefixes the commands that Kombu (up to 5.7) forgets, which is harmless but in a cluster."""

    PREFIXED_COMPLEX_COMMANDS: Any = {  # noqa: RUF012  Kombu reads it from the class
        **kombu_redis.GlobalKeyPrefixMixin.PREFIXED_COMPLEX_COMMANDS,
        "EXISTS": {"args_start": 0, "args_end": None},
    }

    def pipeline(self: Any, transaction: bool = True, shard_hint: Any = None) -> _Pipeline:
        return _Pipeline(
            self.connection_pool, self.response_callbacks, transaction, shard_hint,
            global_keyprefix=self.global_keyprefix,
        )  # fmt: skip


class _Pipeline(_Prefixing, kombu_redis.PrefixedRedisPipeline):
    pass


class _Client(_Prefixing, kombu_redis.PrefixedStrictRedis):
    pass


class QoS(kombu_redis.QoS):
    """Notes of what was taken and what is done outlive a change of masters, within `note_timeout` seconds each.

    Kombu gives up at the first error. A message that was taken and not noted is lost then; one that is done and not
    noted takes up its place in the prefetch count for ever, until a worker with no place left stands still.
    """

    _hopeless = False

    def append(self, message: Any, delivery_tag: str) -> None:
        """Note that *message* was taken: if that fails, nobody has it any more."""
        self._insist(functools.partial(super().append, message, delivery_tag), self.channel.note_timeout)

    def ack(self, delivery_tag: str) -> None:
        """Note that a message is done. If that fails, it is delivered again after the visibility timeout."""
        self._settle(functools.partial(super().ack, delivery_tag), delivery_tag)

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        """Give a message back, or away. If that fails, it is delivered again after the visibility timeout."""
        self._settle(functools.partial(super().reject, delivery_tag, requeue), delivery_tag)

    def _settle(self, note: Callable[[], None], delivery_tag: str) -> None:
        # Whoever had to give up once does not block its event loop so long again for each message that it has.
        timeout_s = 0.0 if self._hopeless else self.channel.note_timeout
        try:
            self._insist(note, timeout_s)
        except self.channel.connection_errors:
            self._hopeless = True
            virtual.QoS.ack(self, delivery_tag)
            raise
        self._hopeless = False

    def _insist(self, note: Callable[[], None], timeout_s: float) -> None:
        until_s = time.monotonic() + timeout_s
        while True:
            try:
                note()
            except self.channel.connection_errors:
                if self.channel.closed or time.monotonic() > until_s:
                    raise
                time.sleep(PAUSE_S)
            else:
                return


class Channel(kombu_redis.Channel):
    """All keys carry one hash tag, so they lie in one slot; connections go to whoever serves that."""

    QoS: Any = QoS
    connection_class: Any = SlotConnection
    connection_class_ssl: Any = SlotSSLConnection
    # A master that is gone without a word keeps its clients waiting for ever, where Kombu has no limit.
    socket_timeout: Any = 10.0
    socket_connect_timeout: Any = 5.0
    confirm_replicas = 0
    confirm_timeout = 1.0
    note_timeout = 60.0
    supports_batch_publish: Any = False

    from_transport_options: Any = (
        *kombu_redis.Channel.from_transport_options, "confirm_replicas", "confirm_timeout", "note_timeout",
    )  # fmt: skip

    def _get_client(self) -> Any:
        super()._get_client()  # which checks the version of redis-py
        self._check_options()
        self._url = broker(self.connection.client)
        tag = f"{{{self._url.tag}}}"
        if not self.global_keyprefix.startswith(tag):
            self.global_keyprefix = tag + self.global_keyprefix
        return functools.partial(_Client, global_keyprefix=self.global_keyprefix)

    def _check_options(self) -> None:
        ssl = self.connection.client.ssl
        if ssl is True or ssl == {}:  # Kombu would take either for no TLS at all
            raise ValueError(
                "broker_use_ssl: expected a dict of ssl_ options, such as "
                f"{{'ssl_cert_reqs': 'required', 'ssl_ca_certs': 'ca.pem'}}, got {ssl!r}"
            )
        if self.confirm_replicas < 0:
            raise ValueError(f"confirm_replicas: expected 0 or more, got {self.confirm_replicas}")
        if self.confirm_replicas and not 0 < self.confirm_timeout < (self.socket_timeout or float("inf")):
            raise ValueError(
                f"confirm_timeout: expected more than 0 s and less than socket_timeout, {self.socket_timeout} s, "
                f"got {self.confirm_timeout}"
            )

    def _prepare_virtual_host(self, vhost: Any) -> int:  # noqa: ARG002  Kombu would read the tag as a database
        return 0

    def _connparams(self, asynchronous: bool = False) -> dict[str, Any]:
        if self.connection is None or self.connection.client is None:
            # Kombu's retry of a declaration closes the channel that its producer goes on with, and connections are
            # closed under channels that still have messages to give back. An error of the connection, unlike the
            # AttributeError that would follow, makes the producer take a new one, and does not end a worker.
            raise ConnectionError("this channel was closed")
        params: dict[str, Any] = super()._connparams(asynchronous=asynchronous)
        for name in ("host", "port"):
            params.pop(name, None)
        if "credential_provider" not in params:
            client = self.connection.client
            params["username"] = self._url.username or client.userid
            params["password"] = self._url.password or client.password
        secure = issubclass(params["connection_class"], redis.SSLConnection)
        lookup_class = redis.SSLConnection if secure else redis.Connection
        lookup = {name: value for name, value in params.items() if name in LOOKUP_NEEDS or name.startswith("ssl_")}
        return {**params, "slot": Slot(self._url.seeds, self._url.tag, lookup, lookup_class)}

    def _put(self, queue: str, message: dict[str, Any], **kwargs: Any) -> None:
        """Deliver *message*. Raises NotConfirmed if `confirm_replicas` are asked for and do not have it in time."""
        if not self.confirm_replicas:
            super()._put(queue, message, **kwargs)
            return
        key = self._q_for_pri(queue, self._get_message_priority(message, reverse=False))
        with self.conn_or_acquire() as client, client.pipeline(transaction=False) as pipe:
            pipe.lpush(key, dumps(message))
            if queue in self._expires:
                for step in self.priority_steps:
                    pipe.pexpire(self._q_for_pri(queue, step), self._expires[queue])
            # On the same connection: WAIT speaks of what this connection has written.
            pipe.execute_command("WAIT", self.confirm_replicas, round(self.confirm_timeout * 1000))
            confirmed = pipe.execute()[-1]
        if confirmed < self.confirm_replicas:
            raise NotConfirmed(
                f"{confirmed} of {self.confirm_replicas} replicas had the message after {self.confirm_timeout:g} s"
            )


class Transport(kombu_redis.Transport):
    """Kombu finds it by the scheme of the URL. Its channels are the whole difference to `redis://`."""

    Channel: Any = Channel
    default_port = DEFAULT_PORT
    driver_name = "rediscluster"
    # Batches are not confirmed and say of none of their messages whether it arrived.
    implements: Any = kombu_redis.Transport.implements.extend(batch_publish=False)
    supports_batch_publish: Any = False

    def __init__(self, client: Any, **kwargs: Any) -> None:
        super().__init__(client, **kwargs)
        # Each connect asks all hosts of the URL. Kombu would turn to the next one after each failure, which closes
        # channels that are in use, and would not wait before it has tried once for each.
        client.cycle = None
        client.completes_cycle = lambda _retries: True


def broker(client: Any) -> Url:
    """Return what the URL said that the Kombu connection *client* was made with.

    Kombu takes a URL apart: at each `;` into `alt`, and one without any, or the first, into its fields.
    Raises ValueError, saying what is wrong.
    """
    if client.alt:
        return parse_url(";".join(client.alt))
    seed = (client.hostname, client.port or DEFAULT_PORT)
    return Url((seed,), checked_tag((client.virtual_host or "").strip("/")), None, None)
