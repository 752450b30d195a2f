"""The replay finds every way in which a promise about GPUs can be broken, and nothing in a run that keeps them."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.replay import Replay

from shunter.domain.ids import AllocationId, Incarnation, NodeName
from shunter.domain.outcome import FailureClass, Outcome, Result
from shunter.domain.phase import Allocation, Ended, NodeShare, Phase, Queued, Reserved, Running
from shunter.domain.report import EventView

SUCCESS = Outcome(Result.SUCCEEDED, 0)


class Stream:
    """Makes events with ids and revisions as the store would."""

    def __init__(self) -> None:
        self._number = 0
        self._revs: dict[int, int] = {}

    def event(self, job: int, kind: str, phase: Phase) -> EventView:
        self._number += 1
        self._revs[job] = self._revs.get(job, 0) + 1
        return EventView(f"{self._number}-0", float(self._number), kind, job=job, rev=self._revs[job], phase=phase)

    def life(
        self, job: int, gpu: int, *, started_s: float = 1.0, ended_s: float = 2.0, outcome: Outcome = SUCCESS
    ) -> Iterator[EventView]:
        where = share(job, gpu)
        yield self.event(job, "submitted", Queued(0.0))
        yield self.event(job, "placed", Reserved(1, where, 0.5))
        yield self.event(job, "started", Running(1, where, started_s))
        yield self.event(job, "exited", Ended(outcome, ended_s, 1, started_s, where))


def share(job: int, gpu: int, node: str = "n0") -> Allocation:
    return Allocation(AllocationId(f"1.{job}"), (NodeShare(NodeName(node), Incarnation("1"), (gpu,)),))


def replay(*events: EventView) -> Replay:
    one = Replay({"n0": 2, "n1": 2})
    one.feed(events)
    return one


def test_two_jobs_one_after_the_other() -> None:
    stream = Stream()
    seen = replay(*stream.life(1, 0), *stream.life(2, 0, started_s=2.0, ended_s=3.0))
    assert seen.problems == []
    assert seen.check_succeeded([1, 2]) == []
    assert seen.holder == {}
    assert seen.most_held == 1
    assert seen.cursor == "8-0"
    assert seen.at_s[1]["started"] - seen.at_s[1]["submitted"] == 2.0


def test_node_and_leader_events_are_passed_over() -> None:
    seen = replay(EventView("1-0", 1.0, "node_joined", node="n0"), EventView("2-0", 2.0, "leader", node="c"))
    assert seen.problems == []
    assert seen.cursor == "2-0"


def test_a_gpu_held_twice() -> None:
    stream = Stream()
    first, second = list(stream.life(1, 1)), list(stream.life(2, 1))
    (problem,) = replay(*first[:2], *second[:2]).problems
    assert "n0:1" in problem
    assert "job 1 held it" in problem


def test_a_gpu_that_does_not_exist() -> None:
    assert "n0:2, which does not exist" in replay(*list(Stream().life(1, 2))[:2]).problems[0]


def test_an_event_that_is_missing() -> None:
    first, *rest = Stream().life(1, 0)
    assert "revision 2 follows 0" in replay(*rest).problems[0]
    assert replay(first, *rest).problems == []


def test_an_event_after_the_end() -> None:
    stream = Stream()
    life = list(stream.life(1, 0))
    assert "after its end" in replay(*life, stream.event(1, "placed", Queued(3.0))).problems[0]


def test_a_start_before_the_last_process_had_ended() -> None:
    stream = Stream()
    problems = replay(*stream.life(1, 0, ended_s=5.0), *stream.life(2, 0, started_s=4.9)).problems
    assert problems == ["job 2: started on n0:0 before job 1 had ended there"]


def test_a_job_that_did_not_succeed() -> None:
    stream = Stream()
    failed = Outcome(Result.FAILED, 3, failure=FailureClass.USER_ERROR)
    seen = replay(*stream.life(1, 0, outcome=failed), *list(stream.life(2, 1))[:3])
    assert seen.check_succeeded([1, 2, 3]) == [
        "job 1: failed, code 3, attempt 1",
        "job 2: did not end",
        "job 3: did not end",
    ]


def test_a_gang_holds_on_all_its_nodes() -> None:
    stream = Stream()
    gang = Allocation(AllocationId("1.1"), (*share(1, 0).shares, *share(1, 0, "n1").shares))
    seen = replay(stream.event(1, "submitted", Queued(0.0)), stream.event(1, "placed", Reserved(1, gang, 0.5)))
    assert seen.holder == {("n0", 0): 1, ("n1", 0): 1}
    seen.feed([stream.event(1, "returned", Queued(0.6))])
    assert seen.holder == {}
    assert seen.problems == []
