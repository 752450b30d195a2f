"""Who runs next, why others wait, which nodes take work, and lists that are longer than a page."""

from __future__ import annotations

import pytest

from shunter.domain.job import JobSpec
from shunter.domain.reason import NoNodes, NotEnoughFree, render
from shunter.errors import NotFound
from tests.e2e.yard import Yard

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(90)]


def test_on_a_full_cluster_the_highest_class_goes_first_and_then_the_oldest(yard: Yard) -> None:
    yard.client.cordon("n2", reason="one node is enough")
    blocker = yard.held("blocker", gpus=4)
    yard.wait_for_lines("blocker")
    wanted: dict[str, list[int]] = {"high": [], "medium": [], "low": []}
    for priority in ("low", "medium", "high", "low", "medium", "high"):
        wanted[priority].append(yard.submit(["true"], gpus=4, priority=priority))
    yard.waiting_for(wanted["high"][1], NotEnoughFree)
    yard.let_go("blocker")
    ids = [*wanted["high"], *wanted["medium"], *wanted["low"]]
    yard.ended(blocker, *ids)
    started = yard.replayed().jobs_in_order_of("started")
    assert [job for job in started if job in ids] == ids


def test_why_a_job_waits_is_told_with_its_numbers(yard: Yard) -> None:
    blocker = yard.held("blocker", gpus=3)
    yard.wait_for_lines("blocker")
    gang = yard.submit(["true"], gpus=8, nodes=2)
    assert yard.waiting_for(gang, NotEnoughFree) == NotEnoughFree(2, 4, 1, 4, 5)
    view = yard.client.job(gang)
    assert view.reason is not None
    assert view.why == render(view.reason)
    assert [(one.id, one.why) for one in yard.client.jobs(states=["queued"])] == [(gang, view.why)]
    yard.let_go("blocker")
    yard.ended(blocker, gang)


def test_a_cordoned_node_takes_no_new_work_until_it_is_uncordoned(yard: Yard) -> None:
    running = yard.held("stays", gpus=4)
    yard.wait_for_lines("stays")
    (node,) = yard.client.job(running).nodes
    for name in ("n1", "n2"):
        view = yard.client.cordon(name, reason="new disk")
        assert (view.state, view.node.cordoned) == ("cordoned", "new disk")
    waiting = yard.submit(["true"])
    assert yard.waiting_for(waiting, NoNodes) == NoNodes(cordoned=2, silent=0)
    assert yard.client.job(running).state == "running"
    other = "n2" if node == "n1" else "n1"
    assert yard.client.uncordon(other).state == "ready"
    (view_of_job,) = yard.ended(waiting)
    assert view_of_job.state == "succeeded"
    assert [gpu for gpu, shares in yard.audit.holding().items() if waiting in shares] == []
    events = [(event.kind, event.node) for event in yard.client.events(after=yard.audit.cursor)]
    assert ("node_uncordoned", other) in events
    yard.client.uncordon(node)
    yard.let_go("stays")
    assert yard.ended(running)[0].state == "succeeded"


def test_a_node_that_never_joined_cannot_be_cordoned(yard: Yard) -> None:
    with pytest.raises(NotFound, match="node 'nowhere': unknown"):
        yard.client.cordon("nowhere")


def test_a_list_longer_than_a_page_is_whole_in_order_and_without_doubles(yard: Yard) -> None:
    full = yard.client.submit_many([JobSpec(command=["sleep", "600"], gpus=4, name="full")] * 2)
    ids = [view.id for view in yard.client.submit_many([JobSpec(command=["true"], name="bulk", gpus=4)] * 1_100)]
    assert [view.id for view in yard.client.jobs(name="bulk")] == ids
    assert [view.id for view in yard.client.jobs(name="bulk", all=True)] == ids[::-1]
    assert [view.id for view in yard.client.jobs(name="bulk", limit=1_050)] == ids[:1_050]
    assert len(list(yard.client.jobs(states=["queued"]))) == 1_100
    result = yard.client.cancel(*ids)
    assert result.cancelled == ids
    assert list(yard.client.jobs(name="bulk")) == []
    assert [view.id for view in yard.client.jobs(name="bulk", all=True, states=["cancelled"])] == ids[::-1]
    yard.client.cancel(*(view.id for view in full))


def test_the_cluster_counts_what_it_has(yard: Yard) -> None:
    before = yard.client.cluster()
    assert (before.cluster, before.nodes, before.gpus, before.free_gpus) == (yard.name, 2, 8, 8)
    assert before.leader
    job = yard.held("counted", gpus=3)
    yard.wait_for_lines("counted")
    now = yard.client.cluster()
    assert (now.free_gpus, now.active_jobs) == (5, 1)
    (view,) = [view for view in yard.client.nodes() if view.jobs]
    assert (view.jobs, view.free_gpus, view.state) == ((job,), 1, "ready")
    yard.let_go("counted")
    yard.ended(job)
