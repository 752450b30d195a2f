"""What broker URLs say, and what is said of those that say nothing sensible."""

from __future__ import annotations

import pytest
from kombu.connection import Connection
from kombu.pools import connections

from kombu_rediscluster.transport import broker
from kombu_rediscluster.url import Url, parse_url

TWO = (("a", 7000), ("b", 7001))


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("rediscluster://a:7000;b:7001/jobs", Url(TWO, "jobs", None, None)),
        ("rediscluster://a:7000;b:7001", Url(TWO, "kombu", None, None)),
        ("rediscluster://a:7000;b:7001/", Url(TWO, "kombu", None, None)),
        ("rediscluster://a:7000;b:7001;/jobs", None),
        ("rediscluster://a:7000; b:7001/jobs", Url(TWO, "jobs", None, None)),
        ("rediscluster://a:7000;rediscluster://b:7001/jobs", Url(TWO, "jobs", None, None)),
        ("rediscluster://a:7000/jobs;rediscluster://b:7001/jobs", Url(TWO, "jobs", None, None)),
        ("rediscluster://a:7000;a:7000;b:7001/jobs", Url(TWO, "jobs", None, None)),
        ("rediscluster://a/jobs", Url((("a", 6379),), "jobs", None, None)),
        ("rediscluster://:pw@a:7000;b:7001/jobs", Url(TWO, "jobs", None, "pw")),
        ("rediscluster://me:pw@a:7000;b:7001/jobs", Url(TWO, "jobs", "me", "pw")),
        ("rediscluster://me:pw@a:7000;rediscluster://me:pw@b:7001/jobs", Url(TWO, "jobs", "me", "pw")),
        ("rediscluster://me:p%3B%40%2F%3A%25@a:7000;b:7001/jobs", Url(TWO, "jobs", "me", "p;@/:%")),
        ("rediscluster://[::1]:7000;[fe80::2]/jobs", Url((("::1", 7000), ("fe80::2", 6379)), "jobs", None, None)),
        ("rediscluster://node-1.example:7000/my%20jobs", Url((("node-1.example", 7000),), "my jobs", None, None)),
    ],
)
def test_a_url_is_read(url: str, expected: Url | None) -> None:
    if expected is None:
        with pytest.raises(ValueError, match="expected HOST:PORT"):
            parse_url(url)
    else:
        assert parse_url(url) == expected


@pytest.mark.parametrize(
    "url",
    [
        "rediscluster://me:pw@a:7000/jobs",
        "rediscluster://me:p%3B%40%2F%3A%25@a:7000;b:7001/jobs",
        "rediscluster://[::1]:7000/jobs",
        "rediscluster://[::1]:7000;[::1]:7001",
        "rediscluster://a",
    ],
)
def test_kombu_takes_a_url_apart_and_nothing_is_lost(url: str) -> None:
    with Connection(url) as connection:
        read, expected = broker(connection), parse_url(url)
        assert (read.seeds, read.tag) == (expected.seeds, expected.tag)
        account = (read.username or connection.userid, read.password or connection.password)
        assert account == (expected.username, expected.password)
        assert broker(connection.clone()) == read


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("rediscluster://", "expected HOST:PORT"),
        ("", "got no host"),
        ("rediscluster:///jobs", "expected HOST:PORT"),
        ("rediscluster://a:x/jobs", "a port from 1 to 65535, got 'a:x'"),
        ("rediscluster://a:0/jobs", "a port from 1 to 65535, got 'a:0'"),
        ("rediscluster://a:70000/jobs", "a port from 1 to 65535, got 'a:70000'"),
        ("rediscluster://a:1,b:2/jobs", "separated by ';', got 'a:1,b:2'"),
        ("rediscluster://::1:7000/jobs", r"in brackets, \[::1\]:7000"),
        ("rediscluster://a b:1/jobs", "expected HOST:PORT"),
        ("redis://a:1;redis://b:2/0", "got the scheme 'redis'"),
        ("rediscluster://a:1/{jobs}", "without braces and slashes, got '{jobs}'"),
        ("rediscluster://a:1/jobs/more", "without braces and slashes"),
        ("rediscluster://a:1/jobs;rediscluster://b:2/others", "different tags, jobs and others; name one"),
        ("rediscluster://u:pw@a:1;rediscluster://v:pw@b:2/jobs", "different accounts"),
        ("rediscluster://a:1/jobs?ssl_cert_reqs=none", "give them as broker_transport_options"),
    ],
)
def test_what_is_wrong_with_a_url_is_said_with_the_fix(url: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        parse_url(url)


@pytest.mark.parametrize("url", ["rediscluster://me:hidden@a:x/jobs", "rediscluster://me:hidden@a:1,b:2/jobs"])
def test_an_error_never_shows_the_password(url: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse_url(url)
    assert "hidden" not in str(caught.value)


def test_apps_with_different_tags_do_not_share_a_pool() -> None:
    """Kombu keeps its pools in dictionaries by what it takes for the same connection."""
    one, two = Connection("rediscluster://a:1;b:2/one"), Connection("rediscluster://a:1;b:2/two")
    assert connections[one] is not connections[two]
    assert connections[one] is connections[Connection("rediscluster://a:1;b:2/one")]
    assert connections[Connection("redis://a:1")] is connections[Connection("redis://a:1")]
