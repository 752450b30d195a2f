"""What `kombu_rediscluster` loses with its master, and what publishing takes: `python -m benchmarks.transport`."""

from __future__ import annotations

import contextlib
import importlib.metadata
import itertools
import json
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import click
import redis
from kombu.connection import Connection
from kombu.exceptions import OperationalError
from tests.rediscluster.six import NODE_TIMEOUT_MS, Six, eventually, server

import kombu_rediscluster  # noqa: F401  teaches Kombu the scheme
from benchmarks.facts import machine_facts
from benchmarks.options import AT_LEAST_ONE, common, run
from benchmarks.output import BenchmarkFailed, Output, open_output, say

WARM_UP: Final = 200
BEFORE_S: Final = 1.0
AFTER_S: Final = 1.0
PATIENCE: Final = {"interval_start": 0.1, "interval_step": 0.1, "interval_max": 0.2}
"""Kombu waits 2 s before it connects again, then 4 s: that would be most of the standstill."""

LOST: Final = (redis.ConnectionError, redis.TimeoutError, OSError, OperationalError)


class Writer:
    """Publishes numbers to *queue* as fast as it can until it is told to stop, and keeps those that were accepted."""

    def __init__(self, url: str, queue: str, name: int, confirm: int) -> None:
        self.accepted: list[str] = []
        self.at_s: list[float] = []
        self.refused = 0
        self._url, self._queue, self._name = url, queue, name
        self._options = {"confirm_replicas": confirm, "socket_timeout": 2, **PATIENCE}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._write, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()

    def join(self) -> None:
        self._thread.join(60)
        if self._thread.is_alive():
            raise BenchmarkFailed(f"writer {self._name} did not end within 60 s")

    def _write(self) -> None:
        number = 0
        while not self._stop.is_set():
            with contextlib.suppress(*LOST), Connection(self._url, transport_options=self._options) as connection:
                producer = connection.Producer()
                while not self._stop.is_set():
                    number += 1
                    line = f"{self._name}-{number}"
                    self.refused += 1
                    producer.publish(line, exchange="", routing_key=self._queue)
                    self.refused -= 1
                    self.accepted.append(line)
                    self.at_s.append(time.monotonic())


class Killed(NamedTuple):
    """What became of the publishes around one death: how many, and for how long none was accepted, in seconds."""

    accepted: int
    refused: int
    lost: int
    gap_s: float


def kill_under_load(six: Six, queue: str, writers: int, confirm: int, behind_ms: int) -> Killed:
    """Kill the master of the tag while *writers* publish, let its replica take over, and count at the new master.

    The replica hears nothing from the master for the last *behind_ms* milliseconds.
    """
    six.settled()
    tag = "bench"
    crew = [Writer(six.url(tag), queue, number, confirm) for number in range(writers)]
    for writer in crew:
        writer.start()
    eventually(lambda: all(writer.accepted for writer in crew), "all writers are on their way")
    time.sleep(BEFORE_S)
    dies = six.master_of(tag)
    replica = six.replica_of(dies)
    if behind_ms:
        six.cut_off(dies, replica)
        time.sleep(behind_ms / 1000)
    six.kill(dies)
    six.thaw(replica)
    eventually(lambda: six.master_of(tag) != dies, "its replica takes over")
    six.start_one(dies)  # until then nobody could confirm anything
    six.settled()
    back_s = time.monotonic()
    eventually(lambda: all(writer.at_s[-1] > back_s for writer in crew), "all writers go on")
    time.sleep(AFTER_S)
    for writer in crew:
        writer.stop()
    for writer in crew:
        writer.join()
    found = set(_bodies(six, tag, queue))
    accepted = [line for writer in crew for line in writer.accepted]
    times = sorted(at for writer in crew for at in writer.at_s)
    gap_s = max(later - earlier for earlier, later in itertools.pairwise(times))
    lost = len(set(accepted) - found)
    return Killed(len(accepted), sum(writer.refused for writer in crew), lost, gap_s)


def _bodies(six: Six, tag: str, queue: str) -> Iterator[str]:
    """Every body in *queue*, which is removed."""
    client, key = six.at(six.master_of(tag)), f"{{{tag}}}{queue}"
    with Connection(six.url(tag)) as connection:
        channel = connection.default_channel
        for text in client.lrange(key, 0, -1):
            message = channel.Message(json.loads(text), channel=channel)
            yield str(message.decode())
    client.delete(key)
    client.close()


