"""Nodes of a simulated cluster, from CSV and from what `shunter nodes --json` prints."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

import msgspec
import pytest

from shunter.domain.ids import Incarnation, NodeName
from shunter.domain.node import Gpu, Node
from shunter.domain.report import NodeView
from shunter.errors import InvalidInput
from shunter.sim.fleet import UNKNOWN_CPUS, UNKNOWN_MEMORY_MIB, read_fleet


def written(folder: Path, *rows: str, name: str = "nodes.csv") -> Path:
    path = folder / name
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return path


def test_line_becomes_a_node_with_all_that_its_columns_say(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        "pool,node,gpus,cpus,mem_gib,gpu_model,rack,labels,islands",
        "vc,n1,2,48.5,376.5,V100,r1,disk=nvme; net=ib,2",
    )
    (node,) = read_fleet(path, partition=True)
    assert node == Node(
        NodeName("n1"),
        Incarnation("n1-1"),
        (Gpu(0, "V100", "n1-0", 0, island=0), Gpu(1, "V100", "n1-1", 0, island=1)),
        cpus=48,
        memory_mib=385_536,
        joined_s=0.0,
        pool="vc",
        rack="r1",
        labels={"disk": "nvme", "net": "ib"},
    )


def test_unknown_cores_and_memory_are_as_good_as_unlimited(tmp_path: Path) -> None:
    bare = read_fleet(written(tmp_path, "node,gpus", "n1,0", "n2,1"), partition=False)
    header = "node,gpus,cpus,mem_gib,gpu_model,pool,islands"
    assert bare == read_fleet(written(tmp_path, header, "n1,0,,,,,", "n2,1,,,,,"), partition=False)
    assert {(node.cpus, node.memory_mib) for node in bare} == {(UNKNOWN_CPUS, UNKNOWN_MEMORY_MIB)}
    assert [len(node.gpus) for node in bare] == [0, 1]


def test_order_of_the_file_breaks_ties(tmp_path: Path) -> None:
    nodes = read_fleet(written(tmp_path, "node,gpus", "z,1", "a,1", "m,1"), partition=False)
    assert [(node.name, node.joined_s) for node in nodes] == [("z", 0.0), ("a", 1.0), ("m", 2.0)]


def test_pools_are_kept_for_a_partition_only(tmp_path: Path) -> None:
    path = written(tmp_path, "node,gpus,pool", "n1,1,vc", "n2,1,")
    assert [node.pool for node in read_fleet(path, partition=True)] == ["vc", ""]
    assert [node.pool for node in read_fleet(path, partition=False)] == ["", ""]


def test_partition_needs_a_node_with_a_pool(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="pool: no node has one; --partition needs them"):
        read_fleet(written(tmp_path, "node,gpus", "n1,1"), partition=True)


@pytest.mark.parametrize(
    ("gpus", "islands", "sizes"), [(8, 2, [4, 4]), (8, 1, [8]), (7, 2, [4, 3]), (8, 3, [3, 3, 2]), (0, 1, [])]
)
def test_gpus_are_split_into_islands(tmp_path: Path, gpus: int, islands: int, sizes: list[int]) -> None:
    (node,) = read_fleet(written(tmp_path, "node,gpus,islands", f"n1,{gpus},{islands}"), partition=False)
    found = [gpu.island for gpu in node.gpus]
    assert found == sorted(found)
    assert [found.count(island) for island in range(len(set(found)))] == sizes


def test_zipped_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "nodes.csv.gz"
    path.write_bytes(gzip.compress(b"node,gpus\nn1,4\n"))
    assert [node.usable_gpus for node in read_fleet(path, partition=False)] == [4]


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([], ": is empty; its first line names the columns: node, gpus, ..."),
        (["node,gpus"], ": expected nodes, got none"),
        (["node,cpus", "n1,1"], ":1: expected the column gpus, got 'node, cpus'"),
        (["node,gpus,node", "n1,1,n1"], ":1: expected each column once, got 'node' twice"),
        (["node,gpus", "n1"], ":2: expected 2 cells, got 1"),
        (["node,gpus", "n1,1", "n2,1", "n1,1"], ":4: node: expected each name once (it is in line 2 too), got 'n1'"),
        (["node,gpus", ",1"], ":2: node: expected a name, got ''"),
        (["node,gpus", "n1,-1"], ":2: gpus: expected a whole number from 0 to 1024, got '-1'"),
        (["node,gpus", "n1,1.5"], ":2: gpus: expected a whole number from 0 to 1024, got '1.5'"),
        (["node,gpus", "n1,many"], ":2: gpus: expected a whole number from 0 to 1024, got 'many'"),
        (["node,gpus", "n1,1025"], ":2: gpus: expected a whole number from 0 to 1024, got '1025'"),
        (["node,gpus", "n1,"], ":2: gpus: expected a whole number from 0 to 1024, got ''"),
        (["node,gpus,cpus", "n1,1,-1"], ":2: cpus: expected a number from 0 to 1000000, got '-1'"),
        (["node,gpus,mem_gib", "n1,1,lots"], ":2: mem_gib: expected a number from 0 to 1073741824, got 'lots'"),
        (["node,gpus,islands", "n1,4,5"], ":2: islands: expected 1 to 4, a GPU or more in each, got '5'"),
        (["node,gpus,islands", "n1,4,0"], ":2: islands: expected 1 to 4, a GPU or more in each, got '0'"),
        (["node,gpus,labels", "n1,4,nvme"], ":2: labels: expected k=v;k=v, each key once, got 'nvme'"),
        (["node,gpus,labels", "n1,4,a=1;a=2"], ":2: labels: expected k=v;k=v, each key once, got 'a=1;a=2'"),
    ],
)
def test_file_that_is_no_list_of_nodes_is_refused(tmp_path: Path, rows: list[str], said: str) -> None:
    path = written(tmp_path, *rows)
    with pytest.raises(InvalidInput) as caught:
        read_fleet(path, partition=False)
    assert str(caught.value) == f"{path}{said}"


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("n.csv", b"node,gpus\n\xff,1\n", "n.csv:2: expected UTF-8 text, got the byte 0xff"),
        ("n.csv.gz", b"node,gpus\nn1,1\n", "n.csv.gz: expected a gzip file, as its name says"),
    ],
)
def test_file_that_cannot_be_read_is_refused(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InvalidInput, match=re.escape(f"{tmp_path}/{said}")):
        read_fleet(tmp_path / name, partition=False)


def reported(name: str, joined_s: float, *, gpus: int = 2, cpus: int = 64, memory_mib: int = 1024) -> NodeView:
    devices = tuple(Gpu(i, "H100", f"GPU-{name}-{i}", 81_920, healthy=i > 0, problem="Xid 79") for i in range(gpus))
    node = Node(
        NodeName(name), Incarnation(f"{name}-77"), devices, cpus, memory_mib, joined_s, "http://x", "nvml", pool="p"
    )
    return NodeView(node, "ready", gpus, (4, 5), 0.3)


def printed(folder: Path, *views: NodeView) -> Path:
    path = folder / "nodes.json"
    path.write_bytes(msgspec.json.format(msgspec.json.encode(views), indent=2))
    return path


def test_nodes_of_a_real_cluster_are_taken_as_they_report_themselves(tmp_path: Path) -> None:
    nodes = read_fleet(printed(tmp_path, reported("n1", 20.0), reported("n2", 10.0)), partition=True)
    assert [(node.name, node.incarnation, node.joined_s, node.address) for node in nodes] == [
        ("n2", "n2-1", 0.0, ""),
        ("n1", "n1-1", 1.0, ""),
    ]
    assert (nodes[1].gpus, nodes[1].cpus, nodes[1].pool) == (reported("n1", 0).node.gpus, 64, "p")
    assert nodes[1].usable_gpus == 1


@pytest.mark.parametrize(
    ("views", "said"),
    [
        ([], ": expected nodes, got none"),
        ([reported("n1", 1.0), reported("n1", 2.0)], ": [1].node.name: expected each name once, got 'n1'"),
        ([reported("n1", 1.0, gpus=1025)], ": [0].node.gpus: expected at most 1024, got 1025"),
        ([reported("n1", 1.0, cpus=-1)], ": [0].node.cpus: expected 0 or more, got -1"),
        ([reported("n1", 1.0, memory_mib=-1)], ": [0].node.memory_mib: expected 0 or more, got -1"),
    ],
)
def test_report_that_is_no_list_of_nodes_is_refused(tmp_path: Path, views: list[NodeView], said: str) -> None:
    path = printed(tmp_path, *views)
    with pytest.raises(InvalidInput) as caught:
        read_fleet(path, partition=False)
    assert str(caught.value) == f"{path}{said}"


@pytest.mark.parametrize("text", ["", "{", "{}", "[1]", '[{"node": 1}]', "[" * 100_000])
def test_other_json_is_refused_in_one_line(tmp_path: Path, text: str) -> None:
    path = written(tmp_path, text, name="nodes.json")
    with pytest.raises(InvalidInput, match=r"nodes\.json: not what `shunter \.\.\. --json` prints: ") as caught:
        read_fleet(path, partition=False)
    assert "\n" not in str(caught.value)
