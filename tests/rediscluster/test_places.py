"""Finding the master: answers of every kind, servers of the wrong kind, accounts, TLS, and nobody there."""

from __future__ import annotations

import contextlib
import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import redis
from kombu.connection import Connection

import kombu_rediscluster  # noqa: F401  teaches Kombu the scheme
from kombu_rediscluster import slot as slot_module
from kombu_rediscluster.slot import LoginRefused, NotACluster, Slot, SlotConnection, read_slots
from tests.rediscluster.single import certificate, serve_all_slots, single
from tests.rediscluster.six import Six, eventually, free_ports
from tests.rediscluster.talk import needs_server, queue_of

NEEDS_SERVER = needs_server[-1]


def test_hosts_may_be_missing_unknown_or_names() -> None:
    ranges = [
        [0, 99, [b"", 7000, b"id", []], [b"10.0.0.4", 7003, b"id", []]],
        [100, 199, [None, 7001, b"id", [b"ip", b"10.0.0.2"]]],
        [200, 299, [b"?", 7002, b"id"]],
        [300, 399, [b"node-4.example", 7003]],
        [400, 499],
    ]
    served = [read_slots(ranges, number, "asked")[0] for number in (99, 100, 250, 300, 450, 500)]
    assert served == [("asked", 7000), ("asked", 7001), ("asked", 7002), ("node-4.example", 7003), None, None]
    assert read_slots(ranges, 0, "asked")[1][1] == ("10.0.0.4", 7003)


@pytest.mark.parametrize(
    "said",
    [
        "MOVED 12 127.0.0.1:7001",
        "ASK 12 127.0.0.1:7001",
        "TRYAGAIN Multiple keys request during rehashing of slot",
        "READONLY You can't write against a read only replica.",
        "CLUSTERDOWN The cluster is down",
        "LOADING Redis is loading the dataset in memory",
        "UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)",
        "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
    ],
)
def test_a_server_that_does_not_serve_the_slot_now_is_a_lost_connection(said: str) -> None:
    with scripted(said) as connection:
        with pytest.raises(redis.ConnectionError):
            connection.read_response()
        assert connection._sock is None


@pytest.mark.parametrize("said", ["OOM command not allowed", "WRONGTYPE Operation against a key", "ERR unknown"])
def test_any_other_error_is_none_of_the_connection(said: str) -> None:
    with scripted(said) as connection:
        with pytest.raises(redis.ResponseError):
            connection.read_response()
        assert connection._sock is not None


