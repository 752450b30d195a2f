"""What Celery needs of a broker, with real workers: tasks, redelivery, control commands, ETAs."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import kombu_rediscluster
from shunter.runtime.process import tied_to_parent
from tests.rediscluster.app import build
from tests.rediscluster.crew import ROOT, Worker
from tests.rediscluster.six import Six, eventually
from tests.rediscluster.talk import needs_server

pytestmark = needs_server
TAG = "app-celery"
POOLS = {"solo": ("-P", "solo"), "threads": ("-P", "threads", "-c", "2")}

Start = Callable[..., Worker]


@pytest.fixture
def app(six: Six) -> Iterator[Any]:
    app = build(six.url(TAG))
    yield app
    app.close()


@pytest.fixture
def start(six: Six, tmp_path: Path) -> Iterator[Start]:
    with contextlib.ExitStack() as stack:

        def start(name: str, *arguments: str, **options: Any) -> Worker:
            worker = Worker(tmp_path, six.url(TAG), name, *arguments, **options)
            stack.callback(worker.end)
            return worker

        yield start


def test_control_commands_are_heard_and_answered(app: Any, start: Start) -> None:
    workers = [start(f"control-{pool}@w", *arguments) for pool, arguments in POOLS.items()]
    names = sorted(worker.name for worker in workers)
    for worker in workers:
        eventually(lambda: worker.answers(app), f"{worker.name} is up")  # noqa: B023
    pongs = app.control.ping(destination=names, timeout=10)
    assert sorted(name for pong in pongs for name in pong) == names
    for worker in workers:
        inspect = app.control.inspect([worker.name], timeout=10)
        assert "note" in inspect.registered()[worker.name]
        assert [queue["name"] for queue in inspect.active_queues()[worker.name]] == [worker.queue]
        assert "secret" not in str(inspect.stats()), "the broker's password"
        log = worker.log.read_text()
        assert "rediscluster://:**@127.0.0.1" in log
        assert "secret" not in log


def test_a_task_with_a_countdown_runs_then_and_not_before(app: Any, start: Start) -> None:
    workers = [start(f"eta-{pool}@w", *arguments) for pool, arguments in POOLS.items()]
    for worker in workers:
        eventually(lambda: worker.answers(app), f"{worker.name} is up")  # noqa: B023
    sent_s = time.time()
    for worker in workers:
        app.send_task("when", ("late",), queue=worker.queue, countdown=1.2)
        app.send_task("when", ("soon",), queue=worker.queue)
    for worker in workers:
        eventually(lambda: len(worker.lines()) == 2, "both have run")  # noqa: B023
        (first, _), (second, at) = (line.split() for line in worker.lines())
        assert (first, second) == ("soon", "late")
        assert float(at) - sent_s >= 1.2


def test_a_task_of_a_killed_worker_is_delivered_again(app: Any, start: Start, tmp_path: Path) -> None:
    dies = start("killed@first", "-P", "solo")
    app.send_task("hold", ("task",), queue=dies.queue)
    eventually(lambda: dies.said("task started"), "it has begun")
    dies.kill()
    (tmp_path / "task").touch()
    lives = start("killed@second", "-P", "solo")  # which writes into the same file
    eventually(lambda: lives.lines() == ["task started", "task started", "task ended"], "it was done by the other")


def test_a_worker_whose_login_is_refused_says_so_and_ends(six: Six, tmp_path: Path) -> None:
    worker = Worker(tmp_path, six.url(TAG).replace(six.password, "wrong"), "wrong@w", "-P", "solo")
    try:
        assert worker.process.wait(30) != 0
    finally:
        worker.end()
    assert "LoginRefused: login refused" in worker.log.read_text()
    assert "check user and password in the broker URL" in worker.log.read_text()


def test_the_example_of_the_readme(six: Six, tmp_path: Path) -> None:
    """Word for word, but for the broker's address."""
    readme = Path(kombu_rediscluster.__file__).with_name("README.md").read_text()
    code, commands = re.findall(r"```(?:python)?\n(.*?)```", readme, flags=re.DOTALL)[1:3]
    (address,) = re.findall(r'broker="(.*?)"', code)
    (tmp_path / "tasks.py").write_text(code.replace(address, six.url("app-readme")))
    worker, publish = (shlex.split(line) for line in commands.splitlines())
    assert worker[0] == "celery"
    assert publish[0] == "python"
    options: dict[str, Any] = {"cwd": tmp_path, "env": {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{tmp_path}"}}
    with (tmp_path / "log").open("wb") as log:
        argv = [sys.executable, "-m", *worker, "-P", "solo"]
        process = subprocess.Popen(tied_to_parent(argv, os.getpid()), stdout=log, stderr=log, **options)
    try:
        subprocess.run([sys.executable, *publish[1:]], check=True, timeout=30, **options)
        eventually(lambda: "hello world" in (tmp_path / "log").read_text(), "the task has run")
    finally:
        process.terminate()
        process.wait(15)
