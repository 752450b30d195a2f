"""Real Celery workers, and one who gives them work while things go wrong."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any, Final

from celery.exceptions import OperationalError

from shunter.runtime.process import tied_to_parent
from tests.rediscluster.app import build
from tests.rediscluster.six import eventually

ROOT: Final = Path(__file__).parents[2]
PACE_S: Final = 0.003
"""Between two tasks: faster than that, four workers on two cores fall behind, and the tests only wait longer."""


class Worker:
    """One `celery worker` process, which consumes the queue of its *name*."""

    def __init__(self, folder: Path, url: str, name: str, *arguments: str, loop: str = "", **options: Any) -> None:
        self.name = name
        self.queue = name.split("@", maxsplit=1)[0]
        self.notes = folder / f"{self.queue}-notes"
        self.log = folder / f"{name}-log"
        argv = [sys.executable, "-m", "celery", "-A", "tests.rediscluster.app", "worker", "-n", name, "-Q", self.queue]
        environment = {**os.environ, "BROKER": url, "NOTES": str(self.notes), "OPTIONS": json.dumps(options)}
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                tied_to_parent([*argv, "-l", "info", *arguments], os.getpid()),
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=ROOT,
                env={**environment, "LOOP": loop, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"},
            )  # fmt: skip

    def lines(self) -> list[str]:
        return self.notes.read_text().splitlines() if self.notes.exists() else []

    def said(self, line: str) -> bool:
        return line in self.lines()

    def answers(self, app: Any) -> bool:
        """Whether it answers a ping; dead, it never will."""
        assert self.process.poll() is None, self.log.read_text()[-3000:]
        return bool(app.control.ping(destination=[self.name], timeout=1.0))

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def end(self) -> None:
        """End it as an operator does, so that its children end, too."""
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.kill()


class Giver:
    """Gives each of *queues* tasks in turn until it is told to stop, and remembers those that were confirmed."""

    def __init__(self, url: str, queues: list[str]) -> None:
        self.confirmed: dict[str, list[str]] = {queue: [] for queue in queues}
        self.refused = 0
        self._app = build(url)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._give)

    def __enter__(self) -> Giver:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def _give(self) -> None:
        number = 0
        while not self._stop.wait(PACE_S):
            number += 1
            for queue, confirmed in self.confirmed.items():
                line = f"{time.monotonic_ns()}-{number}"
                try:
                    self._app.send_task("note", (line,), queue=queue, retry_policy={"max_retries": 1})
                except OperationalError:
                    self.refused += 1
                else:
                    confirmed.append(line)
        self._app.close()

    def total(self) -> int:
        return sum(map(len, self.confirmed.values()))

    def gives(self, more: int) -> None:
        """Wait until *more* tasks were confirmed."""
        before = self.total()
        eventually(lambda: self.total() >= before + more, f"{more} more tasks are confirmed", within_s=60)


def missing(worker: Worker, lines: list[str]) -> list[str]:
    return sorted(set(lines) - set(worker.lines()))


def doubled(worker: Worker) -> int:
    """Return how many tasks ran more than once: allowed, as nothing but 'at least once' is promised."""
    return sum(times > 1 for times in Counter(worker.lines()).values())
