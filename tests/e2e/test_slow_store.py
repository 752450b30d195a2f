"""Each answer of Redis takes 200 ms: all is slower, and nothing is lost, frozen or ended."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from shunter.runtime.process import boot_time_s
from shunter.store.embedded import find_server
from shunter.store.redis import Store
from tests.contract.servers import free_ports
from tests.e2e.test_leases import let_go, stamping, wait_for_stamp
from tests.e2e.yard import Yard, eventually

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

LATE_S = 0.2


@pytest.fixture
def delay(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A file that says how late answers are, and the URL of a Redis that goes by it."""
    file, (port, redis_port) = tmp_path / "delay", free_ports(2)
    redis = [find_server(), "--port", redis_port, "--save", "", "--appendonly", "yes", "--dir", tmp_path]
    proxy = [sys.executable, "-m", "benchmarks.slow_proxy", file, port, redis_port]
    running = [subprocess.Popen(list(map(str, argv)), stdout=subprocess.DEVNULL) for argv in (redis, proxy)]
    try:
        store = Store(url := f"redis://127.0.0.1:{port}/0")
        eventually(lambda: store.info("server"), "Redis and its proxy serve")
        store.close()
        yield file, url
    finally:
        for process in running:
            process.terminate()
            process.wait()


def test_with_200_ms_for_each_answer_jobs_are_taken_run_and_end_as_ever(delay: tuple[Path, str]) -> None:
    file, url = delay
    yard = Yard(["n1=simulated:4", "n2=simulated:4"], watched=False, redis=url).up()
    try:
        running = stamping(yard, "through")
        wait_for_stamp(yard, "through", 1)
        leader, epoch = yard.client.cluster().leader, yard.client.cluster().epoch
        file.write_text(str(LATE_S))
        began_s = boot_time_s()
        ids = [yard.submit("true", gpus=1) for _ in range(5)]
        assert boot_time_s() - began_s > len(ids) * LATE_S, "answers are late"
        assert {view.state for view in yard.ended(*ids, within_s=60)} == {"succeeded"}
        long = yard.held("cancelled")
        yard.wait_for_lines("cancelled")
        yard.client.cancel(long)
        assert yard.ended(long)[0].state == "cancelled"
        assert (yard.client.cluster().leader, yard.client.cluster().epoch) == (leader, epoch), "nobody takes over"
        assert all(view.state == "ready" for view in yard.client.nodes())
        let_go(yard, "through")
        (view,) = yard.ended(running)
        assert (view.state, view.attempt) == ("succeeded", 1)
        assert view.outcome is not None
        assert view.outcome.frozen_s == 0
    finally:
        file.unlink(missing_ok=True)
        yard.close()
