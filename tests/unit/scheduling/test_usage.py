"""Use by owner: the four numbers of an account against the integral, summed step by step."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shunter.scheduling.policy import Account, FairShare, Policy
from shunter.scheduling.usage import Ledger
from tests.strategies import BRIEF

ADA, BOB = ("red", "ada"), ("", "bob")
STEPS = 200


times = st.integers(0, 1_000_000).map(float)
runs = st.lists(
    st.tuples(st.sampled_from([0.25, 1.0, 8.0, 64.0]), times, times).map(lambda run: (run[0], *sorted(run[1:]))),
    max_size=6,
)
half_lives = st.sampled_from([600.0, 86_400.0, 604_800.0])


def ledger(half_life_s: float = 604_800.0, **fields: dict[str, Account]) -> Ledger:
    return Ledger(Policy(fair_share=FairShare(half_life_s=half_life_s), **fields))  # type: ignore[arg-type]


def integral(gpus: float, start_s: float, end_s: float, now_s: float, half_life_s: float) -> float:
    """Return what a run until *end_s* counts at *now_s*: GPU-seconds, each decayed by its age, by the midpoint rule."""
    end_s = min(end_s, now_s)
    # What is older than 60 half-lives does not count in a float; without that, steps would be too coarse.
    start_s = max(start_s, end_s - 60 * half_life_s)
    if start_s >= end_s:
        return 0.0
    step_s = (end_s - start_s) / STEPS
    middles = (start_s + (number + 0.5) * step_s for number in range(STEPS))
    return float(sum(gpus * step_s * 2 ** (-(now_s - at_s) / half_life_s) for at_s in middles))


@given(runs, times, half_lives)
@BRIEF
def test_use_is_the_integral_of_what_was_held_decayed_by_its_age(
    made: list[tuple[float, float, float]], now_s: float, half_life_s: float
) -> None:
    book = ledger(half_life_s)
    for gpus, start_s, end_s in made:
        if start_s <= now_s:
            book.hold(ADA, gpus, start_s)
            if end_s <= now_s:
                book.release(ADA, gpus, start_s)
                book.charge(ADA, gpus, start_s, end_s)
    expected = sum(integral(*run, now_s, half_life_s) for run in made)
    for name in (("team", "red"), ("user", "red", "ada")):
        assert book.used(name, now_s) == pytest.approx(expected, rel=0.01, abs=1e-3)


@given(runs, times, half_lives)
@BRIEF
def test_a_ledger_that_takes_over_the_past_counts_as_the_one_before(
    made: list[tuple[float, float, float]], later_s: float, half_life_s: float
) -> None:
    book, heir = ledger(half_life_s), ledger(half_life_s)
    for run in made:
        book.charge(ADA, *run)
    handed_over_s = max([end_s for _, _, end_s in made], default=0.0) + 5
    heir.load(book.past(handed_over_s), handed_over_s)
    now_s = handed_over_s + later_s
    assert heir.used(("team", "red"), now_s) == pytest.approx(book.used(("team", "red"), now_s), rel=1e-6, abs=1e-9)


@given(runs, st.randoms(), half_lives)
@BRIEF
def test_the_order_in_which_runs_are_heard_of_does_not_matter(
    made: list[tuple[float, float, float]], random: object, half_life_s: float
) -> None:
    one, two = ledger(half_life_s), ledger(half_life_s)
    for run in made:
        one.charge(BOB, *run)
        one.hold(ADA, run[0], run[1])
    mixed = made.copy()
    random.shuffle(mixed)  # type: ignore[attr-defined]
    for run in mixed:
        two.charge(BOB, *run)
        two.hold(ADA, run[0], run[1])
    for name in (("user", "", "bob"), ("user", "red", "ada")):
        assert one.used(name, 2e6) == pytest.approx(two.used(name, 2e6), rel=1e-6)


@given(runs)
@BRIEF
def test_when_the_last_job_has_left_nothing_is_held(made: list[tuple[float, float, float]]) -> None:
    book = ledger(600.0)
    for gpus, start_s, _ in made:
        book.hold(ADA, gpus, start_s)
    for gpus, start_s, _ in made:
        book.release(ADA, gpus, start_s)
    assert book.used(("team", "red"), 1e7) == 0.0
    assert all((account.held, account.jobs, account.starts) == (0.0, 0, 0.0) for account in book.accounts.values())


def test_use_counts_half_after_a_half_life() -> None:
    book = ledger(1_000.0)
    book.charge(BOB, 2, 0, 1)
    assert book.used(("user", "", "bob"), 1_001) == pytest.approx(book.used(("user", "", "bob"), 1) / 2)
    assert book.used(("user", "", "bob"), 1) == pytest.approx(2, rel=1e-3)


def test_a_job_that_runs_forever_approaches_a_bound() -> None:
    book = ledger(1_000.0)
    book.hold(BOB, 4, 0)
    assert book.used(("user", "", "bob"), 1e6) == pytest.approx(4 * 1_000 / 0.693147, rel=1e-3)


def test_a_clock_that_stepped_back_counts_as_no_use() -> None:
    book = ledger()
    book.charge(BOB, 8, 500, 100)
    book.hold(BOB, 8, 500)
    assert book.used(("user", "", "bob"), 100) == 0.0


def test_a_clock_that_stepped_back_by_many_half_lives_is_no_trouble() -> None:
    book = ledger(1.0)
    book.hold(BOB, 8, 5_000)
    assert book.used(("user", "", "bob"), 100) == 0.0


def test_a_start_many_half_lives_after_the_others_is_counted_as_exactly() -> None:
    book = ledger(10.0)
    book.hold(ADA, 1, 0)
    book.hold(BOB, 1, 50_000)
    held = integral(1, 50_000, 50_005, 50_005, 10.0)
    assert book.used(("user", "", "bob"), 50_005) == pytest.approx(held, rel=1e-3)
    book.hold(ADA, 1, 90_000)
    book.release(ADA, 1, 0)
    assert book.used(("user", "red", "ada"), 90_005) == pytest.approx(
        integral(1, 90_000, 90_005, 90_005, 10.0), rel=1e-3
    )


def test_an_unknown_account_has_used_nothing() -> None:
    assert ledger().used(("user", "", "nobody"), 5) == 0.0


def test_an_owner_s_path_runs_from_the_root_of_the_team_tree() -> None:
    book = ledger(teams={"vision": Account(2.0, "lab"), "lab": Account(3.0)}, users={"ada": Account(5.0)})
    assert book.path(("vision", "ada")) == (("team", "lab"), ("team", "vision"), ("user", "vision", "ada"))
    assert [book.weights[name] for name in book.path(("vision", "ada"))] == [3.0, 2.0, 5.0]
    assert book.path(("new", "eve")) == (("team", "new"), ("user", "new", "eve"))
    assert book.weights[("user", "new", "eve")] == 1.0
    assert book.path(("", "eve")) == (("user", "", "eve"),)


def test_teams_that_are_each_other_s_parents_end() -> None:
    book = ledger(teams={"a": Account(1.0, "b"), "b": Account(1.0, "a")})
    assert book.path(("a", "ada")) == (("team", "b"), ("team", "a"), ("user", "a", "ada"))


def test_names_with_colons_are_no_other_owner() -> None:
    assert ledger().path(("a", "b:c"))[-1] != ledger().path(("a:b", "c"))[-1]
