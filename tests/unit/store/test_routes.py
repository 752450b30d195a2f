"""Reading the URL of a Redis, and the plan of servers that `shunter deploy redis` makes."""

from __future__ import annotations

import pytest

from shunter.errors import InvalidInput
from shunter.store.deploy import Plan, plan
from shunter.store.routes import Url, parse, with_cluster


@pytest.mark.parametrize("url", ["redis://h:1/2", "rediss://u:p@h", "unix:///run/redis.sock", "unix://u@/x.sock?db=1"])
def test_plain_urls_are_left_to_redis_py(url: str) -> None:
    found = parse(url)
    assert (found.plain, found.replicated, found.replicas) == (url, False, 0)


def test_our_options_are_taken_out_of_a_plain_url() -> None:
    found = parse("redis://h:1/2?confirm=1&health_check_interval=5&confirm_ms=500")
    assert (found.plain, found.replicas, found.confirm_ms) == ("redis://h:1/2?health_check_interval=5", 1, 500)


def test_sentinels_have_their_own_port_and_account() -> None:
    found = parse("sentinel://ada:s%40crt@a;b:1;[::1]:2/mymaster?sentinel_password=x&tls=1&ca=/ca.pem")
    assert found == Url(
        "sentinel", "", (("a", 26379), ("b", 1), ("::1", 2)), "mymaster", ("ada", "s@crt"), (None, "x"), True, "/ca.pem"
    )
    assert (found.replicated, found.replicas) == (True, 1)


def test_a_cluster_gets_the_tag_of_ours() -> None:
    assert with_cluster("rediscluster://a:1;b:2", "main") == "rediscluster://a:1;b:2/main"
    assert with_cluster("rediscluster://a:1;b:2/?confirm=0", "main") == "rediscluster://a:1;b:2/main?confirm=0"
    assert with_cluster("rediscluster://a:1/main", "main") == "rediscluster://a:1/main"
    assert with_cluster("redis://a/0", "main") == "redis://a/0"
    with pytest.raises(InvalidInput, match="the URL is for cluster 'eu', this is 'main'"):
        with_cluster("rediscluster://a:1/eu", "main")


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("http://x", "expected redis://HOST:PORT/DB"),
        ("sentinel://a:1;b:2", "expected the master's name after the sentinels"),
        ("sentinel:///m", "expected HOST:PORT"),
        ("rediscluster://a:x/m", "expected HOST:PORT;HOST:PORT, got 'a:x'"),
        ("rediscluster://a/m?confirm=7", "confirm: expected 0 to 5, got '7'"),
        ("redis://a?confirm_ms=0", "confirm_ms: expected 1 to 1500, got '0'"),
        ("sentinel://a/m?password=x", "options: expected confirm, confirm_ms, tls, ca and sentinel_*, got password"),
    ],
)
def test_what_is_wrong_with_a_url_is_said(url: str, says: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse(url)
    assert says in caught.value.message
    assert caught.value.field == "redis"


def test_an_error_never_shows_a_password() -> None:
    for url in ("htp://user:secret@h", "rediscluster://user:secret@a:x/m", "sentinel://user:secret@a:1"):
        with pytest.raises(InvalidInput) as caught:
            parse(url)
        assert "secret" not in str(caught.value)


def test_servers_are_spread_so_that_no_machine_has_a_master_and_its_replica() -> None:
    made = plan("cluster", ["a", "b", "c"], port=7_000)
    assert [(one.host, one.port) for one in made.servers] == [
        ("a", 7000), ("b", 7000), ("c", 7000), ("a", 7001), ("b", 7001), ("c", 7001),
    ]  # fmt: skip
    for server in made.servers:
        if server.replica_of:
            assert made.named(server.replica_of).host != server.host
    assert len({server.replica_of for server in made.servers} - {""}) == 3


@pytest.mark.parametrize(
    ("mode", "hosts", "field"),
    [
        ("sentinel", ["a", "b"], "hosts"),
        ("cluster", ["a", "a", "a"], "hosts"),
        ("cluster", ["a b", "c", "d"], "hosts"),
        ("x", ["a"], "mode"),
    ],
)
def test_a_plan_that_no_loss_of_a_machine_would_survive_is_refused(mode: str, hosts: list[str], field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        plan(mode, hosts, port=1)
    assert caught.value.field == field


def test_the_url_of_a_plan_reads_back() -> None:
    made: Plan = plan("sentinel", ["a", "b", "c"], port=6_379, password="x")
    assert parse(made.url) == Url(
        "sentinel", "", (("a", 26379), ("b", 26379), ("c", 26379)), "shunter", (None, "x"), (None, None)
    )
