"""The suite itself: it must not pass because there was nothing to run on."""

from __future__ import annotations

import pytest

from shunter.store.command import Command, Script
from shunter.store.redis import Store
from tests.contract.cluster import Cluster
from tests.contract.servers import VERSIONS, find_binary, why_missing


def test_at_least_one_version_of_redis_is_here_to_test_on() -> None:
    assert any(find_binary(version) for version in VERSIONS), "; ".join(map(why_missing, VERSIONS))


def test_each_version_runs_as_itself(cluster: Cluster, request: pytest.FixtureRequest) -> None:
    version = cluster.plain.info("server")["redis_version"].strip()
    wanted = request.node.callspec.params["url"]
    assert version.startswith("6.2.") == (wanted == "6.2"), version


def test_a_script_that_touches_an_undeclared_key_fails_in_this_suite(cluster: Cluster) -> None:
    text = f"return redis.call('HGETALL', '{cluster.keys.leader}')"
    script = Script("sneaky", text, Store(cluster.url)._client.script_load(text).decode())
    assert cluster.plain.run(Command((), list, script)) == []
    with pytest.raises(Exception, match=r"(?i)permission|can't access|NOPERM"):
        cluster.store.run(Command((), list, script))


def test_a_key_outside_the_hash_tag_is_found(cluster: Cluster) -> None:
    stray = f"{{{cluster.keys.cluster}}}stray"  # in the slot of the others, else a Redis Cluster would not take it here
    cluster.redis.set(stray, 1)
    assert cluster.foreign_keys() == [stray.encode()]
    cluster.redis.delete(stray)
