"""The text of the policies that come with Shunter: people read it."""

from __future__ import annotations

import pytest

from shunter.errors import InvalidInput
from shunter.runtime.policy_file import load_policy, parse_policy, shipped


@pytest.mark.parametrize("name", shipped())
def test_a_shipped_policy_fits_a_screen(name: str) -> None:
    assert [line for line in load_policy(name).text.splitlines() if len(line) > 120] == []


def test_the_default_says_which_orders_of_aged_and_shortest_are_refused() -> None:
    """Its comment says so of [aged, shortest]."""
    for order in ("aged, shortest", "aged, shortest, age"):
        with pytest.raises(InvalidInput, match="aged goes not with shortest"):
            parse_policy(f"order: [{order}]", "p")
    for order in ("aged, age, shortest", "aged, age", "aged"):
        assert parse_policy(f"order: [{order}]", "p").order == tuple(order.split(", "))
