"""What befalls the model: faults at given times, or drawn from a seed."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final, NamedTuple

from shunter.domain.ids import NodeName
from tests.unit.domain.lease_model import Coordinator, Node, Rules, World

LENGTHS_S: Final = (0.3, 1.5, 5.0, 12.0, 21.0, 28.0, 31.0, 45.0)
"""Around all the limits of the normal terms."""


class Fault(NamedTuple):
    at: float
    kind: str
    who: str = ""
    seconds: float = 0.0


class Cluster:
    """A world with *nodes* nodes and two coordinators, and the faults that it understands."""

    def __init__(self, seed: int, rules: Rules | None = None, nodes: int = 3, tick_s: float = 0.5) -> None:
        self.world = World(seed, rules or Rules())
        self.coordinators = {name: Coordinator(self.world, name, tick_s) for name in ("c1", "c2")}
        for number in range(nodes):
            self.join(f"n{number + 1}", 0.0)

    def play(self, faults: list[Fault], until: float) -> None:
        for fault in faults:
            do: Callable[[str, float], None] = getattr(self, fault.kind)
            self.world.after(fault.at - self.world.t, lambda do=do, fault=fault: do(fault.who, fault.seconds))  # type: ignore[misc]
        self.world.run(until)

    def _later(self, seconds: float, do: Callable[[], None]) -> None:
        self.world.after(seconds, do)

    def _cut(self, who: str, seconds: float, ways: tuple[str, ...]) -> None:
        cut = self.world.cut
        cut.update((who, way) for way in ways)
        self._later(seconds, lambda: cut.difference_update((who, way) for way in ways))

    def cut(self, who: str, seconds: float) -> None:
        self._cut(who, seconds, ("in", "out"))

    def cut_in(self, who: str, seconds: float) -> None:
        self._cut(who, seconds, ("in",))

    def cut_out(self, who: str, seconds: float) -> None:
        self._cut(who, seconds, ("out",))

    def cut_all(self, _: str, seconds: float) -> None:
        for node in self.world.nodes:
            self.cut(node, seconds)

    def slow(self, _: str, seconds: float) -> None:
        """Every packet takes 2.5 s more: so each answer takes over 5 s."""
        self.world.slow_s = 2.5
        self._later(seconds, lambda: setattr(self.world, "slow_s", 0.0))

    def join(self, who: str, _: float) -> None:
        node = self.world.nodes.get(who) or Node(self.world, who)
        node.worker.start()

    def leave(self, who: str, _: float) -> None:
        node = self.world.nodes[who]

        def left(gone: bool) -> None:
            if gone:
                node.worker.end()

        if not node.attempts:
            self.world.call(node.worker, lambda: self.world.store.leave(NodeName(who)), left)

    def crash(self, who: str, _: float) -> None:
        self.world.nodes[who].crash()

    def boot(self, who: str, _: float) -> None:
        self.world.nodes[who].boot()

    def operator(self, who: str, seconds: float) -> None:
        """`fence: operator` for a while."""
        node = self.world.nodes[who]
        node.by_operator = True
        self._later(seconds, lambda: setattr(node, "by_operator", False))

    def pause_machine(self, who: str, seconds: float) -> None:
        self.world.nodes[who].pause(seconds)

    def pause_worker(self, who: str, seconds: float) -> None:
        self.world.nodes[who].worker.paused_until = self.world.t + seconds

    def pause_keeper(self, who: str, seconds: float) -> None:
        self.world.nodes[who].keeper.paused_until = self.world.t + seconds

    def kill_worker(self, who: str, seconds: float) -> None:
        node = self.world.nodes[who]
        node.worker.end()
        self._later(seconds, node.worker.start)

    def pause_leader(self, who: str, seconds: float) -> None:
        for coordinator in self.coordinators.values():
            if coordinator.name == who or (not who and coordinator.watch is not None):
                coordinator.paused_until = self.world.t + seconds

    def restart_store(self, _: str, seconds: float) -> None:
        """Down for *seconds*; all that was written in its last second is lost."""
        if not self.world.store.down:
            self.world.store.stop(1.0)
            self._later(seconds, self.world.store.start)

    def step_clock(self, _: str, seconds: float) -> None:
        self.world.store.step_s += seconds


KINDS: Final = (
    *("cut", "cut_in", "cut_out", "pause_machine", "pause_worker", "pause_keeper", "kill_worker") * 2,
    *("crash", "leave", "operator", "slow", "cut_all", "pause_leader", "restart_store", "step_clock", "join"),
)


def drawn(seed: int, until: float) -> list[Fault]:
    """Draw faults up to *until*: some alone, some at nearly the same time, where the dangers lie."""
    rng = random.Random(seed)
    faults, at, names = [], 12.0, ["n1", "n2", "n3"]
    while at < until:
        kind, who, seconds = rng.choice(KINDS), rng.choice(names), rng.choice(LENGTHS_S)
        if kind == "join":
            who = "n4"
            names = ["n1", "n2", "n3", "n4"]
        if kind == "restart_store":
            seconds = rng.choice((0.2, 1.0, 5.0, 25.0))
        if kind == "step_clock":
            seconds *= rng.choice((-1, 1))
        if kind == "pause_leader":
            who = ""
        faults.append(Fault(at, kind, who, seconds))
        if kind == "crash":
            faults.append(Fault(at + seconds, "boot", who))
        at += rng.choice((0.1, 0.4, 1.0, 3.0, 10.0, 29.0))
    return faults
