"""register, renew, cordon and leave: who a node is, and what it holds."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from shunter.domain.ids import NodeName
from shunter.domain.lease import Granted, Lost, Stale
from shunter.domain.phase import Queued
from shunter.errors import Conflict
from shunter.store import codec, commands
from shunter.store.leases import Renewed
from tests.contract.cluster import HOUR_MS, Cluster, eventually, with_incarnation


def test_incarnations_sort_as_text_in_the_order_they_were_given_out(cluster: Cluster) -> None:
    given = [cluster.run(commands.next_incarnation(cluster.keys)) for _ in range(11)]
    assert given == sorted(set(given))


def test_a_registered_node_is_listed_and_in_the_stream(cluster: Cluster) -> None:
    node = cluster.join("n1")
    assert cluster.run(commands.nodes(cluster.keys)) == [node]
    assert [codec.read_node(entry.value) for entry in cluster.entries("node_joined")] == [node]


def test_a_changed_inventory_replaces_the_old_one(cluster: Cluster) -> None:
    node = cluster.join("n1")
    sick = replace(node, gpus=(replace(node.gpus[0], healthy=False, problem="ecc"), node.gpus[1]))
    cluster.run(commands.register(cluster.keys, sick, "host-1", replace_after_ms=HOUR_MS))
    assert cluster.run(commands.nodes(cluster.keys)) == [sick]


def test_a_name_that_another_host_uses_is_refused_and_says_who(cluster: Cluster) -> None:
    node = cluster.join("n1", host="host-1")
    other = with_incarnation(node, cluster.run(commands.next_incarnation(cluster.keys)))
    before = cluster.snapshot()
    with pytest.raises(Conflict, match=r"name: node 'n1' is in use on host-1 \(seen \d+\.\d s ago\); give this node"):
        cluster.run(commands.register(cluster.keys, other, "host-2", replace_after_ms=HOUR_MS))
    assert cluster.snapshot() == before


def test_a_name_whose_host_fell_silent_may_be_taken_over(cluster: Cluster) -> None:
    node = cluster.join("n1", host="host-1")
    other = with_incarnation(node, cluster.run(commands.next_incarnation(cluster.keys)))
    command = commands.register(cluster.keys, other, "host-2", replace_after_ms=20)

    def try_it() -> bool | None:
        try:
            cluster.run(command)
        except Conflict:
            return None
        return True

    eventually(try_it, "host-2 has the name")
    assert cluster.run(commands.nodes(cluster.keys)) == [other]
    assert cluster.renew(node).answer == Stale()


def test_invariant_3_a_name_with_jobs_is_not_taken_over_by_another_host_however_silent_it_is(cluster: Cluster) -> None:
    node = cluster.join("n1", host="host-1")
    cluster.reserved(cluster.lead(), node)
    other = with_incarnation(node, cluster.run(commands.next_incarnation(cluster.keys)))
    with pytest.raises(Conflict, match=r"name: node 'n1' has 1 jobs on host-1, which may still run them"):
        cluster.run(commands.register(cluster.keys, other, "host-2", replace_after_ms=0))
    assert cluster.run(commands.nodes(cluster.keys)) == [node]


def test_a_restart_on_the_same_host_takes_over_at_once(cluster: Cluster) -> None:
    old = cluster.join("n1")
    new = cluster.join("n1")
    assert cluster.run(commands.nodes(cluster.keys)) == [new]
    assert cluster.renew(old).answer == Stale()
    assert cluster.renew(new) == Renewed(Granted(f"{new.incarnation}.1"), {})


def test_an_earlier_start_cannot_register_over_a_later_one(cluster: Cluster) -> None:
    old = cluster.join("n1")
    cluster.join("n1")
    before = cluster.snapshot()
    with pytest.raises(Conflict, match="name: a later start of node 'n1' has registered"):
        cluster.run(commands.register(cluster.keys, old, "host-1", replace_after_ms=HOUR_MS))
    assert cluster.snapshot() == before


def test_a_host_identity_may_hold_spaces(cluster: Cluster) -> None:
    cluster.join("n1", host="host 1: /some folder")
    cluster.join("n1", host="host 1: /some folder")
    with pytest.raises(Conflict, match="is in use on host 1: /some folder"):
        cluster.join("n1", host="host 1")


# renew


def test_renew_answers_exactly_what_the_node_holds(cluster: Cluster) -> None:
    leadership, one, two = cluster.lead(), cluster.join("n1"), cluster.join("n2")
    cluster.queued()
    cluster.ended(leadership, one)
    gang = cluster.running(leadership, one, two)
    reserved = cluster.reserved(leadership, one)
    stopping = cluster.stopping(leadership, two)
    renewed = {node.name: cluster.renew(node).held for node in (one, two)}
    assert renewed == {
        "n1": {job_id: cluster.record(job_id) for job_id in (gang, reserved)},
        "n2": {job_id: cluster.record(job_id) for job_id in (gang, stopping)},
    }


def test_renew_notes_when_the_node_was_seen_by_the_stores_clock(cluster: Cluster) -> None:
    node = cluster.join("n1")
    joined_ms = cluster.seen_ms(node)
    eventually(lambda: cluster.now_ms() > joined_ms or None, "the store's clock moved")
    before_ms = cluster.now_ms()
    cluster.renew(node)
    assert before_ms <= cluster.seen_ms(node) <= cluster.now_ms()


def test_renew_of_an_unknown_or_earlier_incarnation_changes_nothing(cluster: Cluster) -> None:
    old = cluster.join("n1")
    cluster.join("n1")
    before = cluster.snapshot()
    assert cluster.renew(old).answer == Stale()
    assert cluster.renew(with_incarnation(old, "x")).answer == Lost(), (
        "of a later one the store has lost the registration"
    )
    assert cluster.renew(replace(old, name=NodeName("n9"))).answer == Lost()
    assert cluster.snapshot() == before


def test_a_node_that_holds_more_jobs_than_lua_can_unpack_is_answered_and_can_be_lost(cluster: Cluster) -> None:
    """Jobs without GPUs and cores fit without bound; `unpack` fails above about 8,000."""
    leadership, node = cluster.lead(), cluster.join("n1")
    ids = [job_id for _ in range(17) for job_id in cluster.submit(commands.MAX_BATCH)]
    template = cluster.placing(ids[0], node)
    for start in range(0, len(ids), commands.MAX_BATCH):
        batch = [replace(template, job_id=job_id) for job_id in ids[start : start + commands.MAX_BATCH]]
        assert set(cluster.place(leadership, *batch)) == {"ok"}
    assert cluster.renew(node).held == dict.fromkeys(ids, template.after)
    assert cluster.lose(None, node) == "ok"
    assert {type(record.phase) for record in map(cluster.record, ids[::500])} == {Queued}
    cluster.redis.delete(*cluster.snapshot())  # one GPU for all of them: not a state to check


# cordon and leave


def test_a_cordon_is_kept_with_its_reason_and_in_the_stream(cluster: Cluster) -> None:
    cluster.join("n1")
    assert cluster.run(commands.cordon(cluster.keys, "n1", "new disk", "ada")) == "ok"
    assert cluster.run(commands.cordons(cluster.keys)) == {"n1": "new disk"}
    assert [(entry.node, entry.value) for entry in cluster.entries("node_cordoned")] == [("n1", b"new disk")]


def test_a_cordon_that_is_there_already_is_the_same_and_no_event(cluster: Cluster) -> None:
    cluster.join("n1")
    assert cluster.run(commands.cordon(cluster.keys, "n1", "", "ada")) == "same"
    cluster.run(commands.cordon(cluster.keys, "n1", "new disk", "ada"))
    assert cluster.run(commands.cordon(cluster.keys, "n1", "new disk", "ada")) == "same"
    assert len(cluster.entries("node_cordoned")) == 1


def test_an_uncordon_takes_the_cordon_back(cluster: Cluster) -> None:
    cluster.join("n1")
    cluster.run(commands.cordon(cluster.keys, "n1", "new disk", "ada"))
    assert cluster.run(commands.cordon(cluster.keys, "n1", "", "ada")) == "ok"
    assert cluster.run(commands.cordons(cluster.keys)) == {}
    assert [entry.node for entry in cluster.entries("node_uncordoned")] == ["n1"]


def test_a_cordon_outlives_a_restart_of_the_node(cluster: Cluster) -> None:
    cluster.join("n1")
    cluster.run(commands.cordon(cluster.keys, "n1", "new disk", "ada"))
    cluster.join("n1")
    assert cluster.run(commands.cordons(cluster.keys)) == {"n1": "new disk"}


def test_an_unknown_node_cannot_be_cordoned_nor_leave(cluster: Cluster) -> None:
    assert cluster.run(commands.cordon(cluster.keys, "n9", "why", "ada")) == "unknown"
    assert cluster.run(commands.leave(cluster.keys, "n9")) == "unknown"
    assert cluster.snapshot() == {}


def test_a_node_that_holds_jobs_does_not_leave(cluster: Cluster) -> None:
    leadership, node = cluster.lead(), cluster.join("n1")
    job_id = cluster.running(leadership, node)
    assert cluster.run(commands.leave(cluster.keys, "n1")) == "busy"
    assert cluster.report(node, cluster.ending(job_id)) == ["ok"]
    assert cluster.run(commands.leave(cluster.keys, "n1")) == "ok"


def test_leaving_takes_everything_of_the_node_with_it(cluster: Cluster) -> None:
    node = cluster.join("n1")
    cluster.renew(node, unfenced=True)
    cluster.run(commands.cordon(cluster.keys, "n1", "new disk", "ada"))
    assert cluster.run(commands.leave(cluster.keys, "n1", node.incarnation)) == "ok"
    # Its queue is for the leader to bury.
    assert set(cluster.snapshot()) == {
        key.encode() for key in (cluster.keys.meta, cluster.keys.events, cluster.keys.queues)
    }
    assert [entry.node for entry in cluster.entries("node_left")] == ["n1"]


def test_an_earlier_incarnation_cannot_have_the_node_leave(cluster: Cluster) -> None:
    old = cluster.join("n1")
    new = cluster.join("n1")
    assert cluster.run(commands.leave(cluster.keys, "n1", old.incarnation)) == "stale"
    assert cluster.run(commands.nodes(cluster.keys)) == [new]
