"""A claim is for one allocation, by the very incarnation that it was reserved on: whatever comes late takes nothing."""

from __future__ import annotations

from itertools import count
from typing import Final, NamedTuple

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import Phase as Stage
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test
from msgspec.structs import replace

from shunter.domain.event import Placed, Returned
from shunter.domain.ids import AllocationId, JobId
from shunter.domain.node import Node
from shunter.domain.phase import Allocation, NodeShare, Queued, Reserved, Running
from shunter.domain.retry import on_claim
from shunter.scheduling.policy import Policy
from shunter.store import codec, commands
from shunter.store.codec import Record
from shunter.store.commands import Answer, Leadership, Move
from tests.contract.cluster import Cluster
from tests.contract.test_coordinator import Leader

_numbers = count(1)


@pytest.fixture
def leadership(cluster: Cluster) -> Leadership:
    return cluster.lead()


@pytest.fixture
def node(cluster: Cluster) -> Node:
    return cluster.join("n1")


def refused(cluster: Cluster, node: Node, claim: Move) -> None:
    """*node* sends *claim*, is answered what is stored and no launch, and changes nothing."""
    before = cluster.snapshot()
    assert cluster.claim(node, claim) == [(cluster.record(claim.job_id), None)]
    assert cluster.snapshot() == before


def test_the_head_of_what_holds_gpus_says_where(cluster: Cluster, leadership: Leadership, node: Node) -> None:
    job_id = cluster.reserved(leadership, node, cluster.join("n2"))
    assert cluster.record(job_id).value.startswith(b"reserved 1 1.1@n1/0000000001,n2/0000000002 2\n")
    assert codec.names_shares(cluster.record(job_id))
    assert not codec.names_shares(cluster.record(cluster.queued()))


def test_an_old_launch_in_the_queue_of_a_node_that_returns_takes_nothing(
    cluster: Cluster, leadership: Leadership, node: Node
) -> None:
    """The node was away; meanwhile its reservation went elsewhere, and then back to it."""
    job_id = cluster.reserved(leadership, node)
    old, other = cluster.claiming(job_id), cluster.join("n2")
    for place in (other, node):
        cluster.place(leadership, cluster.returning(job_id))
        refused(cluster, node, old)
        cluster.place(leadership, cluster.placing(job_id, place))
        refused(cluster, node, old)
    assert cluster.claim(node, cluster.claiming(job_id))[0][0] == "ok"
    refused(cluster, node, old)


def test_a_claim_of_an_older_incarnation_is_stale_and_its_successor_cannot_make_it(
    cluster: Cluster, leadership: Leadership, node: Node
) -> None:
    job_id = cluster.reserved(leadership, node)
    claim, new = cluster.claiming(job_id), cluster.join("n1")
    before = cluster.snapshot()
    assert cluster.claim(node, claim) == [("stale", None)]
    assert cluster.snapshot() == before
    refused(cluster, new, claim)


def test_another_node_cannot_claim(cluster: Cluster, leadership: Leadership, node: Node) -> None:
    job_id = cluster.reserved(leadership, node)
    for name in ("n", "n11", "1", "n1."):  # names that are parts of each other
        refused(cluster, cluster.join(name), cluster.claiming(job_id))


def test_a_claim_that_invents_a_share_is_refused(cluster: Cluster, leadership: Leadership, node: Node) -> None:
    job_id, other = cluster.reserved(leadership, node), cluster.join("n2")
    phase = cluster.phase(job_id)
    assert isinstance(phase, Reserved)
    invented = replace(phase.allocation, shares=(NodeShare(other.name, other.incarnation, (0,)),))
    claim = cluster.claiming(job_id)
    after = replace(claim.after.phase, allocation=invented)
    refused(cluster, other, replace(claim, after=codec.record(after, claim.after.rev)))


def test_an_older_allocation_with_the_same_attempt_number_and_revision_is_told_apart(
    cluster: Cluster, leadership: Leadership, node: Node
) -> None:
    """The write of a decision was lost with a server, and the same was decided again."""
    queued = cluster.record(job_id := cluster.queued())
    first = cluster.placing(job_id, node)
    cluster.place(leadership, first)
    late = cluster.claiming(job_id)
    cluster.redis.hset(cluster.keys.phases, job_id, queued.value)
    second = cluster.placing(job_id, node)
    assert cluster.place(leadership, second) == ["ok"]
    cluster.whole = False
    assert first.after.rev == second.after.rev
    assert isinstance(late.after.phase, Running)
    assert late.after.phase.attempt == 1
    refused(cluster, node, late)
    assert cluster.claim(node, cluster.claiming(job_id))[0][0] == "ok"


