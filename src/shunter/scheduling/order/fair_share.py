"""Fair share: whoever has used least of what is due to them goes first, compared level by level down the team tree.

Due is the weight among siblings; used is decayed GPU-seconds (usage.py), plus what is held now as if it were held for
`lookahead_s` more, so that one pass does not give a newcomer everything. Source: Slurm's Fair Tree (Cox, Layton, SLUG
2014): siblings are ranked, so a team that is ahead of another puts all of its users ahead.
"""

from __future__ import annotations

from collections.abc import Sequence

from shunter.scheduling.lanes import Pending, Queue
from shunter.scheduling.order import Plain
from shunter.scheduling.usage import AccountKey, Owner
from shunter.scheduling.view import View


class Part(Plain):
    def __init__(self, view: View, now_s: float) -> None:
        self._ledger = view.ledger
        self._policy = view.policy
        self._now_s = now_s
        self._ratios: dict[AccountKey, float] = {}
        self._keys: dict[Owner, tuple[float, ...]] = {}

    def of_queue(self, queue: Queue, head: Pending) -> tuple[float, ...]:
        return self._keys.get(queue.owner) or self._key(queue.owner)

    def of_queues(self, queues: Sequence[Queue], heads: Sequence[Pending]) -> list[tuple[float, ...]]:
        known = self._keys
        return [known.get(queue.owner) or self._key(queue.owner) for queue in queues]

    def _key(self, owner: Owner) -> tuple[float, ...]:
        known, path = self._ratios, self._ledger.path(owner)
        ratios = [known[name] if name in known else self._ratio(name) for name in path]
        # Who is equal so far is equal, however deep.
        key = self._keys[owner] = (*ratios, *[0.0] * (self._ledger.depth - len(ratios)))
        return key

    def placed(self, queue: Queue, pending: Pending) -> None:
        added = pending.job.request.milli / 1000 * self._policy.fair_share.lookahead_s
        for name in self._ledger.path(queue.owner):
            self._ratios[name] = self._ratio(name) + added / self._ledger.weights[name]
        self._keys.clear()  # its whole team has used more

    def _ratio(self, name: AccountKey) -> float:
        """Return how much of its due account *name* has used, in GPU-seconds per unit of weight."""
        ratio = self._ratios.get(name)
        if ratio is None:
            ledger = self._ledger
            ahead = ledger.accounts[name].held * self._policy.fair_share.lookahead_s
            ratio = self._ratios[name] = (ledger.used(name, self._now_s) + ahead) / ledger.weights[name]
        return ratio
