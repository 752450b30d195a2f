"""Policies to decide by: the shipped ones, and any whose pools, classes and teams are those of the worlds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shunter.domain.job import Priority
from shunter.runtime.policy_file import parts, read_policy, shipped
from shunter.scheduling.policy import Account, Backfill, FairShare, Policy, Route
from tests.strategies import BRIEF, legal_order
from tests.unit.scheduling.worlds import POOLS, choices, mostly


@st.composite
def some_policies(
    draw: st.DrawFn,
    *,
    orders: Sequence[str] | None = None,
    depths: Sequence[int] = range(4),
    tight: bool = True,
    no_backfill: bool = True,
) -> Policy:
    """A policy whose pools, classes and teams are those of the worlds. *orders*: the parts that it may order by."""
    order = draw(st.permutations(parts("order") if orders is None else orders))
    placement = draw(st.permutations(parts("placement")))
    depth, default_s, is_tight, none, orders_by, places_by = draw(
        choices(depths, [100.0, 86_400.0], [False, tight], [False, False, no_backfill], range(6), range(5))
    )
    homes = draw(st.permutations(POOLS))
    shares, routed, strict, below, half_life_s, lookahead_s = draw(
        choices(
            mostly({}, dict.fromkeys(POOLS, 0.0), dict(zip(POOLS, (0.5, 0.25, 0.25), strict=True))),
            range(8),
            mostly(False, True),
            [0, 2, 4],
            [100.0, 604_800.0],
            [0.0, 60.0, 3_600.0],
        )
    )
    age_bound_s, keep_whole_s = draw(choices([60.0, 5_000.0, 1e9], [0.0, 0.0, 4_000.0]))
    teams, users, ties, seed, estimate = draw(
        choices(
            mostly({}, {"red": Account(2.0), "blue": Account(0.5, "red")}),
            mostly({}, {"ada": Account(3.0)}),
            mostly("order", "random"),
            [0, 1],
            ["limit", "expected"],
        )
    )
    return Policy(
        order=legal_order(order[:orders_by]),
        placement=tuple(placement[:places_by]),
        backfill=None if none else Backfill(depth=depth, default_time_s=default_s, tight=is_tight),
        pools=shares,
        classes={
            name: Route(home, tuple(other for other in homes[: routed % 4] if other != home))
            for at, (name, home) in enumerate(zip(Priority, homes, strict=True))
            if routed >> at & 1
        },
        strict=strict,
        share_all_below=below,
        fair_share=FairShare(half_life_s, lookahead_s),
        age_bound_s=age_bound_s,
        keep_whole_s=keep_whole_s,
        teams=teams,
        users=users,
        ties=ties,
        seed=seed,
        estimate=estimate,
    )


def shipped_policies() -> dict[str, st.SearchStrategy[Policy]]:
    return {name: st.just(read_policy(name)) for name in shipped()}


def for_every_policy(test: Callable[[Policy, st.DataObject], None]) -> Any:
    """Run *test*(policy, data) under each shipped policy, and under any other that can be written."""
    return for_each(shipped_policies() | {"any": some_policies()})(test)


def for_each(
    chosen: dict[str, st.SearchStrategy[Policy]],
) -> Callable[[Callable[[Policy, st.DataObject], None]], Any]:
    """Run a test(policy, data) under each of *chosen*, by name."""

    def decorate(test: Callable[[Policy, st.DataObject], None]) -> Any:
        @pytest.mark.parametrize("name", chosen)
        @given(data=st.data())
        @settings(BRIEF, max_examples=25)
        def under_each(name: str, data: st.DataObject) -> None:
            test(data.draw(chosen[name], label="policy"), data)

        under_each.__name__ = test.__name__
        under_each.__qualname__ = test.__qualname__
        under_each.__module__ = test.__module__
        return under_each

    return decorate
