"""Who goes first: nodes, jobs, the plan; one call each."""

from __future__ import annotations

from shunter.domain.job import Priority
from shunter.scheduling.cycle import cycle
from shunter.scheduling.plan import Plan
from shunter.scheduling.policy import Account, FairShare, Policy
from tests.unit.scheduling.cluster import NOW_S, PLAIN, decide_on, placed, refused, runs, view_of, waits

FAIR = Policy(order=("priority", "fair-share", "age"), placement=("best-fit",))
HOUR_S = 3_600


def first(*jobs: object, policy: Policy = FAIR, gpus: int = 1, running: int = 0) -> list[int]:
    """Return the jobs that start, in order, on *gpus* free GPUs beside *running* others that are taken."""
    return list(placed(decide_on(f"n1:{running + gpus}", *jobs, policy=policy)))  # type: ignore[arg-type]


def test_nothing_waits_nothing_is_planned() -> None:
    assert decide_on("n1:8", runs(1, "n1:0")) == Plan((), ())


# classes and age


def test_a_higher_class_goes_first_whenever_it_came() -> None:
    plan = decide_on("n1:1", waits(1, priority="low"), waits(2, priority="medium"), waits(3, priority="high"))
    assert placed(plan) == {3: "n1:0"}
    assert list(refused(plan)) == [2, 1]


def test_a_higher_class_goes_first_whoever_has_used_less() -> None:
    busy = runs(9, "n1:0", ran=HOUR_S, owner="bob")
    assert first(busy, waits(1, owner="ada", priority="low"), waits(2, owner="bob", priority="high"), running=1) == [2]


def test_without_the_part_priority_classes_do_not_order() -> None:
    plain = Policy(order=("age",))
    assert first(waits(1, priority="low"), waits(2, priority="high"), policy=plain) == [1]


def test_within_a_class_first_come_is_first_served() -> None:
    plan = decide_on("n1:2", waits(3), waits(2), waits(1))
    assert placed(plan) == {1: "n1:0", 2: "n1:1"}
    assert list(refused(plan)) == [3]


def test_first_come_first_served_holds_across_different_shapes() -> None:
    plan = decide_on("n1:4", waits(1, 2), waits(2, 1), waits(3, 1), waits(4, 1))
    assert list(placed(plan)) == [1, 2, 3]


def test_without_any_part_the_number_of_the_job_decides() -> None:
    assert first(waits(2, priority="high"), waits(1, priority="low"), policy=Policy(order=()), gpus=2) == [1, 2]


def test_a_retried_job_keeps_its_place_in_the_queue() -> None:
    plan = decide_on("n1:1 n2:1", runs(9, "n2:0"), waits(1, failed_on="n2", not_before_s=NOW_S - 1), waits(2))
    assert placed(plan) == {1: "n1:0"}


def test_a_retry_that_backs_off_is_not_looked_at() -> None:
    assert decide_on("n1:1", waits(1, failed_on="n2", not_before_s=NOW_S + 1)) == Plan((), ())


def test_a_cycle_lets_what_is_due_join_the_queue() -> None:
    view = view_of("n1:1", waits(1, failed_on="n2", not_before_s=NOW_S + 1), waits(2))
    assert [made.job_id for made in cycle(view, NOW_S + 1).placements] == [1]


# the shortest first


def test_the_shortest_goes_first_and_a_job_without_limit_counts_as_long() -> None:
    short = Policy(order=("shortest", "age"))
    assert first(waits(1, limit=600), waits(2), waits(3, limit=60), policy=short, gpus=3) == [3, 1, 2]


def test_equally_short_ones_go_by_age() -> None:
    assert first(waits(2, limit=60), waits(1, limit=60), policy=Policy(order=("shortest", "age"))) == [1]


def test_what_is_expected_orders_only_where_the_policy_believes_it() -> None:
    jobs = (waits(1, limit=60), waits(2, limit=600, expect=5.0))
    assert first(*jobs, policy=Policy(order=("shortest",))) == [1]
    assert first(*jobs, policy=Policy(order=("shortest",), estimate="expected")) == [2]


# the age bound

AGED = Policy(order=("priority", "aged", "fair-share", "age"), age_bound_s=600.0)


def test_who_has_waited_longer_than_the_bound_goes_before_those_who_used_less() -> None:
    busy = runs(9, "n1:0", ran=HOUR_S, owner="ada")
    for waited, expected in ((599.0, 2), (600.0, 1)):
        jobs = waits(1, owner="ada", waited=waited), waits(2, owner="bob", waited=10.0)
        assert first(busy, *jobs, running=1, policy=AGED) == [expected]


def test_of_those_beyond_the_bound_the_oldest_goes_first() -> None:
    busy = runs(9, "n1:0", ran=HOUR_S, owner="ada")
    jobs = waits(1, owner="ada", waited=700.0), waits(2, owner="bob", waited=650.0)
    assert first(busy, *jobs, running=1, policy=AGED) == [1]


def test_a_higher_class_goes_before_those_beyond_the_bound() -> None:
    assert first(waits(1, waited=1e6), waits(2, priority="high"), policy=AGED) == [2]


