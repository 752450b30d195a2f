"""How two policies differ."""

from __future__ import annotations

from hypothesis import given
from msgspec.structs import replace

from shunter.runtime.policy_diff import Difference, differences, summary
from shunter.runtime.policy_file import EMPTY
from shunter.scheduling.policy import Account, Backfill, FairShare, Policy
from tests.strategies import BRIEF, policies


def test_differences_are_named_by_key_in_the_order_of_a_file() -> None:
    before = replace(EMPTY, order=("age",), teams={"vision": Account(1.0)}, strict=True)
    after = replace(
        EMPTY, order=("age", "priority"), backfill=Backfill(4), teams={"vision": Account(2.5, "x"), "x": Account()}
    )
    assert differences(before, after) == [
        Difference("order", "[age]", "[age, priority]"),
        Difference("backfill", "none", None),
        Difference("backfill.depth", None, "4"),
        Difference("backfill.default-time", None, "10m"),
        Difference("backfill.tight", None, "false"),
        Difference("strict", "true", "false"),
        Difference("teams.vision.weight", "1", "2.5"),
        Difference("teams.vision.parent", None, "x"),
        Difference("teams.x.weight", None, "1"),
    ]


def test_a_summary_is_short() -> None:
    found = differences(
        EMPTY, replace(EMPTY, fair_share=FairShare(86_400.0), users={f"u{n}": Account() for n in range(20)})
    )
    lines = summary(found)
    assert lines[0] == "fair-share.half-life: 7d -> 1d"
    assert lines[1] == "users.u0.weight: not there -> 1"
    assert (len(lines), lines[-1]) == (11, "and 11 more")


@BRIEF
@given(policies(), policies())
def test_only_equal_policies_do_not_differ(one: Policy, other: Policy) -> None:
    assert differences(one, one) == []
    assert (differences(one, other) == []) == (one == other)
