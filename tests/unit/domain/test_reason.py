"""Why a job waits, in one line; and what it says must not contradict itself."""

from __future__ import annotations

from typing import get_args

import pytest

from shunter.domain.reason import (
    BackingOff,
    HeldBack,
    InLine,
    NeverFits,
    NodeSilent,
    NoNodes,
    NotEnoughFree,
    NotYetSeen,
    Reason,
    SchedulerFails,
    render,
)

LINES: list[tuple[Reason, str]] = [
    (NoNodes(0, 0), "no node has joined yet"),
    (NoNodes(2, 1), "no node takes work: 2 cordoned, 1 silent"),
    (NoNodes(0, 3), "no node takes work: 0 cordoned, 3 silent"),
    (NotEnoughFree(1, 0, 0, 4, 9), "waits for free cores or memory"),
    (NotEnoughFree(1, 4, 0, 2, 6), "2 of 4 GPUs free on one node (6 in all)"),
    (
        NotEnoughFree(1, 4, 0, 8, 8),
        "8 GPUs free on one node, but not the cores or memory asked for",
    ),
    (
        NotEnoughFree(1, 1, 0, 0, 0, left_out=("n1", "n3")),
        "0 of 1 GPUs free on one node (0 in all), without n1, n3, where it failed in the last minute",
    ),
    (NotEnoughFree(1, 4, 0, 5, 9, 3), "3 of 4 GPUs free in one NVLink island (5 on one node, 9 in all)"),
    (NotEnoughFree(1, 4, 0, 5, 9, 0), "0 of 4 GPUs free in one NVLink island (5 on one node, 9 in all)"),
    (NotEnoughFree(1, 4, 0, 6, 9, 4), "4 GPUs free in one NVLink island, but not the cores or memory asked for"),
    (NotEnoughFree(3, 8, 1, 8, 20), "1 of 3 nodes have 8 GPUs free now"),
    (NotEnoughFree(2, 0, 1, 8, 8), "needs 2 nodes with free cores and memory; 1 have that now"),
    (
        NeverFits(4, 8, 2),
        "needs 4 nodes with 8 GPUs each and the cores and memory asked for; only 2 such nodes are here",
    ),
    (NeverFits(1, 0, 0), "needs a node with the cores and memory asked for; no such node is here"),
    (InLine(17), "waits behind job 17, which goes first (the policy has no backfill)"),
    (NotEnoughFree(2, 4, 2, 4, 8), "2 nodes have 4 GPUs free now, but no 2 of them in one rack"),
    (HeldBack(17), "the free GPUs are kept for job 17, which goes first"),
    (BackingOff(99.0, 2), "retry 3 after a pause"),
    (NotYetSeen(), "waits for the next scheduling pass"),
    (
        SchedulerFails(86_400.0 * 3 + 12 * 3600 + 3 * 60 + 11.9, 14, "KeyError: 'x'"),
        "scheduler: failing since 12:03:11 UTC, 14 times (KeyError: 'x'); "
        "nothing new starts; see the coordinator's log",
    ),
    (
        SchedulerFails(0.0, 1, "KeyError: 'x'"),
        "scheduler: failing since 00:00:00 UTC, 1 time (KeyError: 'x'); nothing new starts; see the coordinator's log",
    ),
    (
        NodeSilent("n3", 8.0, 20.0, 30.0),
        "node n3 has not answered for 8.0s; after 20 s the job is frozen, after 30 s it runs elsewhere",
    ),
    (
        NodeSilent("n3", 20.0, 20.0, 30.0),
        "node n3 has not answered for 20s, so the job is frozen there; after 30 s it runs elsewhere, "
        "unless all nodes are silent",
    ),
    (
        NodeSilent("n3", 300.0),
        "node n3 has not answered for 5m00s; it may run on there, until the node is back or given up "
        "(shunter node lost n3)",
    ),
]


@pytest.mark.parametrize(("reason", "line"), LINES, ids=[line for _, line in LINES])
def test_each_reason_is_one_line_with_its_numbers(reason: Reason, line: str) -> None:
    assert render(reason) == line


def test_every_reason_has_a_line_in_this_table() -> None:
    assert {type(reason) for reason, _ in LINES} == set(get_args(Reason))
