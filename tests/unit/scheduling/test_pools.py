"""Where a class may run: its home pool, what it borrows, and how nodes get their pools."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from shunter.domain.job import Priority
from shunter.domain.reason import NeverFits, NotEnoughFree
from shunter.scheduling.policy import Policy, Route
from shunter.scheduling.pools import assign
from tests.strategies import BRIEF
from tests.unit.scheduling.cluster import (
    NOW_S,
    Waiting,
    decide_on,
    nodes_of,
    nodes_taken,
    refused,
    runs,
    view_of,
    waits,
)

ROUTES = {
    Priority.HIGH: Route("gold", ("tin", "iron")),
    Priority.MEDIUM: Route("iron", ("gold",)),
    Priority.LOW: Route("tin"),
}
POOLED = Policy(
    order=("priority", "age"),
    placement=("best-fit",),
    classes=ROUTES,
    pools=dict.fromkeys(("gold", "iron", "tin"), 0.0),
)
STRICT = replace(POOLED, strict=True)
METALS = "n1:1@tin n2:1@tin n3:1@iron n4:1@gold"


def taken(*jobs: Waiting, nodes: str = METALS, policy: Policy = POOLED) -> dict[int, str]:
    return nodes_taken(decide_on(nodes, *jobs, policy=policy))


# routes


def test_each_class_goes_home_first() -> None:
    jobs = waits(1, priority="high"), waits(2, priority="medium"), waits(3, priority="low")
    assert taken(*jobs) == {1: "n4", 2: "n3", 3: "n1"}


def test_home_is_first_though_a_borrowed_node_fits_more_tightly() -> None:
    assert taken(waits(1, priority="high"), nodes="n1:1@tin n2:8@gold n3:8@gold n4:1@iron") == {1: "n2"}


def test_a_class_borrows_in_the_order_that_the_policy_lists() -> None:
    jobs = [waits(number, priority="high") for number in (1, 2, 3, 4)]
    assert taken(*jobs) == {1: "n4", 2: "n1", 3: "n2", 4: "n3"}


def test_borrowing_goes_the_other_way_too() -> None:
    assert taken(waits(1), waits(2)) == {1: "n3", 2: "n4"}


def test_a_class_does_not_borrow_what_its_route_leaves_out() -> None:
    plan = decide_on(METALS, *(waits(number, priority="low") for number in (1, 2, 3)), policy=POOLED)
    assert nodes_taken(plan) == {1: "n1", 2: "n2"}
    assert refused(plan) == {3: NotEnoughFree(1, 1, 0, 0, 0)}


def test_strict_turns_borrowing_off() -> None:
    jobs = [waits(number, priority="high") for number in (1, 2)]
    assert taken(*jobs, policy=STRICT) == {1: "n4"}


def test_a_gang_that_its_home_cannot_hold_takes_nodes_of_all_its_pools() -> None:
    assert taken(waits(1, 1, 2, priority="high"), nodes="n1:1@tin n2:1@iron n3:1@gold n4:2@gold") == {1: "n3 n4"}
    assert taken(waits(1, 1, 3, priority="high"), nodes="n1:1@tin n2:1@iron n3:1@gold n4:2@gold") == {1: "n1 n2 n3"}
    assert taken(waits(1, 1, 3, priority="high"), policy=STRICT) == {}


def test_below_the_limit_every_class_uses_every_node() -> None:
    assert taken(waits(1, priority="low"), nodes="n1:1@gold n2:1@gold n3:1@tin") == {1: "n1"}
    assert taken(waits(1, priority="low"), nodes="n1:1@gold n2:1@gold n3:1@tin", policy=STRICT) == {1: "n1"}
    assert taken(waits(1, priority="low"), nodes="n1:1@gold n2:1@gold n3:1@tin n4:1@gold") == {1: "n3"}


def test_the_limit_is_the_policy_s() -> None:
    assert taken(waits(1, priority="low"), nodes=METALS, policy=replace(POOLED, share_all_below=5)) == {1: "n1"}
    nodes = "n1:1@gold n2:1@tin"
    assert taken(waits(1, priority="low"), nodes=nodes, policy=replace(POOLED, share_all_below=2)) == {1: "n2"}


def test_cordoned_nodes_count_for_the_limit() -> None:
    plan = decide_on(METALS, waits(1, priority="low"), policy=STRICT, cordoned="n3 n4")
    assert nodes_taken(plan) == {1: "n1"}


def test_a_node_without_a_pool_serves_all_classes_as_their_home() -> None:
    jobs = waits(1, priority="high"), waits(2, priority="low")
    assert taken(*jobs, nodes="n1:2 n2:4@gold n3:4@tin n4:4@iron", policy=STRICT) == {1: "n1", 2: "n1"}


def test_a_pool_that_the_policy_does_not_know_is_there_for_those_who_name_it() -> None:
    nodes = "n1:1@lab n2:2@gold n3:2@tin n4:2@iron"
    assert taken(waits(1), waits(2, pool="lab"), nodes=nodes) == {1: "n4", 2: "n1"}


def test_a_home_without_any_node_is_no_home_and_all_pools_serve() -> None:
    nodes = "n1:1@tin n2:1@tin n3:1@iron n4:1@iron"
    assert taken(waits(1, priority="high"), nodes=nodes, policy=STRICT) == {1: "n1"}


def test_a_home_that_takes_no_work_is_waited_for() -> None:
    plan = decide_on(METALS, waits(1, priority="high"), policy=STRICT, cordoned="n4")
    assert refused(plan) == {1: NeverFits(1, 1, 0)}


def test_a_class_without_a_route_uses_every_node() -> None:
    low = {Priority.LOW: ROUTES[Priority.LOW]}
    jobs = [waits(number, priority="high") for number in (1, 2, 3, 4)]
    assert len(taken(*jobs, policy=replace(POOLED, classes=low))) == 4


def test_who_asks_for_a_pool_gets_that_one_whatever_the_route() -> None:
    assert taken(waits(1, priority="low", pool="gold"), policy=STRICT) == {1: "n4"}


def test_who_asks_for_a_pool_waits_for_that_one() -> None:
    plan = decide_on(METALS, runs(9, "n4:0"), waits(1, priority="high", pool="gold"), policy=POOLED)
    assert refused(plan) == {1: NotEnoughFree(1, 1, 0, 0, 0)}


def test_a_pool_that_no_node_is_in_never_fits() -> None:
    assert refused(decide_on(METALS, waits(1, pool="lead"), policy=POOLED)) == {1: NeverFits(1, 1, 0)}


def test_without_pools_in_the_policy_those_that_nodes_name_can_be_asked_for() -> None:
    assert taken(waits(1, pool="tin"), nodes="n1:1 n2:1@tin", policy=Policy()) == {1: "n2"}


# which pool a node is in

HALVES = Policy(pools={"gold": 0.5, "tin": 0.5})


def pools_of(nodes: str, policy: Policy) -> str:
    return " ".join(pool or "-" for _, pool in sorted(assign(nodes_of(nodes), policy).items()))


def test_nodes_without_a_pool_are_dealt_out_in_the_order_of_their_names() -> None:
    assert pools_of("n4:1 n3:1 n2:1 n1:1", HALVES) == "gold tin gold tin"


def test_the_pool_that_a_node_names_counts_first() -> None:
    assert pools_of("n1:1 n2:1 n3:1@gold n4:1@gold", HALVES) == "tin tin gold gold"


def test_a_pool_that_the_policy_does_not_know_counts_for_none() -> None:
    assert pools_of("n1:1@lab n2:1 n3:1 n4:1", HALVES) == "lab gold tin gold"


def test_below_the_limit_no_pools_are_dealt() -> None:
    assert pools_of("n1:1 n2:1 n3:1@gold", HALVES) == "- - gold"


def test_pools_that_are_only_named_get_no_nodes() -> None:
    assert pools_of("n1-4:1", POOLED) == "- - - -"


def test_shares_may_leave_some_nodes_over_which_serve_all() -> None:
    quarter = Policy(pools={"gold": 0.25})
    assert pools_of("n1-8:1", quarter).split().count("gold") == 2


def test_a_node_that_joins_can_bring_pools_about() -> None:
    view = view_of("n1:1 n2:1 n3:1", waits(1, pool="tin"), policy=HALVES)
    assert dict(view.pools) == {"n1": "", "n2": "", "n3": ""}
    view.put_node(nodes_of("n4:1")[0])
    assert dict(view.pools) == {"n1": "gold", "n2": "tin", "n3": "gold", "n4": "tin"}
    assert {kind.pool for kind in view.shelves} == {"gold", "tin"}
    view.remove_node(nodes_of("n4:1")[0].name)
    assert {kind.pool for kind in view.shelves} == {""}
    assert view.places.keys() == view.nodes.keys()
    assert NOW_S > 0


numbers = st.integers(4, 30)
named = st.sampled_from(["", "", "", "a", "b", "elsewhere"])
shares = st.lists(st.integers(1, 10), min_size=1, max_size=4)


def shared(parts: list[int], total: int = 0) -> Policy:
    return Policy(pools={name: part / (total or sum(parts)) for name, part in zip("abcd", parts, strict=False)})


@given(st.lists(named, min_size=4, max_size=20), shares, st.randoms())
@BRIEF
def test_pools_do_not_depend_on_the_order_in_which_nodes_came(
    names: list[str], parts: list[int], random: object
) -> None:
    nodes = [node for at, pool in enumerate(names) for node in nodes_of(f"m{at:02}:1" + (f"@{pool}" if pool else ""))]
    mixed = nodes.copy()
    random.shuffle(mixed)  # type: ignore[attr-defined]
    assert assign(nodes, shared(parts)) == assign(mixed, shared(parts))


@given(st.lists(named, min_size=4, max_size=20), shares)
@BRIEF
def test_a_new_last_node_without_a_pool_changes_nobody_s_pool(names: list[str], parts: list[int]) -> None:
    nodes = [node for at, pool in enumerate(names) for node in nodes_of(f"m{at:02}:1" + (f"@{pool}" if pool else ""))]
    before = assign(nodes, shared(parts))
    after = assign([*nodes, *nodes_of("z:1")], shared(parts))
    assert after.items() >= before.items()


@given(numbers, shares)
@BRIEF
def test_each_pool_gets_its_share_of_the_nodes_give_or_take_one(count: int, parts: list[int]) -> None:
    policy = shared(parts)
    found = list(assign(nodes_of(" ".join(f"m{at:02}:1" for at in range(count))), policy).values())
    for pool, share in policy.pools.items():
        assert abs(found.count(pool) - share * count) <= 1 + 1e-9, (pool, found.count(pool), share * count)


@given(numbers, shares)
@BRIEF
def test_shares_that_leave_some_over_leave_them_to_all(count: int, parts: list[int]) -> None:
    policy = shared(parts, total=2 * sum(parts))
    found = list(assign(nodes_of(" ".join(f"m{at:02}:1" for at in range(count))), policy).values())
    assert abs(found.count("") - count / 2) <= 1 + 1e-9
