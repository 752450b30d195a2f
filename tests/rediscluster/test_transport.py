"""The transport on a real cluster of six servers."""

from __future__ import annotations

import contextlib
import socket
import threading
import time

import pytest
import redis
from kombu.connection import Connection
from kombu.entity import Exchange, Queue
from kombu.exceptions import ChannelError, OperationalError

from tests.rediscluster.six import Six, eventually, free_ports
from tests.rediscluster.talk import LOST, connected, drain, needs_server, queue_of

pytestmark = needs_server


def test_what_is_published_is_consumed_in_order_and_all_keys_carry_the_tag(six: Six) -> None:
    queue = queue_of("plain")
    with connected(six, "app-1") as connection, connection.Producer() as producer:
        for number in range(20):
            producer.publish(number, exchange="", routing_key="plain", declare=[queue])
        keys = {key for port in six.ports for key in six.at(port).keys()}  # noqa: SIM118  redis, no dict
        assert keys
        assert all(str(key).startswith("{app-") for key in keys), "those of other tests here, too"
        assert drain(connection, queue, 20) == list(range(20))


def test_what_was_not_acknowledged_is_delivered_again(six: Six) -> None:
    queue = queue_of("again")
    with connected(six, "app-2") as connection:
        connection.Producer().publish("once", exchange="", routing_key="again", declare=[queue])
        message = eventually(lambda: queue(connection.default_channel).get(), "it is delivered")
        assert not message.delivery_info.get("redelivered")
    with connected(six, "app-2") as connection:
        assert drain(connection, queue, 1) == ["once"]


def test_messages_of_a_higher_priority_come_first(six: Six) -> None:
    queue = queue_of("order")
    with connected(six, "app-3") as connection, connection.Producer() as producer:
        for priority in (9, 0, 3):
            producer.publish(priority, exchange="", routing_key="order", priority=priority, declare=[queue])
        assert drain(connection, queue, 3) == [0, 3, 9]


def test_a_fanout_reaches_everybody(six: Six) -> None:
    exchange = Exchange("news", type="fanout")
    heard: list[str] = []
    with contextlib.ExitStack() as stack:
        listeners = []
        for name in ("a", "b"):
            connection = stack.enter_context(connected(six, "app-4"))
            queue = Queue(f"news-{name}", exchange)
            stack.enter_context(
                connection.Consumer([queue], callbacks=[lambda *_, name=name: heard.append(name)], no_ack=True)
            )
            with contextlib.suppress(socket.timeout):
                connection.drain_events(timeout=0.5)  # which subscribes
            listeners.append(connection)
        with connected(six, "app-4") as sender:
            sender.Producer().publish("hello", exchange=exchange, declare=[exchange])
        for connection in listeners:
            connection.drain_events(timeout=10)
    assert sorted(heard) == ["a", "b"]


def test_a_queue_is_followed_to_the_master_that_its_slot_moves_to(six: Six) -> None:
    queue = queue_of("moves")
    with connected(six, "app-5") as connection, connection.Producer() as producer:
        producer.publish("before", exchange="", routing_key="moves", declare=[queue])
        before = six.master_of("app-5")
        assert six.move_slot("app-5") != before
        with pytest.raises(LOST, match="does not serve slot"):
            producer.publish("refused", exchange="", routing_key="moves")

        def goes_on() -> bool:
            producer.publish("after", exchange="", routing_key="moves")
            return True

        eventually(goes_on, "each connection that was open has heard it once", within_s=5)
        assert drain(connection, queue, 2, moved=1) == ["before", "after"]


def test_no_confirmed_message_is_lost_when_the_master_is_killed(six: Six) -> None:
    """One writer, whose publishing is confirmed by a replica; what it was not told of may come or not, even twice."""
    queue, confirmed = queue_of("killed"), []
    killed = threading.Event()

    def write() -> None:
        with connected(six, "app-6", confirm_replicas=1, socket_timeout=2) as connection:
            producer = connection.Producer()
            number, after = 0, 0
            while after < 50:
                try:
                    producer.publish(number, exchange="", routing_key="killed")
                    confirmed.append(number)
                    after += killed.is_set()
                except LOST:
                    time.sleep(0.05)
                    with contextlib.suppress(*LOST):
                        connection.ensure_connection(max_retries=3, interval_start=0.1)
                        producer.revive(connection.default_channel)
                number += 1

    six.settled()
    writer = threading.Thread(target=write)
    writer.start()
    try:
        eventually(lambda: len(confirmed) > 200, "the writer is on its way")
        dies = six.master_of("app-6")
        replica, client = six.replica_of(dies), six.at(dies)
        six.cut_off(dies, replica)
        written = client.llen("{app-6}killed")
        eventually(lambda: client.llen("{app-6}killed") > written, "something is written that no replica has")
        six.kill(dies)
        six.thaw(replica)
        killed.set()
        eventually(lambda: six.master_of("app-6") != dies or None, "its replica takes over")
        six.start_one(dies)  # till then there is no replica that could confirm anything
        eventually(lambda: not writer.is_alive(), "the writer goes on at the new master")
    finally:
        killed.set()
        writer.join(60)
    six.settled()
    assert six.master_of("app-6") != dies
    with connected(six, "app-6") as connection:
        found: set[int] = set()
        bound = queue(connection.default_channel)
        while (message := bound.get(no_ack=True)) is not None:
            found.add(message.payload)
    assert set(confirmed) <= found


