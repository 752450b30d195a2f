"""What a job costs Redis, counted, not timed: the same whether ten or a thousand others wait."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple

import pytest
import redis

from shunter.domain.job import JobSpec
from shunter.domain.phase import Ended
from shunter.store import commands
from tests.e2e.yard import Yard, eventually, yard_of

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(150)]

MEASURED: Final = 40
IDLE_S: Final = 1.5
MOST_CLIENT_COMMANDS: Final = 15.0


class Heard:
    """What Redis was asked, by name: by its clients, and by their scripts."""

    def __init__(self) -> None:
        self.clients: Counter[str] = Counter()
        self.scripts: Counter[str] = Counter()


@contextmanager
def listening(yard: Yard) -> Iterator[Heard]:
    """Count every command that Redis takes during the block."""
    heard = Heard()
    end = f"end of {time.monotonic_ns()}"
    with redis.Redis.from_url(yard.cluster.redis.url) as client, client.monitor() as monitor:

        def listen() -> None:
            for one in monitor.listen():
                if end in one["command"]:
                    return
                by = heard.scripts if one["client_type"] == "lua" else heard.clients
                by[one["command"].split(maxsplit=1)[0].upper()] += 1

        thread = threading.Thread(target=listen)
        thread.start()
        try:
            yield heard
        finally:
            client.echo(end)
            thread.join()


class Cost(NamedTuple):
    """Commands per job: those of clients, and all, with the ones that scripts run inside Redis."""

    client: float
    all: float


def cost(yard: Yard) -> tuple[Cost, Heard]:
    """Return what a job costs, one job at a time, less what the roles send whether or not there are jobs.

    Nobody follows the events meanwhile: followers cost by their number, not by the length of the queue.
    """
    began = time.monotonic()
    with listening(yard) as idle:
        eventually(lambda: time.monotonic() >= began + IDLE_S, "a while without jobs")
    idle_s, began, looks = time.monotonic() - began, time.monotonic(), 0
    with listening(yard) as busy:
        for _ in range(MEASURED):
            job = yard.submit(["true"])

            def ended(job: int = job) -> bool:
                nonlocal looks
                looks += 1
                (record,) = yard.store.run(commands.records(yard.keys, [job]))
                return record is not None and isinstance(record.phase, Ended)

            eventually(ended, f"job {job} ended")
    times = (time.monotonic() - began) / idle_s
    busy.clients["HMGET"] -= looks
    client = busy.clients.total() - idle.clients.total() * times
    scripts = busy.scripts.total() - idle.scripts.total() * times
    return Cost(client / MEASURED, (client + scripts) / MEASURED), busy


def test_the_redis_commands_of_a_job_do_not_depend_on_how_many_wait() -> None:
    with yard_of("n1=simulated:4", "n2=simulated:1") as yard:
        yard.held("blocker", gpus=4)
        yard.wait_for_lines("blocker")
        waiting = [JobSpec(command=["true"], gpus=4)]
        yard.client.submit_many(waiting * 10)
        few, heard = cost(yard)
        yard.client.submit_many(waiting * 990)
        many, heard_then = cost(yard)
        assert yard.client.cluster().active_jobs == 1_001
        told = (
            f"{few} with 10 waiting: {heard.clients} {heard.scripts}\n{many}: {heard_then.clients} {heard_then.scripts}"
        )
        assert abs(many.client - few.client) <= 0.1 * few.client, told
        assert abs(many.all - few.all) <= 0.1 * few.all, told
        assert max(few.client, many.client) <= MOST_CLIENT_COMMANDS, told
        print(told)