def test_a_doubled_claim_is_answered_ok_to_the_node_that_made_it_and_changes_nothing(
    cluster: Cluster, leadership: Leadership, node: Node
) -> None:
    other = cluster.join("n2")
    job_id = cluster.reserved(leadership, node)
    claim = cluster.claiming(job_id)
    (first,) = cluster.claim(node, claim)
    assert first[1] is not None
    before = cluster.snapshot()
    assert cluster.claim(node, claim) == [first]  # its answer was lost: it still has to start the attempt
    assert cluster.claim(node, claim, claim) == [first, first]
    assert cluster.snapshot() == before
    refused(cluster, other, claim)
    refused(cluster, cluster.join("n1"), claim)


def test_each_member_of_a_gang_claims_on_its_own_incarnation(
    cluster: Cluster, leadership: Leadership, node: Node
) -> None:
    other = cluster.join("n2")
    job_id = cluster.reserved(leadership, node, other)
    assert cluster.claim(other, cluster.claiming(job_id, 1))[0][0] == "ok"
    new = cluster.join("n2")
    refused(cluster, new, cluster.claiming(job_id, 1))
    assert cluster.claim(node, cluster.claiming(job_id, 0))[0][0] == "ok"
    assert isinstance(cluster.phase(job_id), Running)


def test_in_a_batch_a_refused_claim_holds_up_no_other_and_nothing_is_answered_that_is_not_stored(
    cluster: Cluster, leadership: Leadership, node: Node
) -> None:
    other = cluster.join("n2")
    ours, theirs = cluster.reserved(leadership, node), cluster.reserved(leadership, other)
    wrong = cluster.claiming(theirs)
    late = replace(wrong, before=wrong.after, after=codec.record(wrong.after.phase, wrong.after.rev + 1))
    answers = [answer for answer, _ in cluster.claim(node, wrong, cluster.claiming(ours), late, wrong)]
    stored = cluster.record(theirs)
    assert isinstance(stored.phase, Reserved)
    assert answers == [stored, "ok", stored, stored]


def test_a_reservation_that_an_earlier_version_wrote_is_not_claimed_but_can_be_taken_back(
    cluster: Cluster, leadership: Leadership, node: Node
) -> None:
    """Their heads did not say where the shares are."""
    job_id = cluster.reserved(leadership, node)
    value = cluster.record(job_id).value
    cluster.redis.hset(cluster.keys.phases, job_id, value.replace(b"@n1/0000000001", b"", 1))
    cluster.whole = False
    assert not codec.names_shares(cluster.record(job_id))
    refused(cluster, node, cluster.claiming(job_id))
    assert cluster.place(leadership, cluster.returning(job_id)) == ["ok"]
    assert cluster.place(leadership, cluster.placing(job_id, node)) == ["ok"]
    assert cluster.claim(node, cluster.claiming(job_id))[0][0] == "ok"


def test_a_leader_takes_back_and_places_anew_what_an_earlier_version_reserved(cluster: Cluster, node: Node) -> None:
    old = cluster.lead("before")
    job_id, good = cluster.reserved(old, node), cluster.reserved(old, node)
    value, kept = cluster.record(job_id).value, cluster.record(good)
    cluster.redis.hset(cluster.keys.phases, job_id, value.replace(b"@n1/0000000001", b"", 1))
    cluster.whole = False
    cluster.queued()
    Leader(cluster, Policy())
    assert cluster.record(good) == kept
    assert [entry.job_id for entry in cluster.entries("returned")] == [job_id]
    cluster.redis.delete(cluster.keys.queue(node.name, node.incarnation))


@pytest.mark.parametrize("phase", ["running", "stopping"])
def test_an_attempt_that_an_earlier_version_started_ends_as_ever(
    cluster: Cluster, leadership: Leadership, node: Node, phase: str
) -> None:
    job_id = getattr(cluster, phase)(leadership, node)
    value = cluster.record(job_id).value
    cluster.redis.hset(cluster.keys.phases, job_id, value.replace(b"@n1/0000000001", b"", 1))
    cluster.whole = False
    if phase == "running":
        assert cluster.stop(cluster.cancelling(job_id)) == ["ok"]
    assert cluster.report(node, cluster.ending(job_id)) == ["ok"]


def test_the_number_of_a_job_is_no_proof(cluster: Cluster, leadership: Leadership, node: Node) -> None:
    one, other = cluster.reserved(leadership, node), cluster.reserved(leadership, node)
    refused(cluster, node, replace(cluster.claiming(one), job_id=JobId(other)))


# any order


class Claim(NamedTuple):
    """A claim that some incarnation computed once, of the allocation *of*; it may be sent at any time, by anybody."""

    move: Move
    of: AllocationId


NODES: Final = ("n1", "n2")
picks = st.integers(0, 1_000)


