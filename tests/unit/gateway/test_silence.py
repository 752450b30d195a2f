"""Which nodes are silent for so long that people who ask for a job there should know."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from shunter.domain.ids import AllocationId, Incarnation, NodeName
from shunter.domain.lease import TERMS
from shunter.domain.phase import Allocation, NodeShare, Phase, Queued, Running
from shunter.domain.reason import NodeSilent
from shunter.gateway.silence import Silence, silent_nodes
from shunter.store.keys import Keys
from shunter.store.leases import Seen

NOW_MS = 1_000_000


def seen(unfenced: tuple[str, ...] = (), terms: str = "normal", **silent_s: float) -> Seen:
    at = {NodeName(node): NOW_MS - int(1000 * seconds) for node, seconds in silent_s.items()}
    return Seen("run", NOW_MS, {}, dict.fromkeys(at, TERMS[terms]), frozenset(map(NodeName, unfenced)), at, "", {})


def on(*nodes: str) -> Phase:
    shares = tuple(NodeShare(NodeName(node), Incarnation("1"), (0,)) for node in nodes)
    return Running(1, Allocation(AllocationId("1.1"), shares), 1.0)


@pytest.mark.parametrize(
    ("found", "silent"),
    [
        (seen(n1=7.0), {}),
        (seen(n1=7.1, n2=0.0), {"n1": NodeSilent("n1", 7.1, 20.0, 30.0)}),
        (seen(terms="fast", n1=5.1), {"n1": NodeSilent("n1", 5.1, 5.0, 8.0)}),
        (seen(terms="restart", n1=60.0), {"n1": NodeSilent("n1", 60.0, 300.0, 330.0)}),
        (seen(unfenced=("n1",), n1=60.0), {"n1": NodeSilent("n1", 60.0)}),
    ],
)
def test_nodes_count_as_silent_once_they_get_no_work_or_freeze_what_they_have(
    found: Seen, silent: dict[str, NodeSilent]
) -> None:
    assert silent_nodes(found) == silent


class Asked:
    """A store with this answer, which counts how often it was asked."""

    def __init__(self, answer: Seen) -> None:
        self.answer = answer
        self.times = 0

    async def run(self, _: object) -> Any:
        self.times += 1
        return self.answer


def test_a_gang_says_which_of_its_nodes_has_been_silent_for_longest_and_many_jobs_ask_the_store_once() -> None:
    store = Asked(seen(n1=9.0, n2=12.0, n3=1.0))
    silence = Silence(store, Keys("test"))  # type: ignore[arg-type]

    async def ask() -> list[NodeSilent | None]:
        return [await silence.of(phase) for phase in (on("n1", "n2", "n3"), on("n1"), on("n3"), Queued(1.0))]

    assert asyncio.run(ask()) == [NodeSilent("n2", 12.0, 20.0, 30.0), NodeSilent("n1", 9.0, 20.0, 30.0), None, None]
    assert store.times == 1
