"""Which running jobs are on nodes from which nothing has come for a while, and so may be frozen."""

from __future__ import annotations

import time
from typing import Final

from shunter.domain.ids import NodeName
from shunter.domain.lease import NORMAL
from shunter.domain.phase import HOLDS_GPUS, Phase
from shunter.domain.reason import NodeSilent
from shunter.store import leases
from shunter.store.keys import Keys
from shunter.store.leases import Seen
from shunter.store.redis import AsyncStore

FRESH_S: Final = 1.0
"""How long an answer of the store serves for all who ask."""


class Silence:
    """Asks the store at most once in FRESH_S, however many jobs are looked at."""

    def __init__(self, store: AsyncStore, keys: Keys) -> None:
        self._store = store
        self._keys = keys
        self._silent: dict[NodeName, NodeSilent] = {}
        self._read_at = float("-inf")

    async def of(self, phase: Phase) -> NodeSilent | None:
        """Return which of the nodes of *phase* has been silent for longest; None if none is. Raises Unavailable."""
        if not isinstance(phase, HOLDS_GPUS):
            return None
        if time.monotonic() - self._read_at > FRESH_S:
            self._silent = silent_nodes(await self._store.run(leases.watch(self._keys)))
            self._read_at = time.monotonic()
        found = [self._silent[node] for node in phase.allocation.nodes if node in self._silent]
        return max(found, key=lambda one: one.silent_s, default=None)


def silent_nodes(seen: Seen) -> dict[NodeName, NodeSilent]:
    """Return the nodes that have been silent for so long that no new work goes there, or that they freeze theirs."""
    silent = {}
    for node in seen.seen_ms:
        if not seen.is_silent(node):
            continue
        terms, silent_s = seen.terms.get(node, NORMAL), seen.silent_s(node)
        unfenced = node in seen.unfenced
        silent[node] = NodeSilent(
            node, silent_s, None if unfenced else terms.fence_after_s, None if unfenced else terms.requeue_after_s
        )
    return silent
