"""Clients that submit at the same time: threads of this process, or processes of their own."""

from __future__ import annotations

import multiprocessing
import queue
import signal
import threading
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from typing import Any, Final, Literal, NamedTuple, Protocol

from benchmarks.output import BenchmarkFailed
from shunter.domain.job import JobSpec
from shunter.sdk.client import Client

Kind = Literal["threads", "processes"]
READY_TIMEOUT_S: Final = 60.0


class Share(NamedTuple):
    """What one submitter is to do: *jobs* copies of *spec*, in requests of *batch* jobs."""

    url: str
    token: str
    spec: JobSpec
    jobs: int
    batch: int = 1


class Submitted(NamedTuple):
    """What one submitter did. *latencies_s* are of its requests, *began_s* and *ended_s* wall-clock time."""

    ids: list[int]
    latencies_s: list[float]
    began_s: float
    ended_s: float
    cpu_s: float


class _Semaphore(Protocol):
    def acquire(self, blocking: bool = True, timeout: float | None = None) -> bool: ...
    def release(self) -> Any: ...


class _Event(Protocol):
    def wait(self, timeout: float | None = None) -> bool: ...
    def set(self) -> None: ...


def submit_share(client: Client, share: Share) -> Submitted:
    """Submit with *client*, one request after the other."""
    ids: list[int] = []
    latencies: list[float] = []
    cpu = time.thread_time()
    began = time.time()
    while len(ids) < share.jobs:
        count = min(share.batch, share.jobs - len(ids))
        at = time.perf_counter()
        if share.batch == 1:
            ids.append(client.submit(share.spec).id)
        else:
            ids.extend(job.id for job in client.submit_many([share.spec] * count))
        latencies.append(time.perf_counter() - at)
    return Submitted(ids, latencies, began, time.time(), time.thread_time() - cpu)


def divided(jobs: int, submitters: int) -> list[int]:
    """Return how many jobs each submitter takes."""
    return [jobs // submitters + (number < jobs % submitters) for number in range(submitters)]


def submit_together(
    share: Share, submitters: int, kind: Kind, before: Callable[[], None] = lambda: None
) -> list[Submitted]:
    """Submit *share.jobs* in all, by *submitters* at once. All are connected and waiting when *before* is called.

    Raises BenchmarkFailed when one of them fails.
    """
    shares = [share._replace(jobs=jobs) for jobs in divided(share.jobs, submitters)]
    runners: list[Any]
    if kind == "processes":
        context = multiprocessing.get_context("spawn")
        ready, go, answers = context.Semaphore(0), context.Event(), context.Queue()
        runners = [context.Process(target=_in_process, args=(one, ready, go, answers), daemon=True) for one in shares]
    else:
        ready, go, answers = threading.Semaphore(0), threading.Event(), queue.Queue()  # type: ignore[assignment]
        runners = [threading.Thread(target=_run, args=(one, ready, go, answers), daemon=True) for one in shares]
    try:
        for runner in runners:
            runner.start()
        for _ in runners:
            if not ready.acquire(True, READY_TIMEOUT_S):
                raise BenchmarkFailed("a submitter did not start")
        before()
        go.set()
        return [_answer(answers, runners) for _ in runners]
    except BaseException:
        for runner in runners:
            if isinstance(runner, BaseProcess) and runner.is_alive():
                runner.terminate()
        raise
    finally:
        for runner in runners:
            if runner.is_alive():
                runner.join(5)


def _answer(answers: Any, runners: list[Any]) -> Submitted:
    while True:
        try:
            answer = answers.get(timeout=1.0)
        except queue.Empty:
            if not any(runner.is_alive() for runner in runners) and answers.empty():
                raise BenchmarkFailed("a submitter died without a word") from None
            continue
        if isinstance(answer, str):
            raise BenchmarkFailed(f"a submitter failed: {answer}")
        return Submitted(*answer)


def _in_process(share: Share, ready: _Semaphore, go: _Event, answers: Any) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is our parent's, which ends us
    _run(share, ready, go, answers)


def _run(share: Share, ready: _Semaphore, go: _Event, answers: Any) -> None:
    try:
        with Client(share.url, share.token) as client:
            client.health()  # the connection is made here
            ready.release()
            go.wait()
            answers.put(tuple(submit_share(client, share)))
    except Exception as error:
        ready.release()
        answers.put(f"{type(error).__name__}: {error}")
