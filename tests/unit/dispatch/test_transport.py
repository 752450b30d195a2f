"""The broker that Celery is told: our transport, whatever the form of the URL."""

from __future__ import annotations

import pytest
from kombu.connection import Connection

from shunter.dispatch.celery import Destination, make_app, node_queue
from shunter.dispatch.transport import HintQoS, HintTransport
from shunter.domain.ids import Incarnation, NodeName
from shunter.store.keys import Keys


@pytest.mark.parametrize("url", ["unix:///run/redis.sock", "redis://10.0.0.5:6379/3", "rediss://:secret@host:6380/0"])
def test_every_form_of_redis_url_gets_the_transport_without_redelivery(url: str) -> None:
    connection: Connection = make_app(url, Keys("main")).connection_for_read()
    assert isinstance(connection.transport, HintTransport)
    assert connection.transport.Channel.QoS is HintQoS


def test_a_socket_and_an_address_reach_the_client() -> None:
    socket: Connection = make_app("unix:///run/redis.sock", Keys("main")).connection_for_read()
    assert socket.hostname == "socket:///run/redis.sock"
    address: Connection = make_app("redis://10.0.0.5:6379/3", Keys("main")).connection_for_read()
    assert (address.hostname, address.port, address.virtual_host) == ("10.0.0.5", 6379, "3")


def test_a_node_queue_carries_the_hash_tag_of_its_cluster() -> None:
    queue = node_queue(Keys("main"), Destination(NodeName("n1"), Incarnation("0000000007")))
    assert queue.name == queue.routing_key == "shunter:{main}:q:n1:0000000007"
    assert queue.no_ack