def test_a_young_job_behind_an_old_one_of_its_owner_does_not_go_with_it() -> None:
    busy = runs(9, "n1:0", ran=HOUR_S, owner="ada")
    jobs = waits(1, owner="ada", waited=700.0), waits(2, owner="ada"), waits(3, owner="bob")
    assert first(busy, *jobs, running=1, gpus=2, policy=AGED) == [1, 3]


# fair share


def test_who_holds_less_goes_first() -> None:
    busy = runs(9, "n1:0", ran=HOUR_S, owner="ada")
    assert first(busy, waits(1, owner="ada"), waits(2, owner="bob"), running=1) == [2]


def test_one_pass_takes_turns_between_owners() -> None:
    jobs = [waits(number, owner="ada") for number in (1, 2, 3)] + [waits(number, owner="bob") for number in (4, 5)]
    assert first(*jobs, gpus=4) == [1, 4, 2, 5]


def test_without_lookahead_a_pass_gives_all_to_whoever_has_used_less() -> None:
    jobs = [waits(number, owner="ada") for number in (1, 2)] + [waits(3, owner="bob")]
    policy = Policy(order=("fair-share",), fair_share=FairShare(lookahead_s=0.0))
    assert first(*jobs, policy=policy, gpus=2) == [1, 2]


def test_a_wide_job_counts_for_all_of_its_gpus() -> None:
    jobs = [waits(1, 4, owner="ada"), waits(2, owner="ada"), *(waits(number, owner="bob") for number in (3, 4, 5))]
    assert first(*jobs, gpus=8) == [1, 3, 4, 5, 2]


def test_a_share_of_a_gpu_counts_as_that_share() -> None:
    jobs = [waits(1, 0.25, owner="ada"), waits(2, 0.25, owner="ada"), waits(3, 1, owner="bob"), waits(4, owner="bob")]
    assert first(*jobs, gpus=8) == [1, 3, 2, 4]


def test_what_an_ended_job_used_counts_less_with_time() -> None:
    view = view_of("n1:1", waits(1, owner="ada"), waits(2, owner="bob"), policy=FAIR)
    view.ledger.charge(("", "ada"), 1, 0, 3_600)
    view.ledger.charge(("", "bob"), 1, 0, 1_000)
    assert [made.job_id for made in cycle(view, NOW_S).placements] == [2]


def test_old_use_is_outweighed_by_half_as_much_of_today() -> None:
    week_s = 7 * 86_400.0
    view = view_of("n1:1", waits(1, owner="ada"), waits(2, owner="bob"), policy=FAIR)
    view.ledger.charge(("", "ada"), 1, NOW_S - week_s - 100, NOW_S - week_s)
    view.ledger.charge(("", "bob"), 1, NOW_S - 49, NOW_S)
    assert [made.job_id for made in cycle(view, NOW_S).placements] == [2]
    view.ledger.charge(("", "bob"), 1, NOW_S - 2, NOW_S)
    assert [made.job_id for made in cycle(view, NOW_S).placements] == [1]


def test_a_weight_of_two_is_due_twice_as_much() -> None:
    heavy = Policy(order=("fair-share",), users={"bob": Account(2.0)})
    ada = [waits(number, owner="ada") for number in (1, 2, 3)]
    bob = [waits(number, owner="bob") for number in (4, 5, 6, 7)]
    assert first(*ada, *bob, policy=heavy, gpus=6) == [1, 4, 5, 2, 6, 7]


def test_teams_come_before_their_users() -> None:
    """A user who has used nothing waits while the team has used more than another: Fair Tree."""
    busy = runs(9, "n1:0", ran=HOUR_S, owner="red/ada")
    assert first(busy, waits(1, owner="red/bob"), waits(2, owner="blue/cy"), running=1) == [2]


def test_inside_a_team_users_are_compared() -> None:
    busy = runs(9, "n1:0", ran=HOUR_S, owner="red/ada")
    assert first(busy, waits(1, owner="red/ada"), waits(2, owner="red/bob"), running=1) == [2]


def test_a_team_has_its_weight_and_its_parent() -> None:
    teams = {"lab": Account(), "red": Account(3.0, "lab"), "blue": Account(1.0, "lab")}
    tree = Policy(order=("fair-share",), teams=teams)
    red = [waits(number, owner="red/ada") for number in (1, 2, 3, 4)]
    blue = [waits(number, owner="blue/bob") for number in (5, 6)]
    assert first(*red, *blue, waits(7, owner="cy"), policy=tree, gpus=6) == [1, 7, 5, 2, 3, 6]


def test_the_same_user_in_two_teams_is_two_accounts() -> None:
    busy = runs(9, "n1:0", ran=HOUR_S, owner="red/ada")
    assert first(busy, waits(1, owner="red/ada"), waits(2, owner="blue/ada"), running=1) == [2]


def test_a_class_of_one_owner_does_not_hide_another_of_that_owner() -> None:
    plain = Policy(order=("fair-share", "priority", "age"))
    assert first(waits(1, priority="low"), waits(2, priority="high"), policy=plain, gpus=2) == [2, 1]


def test_each_class_has_a_rank_of_its_own() -> None:
    jobs = [waits(len(Priority) - rank, priority=name) for rank, name in enumerate(Priority)]
    assert first(*jobs, policy=PLAIN, gpus=3) == [3, 2, 1]
