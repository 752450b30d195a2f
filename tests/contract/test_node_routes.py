"""The gateway's routes for nodes in a real Redis: how leases and lost nodes are shown, and how one is given up."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from litestar.testing import TestClient

from shunter.domain.node import Node
from shunter.domain.outcome import FailureClass
from shunter.domain.phase import Ended, Queued, Running, Stopping
from shunter.domain.report import ClusterView, CoordinatorView, ErrorBody, NodeView
from shunter.gateway.app import make_app
from shunter.gateway.hub import Hub
from shunter.gateway.service import Service
from shunter.runtime.config import Settings
from shunter.store import commands
from shunter.store.commands import Leadership
from shunter.store.redis import AsyncStore
from tests.contract.cluster import BAD, FINE, HOUR_MS, Cluster

# The app is written for Litestar 2.12 on; the newest has other names for some of it.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture
def http(cluster: Cluster, tmp_path: Path) -> Iterator[httpx.Client]:
    store = AsyncStore(cluster.url)
    service = Service(store, Settings(cluster.keys.cluster, cluster.url, tmp_path, tmp_path), "ada")
    with TestClient(make_app(service, Hub(store, cluster.keys), "secret")) as client:
        client.headers["authorization"] = "Bearer secret"
        yield client


@pytest.fixture
def leadership(cluster: Cluster) -> Leadership:
    return cluster.lead()


@pytest.fixture
def node(cluster: Cluster) -> Node:
    return cluster.join("n1", gpus=8)


@pytest.fixture
def other(cluster: Cluster) -> Node:
    return cluster.join("n2", gpus=8)


def refusal(response: httpx.Response) -> tuple[int, str, str]:
    body = msgspec.json.decode(response.content, type=ErrorBody)
    assert body.message
    assert body.fix
    return response.status_code, body.code, body.field


def lose(http: httpx.Client, name: str, **body: Any) -> httpx.Response:
    return http.post(f"/v1/nodes/{name}/lost", json=body)


def nodes(http: httpx.Client) -> dict[str, NodeView]:
    answer = http.get("/v1/nodes")
    assert answer.status_code == 200
    views = msgspec.convert(answer.json()["nodes"], list[NodeView])
    return {view.node.name: view for view in views}


def test_a_node_that_is_given_up_has_its_jobs_run_elsewhere(
    http: httpx.Client, cluster: Cluster, leadership: Leadership, node: Node, other: Node
) -> None:
    running, gang = cluster.running(leadership, node), cluster.running(leadership, other, node)
    reserved, cancelled = cluster.reserved(leadership, node), cluster.stopping(leadership, node)
    stays, over = cluster.running(leadership, other), cluster.ended(leadership, node)
    untouched = [cluster.record(one) for one in (stays, over)]
    answer = lose(http, "n1", reason="its power supply burnt")
    assert answer.status_code == 200
    view = msgspec.json.decode(answer.content, type=NodeView)
    assert (view.node.name, view.state, view.lease, view.jobs) == ("n1", "lost", "", (gang,))
    why = "node n1 was lost: its power supply burnt"

    again, back = cluster.phase(running), cluster.phase(reserved)
    assert isinstance(again, Queued)
    assert (again.attempt, again.retries, again.past[-1].nodes) == (1, 1, ("n1",))
    assert (again.past[-1].outcome.failure, again.past[-1].outcome.message) == (FailureClass.NODE_LOST, why)
    assert isinstance(back, Queued)
    assert (back.retries, back.past) == (0, ())
    halved, ended = cluster.phase(gang), cluster.phase(cancelled)
    assert isinstance(halved, Stopping)
    assert [(one.rank, one.exit.failure, one.exit.message) for one in halved.exits] == [
        (1, FailureClass.NODE_LOST, why)
    ]
    assert isinstance(ended, Ended)
    assert ended.outcome.result == "cancelled"
    assert [cluster.record(one) for one in (stays, over)] == untouched
    assert [(entry.node, entry.value) for entry in cluster.entries("node_lost")] == [("n1", why.encode())]
    assert all(entry.event().by == "ada" for entry in cluster.entries("requeued"))


def test_a_node_is_given_up_without_a_reason_too(http: httpx.Client, cluster: Cluster, node: Node) -> None:
    assert http.post("/v1/nodes/n1/lost").status_code == 200
    (entry,) = cluster.entries("node_lost")
    assert entry.value == b"node n1 was lost: by an operator"


def test_an_unfenced_node_that_still_renews_may_be_given_up(
    http: httpx.Client, cluster: Cluster, leadership: Leadership, node: Node, other: Node
) -> None:
    cluster.renew(node, unfenced=True)
    job = cluster.running(leadership, node)
    assert nodes(http)["n1"].lease == "unfenced"
    assert lose(http, "n1").status_code == 200
    assert isinstance(cluster.phase(job), Queued)


def test_a_node_that_is_lost_cannot_be_lost_again_until_it_has_joined_anew(
    http: httpx.Client, cluster: Cluster, leadership: Leadership, node: Node, other: Node
) -> None:
    assert lose(http, "n1").status_code == 200
    before = cluster.snapshot()
    assert refusal(lose(http, "n1")) == (409, "conflict", "name")
    assert lose(http, "n1").json()["message"] == "node 'n1': lost already"
    assert cluster.snapshot() == before
    anew = cluster.join("n1")
    cluster.running(leadership, anew)
    assert nodes(http)["n1"].state == "ready"
    assert lose(http, "n1").status_code == 200


def test_an_unknown_node_cannot_be_lost(http: httpx.Client, cluster: Cluster, node: Node) -> None:
    before = cluster.snapshot()
    assert refusal(lose(http, "n9")) == (404, "not_found", "name")
    cluster.run(commands.leave(cluster.keys, node.name))
    assert refusal(lose(http, "n1")) == (404, "not_found", "name")
    assert before != cluster.snapshot()
    assert cluster.entries("node_lost") == []


@pytest.mark.parametrize("body", ["[", "3", '{"reason": ""}', '{"reason": 7}', '{"why": "x"}', b"\xff"])
def test_a_bad_body_gives_nobody_up(http: httpx.Client, cluster: Cluster, node: Node, body: str | bytes) -> None:
    before = cluster.snapshot()
    assert refusal(http.post("/v1/nodes/n1/lost", content=body)) == (400, "invalid_input", "reason")
    assert refusal(http.post("/v1/nodes/n1/lost", json={"reason": "x" * 201})) == (400, "invalid_input", "reason")
    assert cluster.snapshot() == before


def test_without_the_token_nobody_is_given_up(http: httpx.Client, cluster: Cluster, node: Node) -> None:
    before = cluster.snapshot()
    assert http.post("/v1/nodes/n1/lost", headers={"authorization": "Bearer wrong"}).status_code == 401
    assert cluster.snapshot() == before


def test_nodes_are_shown_with_state_and_lease(
    http: httpx.Client, cluster: Cluster, leadership: Leadership, node: Node, other: Node
) -> None:
    quick, gone = cluster.join("n3"), cluster.join("n4")
    cluster.renew(node)
    cluster.renew(other, unfenced=True)
    for _ in range(2):  # the second says that the first was carried out
        cluster.renew(quick, terms="fast")
    cluster.renew(gone)
    job = cluster.running(leadership, gone, node)
    cluster.report(gone, cluster.ending(job, FINE, rank=0))
    assert cluster.lose(leadership, gone) == "ok"
    shown = {name: (view.state, view.lease, view.jobs) for name, view in nodes(http).items()}
    assert shown == {
        "n1": ("ready", "normal", (job,)),
        "n2": ("ready", "unfenced", ()),
        "n3": ("ready", "fast", ()),
        "n4": ("lost", "", (job,)),  # a gang's GPUs are free once all of it has ended
    }
    assert isinstance(cluster.phase(job), Running)


def test_a_lost_node_is_shown_as_lost_whether_cordoned_or_silent(
    http: httpx.Client, cluster: Cluster, node: Node, other: Node
) -> None:
    cluster.redis.hset(cluster.keys.seen, "n2", cluster.now_ms() - 60_000)
    assert nodes(http)["n2"].state == "silent"
    assert http.post("/v1/nodes/n1/cordon").json()["state"] == "cordoned"
    assert {lose(http, name).json()["state"] for name in ("n1", "n2")} == {"lost"}
    assert nodes(http)["n1"].node.cordoned == "by an operator"
    cluster.join("n1")
    assert nodes(http)["n1"].state == "cordoned"


def test_a_lost_node_is_not_counted_and_can_be_forgotten(
    http: httpx.Client, cluster: Cluster, leadership: Leadership, node: Node, other: Node
) -> None:
    for name in (node.name, "n9"):
        status, code, field = refusal(http.delete(f"/v1/nodes/{name}"))
        assert (status, code) == ((409, "conflict") if name == node.name else (404, "not_found"))
        assert field == "name"
    running, gang = cluster.running(leadership, node), cluster.running(leadership, other, node)
    assert lose(http, node.name).status_code == 200
    seen = msgspec.convert(http.get("/v1/cluster").json(), ClusterView)
    assert (seen.nodes, seen.gpus, seen.lost_nodes) == (1, 8, 1)
    assert nodes(http)[node.name].free_gpus == 0
    assert refusal(http.delete(f"/v1/nodes/{node.name}"))[:2] == (409, "conflict"), "the gang's other member runs on"
    cluster.report(other, cluster.ending(gang, BAD, rank=0))
    assert http.delete(f"/v1/nodes/{node.name}").status_code == 204
    assert set(nodes(http)) == {other.name}
    assert refusal(http.delete(f"/v1/nodes/{node.name}"))[:2] == (404, "not_found")
    assert isinstance(cluster.phase(running), Queued)


def test_a_cordon_without_a_reason_leaves_the_one_that_is_there(http: httpx.Client, node: Node) -> None:
    cordon = f"/v1/nodes/{node.name}/cordon"
    assert http.post(cordon).json()["node"]["cordoned"] == "by an operator"
    assert http.post(cordon, json={"reason": "fan"}).json()["node"]["cordoned"] == "fan"
    view = http.post(cordon).json()
    assert (view["node"]["cordoned"], view["free_gpus"]) == ("fan", 0)


def test_the_cluster_names_its_coordinators_and_which_of_them_leads(http: httpx.Client, cluster: Cluster) -> None:
    for name in ("a", "b"):
        said = msgspec.json.encode(CoordinatorView(name, "host-1", 7, "0.1.0", 1.7e9))
        cluster.run(commands.lead(cluster.keys, name, f"token-{name}", HOUR_MS, (f"id-{name}", HOUR_MS, said)))
    gone = commands.lead(cluster.keys, "c", "token-c", HOUR_MS, ("id-c", -1, said))
    cluster.run(gone)
    told = msgspec.json.decode(http.get("/v1/cluster").content, type=ClusterView).coordinators
    assert [(one.name, one.leads) for one in told] == [("a", True), ("b", False)]
    assert told[0] == CoordinatorView("a", "host-1", 7, "0.1.0", 1.7e9, leads=True)
