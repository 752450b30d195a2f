"""The rows of `benchmarks.faults` that no other test here has: a network that drops packets, and what Redis may do.

Each node, Redis and the control plane have a network namespace of their own, so this needs root and `ip`. Judged is
what the jobs stamped: none ran twice at once, none was lost or ended, and only those ran again that had to.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Final

import pytest
from benchmarks.fault_world import World, world_of
from benchmarks.faults import ROWS, Scene, Times, broken
from benchmarks.output import BenchmarkFailed

from shunter.domain.lease import FAST

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

TIMES: Final = Times(
    cut_s=FAST.requeue_after_s + 2, outage_s=FAST.requeue_after_s, slow_s=FAST.requeue_after_s, away_s=1
)
"""Long enough that jobs freeze, and that nodes would be lost if the rules let them."""

_numbers = count(1)


@contextmanager
def started(folder: Path, *, slow: bool = False, spare: int = 0) -> Iterator[World]:
    with world_of(World(folder, "fast", slow=slow, spare=spare), folder / "logs") as world:
        yield world


@pytest.fixture(scope="module")
def five(namespaces: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Five nodes, for all rows that leave them whole."""
    with started(tmp_path_factory.mktemp("five")) as world:
        yield world


def holds(name: str, world: World) -> None:
    """Run the row *name* once, and demand what it promises."""
    scene = Scene(world, TIMES, next(_numbers))
    try:
        tally = scene.settle(ROWS[name].run(scene))
    except BenchmarkFailed as error:
        logs = [f"--- {path.name}\n{path.read_text()[-3_000:]}" for path in sorted(world.logs.iterdir())]
        raise AssertionError("\n".join([str(error), scene.picture(), *logs])) from error
    finally:
        assert scene.doubled() == 0
        world.mend_all()  # so that a row that fails leaves the others a whole network
    assert broken(name, ROWS[name], [tally]) == []


@pytest.mark.parametrize(
    "row", [name for name in ROWS if name.startswith("cut-")] + ["all-links-down", "redis-silent", "redis-refusing"]
)
def test_no_job_is_lost_ended_or_doubled_when(five: World, row: str) -> None:
    holds(row, five)


def test_jobs_wait_for_an_operator_when_redis_comes_back_empty(five: World) -> None:
    holds("redis-empty", five)


def test_nothing_is_ended_when_redis_answers_later_than_a_renewal_waits(namespaces: None, tmp_path: Path) -> None:
    with started(tmp_path, slow=True) as world:
        holds("redis-slow", world)


def test_nodes_join_and_leave_while_one_is_cut_off(namespaces: None, tmp_path: Path) -> None:
    with started(tmp_path, spare=2) as world:
        holds("join-and-leave", world)