def test_without_a_replica_nothing_is_confirmed_and_the_error_says_so(six: Six) -> None:
    six.settled()
    master = six.master_of("app-7")
    replica = six.replica_of(master)
    six.kill(replica)
    try:
        eventually(lambda: six.do(master, "ROLE")[2] == [], "the master has noticed")
        with connected(six, "app-7", confirm_replicas=1, confirm_timeout=0.2) as connection:
            producer = connection.Producer()
            with pytest.raises(redis.ConnectionError, match="0 of 1 replicas had the message"):
                producer.publish("x", exchange="", routing_key="none")
    finally:
        six.start_one(replica)
        six.settled()


def test_what_was_taken_can_be_acknowledged_at_the_next_master(six: Six) -> None:
    six.settled()
    queue, dies = queue_of("acked"), six.master_of("app-8")
    with connected(six, "app-8", confirm_replicas=1) as connection:
        connection.Producer().publish("x", exchange="", routing_key="acked", declare=[queue])
        message = eventually(lambda: queue(connection.default_channel).get(), "it is delivered")
        taken = six.at(dies)
        assert taken.hlen("{app-8}unacked") == 1
        six.kill(dies)
        message.ack()
    six.start_one(dies)
    six.settled()
    assert six.master_of("app-8") != dies
    assert six.at(six.master_of("app-8")).hlen("{app-8}unacked") == 0


@pytest.mark.parametrize("how", ["ack", "reject", "requeue"])
def test_what_cannot_be_acknowledged_leaves_its_place_to_others(
    six: Six, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    queue = queue_of(f"places-{how}")
    with connected(six, "app-9", note_timeout=0.3) as connection:
        channel = connection.default_channel
        channel.basic_qos(0, 1, False)
        connection.Producer().publish("x", exchange="", routing_key=queue.name, declare=[queue])
        message = eventually(lambda: queue(channel).get(), "it is delivered")
        assert not channel.qos.can_consume()

        def nobody(*_: object) -> None:
            raise redis.ConnectionError("nobody there")

        with monkeypatch.context() as patch:
            patch.setattr(channel.qos, "_remove_from_indices", nobody)
            patch.setattr(channel.qos, "restore_by_tag", lambda *_, **__: nobody())
            with pytest.raises(redis.ConnectionError, match="nobody there"):
                getattr(message, how)()
        assert channel.qos.can_consume()
        assert six.at(six.master_of("app-9")).hexists("{app-9}unacked", message.delivery_tag), "it comes back later"


def test_a_queue_can_be_asked_for_without_being_made(six: Six) -> None:
    with connected(six, "app-10") as connection:
        channel = connection.default_channel
        with pytest.raises(ChannelError, match="NOT_FOUND"):
            queue_of("asked")(channel).queue_declare(passive=True)
        connection.Producer().publish("x", exchange="", routing_key="asked")
        assert queue_of("asked")(channel).queue_declare(passive=True).message_count == 1


def test_a_closed_channel_is_a_lost_connection(six: Six) -> None:
    """So that Kombu's retries take a new one, where redis:// ends with an AttributeError."""
    with connected(six, "app-11") as connection:
        producer = connection.Producer()
        producer.channel.close()
        with pytest.raises(redis.ConnectionError, match="this channel was closed"):
            producer.publish("x", exchange="", routing_key="closed")
        producer.publish("x", exchange="", routing_key="closed", retry=True, retry_policy={"max_retries": 2})
        assert drain(connection, queue_of("closed"), 1) == ["x"]


def test_a_channel_whose_connection_was_closed_under_it_does_not_end_a_worker(six: Six) -> None:
    """As Celery's worker closes it after an error, with messages that are not acknowledged."""
    with connected(six, "app-12") as connection:
        channel = connection.default_channel
        connection.Producer().publish("x", exchange="", routing_key="under", declare=[queue_of("under")])
        eventually(lambda: queue_of("under")(channel).get(), "it is delivered")
        channel._disconnect_pools()  # type: ignore[attr-defined]
        connection.transport.client = None
        with pytest.raises(redis.ConnectionError, match="this channel was closed"):
            channel.close()


def test_kombu_waits_before_it_tries_again_however_many_hosts_a_url_has() -> None:
    intervals: list[float] = []
    url = "rediscluster://" + ";".join(f"127.0.0.1:{port}" for port in free_ports(3))
    with Connection(url) as connection, pytest.raises(OperationalError, match="no node says who serves"):
        connection.ensure_connection(
            lambda _, interval: intervals.append(interval), max_retries=2, interval_start=0.01, interval_step=0.01
        )
    assert len(intervals) >= 2
    assert all(interval > 0 for interval in intervals)
