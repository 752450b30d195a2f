"""A job gets each signal once, whatever is told twice or late, and by whomever."""

from __future__ import annotations

import pytest

from shunter.dispatch.celery import CeleryDispatcher, Destination
from shunter.domain.ids import JobId
from shunter.domain.phase import StopCause, Stopping
from shunter.store import commands
from shunter.store.command import plain
from tests.e2e.yard import Yard, eventually, yard_of

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

COUNTS = """
if [ "$SHUNTER_NODE_RANK" = 0 ]; then
  until [ -e "$FILES/fail" ]; do sleep 0.05; done
  exit 3
fi
trap 'echo TERM >>"$FILES/signals"' TERM
echo "$SHUNTER_NODE" >"$FILES/ready"
until [ -e "$FILES/go" ]; do sleep 0.05; done
echo end >>"$FILES/signals"
"""
"""Member 0 fails when it is told to; member 1 counts its signals, and takes its time."""


def cause(yard: Yard, job: int) -> StopCause | None:
    (record,) = yard.store.run(commands.records(yard.keys, [job]))
    return record.phase.cause if record is not None and isinstance(record.phase, Stopping) else None


def renews_twice(yard: Yard, node: str) -> None:
    """Wait for two more lease answers to *node*: what an answer says has been looked at when it asks for the next."""
    for _ in range(2):
        before = yard.store.run(commands.seen(yard.keys))[node]
        eventually(lambda before=before: yard.store.run(commands.seen(yard.keys))[node] > before, "it renews")  # type: ignore[misc]


def hint_again(yard: Yard, job: int, node: str, times: int) -> None:
    (record,) = yard.store.run(commands.records(yard.keys, [job]))
    assert record is not None
    view = next(view.node for view in yard.client.nodes() if view.node.name == node)
    dispatcher, identity = CeleryDispatcher(yard.cluster.redis.url, yard.keys), yard.client.cluster().identity
    for _ in range(times):
        dispatcher.send({Destination(view.name, view.incarnation): [(JobId(job), record.value)]}, identity)
    queue = yard.keys.queue(view.name, view.incarnation)
    eventually(lambda: not yard.store.run(plain("EXISTS", queue, parse=int)), "the hints are read")


def test_a_cancel_after_a_member_failed_with_doubled_hints_and_a_new_worker_is_one_signal() -> None:
    with yard_of("n1=simulated:1", "n2=simulated:1") as yard:
        job = yard.submit(COUNTS, gpus=2, nodes=2, env={"FILES": str(yard.files)}, grace="10m")
        (node,) = yard.wait_for_lines("ready")
        (yard.files / "fail").touch()
        assert yard.wait_for_lines("signals") == ["TERM"]
        eventually(lambda: cause(yard, job) is StopCause.MEMBER_FAILED, "it is stopping")
        hint_again(yard, job, node, 3)
        yard.client.cancel(job)
        assert cause(yard, job) is StopCause.CANCELLED
        hint_again(yard, job, node, 3)
        renews_twice(yard, node)
        incarnation = yard.incarnation(node)
        yard.kill(f"node-{node}")
        yard.joined_anew(node, incarnation)
        hint_again(yard, job, node, 3)
        renews_twice(yard, node)
        assert yard.lines("signals") == ["TERM"]
        (yard.files / "go").touch()
        (view,) = yard.ended(job)
        assert yard.lines("signals") == ["TERM", "end"]
        assert view.state == "cancelled"  # the newer one counts, though it was no signal of its own