@contextlib.contextmanager
def scripted(said: str) -> Iterator[SlotConnection]:
    """A connection on which a server has said the error *said*."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        connection = SlotConnection(Slot((), "jobs", {}, redis.Connection), protocol=2)
        connection._sock = ours  # type: ignore[assignment]
        connection._parser.on_connect(connection)
        theirs.sendall(f"-{said}\r\n".encode())
        yield connection
        connection.disconnect()


def test_seeds_that_are_dead_are_all_named() -> None:
    ports = free_ports(3)
    with pytest.raises(redis.ConnectionError) as caught:
        Slot([("127.0.0.1", port) for port in ports], "jobs", {}, redis.Connection).master()
    assert all(f"127.0.0.1:{port}: " in str(caught.value) for port in ports)


@contextlib.contextmanager
def mute(count: int) -> Iterator[list[tuple[str, int]]]:
    """Addresses at which somebody listens and says nothing."""
    with contextlib.ExitStack() as stack:
        listeners = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        yield [listener.getsockname() for listener in listeners]


def test_seeds_that_hang_are_asked_for_a_bounded_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slot_module, "LOOKUP_TIMEOUT_S", 0.2)
    monkeypatch.setattr(slot_module, "LOOKUP_TOTAL_S", 0.5)
    with mute(6) as addresses:
        began_s = time.monotonic()
        with pytest.raises(redis.ConnectionError) as caught:
            Slot(addresses, "jobs", {}, redis.Connection).master()
        assert time.monotonic() - began_s < 2
    assert all(f"127.0.0.1:{port}: " in str(caught.value) for _, port in addresses)
    assert str(caught.value).count("not asked any more after 0.5 s") >= 2


@NEEDS_SERVER
def test_a_seed_that_hangs_delays_and_does_not_stop(six: Six, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slot_module, "LOOKUP_TIMEOUT_S", 0.2)
    with mute(1) as addresses:
        seeds = [*addresses, ("127.0.0.1", six.ports[0])]
        for _ in range(5):
            found = Slot(seeds, "app-hang", {"password": six.password}, redis.Connection).master()
            assert found == ("127.0.0.1", six.master_of("app-hang"))


@NEEDS_SERVER
def test_a_wrong_password_is_said_at_once(six: Six) -> None:
    began_s = time.monotonic()
    url = six.url("app-wrong").replace(six.password, "wrong")
    with Connection(url) as connection, pytest.raises(LoginRefused, match="check user and password") as caught:
        connection.Producer().publish("x", exchange="", routing_key="none")
    assert all(f"127.0.0.1:{port}: " in str(caught.value) for port in six.ports)
    assert time.monotonic() - began_s < 1.5, "Kombu waits 2 s before it tries again"


@NEEDS_SERVER
def test_a_single_server_is_told_from_a_cluster(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    with single(tmp_path, {"port": str(port)}, port=port):
        connection = Connection(f"rediscluster://127.0.0.1:{port}/jobs")
        with connection, pytest.raises(NotACluster, match="for a single server use redis://"):
            connection.connect()
        (dead,) = free_ports(1)
        with pytest.raises(redis.ConnectionError, match="cluster support disabled"):
            Slot([("127.0.0.1", port), ("127.0.0.1", dead)], "jobs", {}, redis.Connection).master()


@NEEDS_SERVER
@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is needed")
def test_tls_an_account_with_the_least_rights_and_an_ipv6_address(tmp_path: Path) -> None:
    port, plain = free_ports(2)
    cert, key = certificate(tmp_path, "IP:::1")
    options = {
        "port": "0", "tls-port": str(port), "bind": "::1", "cluster-enabled": "yes", "tls-cert-file": str(cert),
        "tls-key-file": str(key), "tls-ca-cert-file": str(cert), "tls-auth-clients": "no", "tls-replication": "yes",
        "cluster-port": str(plain), "tls-cluster": "yes",
    }  # fmt: skip
    tls: dict[str, Any] = {"ssl_cert_reqs": "required", "ssl_ca_certs": str(cert)}
    with single(tmp_path, options, host="::1", port=port, ssl=True, **tls) as admin:
        serve_all_slots(admin)
        rights = ["~{jobs}*", "&{jobs}*", "+@all", "-@admin", "-@dangerous", "+cluster|slots"]
        admin.execute_command("ACL", "SETUSER", "celery", "on", ">p;@/:%", *rights)
        admin.execute_command("ACL", "SETUSER", "default", "off")
        url = f"rediscluster://celery:{quote('p;@/:%', safe='')}@[::1]:{port}/jobs"
        queue = queue_of("safe")
        with Connection(url, ssl=tls) as connection:
            connection.Producer().publish("hello", exchange="", routing_key="safe", declare=[queue])
            message = eventually(lambda: queue(connection.default_channel).get(), "it is delivered")
            message.ack()
            assert message.payload == "hello"
        stranger = Connection(url, ssl={"ssl_cert_reqs": "required"})
        with stranger, pytest.raises(redis.ConnectionError, match="certificate verify failed"):
            stranger.transport.establish_connection()


@pytest.mark.parametrize("nothing", [True, {}])
def test_tls_without_a_word_on_certificates_is_refused(nothing: Any) -> None:
    connection = Connection("rediscluster://a:1;b:2/jobs", ssl=nothing)
    with connection, pytest.raises(ValueError, match="broker_use_ssl: expected a dict of ssl_ options"):
        connection.connect()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"confirm_replicas": -1}, "confirm_replicas: expected 0 or more, got -1"),
        ({"confirm_replicas": 1, "confirm_timeout": 10}, "less than socket_timeout, 10.0 s, got 10"),
        ({"confirm_replicas": 1, "confirm_timeout": 0}, "confirm_timeout: expected more than 0 s"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any], says: str) -> None:
    connection = Connection("rediscluster://a:1;b:2/jobs", transport_options=options)
    with connection, pytest.raises(ValueError, match=says):
        connection.connect()
