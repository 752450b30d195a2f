"""Kombu's own integration tests of its Redis transport, on a cluster: `python -m tests.rediscluster.kombu_suite DIR`.

DIR is an unpacked source distribution of the Kombu that is installed (`pip download --no-deps --no-binary kombu
kombu==VERSION`). The tests stay as they are; Kombu's Connection and the redis client that they look with are replaced.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

import kombu
import pytest
import redis
from kombu.connection import Connection
from kombu.transport.redis import GlobalKeyPrefixMixin
from redis.crc import key_slot

import kombu_rediscluster  # noqa: F401  teaches Kombu the scheme
from tests.rediscluster.six import Six

ROOT: Final = Path(__file__).parents[2]
TAG: Final = "suite"
FILES: Final = ("t/integration/test_redis.py", "t/integration/test_redis_brpop_qos.py")
LEFT_OUT: Final = {
    "PublishBatch": "batches are out of scope",
    "Sentinel": "another transport",
    "ConnectTimeout": "redis:// itself",
    "check_hostname": "redis:// itself",
    "failed_credentials": "a refused login is LoginRefused here, which Celery does not try again",
    "BrpopHealthCheck": "goes through a proxy, which a connection to the slot's master goes around",
}
"""What cannot be asked of this transport, and why, by parts of the tests' names."""

WITH_KEY: Final = {"PTTL", "ZSCORE", "ZADD", "EXISTS", "SCARD", "SMEMBERS", "DEL", "ZCARD", "HEXISTS", "HGET"}


class OnCluster(Connection):
    """What the tests make with `redis://` and the port that they were told."""

    def __init__(self, hostname: Any = "localhost", *arguments: Any, **options: Any) -> None:
        seed = f"{os.environ['REDIS_HOST']}:{os.environ['REDIS_6379_TCP']}"
        if isinstance(hostname, str) and hostname.startswith("redis://") and hostname.endswith(seed):
            hostname = f"{hostname.replace('redis://', 'rediscluster://')}/{TAG}"
            options["transport_options"] = {"note_timeout": 0, **(options.get("transport_options") or {})}
        super().__init__(hostname, *arguments, **options)


def look_at_the_tag() -> None:
    """Have plain clients, with which the tests look into Redis, ask the tag's master for the tag's keys."""
    plain_init, plain_execute = redis.Redis.__init__, redis.Redis.execute_command

    def init(self: Any, *arguments: Any, **options: Any) -> None:
        if type(self) is redis.Redis:
            options["port"] = int(os.environ["SUITE_MASTER"])
        plain_init(self, *arguments, **options)

    def execute(self: Any, name: str, *words: Any, **options: Any) -> Any:
        rest = list(words)
        if type(self) is redis.Redis and name in WITH_KEY:
            rest = [_tagged(key) for key in rest] if name == "DEL" else [_tagged(rest[0]), *rest[1:]]
        elif type(self) is redis.Redis and name == "SCAN":
            rest = [_tagged(word) if before == b"MATCH" else word for before, word in zip([b"", *rest], rest)]  # noqa: B905
        return plain_execute(self, name, *rest, **options)

    redis.Redis.__init__ = init  # type: ignore[method-assign]
    redis.Redis.execute_command = execute  # type: ignore[method-assign]


def _tagged(key: Any) -> str:
    return str(key) if str(key).startswith(f"{{{TAG}}}") else f"{{{TAG}}}{key}"


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "env: what the test needs")
    kombu.Connection = OnCluster  # type: ignore[attr-defined]
    look_at_the_tag()
    # The tests ask through Kombu's own client what Kombu itself never asks.
    GlobalKeyPrefixMixin.PREFIXED_SIMPLE_COMMANDS.append("ZCARD")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for part, reason in LEFT_OUT.items():
            if part in item.nodeid:
                item.add_marker(pytest.mark.skip(reason=reason))


def main(folder: str, *arguments: str) -> int:
    six = Six(Path(tempfile.mkdtemp()))
    try:
        six.start()
        slot = key_slot(b"{%s}" % TAG.encode())
        said = six.do(six.ports[0], "CLUSTER", "SLOTS")
        master = next(node[1] for first, last, node, *_ in said if first <= slot <= last)
        seed = {"REDIS_HOST": "127.0.0.1", "REDIS_6379_TCP": str(six.ports[0]), "SUITE_MASTER": str(master)}
        command = ["pytest", "-p", "tests.rediscluster.kombu_suite", "-p", "no:randomly", "-o", "python_classes=test_*"]
        return subprocess.run(
            [sys.executable, "-m", *command, "-rfEs", *FILES, *arguments],
            cwd=folder, check=False, env={**os.environ, **seed, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"},
        ).returncode  # fmt: skip
    finally:
        six.stop()


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
