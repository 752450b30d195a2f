"""A simulator that is too simple to be wrong, and too slow to be used: what the real one is compared with.

At one instant first all ends, then all submissions, then one pass. A job of up to a node's GPUs runs inside one node; a
wider one takes whole free nodes and, for what remains, one more with so many free. First fit: the first such node in
the order of the file; best fit: the one with the fewest free GPUs, ties by the file. The head of the queue blocks all
behind it; under EASY it has a reservation instead: a later job is tried at its best fit only, and starts if it ends by
the time at which the head can start at the earliest, or if the head could still start by then beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple


class Ask(NamedTuple):
    name: str
    submit_s: float
    duration_s: float
    gpus: int
    pool: str = ""


class Box(NamedTuple):
    name: str
    gpus: int
    pool: str = ""


class Start(NamedTuple):
    start_s: float
    nodes: tuple[str, ...]


Free = list[int]
Taken = list[tuple[int, int]]
"""(which node, how many of its GPUs), in rank order."""


class Rules(NamedTuple):
    order: Callable[[Ask], float]
    best: bool
    easy: bool = False


RULES = {
    "fifo-ff": Rules(lambda ask: ask.submit_s, best=False),
    "fifo-bf": Rules(lambda ask: ask.submit_s, best=True),
    "sjf": Rules(lambda ask: ask.duration_s, best=True),
    "easy": Rules(lambda ask: ask.submit_s, best=True, easy=True),
}


def reference(asks: Sequence[Ask], boxes: Sequence[Box], policy: str) -> dict[str, Start]:
    """Return when and where each of *asks* starts; those of each pool run on the boxes of that pool only.

    Every instant has a pass in every pool: a pass of EASY may find what the one before it could not, though nothing
    happened between them, for a job's best fit may be another node since a later job has started.
    """
    names = {ask.pool for ask in asks}
    pools = {name: _Pool([box for box in boxes if box.pool == name], RULES[policy]) for name in names}
    coming = sorted(asks, key=lambda ask: ask.submit_s)
    while coming or any(pool.running for pool in pools.values()):
        now_s = min([end_s for pool in pools.values() for end_s, _ in pool.running] + [a.submit_s for a in coming[:1]])
        for pool in pools.values():
            pool.end_due(now_s)
        while coming and coming[0].submit_s == now_s:
            pools[coming[0].pool].submit(coming.pop(0))
        for pool in pools.values():
            pool.run_a_pass(now_s)
    assert not any(pool.queue for pool in pools.values())
    return {name: start for pool in pools.values() for name, start in pool.starts.items()}


class _Pool:
    def __init__(self, boxes: Sequence[Box], rules: Rules) -> None:
        self.boxes = boxes
        self.rules = rules
        self.widest = max((box.gpus for box in boxes), default=0)
        self.free: Free = [box.gpus for box in boxes]
        self.queue: list[Ask] = []
        self.running: list[tuple[float, Taken]] = []
        self.starts: dict[str, Start] = {}

    def end_due(self, now_s: float) -> None:
        for end_s, taken in self.running:
            if end_s == now_s:
                give_back(self.free, taken)
        self.running = [one for one in self.running if one[0] != now_s]

    def submit(self, ask: Ask) -> None:
        self.queue.append(ask)
        self.queue.sort(key=self.rules.order)  # stable: ties stay as they came

    def run_a_pass(self, now_s: float) -> None:
        while self.queue and (taken := self.place(self.queue[0], self.free)) is not None:
            self.start(self.queue[0], taken, now_s)
        if not self.queue or not self.rules.easy:
            return
        head = self.queue[0]
        shadow_s = self.soonest(head, now_s)
        for ask in self.queue[1:]:
            taken = self.place(ask, self.free)
            if taken is not None and (now_s + ask.duration_s <= shadow_s or self.beside(head, taken, shadow_s)):
                self.start(ask, taken, now_s)

    def soonest(self, head: Ask, now_s: float) -> float:
        """Return the earliest time at which *head* can start if nothing else does."""
        for at_s in sorted({end_s for end_s, _ in self.running}):
            if self.place(head, self.free_at(at_s)) is not None:
                return max(at_s, now_s)
        raise AssertionError(f"{head} never fits")

    def beside(self, head: Ask, taken: Taken, at_s: float) -> bool:
        """Return whether *head* still fits at *at_s* if *taken* is taken now, and until then."""
        free = self.free_at(at_s)
        take(free, taken)
        return self.place(head, free) is not None

    def free_at(self, at_s: float) -> Free:
        free = list(self.free)
        for end_s, taken in self.running:
            if end_s <= at_s:
                give_back(free, taken)
        return free

    def place(self, ask: Ask, free: Free) -> Taken | None:
        if ask.gpus <= self.widest:
            return self.one(ask.gpus, free, without=[])
        count, rest = divmod(ask.gpus, self.widest)
        whole = [at for at, left in enumerate(free) if left == self.widest][:count]
        taken = [(at, self.widest) for at in whole]
        if len(whole) < count or not rest:
            return taken if len(whole) == count else None
        last = self.one(rest, free, without=whole)
        return None if last is None else taken + last

    def one(self, gpus: int, free: Free, without: list[int]) -> Taken | None:
        found = [at for at, left in enumerate(free) if left >= gpus and at not in without]
        if self.rules.best:
            found.sort(key=lambda at: free[at])
        return [(found[0], gpus)] if found else None

    def start(self, ask: Ask, taken: Taken, now_s: float) -> None:
        take(self.free, taken)
        self.queue.remove(ask)
        self.running.append((now_s + ask.duration_s, taken))
        self.starts[ask.name] = Start(now_s, tuple(self.boxes[at].name for at, _ in taken))


def take(free: Free, taken: Taken) -> None:
    for at, gpus in taken:
        free[at] -= gpus


def give_back(free: Free, taken: Taken) -> None:
    for at, gpus in taken:
        free[at] += gpus
