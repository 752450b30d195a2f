"""Celery workers of every kind follow their slot, whatever happens to its master, and are never started again."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import pytest

from tests.rediscluster.app import build
from tests.rediscluster.crew import Giver, Worker, doubled, missing
from tests.rediscluster.six import Six, eventually
from tests.rediscluster.talk import needs_server

pytestmark = needs_server
TAG = "app-faults"
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


def follows(six: Six, crew: list[Worker], fault: Callable[[], None]) -> None:
    """Nothing that was confirmed is lost in *fault*, and all workers answer and work afterwards."""
    six.settled()
    with Giver(six.url(TAG), [worker.queue for worker in crew]) as giver:
        giver.gives(400)
        fault()
        giver.gives(400)
        giver.stop()
    for worker in crew:
        confirmed = giver.confirmed[worker.queue]
        eventually(lambda: not missing(worker, confirmed), f"{worker.name} does all {len(confirmed)}", within_s=40)  # noqa: B023
    print(f"{giver.total()} confirmed, {giver.refused} refused, twice: {[doubled(worker) for worker in crew]}")
    app = build(six.url(TAG))
    for worker in crew:
        eventually(lambda: worker.answers(app), f"{worker.name} answers")  # noqa: B023
    app.close()


def test_when_the_master_is_killed(six: Six, crew: list[Worker]) -> None:
    def fault() -> None:
        dies = six.master_of(TAG)
        six.kill(dies)
        eventually(lambda: six.master_of(TAG) != dies or None, "its replica takes over")
        six.start_one(dies)  # till then there is no replica that could confirm anything
        six.settled()

    follows(six, crew, fault)


def test_when_the_slot_moves(six: Six, crew: list[Worker]) -> None:
    follows(six, crew, lambda: print("to", six.move_slot(TAG)))


def test_when_all_masters_are_restarted_one_by_one(six: Six, crew: list[Worker]) -> None:
    def fault() -> None:
        for master in six.masters():
            six.restart(master)

    follows(six, crew, fault)
