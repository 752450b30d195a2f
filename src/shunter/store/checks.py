"""Whether a Redis is set up so that what Shunter promises holds: what is wrong, why, and what to set. Pure.

What would lose or double jobs is refused; the rest is told.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from msgspec import Struct

from shunter.domain.lease import LeaseTerms
from shunter.store.routes import CLUSTER, SENTINEL

OLDEST: Final = (6, 2)
TAKEOVER_MOST_MS: Final = 10_000
"""With a longer time until a dead master is noticed, jobs may freeze before another one serves."""

ELECTION_MOST_MS: Final = 6_000
"""An election that no sentinel wins is held again after twice as long: with more, jobs freeze before that."""


class Problem(Struct, frozen=True):
    """*setting* was *found* and should be as *expected*; *why*: what happens otherwise. *refused*: nothing starts."""

    setting: str
    found: str
    expected: str
    why: str
    refused: bool = False

    def __str__(self) -> str:
        return f"redis: {self.setting}: expected {self.expected}, found {self.found or 'nothing'}: {self.why}"


class Found(Struct, frozen=True):
    """What a master says. *config* is CONFIG GET * (empty where that is forbidden), *replicas* how many it has.

    *sentinel* is what SENTINEL MASTER answers, *sentinels* how many the URL names. *shards*: the hosts of each shard of
    a Redis Cluster, its master's first. *role*: of the server that answered, master or slave.
    """

    kind: str
    version: str
    config: Mapping[str, str]
    replicas: int = 0
    sentinel: Mapping[str, str] = {}
    sentinels: int = 0
    shards: tuple[tuple[str, ...], ...] = ()
    role: str = "master"


def problems(found: Found, terms: LeaseTerms) -> Iterator[Problem]:
    """Yield what is wrong with *found* for nodes with leases of *terms*."""
    version = tuple(int(part) for part in found.version.split(".")[:2] if part.isdigit())
    if version < OLDEST:
        yield Problem("version", found.version, "6.2 or later", "scripts would fail", refused=True)
    if not found.config:
        why = "settings cannot be checked; see docs/redis.md for what they should be"
        yield Problem("CONFIG", "refused", "that it may be read", why)
        return
    if found.role != "master":
        why = "nothing can be written here; give the master's URL, or the sentinels': sentinel://H:P;H:P;H:P/NAME"
        yield Problem("role", "replica", "master", why)
    yield from _one_server(found.config)
    if found.kind == SENTINEL:
        yield from _sentinel(found, terms)
    elif found.kind == CLUSTER:
        yield from _cluster(found)


def _one_server(config: Mapping[str, str]) -> Iterator[Problem]:
    policy = config.get("maxmemory-policy", "")
    if policy != "noeviction":
        why = "a full Redis would throw jobs away; `CONFIG SET maxmemory-policy noeviction`, and in its file"
        yield Problem("maxmemory-policy", policy, "noeviction", why, refused=True)
    if config.get("appendonly") != "yes":
        saves = config.get("save", "")
        lost = "what was written since its last snapshot" if saves else "everything"
        yield Problem("appendonly", config.get("appendonly", ""), "yes", f"a restart loses {lost}")
    elif config.get("appendfsync") == "no":
        yield Problem("appendfsync", "no", "everysec or always", "loss of power may lose half a minute")


def _sentinel(found: Found, terms: LeaseTerms) -> Iterator[Problem]:
    config, said = found.config, found.sentinel
    servers, at_least = found.replicas + 1, _number(config, "min-replicas-to-write")
    if servers > 1 and at_least < servers // 2:
        why = (
            "a master that is cut off with its clients would go on beside the new one, and run jobs twice; "
            f"`CONFIG SET min-replicas-to-write {servers // 2}` on every server, and in its file"
        )
        yield Problem("min-replicas-to-write", str(at_least), f"{servers // 2} or more", why, refused=True)
    down_s = _number(said, "down-after-milliseconds") / 1000
    lag_s = _number(config, "min-replicas-max-lag")
    most_s = int(terms.requeue_after_s - terms.fence_after_s - terms.freeze_within_s - 1 + down_s)
    if lag_s > most_s:
        why = (
            "an old master that is cut off may grant leases for so long, and jobs with leases of "
            f"{terms.fence_after_s:g} s run twice; lower it on every server, or use `--lease normal`"
        )
        yield Problem("min-replicas-max-lag", str(lag_s), f"at most {most_s}", why, refused=True)
    if down_s * 1000 > TAKEOVER_MOST_MS:
        why = "jobs may freeze before another master serves"
        yield Problem("down-after-milliseconds", f"{down_s * 1000:g}", f"at most {TAKEOVER_MOST_MS}", why)
    if (again_ms := _number(said, "failover-timeout")) > ELECTION_MOST_MS:
        why = (
            f"an election that no sentinel wins is held again after {again_ms / 500:g} s, and jobs freeze meanwhile; "
            f"`SENTINEL SET {said.get('name', 'NAME')} failover-timeout 3000` on every sentinel"
        )
        yield Problem("failover-timeout", str(again_ms), f"at most {ELECTION_MOST_MS}", why)
    known = _number(said, "num-other-sentinels") + 1
    if known < 3:
        yield Problem("sentinels", str(known), "3 or more", "with fewer, the loss of one machine stops all")
    if found.sentinels < known:
        why = "the URL should name all of them: those that it names may be the ones that are down"
        yield Problem("sentinels in the URL", str(found.sentinels), str(known), why)


def _cluster(found: Found) -> Iterator[Problem]:
    config = found.config
    timeout_ms = _number(config, "cluster-node-timeout")
    if timeout_ms > TAKEOVER_MOST_MS:
        why = "jobs may freeze before another master serves"
        yield Problem("cluster-node-timeout", str(timeout_ms), f"at most {TAKEOVER_MOST_MS}", why)
    if config.get("cluster-require-full-coverage") == "yes":
        why = "the loss of any shard would stop Shunter, which uses one"
        yield Problem("cluster-require-full-coverage", "yes", "no", why)
    at_least = _number(config, "min-replicas-to-write")
    if found.replicas and at_least >= found.replicas:
        why = "the death of one server would stop all writes until it is back"
        yield Problem("min-replicas-to-write", str(at_least), f"less than {found.replicas}", why)
    yield from _crowded(found.shards)
    if not found.replicas:
        yield Problem("replicas", "0", "1 or more", "nobody takes over from this master")


def _crowded(shards: Sequence[Sequence[str]]) -> Iterator[Problem]:
    """Masters vote on who takes over: a machine with half of them takes the cluster with it, if there are others."""
    masters = Counter(hosts[0] for hosts in shards)
    if len({host for hosts in shards for host in hosts}) < 3:
        return
    for host, count in masters.items():
        if 2 * count >= len(shards):
            why = (
                "if that machine dies nobody takes over; it is often so after a take-over: have a replica on a machine "
                "without a master take its part back, `redis-cli -h HOST -p PORT CLUSTER FAILOVER`"
            )
            yield Problem(f"masters on {host}", str(count), "less than half of all", why)


def _number(values: Mapping[str, str], name: str) -> int:
    text = values.get(name, "0")
    return int(text) if text.isdigit() else 0