def measure_kills(out: Output, six: Six, repeat: int, writers: int, behind_ms: int) -> None:
    for confirm in (0, 1):
        rounds = []
        for number in range(repeat):
            queue = f"kill-{behind_ms}-{confirm}-{number}"
            rounds.append(kill_under_load(six, queue, writers, confirm, behind_ms))
            say(f"{behind_ms} ms behind, confirm_replicas={confirm}, repetition {number + 1}: {rounds[-1]}")
        how = {"confirm_replicas": confirm, "behind_ms": behind_ms, "writers": writers, "repetitions": repeat}
        lost = [one.lost for one in rounds]
        out.figure("lost_at_kill", "messages", lost, of=sum(one.accepted for one in rounds), by_repetition=lost, **how)
        out.figure("standstill_at_kill", "s", [one.gap_s for one in rounds], **how)
        if confirm and any(lost):
            raise BenchmarkFailed(f"confirmed publishes were lost: {lost}")


def measure_latency(out: Output, six: Six, repeat: int, publishes: int) -> None:
    """One publish after the other on one connection, the two kinds in turn."""
    six.settled()
    rounds: dict[int, list[list[float]]] = {0: [], 1: []}
    for _ in range(repeat):
        for confirm, samples in rounds.items():
            with Connection(six.url("bench"), transport_options={"confirm_replicas": confirm}) as connection:
                samples.append(_latencies_ms(connection, publishes))
    for confirm, samples in rounds.items():
        out.repeated("publish", "ms", samples, confirm_replicas=confirm)


def _latencies_ms(connection: Connection, publishes: int) -> list[float]:
    producer, found = connection.Producer(), []
    for number in range(WARM_UP + publishes):
        at = time.perf_counter()
        producer.publish("x" * 100, exchange="", routing_key="latency")
        if number >= WARM_UP:
            found.append((time.perf_counter() - at) * 1000)
    connection.default_channel.queue_purge("latency")
    return found


def facts(folder: Path) -> dict[str, object]:
    """Return the machine's facts, and the versions that matter here; Redis is that of the path, not Shunter's own."""
    said = subprocess.run([str(server()), "--version"], check=True, capture_output=True, text=True).stdout
    versions = {name: importlib.metadata.version(name) for name in ("kombu", "redis")}
    return {
        **machine_facts("transport", folder), "redis": said.split("v=")[1].split()[0], "kombu": versions["kombu"],
        "redis_py": versions["redis"], "cluster_node_timeout_ms": NODE_TIMEOUT_MS,
    }  # fmt: skip


@click.command()
@click.option("--repeat", default=5, show_default=True, type=AT_LEAST_ONE, help="Repetitions of each.")
@click.option("--writers", default=4, show_default=True, type=AT_LEAST_ONE, help="Threads that publish at once.")
@click.option("--publishes", default=2000, show_default=True, type=AT_LEAST_ONE, help="For the latency, a repetition.")
@click.option("--behind", default=[0, 100], show_default=True, multiple=True, type=click.IntRange(0, 500),
              help="For how many milliseconds before the kill the replica hears nothing.")  # fmt: skip
@common
def transport(
    folder: Path, json_file: str | None, repeat: int, writers: int, publishes: int, behind: tuple[int, ...]
) -> None:
    """Say what publishing to a cluster of six takes, and what is lost when the master is killed, confirmed and not.

    \b
    python -m benchmarks.transport
    python -m benchmarks.transport --repeat 20
    """
    if server() is None:
        raise click.UsageError("no redis-server in PATH: install Redis 7")
    out = open_output("transport", json_file)
    out.line(facts(folder))
    with tempfile.TemporaryDirectory(dir=folder) as home:
        six = Six(Path(home))
        try:
            six.start()
            measure_latency(out, six, repeat, publishes)
            for behind_ms in behind:
                measure_kills(out, six, repeat, writers, behind_ms)
        except AssertionError as error:
            raise BenchmarkFailed(str(error)) from error
        finally:
            six.stop()


if __name__ == "__main__":
    run(transport)
