"""Figures in human units, and a headline that claims no more than the figures say."""

from __future__ import annotations

import math

import pytest
from msgspec.structs import replace

from shunter.sim.report.words import digits, duration, headline, percent
from shunter.sim.result import Result
from tests.unit.sim.report.fakes import several

BASE = several(1, 20, 1, 0.1, "fifo")[0]


def result(policy: str, completion_s: float, wait_s: float = 0.0, jobs: int = 10) -> Result:
    return replace(BASE, policy=policy, mean_jct_s=completion_s, mean_queue_s=wait_s, jobs=jobs)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (0.25, "0.250 s"),
        (12.34, "12.3 s"),
        (59.96, "60.0 s"),
        (3_596.4, "59.9 min"),
        (9.999, "10.0 s"),
        (5_400, "1.50 h"),
        (86_400 * 3, "3.00 d"),
        (86_400 * 12_345, "12,345 d"),
        (math.nan, "–"),
    ],
)
def test_durations_have_one_unit_and_three_digits(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_what_is_not_quite_all_or_nothing_does_not_read_so() -> None:
    assert [percent(share) for share in (0, 0.0001, 0.5, 0.9999, 1)] == [
        "0 %",
        "< 0.1 %",
        "50.0 %",
        "> 99.9 %",
        "100 %",
    ]
    assert digits(0.0001) == "< 0.001"


def test_the_best_is_measured_against_the_first_in_the_list() -> None:
    completion, wait = headline([result("fifo", 4_200, 3_600), result("srgf", 1_000, 360), result("x", 2_000, 350)])
    assert (
        completion
        == "srgf completes jobs 4.2 times sooner on average than fifo: 16.7 min after submission instead of 1.17 h."
    )
    assert wait == "x has the shortest mean wait: 5.83 min instead of 1.00 h, 10 times shorter."


def test_a_small_gain_is_a_percentage() -> None:
    assert headline([result("a", 100), result("b", 88)])[0].startswith("b completes jobs 12 % sooner on average than a")


def test_where_the_first_is_the_best_nothing_is_claimed() -> None:
    completion, wait = headline([result("a", 60, 5), result("b", 120, 7)])
    assert completion.startswith("No policy completes jobs sooner on average than a: its mean completion is 1.00 min, ")
    assert completion.endswith("next is b with 2.00 min.")
    assert wait == "No policy lets jobs wait less on average than a: its mean wait is 5.00 s, next is b with 7.00 s."


def test_a_difference_that_does_not_show_is_none() -> None:
    same = [result("a", 60.001, 1), result("b", 60.000, 1)]
    assert headline(same) == [
        "Under all policies the mean completion is 1.00 min.",
        "Under all policies the mean wait is 1.00 s.",
    ]
    assert "and so is that of b" in headline([*same, result("c", 90, 1)])[0]


def test_no_wait_is_not_a_ratio() -> None:
    assert (
        headline([result("a", 60, 30), result("b", 30, 0)])[1]
        == "Under b no job waits; under a the mean wait is 30.0 s."
    )
    assert headline([result("a", 60), result("b", 30)])[1] == "No job waits under any policy."
    assert headline([result("a", 60), result("b", 0)])[0].startswith("b completes jobs 100 % sooner")


def test_few_or_unlike_results_are_said_to_be_so() -> None:
    assert headline([]) == ["No policy was simulated."]
    assert headline([result("a", 0, jobs=0)]) == ["No job ran, so there is nothing to compare."]
    assert len(headline([result("a", 90, 30)])) == 1
    assert "a 10, b 9" in headline([result("a", 60), result("b", 30, jobs=9)])[-1]
