"""Redis for Shunter, as configuration files: three servers with three sentinels, or a Redis Cluster of six. Pure.

The settings are those that `docs/redis.md` explains and `store.checks` demands.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from shunter.errors import InvalidInput

MASTER: Final = "shunter"
"""The name under which sentinels know the master."""

DOWN_AFTER_MS: Final = 3_000
MAX_LAG_S: Final = 5
FAILOVER_TIMEOUT_MS: Final = 3_000
"""An election that no sentinel wins is held again after twice this; leases of 20 s must outlast it."""

MODES: Final = ("sentinel", "cluster")
BUS: Final = 10_000
"""A member of a Redis Cluster listens on this much above its port, too."""

Setting = tuple[str, str]


class Server(Struct, frozen=True):
    """One process: *settings* in the order of its file. *kind*: data or sentinel; *replica_of* the master's name."""

    name: str
    kind: str
    host: str
    port: int
    settings: tuple[Setting, ...]
    replica_of: str = ""

    @property
    def text(self) -> str:
        """The configuration file."""
        return "".join(f"{name} {value}\n" for name, value in self.settings)


class Plan(Struct, frozen=True):
    """What `plan` made: the servers, and the *url* that every role of Shunter is to be given."""

    mode: str
    servers: tuple[Server, ...]
    url: str

    def named(self, name: str) -> Server:
        return next(one for one in self.servers if one.name == name)

    @property
    def masters(self) -> tuple[Server, ...]:
        return tuple(one for one in self.servers if one.kind == "data" and not one.replica_of)


def plan(
    mode: str, hosts: list[str], *, port: int, sentinel_port: int = 26_379, password: str = "",
    down_after_ms: int = DOWN_AFTER_MS, ports: list[int] | None = None,
) -> Plan:  # fmt: skip
    """Return the servers of *mode* on *hosts*: one, three, or for a cluster also six.

    On one host they get ports one after the other, from *port* (and *sentinel_port*) on, or those of *ports*, data
    servers first. Raises InvalidInput.
    """
    if mode not in MODES:
        raise InvalidInput(f"mode: expected {' or '.join(MODES)}, got {mode!r}", field="mode")
    data = 3 if mode == "sentinel" else 6
    allowed = (1, 3) if mode == "sentinel" else (1, 3, 6)
    if len(hosts) not in allowed or len(set(hosts)) != len(hosts):
        raise InvalidInput(
            f"hosts: expected {', '.join(map(str, allowed))} different ones for {mode}, got {len(hosts)}",
            field="hosts",
            fix="a majority must survive the loss of any host, so three or more; one is for trying it out",
        )
    if any(not host or not set(host).isdisjoint(" ,;/@\n\r\t\"'") for host in hosts):
        raise InvalidInput(f"hosts: expected host names or addresses, got {hosts}", field="hosts")
    if not (password.isascii() and set(password).isdisjoint(" \n\r\t\"'\\")):
        raise InvalidInput("password: expected ASCII without spaces and quotes", field="password")
    places = _places(hosts, data, port, ports)
    if mode == "cluster":
        return _cluster(places, password, down_after_ms)
    sentinels = _places(hosts, 3, sentinel_port, ports[data:] if ports else None)
    return _sentinel(places, sentinels, password, down_after_ms)


def _places(hosts: list[str], count: int, port: int, ports: list[int] | None) -> list[tuple[str, int]]:
    """Spread *count* servers over *hosts*: server n on host n, and the second round on the next ports."""
    if ports:
        return [(hosts[0], ports[n]) for n in range(count)]
    return [(hosts[n % len(hosts)], port + n // len(hosts)) for n in range(count)]


def _data(place: tuple[str, int], password: str) -> list[Setting]:
    settings = [
        ("port", str(place[1])),
        ("bind", "* -::*"),
        ("protected-mode", "no"),
        ("dir", "."),
        ("appendonly", "yes"),
        ("appendfsync", "everysec"),
        ("save", '""'),
        ("maxmemory-policy", "noeviction"),
        ("repl-diskless-sync", "yes"),
        ("repl-diskless-sync-delay", "0"),
        ("repl-timeout", "15"),
    ]
    return settings + ([("requirepass", password), ("masterauth", password)] if password else [])


def _sentinel(
    places: list[tuple[str, int]], sentinels: list[tuple[str, int]], password: str, down_after_ms: int
) -> Plan:
    master, servers = places[0], []
    for number, place in enumerate(places, 1):
        settings = _data(place, password)
        settings += [("min-replicas-to-write", "1"), ("min-replicas-max-lag", str(MAX_LAG_S))]
        settings += [("replica-announce-ip", place[0]), ("replica-announce-port", str(place[1]))]
        if number > 1:
            settings.append(("replicaof", f"{master[0]} {master[1]}"))
        replica_of = "" if number == 1 else "redis-1"
        servers.append(Server(f"redis-{number}", "data", *place, tuple(settings), replica_of))
    for number, place in enumerate(sentinels, 1):
        # No `bind`, which means all addresses: Redis 6.2 would call the master from the address `*`, in vain.
        settings = [
            ("port", str(place[1])),
            ("protected-mode", "no"),
            ("dir", "."),
            ("sentinel", "resolve-hostnames yes"),
            ("sentinel", "announce-hostnames yes"),
            ("sentinel", f"announce-ip {place[0]}"),
            ("sentinel", f"announce-port {place[1]}"),
            ("sentinel", f"monitor {MASTER} {master[0]} {master[1]} 2"),
            ("sentinel", f"down-after-milliseconds {MASTER} {down_after_ms}"),
            ("sentinel", f"failover-timeout {MASTER} {FAILOVER_TIMEOUT_MS}"),
            ("sentinel", f"parallel-syncs {MASTER} 2"),
        ]
        settings += [("sentinel", f"auth-pass {MASTER} {password}")] if password else []
        servers.append(Server(f"sentinel-{number}", "sentinel", *place, tuple(settings)))
    hosts = ";".join(f"{host}:{port}" for host, port in sentinels)
    return Plan("sentinel", tuple(servers), f"sentinel://{_account(password)}{hosts}/{MASTER}")


def _cluster(places: list[tuple[str, int]], password: str, node_timeout_ms: int) -> Plan:
    servers = []
    for number, place in enumerate(places, 1):
        settings = [
            *_data(place, password),
            ("cluster-enabled", "yes"),
            ("cluster-config-file", "nodes.conf"),
            ("cluster-node-timeout", str(node_timeout_ms)),
            # Our keys are in one slot: that another shard is down need not stop it.
            ("cluster-require-full-coverage", "no"),
        ]
        # Server n+3 copies server n; on three hosts the one of the next host, so that no host has a pair.
        replica_of = "" if number <= 3 else f"redis-{_copied(number, places)}"
        servers.append(Server(f"redis-{number}", "data", *place, tuple(settings), replica_of))
    hosts = ";".join(f"{host}:{port}" for host, port in places)
    return Plan("cluster", tuple(servers), f"rediscluster://{_account(password)}{hosts}")


def _copied(number: int, places: list[tuple[str, int]]) -> int:
    shifted = (number - 4 + 1) % 3 + 1
    return shifted if len({host for host, _ in places}) == 3 else number - 3


def _account(password: str) -> str:
    return f":{password}@" if password else ""
