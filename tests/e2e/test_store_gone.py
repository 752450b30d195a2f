"""Redis goes away and comes back: nothing is accepted meanwhile, jobs run on, and everything is caught up with."""

from __future__ import annotations

import time

import httpx
import pytest

from tests.e2e.yard import Yard, eventually, yard_of

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

ANSWER_WITHIN_S = 6.0
"""The store's own time limit is 5 s."""


def stop_redis(yard: Yard) -> None:
    process = yard.cluster.redis.process
    assert process is not None
    process.terminate()
    process.wait()


def start_redis(yard: Yard) -> None:
    yard.cluster.redis.start(log=yard.home / "logs" / "redis.log")


def test_without_redis_nothing_is_accepted_jobs_run_on_and_afterwards_nothing_is_lost() -> None:
    with yard_of("n1=simulated:4", "n2=simulated:4", watched=False) as yard:
        goes, fails, stays = (yard.held(name, code=code) for name, code in (("goes", 0), ("fails", 9), ("stays", 6)))
        for name in ("goes", "fails", "stays"):
            yard.wait_for_lines(name)
        full = [yard.held(f"full-{number}", gpus=number) for number in (1, 4)]
        waits = yard.submit(["true"], gpus=4)
        for number in (1, 4):
            yard.wait_for_lines(f"full-{number}")
        stop_redis(yard)

        token = (yard.home / "token").read_text().strip()
        headers = {"authorization": f"Bearer {token}"}
        with httpx.Client(base_url=yard.cluster.url, headers=headers, timeout=ANSWER_WITHIN_S) as http:
            asked = time.monotonic()
            refused = http.post("/v1/jobs", json={"command": ["true"]})
            assert time.monotonic() - asked < ANSWER_WITHIN_S
            assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
            assert refused.json()["code"] == "unavailable"
            assert refused.json()["message"].startswith("redis: cannot be reached")
            assert http.get("/v1/health").status_code == 503
            assert http.get(f"/v1/jobs/{goes}").status_code == 503
        yard.let_go("goes", "fails")
        for name in ("goes", "fails"):
            assert yard.wait_for_lines(name, 2) == ["start 1", "end 1"]
        assert len(yard.processes(stays)) >= 1
        start_redis(yard)

        eventually(lambda: yard.client.health().status == "ok", "the gateway answers again")
        first, second = yard.ended(goes, fails)
        assert (first.exit_status, second.exit_status) == (0, 9)
        new = [yard.held(f"new-{number}") for number in range(2)]
        for number in range(2):
            yard.wait_for_lines(f"new-{number}")
        assert yard.client.job(stays).state == "running"
        yard.let_go("stays", "full-1", "full-4", "new-0", "new-1")
        views = yard.ended(stays, *full, waits, *new)
        assert [view.exit_status for view in views] == [6, 0, 0, 0, 0, 0]
        yard.replayed().check_once(goes, fails, stays, *full, waits, *new)
        assert sorted(yard.audit.phases) == [goes, fails, stays, *full, waits, *new]  # the refused one is no job


def test_a_redis_that_dies_is_started_again_by_the_watcher_with_all_that_it_had() -> None:
    with yard_of("n1=simulated:4") as yard:
        job = yard.held("through", code=3, gpus=4)
        waits = yard.submit(["true"], gpus=2)
        yard.wait_for_lines("through")
        process = yard.cluster.redis.process
        assert process is not None
        process.kill()
        eventually(lambda: yard.cluster.redis.process is not process, "a new Redis")
        yard.let_go("through")
        eventually(lambda: yard.client.health().status == "ok", "the gateway answers again")
        views = yard.ended(job, waits)
        assert [view.exit_status for view in views] == [3, 0]
        yard.replayed().check_once(job, waits)


def test_allocation_ids_are_never_used_twice_however_often_redis_goes_away() -> None:
    with yard_of("n1=simulated:8", watched=False) as yard:
        jobs = []
        for round_ in range(3):
            for number in range(2):
                jobs.append(yard.held(f"{round_}-{number}"))
                yard.wait_for_lines(f"{round_}-{number}")
            stop_redis(yard)
            start_redis(yard)
            eventually(lambda: yard.client.cluster().leader != "", "somebody leads")
        phases = yard.replayed().phases
        ids = [phases[job].allocation.id for job in jobs]  # type: ignore[union-attr]  # all are running
        assert len(set(ids)) == 6, ids
        yard.let_go(*(f"{round_}-{number}" for round_ in range(3) for number in range(2)))
        yard.ended(*jobs)
