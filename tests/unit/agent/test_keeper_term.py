"""The clock of limits: it runs while there is a lease, stands while there is none, and never goes back."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from shunter.agent.keeper.term import Term
from shunter.agent.keeper.timers import Timers


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_without_a_lease_nothing_is_closed_and_the_clock_runs() -> None:
    clock = Clock()
    term = Term(clock)
    start_s = term.run_s()
    clock.now_s += 1e6
    assert not term.closed()
    assert term.run_s() - start_s == 1e6


def test_it_closes_at_the_deadline_and_the_clock_stands_until_a_later_one() -> None:
    clock = Clock()
    term = Term(clock)
    start_s = term.run_s()
    term.renew(110.0)
    clock.now_s = 109.5
    assert not term.closed()
    clock.now_s = 110.0
    assert term.closed()
    clock.now_s = 150.0
    assert term.run_s() - start_s == 10.0
    term.renew(160.0)
    assert not term.closed()
    assert term.run_s() - start_s == 10.0
    clock.now_s = 155.0
    assert term.run_s() - start_s == 15.0
    term.renew(None)
    clock.now_s = 1000.0
    assert term.run_s() - start_s == 860.0
    assert not term.closed()


def test_a_deadline_in_the_past_closes_now_and_takes_nothing_back() -> None:
    clock = Clock()
    term = Term(clock)
    start_s = term.run_s()
    clock.now_s = 105.0
    term.renew(50.0)
    assert term.closed()
    assert term.run_s() - start_s == 5.0
    clock.now_s = 106.0
    term.renew(104.0)
    assert term.run_s() - start_s == 5.0


@given(
    st.lists(
        st.tuples(st.floats(0, 50), st.one_of(st.none(), st.floats(-30, 30)), st.floats(0, 50)),
        max_size=20,
    )
)
def test_the_clock_counts_just_the_time_in_which_it_was_open(steps: list[tuple[float, float | None, float]]) -> None:
    clock = Clock()
    term = Term(clock)
    start_s, open_s = term.run_s(), 0.0
    until_s = math.inf
    for before, lease, after in steps:
        for step in (before, after):
            open_s += max(min(clock.now_s + step, until_s) - clock.now_s, 0.0)
            clock.now_s += step
            assert abs(term.run_s() - start_s - open_s) < 1e-6
            assert term.closed() == (clock.now_s >= until_s)
            if step is before:
                until_s = math.inf if lease is None else clock.now_s + lease
                term.renew(None if lease is None else until_s)


def test_timers_are_done_in_order_when_their_clock_gets_there() -> None:
    clock = Clock()
    timers = Timers(clock)
    done: list[str] = []
    assert timers.wait_s() == math.inf
    timers.after(2.0, lambda: done.append("late"))
    timers.after(1.0, lambda: done.append("early"))
    assert timers.wait_s() == 1.0
    timers.run()
    assert done == []
    clock.now_s += 5.0
    assert timers.wait_s() == 0.0
    timers.run()
    assert done == ["early", "late"]


def test_a_timer_of_a_clock_that_stands_is_not_due() -> None:
    clock = Clock()
    term = Term(clock)
    limits = Timers(term.run_s)
    done: list[str] = []
    limits.after(10.0, lambda: done.append("limit"))
    term.renew(105.0)
    clock.now_s = 500.0
    limits.run()
    assert done == []
    term.renew(None)
    clock.now_s = 505.0
    limits.run()
    assert done == ["limit"]
