"""What is told of jobs that were frozen."""

from __future__ import annotations

from shunter.agent.frost import Frost, Thaw
from shunter.agent.keeper.protocol import Ended, Live
from shunter.domain.outcome import Exit


def live(job: int, *, frozen: bool) -> Live:
    return Live(f"1.{job}", job, 1, 0, 100 + job, frozen=frozen)


def test_jobs_that_went_on_are_told_once_with_how_long_they_stood() -> None:
    frost = Frost()
    for job, at_s in ((1, 10.0), (2, 11.0)):
        frost.heard(live(job, frozen=False), at_s - 5)
        frost.heard(live(job, frozen=True), at_s)
        frost.heard(live(job, frozen=True), at_s + 3)
    assert frost.thawed() is None
    for job in (2, 1):
        frost.heard(live(job, frozen=False), 51.0)
    assert frost.thawed() == Thaw((1, 2), 41.0)
    assert frost.thawed() is None


def test_a_job_that_ended_frozen_or_never_was_is_not_told() -> None:
    frost = Frost()
    frost.heard(live(1, frozen=True), 1.0)
    frost.heard(Ended("1.1", 1, 1, 0, Exit(2.0, signal=9)), 2.0)
    frost.heard(live(1, frozen=False), 3.0)
    frost.heard(live(2, frozen=False), 3.0)
    assert frost.thawed() is None


def test_the_text_names_the_jobs() -> None:
    assert Thaw((7,), 41.2).text == "job 7 went on after 41s: frozen while the node had no lease"
    assert Thaw((7, 9), 130.0).text == "jobs 7, 9 went on after 2m10s: frozen while the node had no lease"
