"""What is wrong with how a Redis is set up."""

from __future__ import annotations

from typing import Final

import pytest
from msgspec.structs import replace

from shunter.domain.lease import FAST, NORMAL, LeaseTerms
from shunter.store.checks import Found, Problem, problems
from shunter.store.deploy import plan

GOOD: Final = {"maxmemory-policy": "noeviction", "appendonly": "yes", "appendfsync": "everysec"}
SENTINEL: Final = Found(
    "sentinel", "7.0.15", {**GOOD, "min-replicas-to-write": "1", "min-replicas-max-lag": "5"}, 2,
    {"down-after-milliseconds": "3000", "failover-timeout": "3000", "num-other-sentinels": "2"}, 3,
)  # fmt: skip
CLUSTER: Final = Found(
    "rediscluster", "7.0.15",
    {**GOOD, "cluster-node-timeout": "3000", "cluster-require-full-coverage": "no", "min-replicas-to-write": "0"}, 1,
)  # fmt: skip
SINGLE: Final = Found("redis", "6.2.14", GOOD)


def changed(found: Found, **changes: object) -> Found:

    fields = {
        name: {**getattr(found, name), **value} if isinstance(value, dict) else value for name, value in changes.items()
    }
    return replace(found, **fields)


def said(found: Found, terms: LeaseTerms = NORMAL) -> list[tuple[str, bool]]:
    return [(problem.setting, problem.refused) for problem in problems(found, terms)]


SPREAD: Final = changed(CLUSTER, shards=(("a", "b"), ("b", "c"), ("c", "a")))
ON_ONE: Final = changed(CLUSTER, shards=(("a", "a"), ("a", "a"), ("a", "a")))
"""For trying it out: nobody expects to survive the loss of the one machine."""


@pytest.mark.parametrize("found", [SINGLE, SENTINEL, CLUSTER, SPREAD, ON_ONE])
def test_what_is_set_up_well_has_no_problem(found: Found) -> None:
    assert said(found) == []


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (changed(SINGLE, version="6.0.16"), ("version", True)),
        (changed(SINGLE, config={"maxmemory-policy": "allkeys-lru"}), ("maxmemory-policy", True)),
        (changed(SINGLE, config={"appendonly": "no"}), ("appendonly", False)),
        (changed(SINGLE, config={"appendfsync": "no"}), ("appendfsync", False)),
        (Found("redis", "7.0.0", {}), ("CONFIG", False)),
        (changed(SENTINEL, config={"min-replicas-to-write": "0"}), ("min-replicas-to-write", True)),
        (changed(SENTINEL, replicas=4), ("min-replicas-to-write", True)),
        (changed(SENTINEL, config={"min-replicas-max-lag": "12"}), ("min-replicas-max-lag", True)),
        (changed(SENTINEL, sentinel={"down-after-milliseconds": "30000"}), ("down-after-milliseconds", False)),
        (changed(SENTINEL, sentinel={"failover-timeout": "180000"}), ("failover-timeout", False)),
        (changed(SENTINEL, sentinel={"num-other-sentinels": "1"}), ("sentinels", False)),
        (changed(SENTINEL, sentinels=2), ("sentinels in the URL", False)),
        (changed(CLUSTER, config={"cluster-node-timeout": "15000"}), ("cluster-node-timeout", False)),
        (changed(CLUSTER, config={"cluster-require-full-coverage": "yes"}), ("cluster-require-full-coverage", False)),
        (changed(CLUSTER, config={"min-replicas-to-write": "1"}), ("min-replicas-to-write", False)),
        (changed(CLUSTER, replicas=0), ("replicas", False)),
        (changed(SINGLE, role="slave"), ("role", False)),
        (changed(CLUSTER, shards=(("b", "a"), ("b", "c"), ("c", "a"))), ("masters on b", False)),
    ],
)
def test_each_mistake_is_found_and_only_what_loses_or_doubles_jobs_is_refused(
    found: Found, expected: tuple[str, bool]
) -> None:
    assert said(found) == [expected]


def test_fast_leases_need_a_shorter_lag() -> None:
    assert said(SENTINEL, FAST) == [("min-replicas-max-lag", True)]
    assert said(changed(SENTINEL, config={"min-replicas-max-lag": "4"}), FAST) == []


def test_a_problem_says_what_was_found_what_should_be_and_why() -> None:
    (problem,) = problems(changed(SINGLE, config={"maxmemory-policy": "volatile-lru"}), NORMAL)
    assert str(problem).startswith("redis: maxmemory-policy: expected noeviction, found volatile-lru: a full Redis")
    assert isinstance(problem, Problem)


@pytest.mark.parametrize("mode", ["sentinel", "cluster"])
def test_what_deploy_writes_has_no_problem(mode: str) -> None:
    made = plan(mode, ["a", "b", "c"], port=7_000)
    data = dict(made.servers[0].settings)
    sentinels = [one for one in made.servers if one.kind == "sentinel"]
    words = [value.split() for server in sentinels[:1] for name, value in server.settings if name == "sentinel"]
    known = {one[0]: one[-1] for one in words} | {"num-other-sentinels": str(len(sentinels) - 1)}
    kind = "sentinel" if mode == "sentinel" else "rediscluster"
    assert said(Found(kind, "7.0.15", data, 2 if mode == "sentinel" else 1, known, len(sentinels))) == []