class Claims(RuleBasedStateMachine):
    """One job is placed, given back, lost and placed again; claims of all that came by arrive in any order.

    The rule for each is stated from the reservation alone, and not as the script has it: a claim is taken by who has a
    share of the allocation that is reserved now, and by nobody else.
    """

    url = ""

    def __init__(self) -> None:
        super().__init__()
        self.cluster = Cluster(self.url, f"c-{next(_numbers)}")
        self.claims: list[Claim] = []
        self.allocations = 0

    @initialize()
    def begin(self) -> None:
        self.cluster.whole = False
        self.leadership = self.cluster.lead()
        self.nodes = [self.cluster.join(name) for name in NODES]
        self.job = self.cluster.queued(nodes=2)

    def teardown(self) -> None:
        self.cluster.wipe()

    @property
    def record(self) -> Record:
        return self.cluster.record(self.job)

    def latest(self, name: str) -> Node:
        return [node for node in self.nodes if node.name == name][-1]

    @precondition(lambda self: isinstance(self.record.phase, Queued))
    @rule(names=st.sampled_from([("n1",), ("n2",), ("n1", "n2"), ("n2", "n1")]))
    def place(self, names: tuple[str, ...]) -> None:
        self.allocations += 1
        shares = tuple(NodeShare(self.latest(name).name, self.latest(name).incarnation, (0,)) for name in names)
        event = Placed(10.0, "c", Allocation(AllocationId(f"1.{self.allocations}"), shares))
        made = commands.move(self.job, self.record, event)
        assert self.cluster.place(self.leadership, made) == ["ok"]
        self.compute_claims()

    def compute_claims(self) -> None:
        """What the nodes of the reservation would claim now."""
        phase = self.record.phase
        if isinstance(phase, Reserved):
            for rank in range(len(phase.allocation.shares)):
                if rank not in phase.claimed:
                    made = commands.move(self.job, self.record, on_claim(phase, rank, at_s=12.0, by="n"))
                    self.claims.append(Claim(made, phase.allocation.id))

    @precondition(lambda self: isinstance(self.record.phase, Reserved))
    @rule()
    def give_back(self) -> None:
        made = commands.move(self.job, self.record, Returned(11.0, "c", "it left"))
        assert self.cluster.place(self.leadership, made) == ["ok"]

    @precondition(lambda self: isinstance(self.record.phase, Reserved) and not self.record.phase.claimed)
    @rule()
    def the_decision_is_lost_with_a_server(self) -> None:
        phase = self.record.phase
        assert isinstance(phase, Reserved)
        queued = codec.record(Queued(1.0, phase.attempt - 1), self.record.rev - 1)
        self.cluster.redis.hset(self.cluster.keys.phases, self.job, queued.value)
        for share in phase.allocation.shares:
            self.cluster.redis.srem(self.cluster.keys.held(share.node), self.job)

    @precondition(lambda self: len(self.nodes) < 5)
    @rule(name=st.sampled_from(NODES))
    def a_node_restarts(self, name: str) -> None:
        self.nodes.append(self.cluster.join(name))

    @precondition(lambda self: isinstance(self.record.phase, Running))
    @rule()
    def it_ends_and_another_job_begins(self) -> None:
        phase = self.record.phase
        assert isinstance(phase, Running)
        for rank, share in enumerate(phase.allocation.shares):
            self.cluster.report(self.latest(share.node), self.cluster.ending(self.job, rank=rank))
        self.job = self.cluster.queued()
        self.claims = []

    @precondition(lambda self: self.claims)
    @rule(which=picks, who=picks)
    def a_claim_arrives(self, which: int, who: int) -> None:
        claim, node = self.claims[which % len(self.claims)], self.nodes[who % len(self.nodes)]
        before = self.record
        answer = self.cluster.claim(node, claim.move)[0][0]
        assert answer == self.foreseen(claim, node, before)
        if answer == "ok":
            self.compute_claims()
        else:
            assert self.record == before

    @precondition(lambda self: self.claims and isinstance(self.record.phase, Reserved))
    @rule(who=picks)
    def the_latest_claim_arrives(self, who: int) -> None:
        self.a_claim_arrives(len(self.claims) - 1, who)

    def foreseen(self, claim: Claim, node: Node, before: Record) -> Answer:
        phase = before.phase
        if node != self.latest(node.name):
            return "stale"
        if not isinstance(phase, Reserved | Running) or phase.allocation.id != claim.of:
            return before
        if all((share.node, share.incarnation) != (node.name, node.incarnation) for share in phase.allocation.shares):
            return before
        fresh = isinstance(phase, Reserved) and before == claim.move.before
        return "ok" if fresh or before == claim.move.after else before


def test_whatever_the_order_only_the_reservation_that_stands_is_claimed(url: str) -> None:
    machine = type("Machine", (Claims,), {"url": url})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=60,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow],
            phases=[Stage.explicit, Stage.reuse, Stage.generate, Stage.shrink],
        ),
    )
