"""Bins and distributions: exact, and never more points than a picture needs."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shunter.sim.report.bins import Piece, cdf, edges, held, means

times = st.floats(-1e6, 1e6, allow_nan=False)
pieces = st.lists(st.tuples(times, times, st.floats(-100, 100)).map(lambda one: (min(one[:2]), max(one[:2]), one[2])))


def integral(found: list[Piece], from_s: float, until_s: float) -> float:
    return math.fsum(max(min(b, until_s) - max(a, from_s), 0.0) * value for a, b, value in found)


@given(pieces, times, st.floats(0.01, 1e6), st.integers(1, 40))
def test_mean_times_width_is_the_integral_in_every_bin(
    found: list[Piece], start_s: float, length_s: float, count: int
) -> None:
    at = edges(start_s, start_s + length_s, count)
    for mean, (left, right) in zip(means(found, at), pairwise(at), strict=True):
        size = sum(abs(value) for _, _, value in found) * (right - left)
        assert mean * (right - left) == pytest.approx(integral(found, left, right), abs=1e-9 * (1 + size))


def test_a_bin_is_the_time_weighted_mean_not_a_sample() -> None:
    at = edges(0, 10, 2)
    assert means([(0, 1, 5), (1, 7, 1), (7, 10, 0)], at) == pytest.approx([(5 + 4) / 5, 2 / 5])


def test_time_without_pieces_counts_as_zero_and_overlaps_add_up() -> None:
    assert means([(2, 4, 3), (3, 4, 1), (-5, 0, 9), (10, 20, 9)], edges(0, 10, 5)) == [0, 3.5, 0, 0, 0]


def test_no_time_gives_no_bins() -> None:
    assert edges(5, 5, 10) == []
    assert means([(0, 10, 1)], []) == []


def test_edges_end_exactly_where_asked() -> None:
    at = edges(0.1, 0.7, 600)
    assert (len(at), at[0], at[-1]) == (601, 0.1, 0.7)


def test_a_value_is_held_until_the_next_and_the_last_until_the_end() -> None:
    assert list(held([1, 3, 3], [7, 8, 9], 10)) == [(1, 3, 7), (3, 3, 8), (3, 10, 9)]
    assert list(held([4], [7], 2)) == [(4, 4, 7)]
    assert list(held([], [], 10)) == []


def test_cdf_counts_the_share_at_or_below_each_value() -> None:
    assert cdf([3, 0, 1, 0, 3]) == [(0, 0.4), (1, 0.6), (3, 1)]
    assert cdf([-1e-9, 1]) == [(0, 0.5), (1, 1)]
    assert cdf([]) == []
    assert cdf([0, 0]) == [(0, 1)]


@given(st.lists(st.floats(0, 1e9), min_size=1, max_size=300), st.integers(4, 40))
def test_thinning_keeps_exact_points_and_both_ends(values: list[float], most: int) -> None:
    thin, full = cdf(values, most), cdf(values, 10_000)
    positive = [value for value in values if value > 0]
    assert len(thin) <= most
    assert set(thin) <= set(full)
    assert thin[-1] == (max(values), 1)
    assert not positive or min(positive) in [x for x, _ in thin]
    assert (0 in values) == (thin[0][0] == 0)
    for x, share in thin:
        assert share == sum(value <= x for value in values) / len(values)


def test_thinned_points_are_nowhere_far_apart() -> None:
    thin = cdf([1.001**number for number in range(20_000)])
    assert len(thin) > 390
    assert max(right - left for (_, left), (_, right) in pairwise(thin)) < 0.01
