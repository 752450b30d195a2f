"""The numbers of a figure."""

from __future__ import annotations

import pytest
from benchmarks.stats import by_repetition, percentile, rounded, summary
from hypothesis import given
from hypothesis import strategies as st

SAMPLES = st.lists(st.floats(0, 1e9, allow_nan=False), min_size=1, max_size=300)


@given(SAMPLES, st.floats(0, 100))
def test_a_percentile_is_a_sample_that_enough_samples_do_not_exceed(samples: list[float], percent: float) -> None:
    value = percentile(samples, percent)
    assert value in samples
    assert sum(sample <= value for sample in samples) >= percent / 100 * len(samples) - 1e-9


def test_percentiles_of_a_hundred() -> None:
    samples = list(range(1, 101))
    assert [percentile(samples, percent) for percent in (0, 1, 50, 99, 100)] == [1, 1, 50, 99, 100]


def test_no_percentile_of_nothing() -> None:
    with pytest.raises(ValueError):
        percentile([], 50)


def test_a_summary_of_few_samples_has_no_p99() -> None:
    assert summary([3.0, 1.0, 2.0]) == {"n": 3, "median": 2.0, "min": 1.0, "max": 3.0, "p99": None}
    assert summary(list(range(100)))["p99"] == 98


def test_the_spread_over_repetitions() -> None:
    assert by_repetition([[1, 2, 9], [4, 5, 6]]) == {"median_by_repetition": [2, 5]}
    assert by_repetition([list(range(100))])["p99_by_repetition"] == [98]


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0.0123456, 0.01235), (12.3456, 12.35), (123456.7, 123457.0), (0.0, 0.0), (-1.23456, -1.235)],
)
def test_four_digits(value: float, expected: float) -> None:
    assert rounded(value) == expected
