"""Work travels to nodes through Celery, as hints: short messages that may be lost, late or doubled without harm.

One queue per node incarnation, one message per node per pass. The queue is consumed without acknowledgement: what
Celery's Redis transport does to redeliver a message (four to eight commands each) buys nothing here, for a node
claims in the store before it starts anything, and the answer to its next renewal lists what a lost hint would have
said.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from celery import Celery
from celery.exceptions import OperationalError
from kombu.entity import Exchange, Queue
from msgspec import Struct
from redis.exceptions import RedisError

from shunter.dispatch.transport import broker_settings
from shunter.domain.ids import Incarnation, JobId, NodeName
from shunter.errors import Unavailable
from shunter.store.keys import Keys
from shunter.store.routes import with_cluster

HINTS: Final = "shunter.hints"
"""Name of the one Celery task; its arguments are a list of [job id, stored value], and whose data set they are from."""

Hint = tuple[JobId, bytes]
"""A job and the record for its node to look at: reserved (claim it), running (a gang is whole), stopping (end it)."""


class Destination(Struct, frozen=True):
    node: NodeName
    incarnation: Incarnation


def make_app(redis_url: str, keys: Keys, *, queue: Queue | None = None) -> Celery:
    """Return a Celery app on the cluster's Redis; *queue* is what a worker consumes."""
    app = Celery("shunter", set_as_current=False)
    broker = broker_settings(with_cluster(redis_url, keys.cluster))
    options = {"socket_timeout": 10, "socket_connect_timeout": 5, "max_connections": 20}
    app.conf.update(
        broker,
        accept_content=["json"],
        broker_connection_max_retries=None,
        broker_connection_retry_on_startup=True,
        broker_transport_options={**options, **broker.get("broker_transport_options", {})},
        task_default_queue=keys.queue("-", "-"),
        task_ignore_result=True,
        task_serializer="json",
        worker_enable_remote_control=False,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        worker_send_task_events=False,
    )
    if queue is not None:
        app.conf.task_queues = [queue]
        app.conf.task_default_queue = queue.name
    return app


def node_queue(keys: Keys, destination: Destination) -> Queue:
    name = keys.queue(destination.node, destination.incarnation)
    return Queue(name, exchange=Exchange(""), routing_key=name, no_ack=True, durable=True)


class CeleryDispatcher:
    """The leader's side: sends hints. Nothing is kept between calls but the connection."""

    def __init__(self, redis_url: str, keys: Keys) -> None:
        self._app = make_app(redis_url, keys)
        self._keys = keys
        self._queues: dict[Destination, Queue] = {}
        self._producer: Any = None

    def send(self, hints: Mapping[Destination, Sequence[Hint]], identity: str) -> None:
        """Send one message per node, in the name of the data set *identity*.

        Raises Unavailable when the broker cannot be reached; sending again is harmless.
        """
        try:
            if self._producer is None:
                self._producer = self._app.amqp.Producer(self._app.connection_for_write(), auto_declare=False)
            for destination, batch in hints.items():
                queue = self._queues.get(destination)
                if queue is None:
                    queue = self._queues[destination] = node_queue(self._keys, destination)
                body = [[job_id, value.decode()] for job_id, value in batch]
                self._app.send_task(
                    HINTS, args=(body, identity), queue=queue, producer=self._producer, retry=False, ignore_result=True
                )
        except (OperationalError, RedisError, OSError) as error:
            self._producer = None
            raise Unavailable(f"redis: cannot send hints to nodes: {error}", fix="it is repeated by itself") from error

    def forget(self, destination: Destination) -> None:
        """Forget a dead incarnation."""
        self._queues.pop(destination, None)


def run_worker(
    redis_url: str, keys: Keys, destination: Destination, on_hints: Callable[[list[Hint], str], None]
) -> None:
    """Consume the incarnation's queue in this thread until told to stop by a signal.

    *on_hints* gets the hints of a message and the identity of the data set in whose name they were sent.

    One process, no children (pool solo), no gossip, mingle, heartbeats or remote control: the task only hands over.
    """
    app = make_app(redis_url, keys, queue=node_queue(keys, destination))

    def hints(batch: list[list[Any]], identity: str = "") -> None:
        on_hints([(JobId(job_id), value.encode()) for job_id, value in batch], identity)

    app.task(name=HINTS, ignore_result=True)(hints)
    app.finalize()
    worker = app.Worker(
        pool="solo",
        concurrency=1,
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
        hostname=f"{destination.node}@shunter",
        loglevel="WARNING",
        quiet=True,
        prefetch_multiplier=1,
    )
    worker.start()
