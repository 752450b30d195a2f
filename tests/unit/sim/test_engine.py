"""In which order things happen on the virtual clock, and what ends a simulation."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

from shunter.domain.job import Priority
from shunter.runtime.policy_file import read_policy
from shunter.scheduling.cycle import Cycle, cycle
from shunter.scheduling.plan import Plan, Violation
from shunter.scheduling.policy import Policy, Route
from shunter.scheduling.view import View
from shunter.sim import engine
from shunter.sim.engine import BrokenRule, simulate
from shunter.sim.result import Result, Run
from tests.unit.sim.traces import Case, case, written

FIFO = read_policy("fifo-bf")


def small(folder: Path, *jobs: str, nodes: tuple[str, ...] = ("n,4",)) -> Case:
    return case(*written(folder, jobs, nodes))


def started(found: Case, policy: Policy = FIFO) -> list[tuple[str, float]]:
    runs: list[Run] = []
    result = simulate("p", found.workload, found.nodes, policy, started=runs.append)
    assert (result.runs, result.moments) == ([], [])
    return [(run.name, run.start_s) for run in runs]


def test_what_ends_leaves_its_place_to_what_is_submitted_in_that_instant(tmp_path: Path) -> None:
    assert started(small(tmp_path, "a,0,5,4", "b,5,1,4")) == [("a", 0), ("b", 5)]


def test_all_that_is_submitted_in_an_instant_is_seen_by_its_pass(tmp_path: Path) -> None:
    assert started(small(tmp_path, "long,0,9,4", "short,0,1,4"), read_policy("sjf")) == [("short", 0), ("long", 1)]


def test_a_job_of_no_length_ends_before_time_goes_on(tmp_path: Path) -> None:
    found = small(tmp_path, "a,3,0,4", "b,3,0,4", "c,3,0,4")
    assert started(found) == [("a", 3), ("b", 3), ("c", 3)]
    result = simulate("p", found.workload, found.nodes, FIFO)
    assert (result.makespan_s, result.queued_jobs, result.util_window) == (0, 0, 0)


def test_ties_start_in_the_order_of_the_file(tmp_path: Path) -> None:
    found = small(tmp_path, *(f"{name},0,1,4" for name in "dacb"))
    assert [name for name, _ in started(found)] == list("dacb")


def test_nothing_is_kept_unless_it_is_asked_for(tmp_path: Path) -> None:
    found = small(tmp_path, "a,0,5,4", "b,5,1,4")
    kept = simulate("p", found.workload, found.nodes, FIFO, keep=True)
    assert (len(kept.runs), len(kept.moments)) == (2, 3)


def test_progress_is_told_now_and_then(tmp_path: Path) -> None:
    told: list[int] = []
    found = small(tmp_path, *(f"j{at},{at},1,1" for at in range(600)))
    simulate("p", found.workload, found.nodes, FIFO, progress=told.append)
    assert told == [256, 512]


# what ends it


def with_strict_pools() -> Policy:
    routes = {priority: Route("own" if priority is Priority.HIGH else "rest") for priority in Priority}
    return replace(FIFO, pools={"own": 0.5, "rest": 0.5}, classes=routes, strict=True, share_all_below=0)


def test_a_job_that_waits_for_ever_is_named_with_the_reason(tmp_path: Path) -> None:
    found = small(tmp_path, "a,0,5,4", "wide,1,5,8,g,high", "last,2,5,4", nodes=("n,4", "m,4"))
    with pytest.raises(BrokenRule) as caught:
        simulate("mine", found.workload, found.nodes, with_strict_pools())
    assert str(caught.value) == (
        "mine: job wide waits for ever, for 8 GPUs: needs 2 nodes with 4 GPUs each and the cores and memory asked for; "
        "only 1 such node is here; nothing runs, and nothing else comes; let the policy give it more nodes: pools, "
        "borrow, strict"
    )


Decide = Callable[[View, float], Cycle]


def simulated_by(monkeypatch: pytest.MonkeyPatch, decide: Decide, found: Case) -> Result:
    monkeypatch.setattr(engine, "cycle", decide)
    return simulate("p", found.workload, found.nodes, FIFO, keep=True)


def test_a_job_that_no_plan_ever_mentions_is_named_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = small(tmp_path, "a,0,5,4", "b,1,5,4")
    with pytest.raises(BrokenRule, match=r"job a \(and 1 more\) waits for ever"):
        simulated_by(monkeypatch, lambda *_: Cycle((), Plan((), ()), ()), found)


def test_a_plan_that_breaks_a_rule_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def decide(view: View, now_s: float) -> Cycle:
        return Cycle((), Plan((), ()), (Violation(min(view.jobs), "capacity", "5 of 4 GPUs"),))

    with pytest.raises(BrokenRule, match="p: job a: the plan breaks the rule capacity: 5 of 4 GPUs"):
        simulated_by(monkeypatch, decide, small(tmp_path, "a,0,5,4"))


# plans that change by themselves


def test_a_plan_is_made_again_when_it_says_so_while_jobs_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[float] = []

    def patient(view: View, now_s: float) -> Cycle:
        """Start nothing before 7.5 s."""
        asked.append(now_s)
        if now_s < 7.5:
            return Cycle((), Plan((), (), again_s=7.5), ())
        found = cycle(view, now_s)
        return Cycle(found.placements, replace(found.plan, again_s=now_s + 100), ())

    found = small(tmp_path, "a,0,5,4", "b,9,5,4")
    result = simulated_by(monkeypatch, patient, found)
    assert [(run.name, run.start_s) for run in result.runs] == [("a", 7.5), ("b", 12.5)]
    assert asked == [0, 7.5, 9, 12.5, 17.5]  # 107.5 is not waited for: nobody waits any more


def test_a_plan_that_always_asks_for_another_one_does_not_run_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(BrokenRule, match="job a waits for ever"):
        simulated_by(
            monkeypatch,
            lambda _, now_s: Cycle((), Plan((), (), again_s=now_s + 1), ()),
            small(tmp_path, "a,0,5,4"),
        )


def test_a_plan_cannot_be_made_again_before_time_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BrokenRule, match=r"the plan at 0\.0 s asks for another one at 0\.0 s"):
        simulated_by(
            monkeypatch, lambda _, now_s: Cycle((), Plan((), (), again_s=now_s), ()), small(tmp_path, "a,0,5,4")
        )
