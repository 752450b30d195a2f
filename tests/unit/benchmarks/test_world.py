"""The world that the scheduler is measured on: the same for the same seed, full, and with a queue that stays."""

from __future__ import annotations

from typing import NamedTuple

import pytest
from benchmarks.world import GPUS, World, fleet, shapes

from shunter.domain.ids import JobId
from shunter.domain.job import Job
from shunter.domain.phase import Running
from shunter.runtime.policy_file import read_policy
from shunter.scheduling.cycle import cycle
from shunter.scheduling.plan import Placement, Violation
from tests.unit.scheduling.picture import picture

NODES = 12
PENDING = 60
EVENTS = 50


def world(seed: int = 1) -> World:
    """Return a world of so few nodes that it is full, and has a queue."""
    one = World(fleet(NODES), read_policy("default"), 20, seed)
    keep_pending(one)
    while one.start(cycle(one.view, one.now_s).placements):
        keep_pending(one)
    return one


def keep_pending(one: World) -> None:
    while one.view.pending < PENDING:
        one.submit(one.new_job())


class Happened(NamedTuple):
    """A job ended, and what came of it."""

    at_s: float
    ended: JobId
    placements: tuple[Placement, ...]
    violations: tuple[Violation, ...]
    submitted: list[Job]
    pending: int


def course(one: World) -> list[Happened]:
    """Return what happens in *one* until 50 jobs have ended."""
    return [_next(one) for _ in range(EVENTS)]


def _next(one: World) -> Happened:
    ended = one.next_end()
    one.end(ended)
    found = cycle(one.view, one.now_s)
    one.start(found.placements)
    before = set(one.view.jobs)
    keep_pending(one)
    submitted = [job for job_id, job in sorted(one.view.jobs.items()) if job_id not in before]
    return Happened(one.now_s, ended, found.placements, found.violations, submitted, one.view.pending)


def test_the_same_seed_gives_the_same_jobs_and_the_same_course_of_events() -> None:
    first, again = world(), world()
    assert first.view.jobs == again.view.jobs
    assert course(first) == course(again)
    assert first.view.phases == again.view.phases


def test_another_seed_gives_another_world() -> None:
    assert world(1).view.jobs != world(2).view.jobs


@pytest.mark.parametrize("how_many", [1, 50, 200])
def test_so_many_different_classes_and_requests_as_asked_for(how_many: int) -> None:
    found = shapes(how_many, world().random)
    assert len(found) == len(set(found)) == how_many


def test_every_request_fits_an_empty_fleet_of_its_width() -> None:
    biggest = fleet(1)[0]
    for _, request in shapes(100, world().random):
        assert 1 <= request.nodes <= 8
        assert request.cpus <= biggest.cpus and request.memory_mib <= biggest.memory_mib


def test_a_fleet_stands_in_racks_of_32() -> None:
    nodes = fleet(70)
    assert [len(node.gpus) for node in nodes] == [GPUS] * 70
    assert len({node.name for node in nodes}) == 70
    racks = [node.rack for node in nodes]
    assert [racks.count(rack) for rack in dict.fromkeys(racks)] == [32, 32, 6]


def test_the_queue_stays_as_long_and_no_plan_breaks_a_rule() -> None:
    happened = course(world())
    assert [one.pending for one in happened] == [PENDING] * EVENTS
    assert [one.violations for one in happened] == [()] * EVENTS
    started = sum(len(one.placements) for one in happened)
    assert 0 < started == sum(len(one.submitted) for one in happened)


def test_time_passes_from_end_to_end_and_the_cluster_stays_busy() -> None:
    one = world()
    times = [happened.at_s for happened in course(one)]
    assert times == sorted(times) and times[0] < times[-1]
    idle = sum(len(free.idle) for free in one.view.free.values())
    assert idle < NODES * GPUS / 2


def test_a_job_ends_at_its_time_limit_at_the_latest() -> None:
    one = world()
    started = {job_id: phase.started_s for job_id, phase in one.view.phases.items() if isinstance(phase, Running)}
    limits = {job_id: one.view.jobs[job_id].time_limit_s for job_id in started}
    assert any(limits.values())
    for _ in range(len(started)):
        ending = one.next_end()
        limit_s = limits[ending]
        assert limit_s is None or one.now_s <= started[ending] + limit_s + 1e-6


def test_a_rebuilt_view_knows_what_the_one_that_was_kept_up_to_date_knows() -> None:
    one = world()
    course(one)
    kept, built = picture(one.view), picture(one.rebuilt())
    assert built["free"] == kept["free"]
    assert built == kept
