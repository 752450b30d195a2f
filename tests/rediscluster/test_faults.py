"""Celery workers of every kind follow their slot, whatever happens to its master, and are never started again."""

from __future__ import annotations

import contextlib
import os
import random
import time
from collections.abc import Callable, Iterator

import pytest

from tests.rediscluster.app import build
from tests.rediscluster.crew import Giver, Worker, doubled, missing
from tests.rediscluster.six import Six, eventually
from tests.rediscluster.talk import needs_server

pytestmark = needs_server
TAG = "app-faults"
SOAK_S = float(os.environ.get("SOAK_S", "600"))
KINDS = {
    "solo": (("-P", "solo"), ""),
    "threads": (("-P", "threads", "-c", "2"), ""),
    "prefork": (("-P", "prefork", "-c", "1"), ""),
    "blocking": (("-P", "solo"), "blocking"),
}


@pytest.fixture(scope="module")
def crew(six: Six, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Worker]]:
    folder = tmp_path_factory.mktemp("crew")
    with contextlib.ExitStack() as stack:
        workers = []
        for kind, (arguments, loop) in KINDS.items():
            workers.append(Worker(folder, six.url(TAG), f"{kind}@crew", *arguments, loop=loop))
            stack.callback(workers[-1].end)
        app = build(six.url(TAG))
        for worker in workers:
            eventually(lambda worker=worker: worker.answers(app), f"{worker.name} is up")  # type: ignore[misc]
        app.close()
        yield workers
        for worker in workers:
            worker.process.terminate()


def follows(six: Six, crew: list[Worker], fault: Callable[[Six], None]) -> None:
    """Nothing that was confirmed is lost in *fault*, and all workers answer and work afterwards."""
    six.settled()
    with Giver(six.url(TAG), [worker.queue for worker in crew]) as giver:
        giver.gives(400)
        fault(six)
        giver.gives(400)
        giver.stop()
    for worker in crew:
        confirmed = giver.confirmed[worker.queue]
        assert worker.process.poll() is None, worker.log.read_text()[-3000:]
        with contextlib.suppress(AssertionError):
            eventually(lambda: not missing(worker, confirmed), "all is done", within_s=40)  # noqa: B023
        assert missing(worker, confirmed) == [], f"{worker.name} has not done these of {len(confirmed)}"
    print(f"{giver.total()} confirmed, {giver.refused} refused, twice: {[doubled(worker) for worker in crew]}")
    app = build(six.url(TAG))
    for worker in crew:
        eventually(lambda: worker.answers(app), f"{worker.name} answers")  # noqa: B023
    app.close()


def kill_master(six: Six) -> None:
    dies = six.master_of(TAG)
    six.kill(dies)
    eventually(lambda: six.master_of(TAG) != dies, "its replica takes over")
    six.start_one(dies)  # till then there is no replica that could confirm anything
    six.settled()


def move_slot(six: Six) -> None:
    six.move_slot(TAG)


def restart_masters(six: Six) -> None:
    for master in six.masters():
        six.restart(master)


FAULTS = (kill_master, move_slot, restart_masters)


@pytest.mark.parametrize("fault", FAULTS)
def test_workers_go_on_and_nothing_is_lost(six: Six, crew: list[Worker], fault: Callable[[Six], None]) -> None:
    follows(six, crew, fault)


@pytest.mark.soak
@pytest.mark.timeout(SOAK_S + 300)
def test_workers_go_on_through_faults_at_random(six: Six, crew: list[Worker]) -> None:
    until_s = time.monotonic() + SOAK_S
    number = 0
    while time.monotonic() < until_s:
        fault = random.choice(FAULTS)
        number += 1
        print(f"{number}: {fault.__name__}")
        follows(six, crew, fault)
