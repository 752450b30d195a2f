"""Turns are taken lazily and yet in the order that a plain sort of all pending jobs would give."""

from __future__ import annotations

import math
from typing import Any
from unittest.mock import patch

from hypothesis import given
from hypothesis import strategies as st

from shunter.scheduling.lanes import Ask, Pending, Queue
from shunter.scheduling.parts import job_key, order_part
from shunter.scheduling.policy import Policy
from shunter.scheduling.turns import Limit, Turns
from shunter.scheduling.view import View
from tests.strategies import BRIEF, NOW_S
from tests.unit.scheduling.cluster import NOW_S as LINE_NOW_S
from tests.unit.scheduling.cluster import view_of, waits
from tests.unit.scheduling.policies import for_every_policy, some_policies
from tests.unit.scheduling.worlds import World, worlds

Entry = tuple[Queue, Ask, Pending]


class Sorted:
    """All pending jobs; each time, the one whose key is the least of all is next."""

    def __init__(self, view: View, now_s: float) -> None:
        names = view.policy.order
        self._parts = [order_part(name)(view, now_s) for name in names]
        self._job_key = job_key(names)
        self._left: list[Entry] = [
            (queue, ask, pending)
            for queue in view.lanes.queues.values()
            for ask, lane in queue.lanes.items()
            for pending in lane.jobs.values()
        ]

    def next(self) -> Entry | None:
        heads: dict[int, Entry] = {}
        for entry in sorted(self._left, key=self._in_queue, reverse=True):
            heads[id(entry[0])] = entry
        return min(heads.values(), key=lambda entry: (self._of_queue(entry), self._in_queue(entry)), default=None)

    def _in_queue(self, entry: Entry) -> tuple[Any, ...]:
        return (*self._job_key(entry[2]), entry[2].job.id)

    def _of_queue(self, entry: Entry) -> list[Any]:
        keys = (part.of_queue(entry[0], entry[2]) for part in self._parts)
        return [key for key in keys if key is not None]

    def placed(self, entry: Entry) -> None:
        self._left.remove(entry)
        for part in self._parts:
            part.placed(entry[0], entry[2])

    def refuse(self, ask: Ask) -> None:
        self._left = [entry for entry in self._left if entry[1] is not ask]

    def limit(self, ask: Ask, longest_s: float) -> None:
        """Of *ask*, only those of up to *longest_s* are left."""
        self._left = [one for one in self._left if one[1] is not ask or one[2].said_s <= longest_s]

    def shorten(self, entry: Entry, longest_s: float) -> None:
        """Of the lane of *entry*, only those of up to *longest_s* are left."""
        self._left = [
            one for one in self._left if one[:2] != entry[:2] or (one is not entry and one[2].said_s <= longest_s)
        ]


def limits_below(length_s: float) -> list[float]:
    return [limit for limit in (5.0, 10.0, 60.0, 599.0, 4_999.0) if limit < length_s]


@for_every_policy
def test_turns_are_those_of_a_plain_sort_whatever_becomes_of_each_job(policy: Policy, data: st.DataObject) -> None:
    view = data.draw(worlds(max_jobs=20)).view(policy)
    turns, model = Turns(view, NOW_S), Sorted(view, NOW_S)
    # However soon queues that are over are looked for among the others.
    with patch("shunter.scheduling.turns._MANY", data.draw(st.sampled_from([1, 2, 16]))):
        for turn in turns:
            expected = model.next()
            assert expected is not None, f"job {turn.pending.job.id} has its turn and the model has nobody"
            assert turn.pending.job.id == expected[2].job.id
            shorter = limits_below(turn.pending.said_s)
            match data.draw(st.sampled_from(["place", "place", "refuse", "shorten", "limit"])):
                case "limit" if shorter:
                    longest_s = data.draw(st.sampled_from(shorter))
                    turns.limit(turn, Limit(longest_s, unsaid=False))
                    model.limit(turn.ask, longest_s)
                case "shorten" if shorter:
                    longest_s = data.draw(st.sampled_from(shorter))
                    turns.shorten(turn, Limit(longest_s, unsaid=False))
                    model.shorten(expected, longest_s)
                case "refuse":
                    turns.refuse(turn.ask)
                    model.refuse(turn.ask)
                case _:
                    turns.placed(turn)
                    model.placed(expected)
    assert model.next() is None, "somebody was left out"


@given(worlds(), some_policies())
@BRIEF
def test_everybody_gets_a_turn_if_all_are_placed(world: World, policy: Policy) -> None:
    view = world.view(policy)
    turns, seen = Turns(view, NOW_S), []
    for turn in turns:
        seen.append(turn.pending.job.id)
        turns.placed(turn)
    assert sorted(seen) == sorted(pending.job.id for pending in view.lanes.pending())


@given(worlds(), some_policies())
@BRIEF
def test_each_ask_gets_one_turn_if_all_are_refused(world: World, policy: Policy) -> None:
    view = world.view(policy)
    turns, seen = Turns(view, NOW_S), []
    for turn in turns:
        seen.append(turn.ask)
        turns.refuse(turn.ask)
    assert len(seen) == len(set(seen)) == len(view.lanes.asks)


def test_the_lanes_of_a_queue_are_interleaved_by_the_jobs_in_them() -> None:
    view = view_of("n1:8", waits(1), waits(2, 2), waits(3), waits(4, 2), waits(5))
    turns = Turns(view, LINE_NOW_S)
    seen = []
    for turn in turns:
        seen.append(int(turn.pending.job.id))
        turns.placed(turn)
    assert seen == [1, 2, 3, 4, 5]


def test_a_lane_without_limits_cannot_be_shortened_to_anything() -> None:
    view = view_of("n1:8", waits(1), waits(2))
    turns = Turns(view, LINE_NOW_S)
    seen = []
    for turn in turns:
        assert math.isinf(turn.pending.said_s)
        seen.append(turn.pending.job.id)
        turns.shorten(turn, Limit(100.0, unsaid=False))
    assert seen == [1]
