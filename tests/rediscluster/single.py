"""One Redis server that is not as the six are: no cluster, or one with TLS, accounts and IPv6."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import redis

from shunter.runtime.process import tied_to_parent
from tests.rediscluster.six import SLOTS, eventually, server


@contextlib.contextmanager
def single(folder: Path, options: dict[str, Any], **reached: Any) -> Iterator[redis.Redis]:
    """A server with *options* until the end of the context; *reached* is how a client connects to it."""
    argv = [str(server()), *(str(part) for name, value in options.items() for part in (f"--{name}", *value.split()))]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            tied_to_parent([*argv, "--dir", str(folder), "--save", ""], os.getpid()), stdout=log, stderr=log
        )
    try:
        client = redis.Redis(**reached)
        eventually(lambda: process.poll() is not None or client.ping(), "the server answers")
        assert process.poll() is None, (folder / "log").read_text()
        yield client
        client.close()
    finally:
        process.kill()
        process.wait()


def serve_all_slots(client: redis.Redis) -> None:
    """Make a cluster of one."""
    client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, SLOTS - 1)
    eventually(lambda: b"cluster_state:ok" in _info(client), "the cluster is well")


def _info(client: redis.Redis) -> bytes:
    client.response_callbacks.clear()
    return bytes(client.execute_command("CLUSTER", "INFO"))


def certificate(folder: Path, *names: str) -> tuple[Path, Path]:
    """Return a self-signed certificate for *names*, such as `IP:::1`, and its key."""
    cert, key = folder / "cert.pem", folder / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=redis",
         "-addext", f"subjectAltName={','.join(names)}", "-keyout", key, "-out", cert],
        check=True, capture_output=True,
    )  # fmt: skip
    return cert, key
