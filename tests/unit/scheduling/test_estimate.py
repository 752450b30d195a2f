"""How long runs are thought to take, and when those that run are thought to end."""

from __future__ import annotations

import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from shunter.domain.phase import HOLDS_GPUS, Reserved
from shunter.scheduling.estimate import end_s, start_of
from tests.strategies import BRIEF, Life, lives

starts = st.integers(0, 2_000_000_000).map(float) | st.floats(0, 2e9)
lengths = st.integers(1, 10_000_000).map(float) | st.floats(1, 1e7)
ages = st.floats(0, 1e8)


@given(starts, lengths, ages)
@example(1.6e9, 100.0, 100.0)
@BRIEF
def test_a_run_is_not_thought_to_have_ended_but_to_end_after_a_doubling_of_its_length(
    start_s: float, length_s: float, ran_s: float
) -> None:
    now_s = start_s + ran_s
    end = end_s(start_s, length_s, now_s)
    assert end > now_s
    doublings = round(math.log2((end - start_s) / length_s))
    assert doublings >= 0
    assert end == pytest.approx(start_s + length_s * 2**doublings)
    if doublings:
        assert start_s + length_s * 2 ** (doublings - 1) == pytest.approx(now_s) or (
            start_s + length_s * 2 ** (doublings - 1) < now_s
        ), "no more doublings than needed"


@given(starts, lengths, ages, st.floats(0, 1e6))
@BRIEF
def test_the_end_stays_where_it_is_until_it_has_come(
    start_s: float, length_s: float, ran_s: float, on_s: float
) -> None:
    end = end_s(start_s, length_s, start_s + ran_s)
    later_s = start_s + ran_s + on_s
    again = end_s(start_s, length_s, later_s)
    assert again == end if later_s < end - 1e-3 else again >= end


@pytest.mark.parametrize(
    ("ran", "end"), [(0, 100), (99, 100), (100, 200), (101, 200), (199, 200), (200, 400), (399, 400), (1_000, 1_600)]
)
def test_an_estimate_that_proved_too_short_is_doubled_until_it_is_not(ran: float, end: float) -> None:
    assert end_s(5_000, 100, 5_000 + ran) == 5_000 + end


def test_a_run_of_no_length_is_thought_to_last_a_little() -> None:
    assert end_s(100.0, 0.0, 100.0) == 102.0


def test_a_run_that_started_in_the_future_ends_there() -> None:
    assert end_s(500.0, 10.0, 100.0) == 510.0


def test_a_run_without_end_has_none() -> None:
    assert math.isinf(end_s(0.0, math.inf, 1e9))


@given(lives())
@BRIEF
def test_a_job_holds_its_gpus_since_it_was_reserved_and_then_since_it_started(life: Life) -> None:
    for step in life.steps:
        phase = step.after
        if isinstance(phase, HOLDS_GPUS):
            assert start_of(phase) == (phase.reserved_s if isinstance(phase, Reserved) else phase.started_s)
