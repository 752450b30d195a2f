"""The nodes of a simulated cluster: CSV with a line for each, or what `shunter nodes --json` prints.

Columns: `node` and `gpus` are required; `cpus`, `mem_gib`, `gpu_model`, `pool`, `rack`, `labels` (`k=v;k=v`) and
`islands` (how many NVLink islands the GPUs are split into) are read if they are there.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from shunter.domain.ids import Incarnation, NodeName
from shunter.domain.node import Gpu, Node
from shunter.errors import InvalidInput
from shunter.sim.files import Column, Table, is_json, lines, whole
from shunter.sim.history import decode

UNKNOWN_CPUS: Final = 1_000_000
UNKNOWN_MEMORY_MIB: Final = 2**40
"""What a node has of which its file says nothing: more than any job asks for. A file may not say more."""

MAX_GPUS: Final = 1_024
REQUIRED: Final = ("node", "gpus")


class View(Struct, frozen=True):
    """The part of a NodeView that is simulated."""

    node: Node


def read_fleet(path: Path, *, partition: bool) -> tuple[Node, ...]:
    """Return the nodes in *path*. Their order breaks ties: that of the lines, or in JSON that of joining.

    Pools are kept only for a *partition*; at least one node must then have one. Raises InvalidInput: file, line, field,
    value and what is allowed.
    """
    nodes = _from_json(path) if is_json(path) else tuple(_from_csv(path))
    if not nodes:
        raise InvalidInput(f"{path}: expected nodes, got none")
    if not partition:
        return tuple(replace(node, pool="") for node in nodes)
    if not any(node.pool for node in nodes):
        raise InvalidInput(f"{path}: pool: no node has one", field="pool", fix="--partition needs them")
    return nodes


def _from_csv(path: Path) -> Iterator[Node]:
    table = Table(path, REQUIRED)
    reader = _Rows(table)
    lines: dict[str, int] = {}
    for row in table.rows():
        name = row[table.place("node")]
        if not name:
            raise table.wrong("node", name, "a name")
        if lines.setdefault(name, table.line) != table.line:
            raise table.wrong("node", name, f"each name once (it is in line {lines[name]} too)")
        yield reader.node(row, name, float(len(lines) - 1))


class _Rows:
    def __init__(self, table: Table) -> None:
        self._table = table
        self._gpus = Column(table, "gpus", most=MAX_GPUS, whole=True)
        self._cpus = Column(table, "cpus", most=UNKNOWN_CPUS, empty=UNKNOWN_CPUS)
        self._mem_gib = Column(table, "mem_gib", most=UNKNOWN_MEMORY_MIB / 1024, empty=UNKNOWN_MEMORY_MIB / 1024)
        self._islands = Column(table, "islands", most=MAX_GPUS, whole=True, empty=1)

    def node(self, row: list[str], name: str, joined_s: float) -> Node:
        def text(column: str) -> str:
            return row[self._table.place(column)].strip()

        gpus, islands = (int(column[row[column.place]]) for column in (self._gpus, self._islands))
        if not 1 <= islands <= max(gpus, 1):
            raise self._table.wrong("islands", text("islands"), f"1 to {max(gpus, 1)}, a GPU or more in each")
        model = text("gpu_model")
        return Node(
            NodeName(name),
            Incarnation(f"{name}-1"),
            tuple(Gpu(i, model, f"{name}-{i}", 0, island=i * islands // gpus) for i in range(gpus)),
            int(self._cpus[row[self._cpus.place]]),
            int(self._mem_gib[row[self._mem_gib.place]] * 1024),
            joined_s,
            pool=text("pool"),
            rack=text("rack"),
            labels=self._labels(text("labels")),
        )

    def _labels(self, cell: str) -> dict[str, str]:
        labels: dict[str, str] = {}
        for part in filter(None, (part.strip() for part in cell.split(";"))):
            key, equals, value = part.partition("=")
            if not (key and equals) or key in labels:
                raise self._table.wrong("labels", cell, "k=v;k=v, each key once")
            labels[key] = value
        return labels


def _from_json(path: Path) -> tuple[Node, ...]:
    views: list[View] = decode(path, whole(path, lines(path)), list[View])
    names: set[str] = set()
    for at, node in enumerate(view.node for view in views):
        if not node.name or node.name in names:
            raise InvalidInput(
                f"{path}: [{at}].node.name: expected each name once, got {node.name!r:.60}", field="name"
            )
        if len(node.gpus) > MAX_GPUS:
            raise InvalidInput(f"{path}: [{at}].node.gpus: expected at most {MAX_GPUS}, got {len(node.gpus)}")
        if min(node.cpus, node.memory_mib) < 0:
            field, value = ("cpus", node.cpus) if node.cpus < 0 else ("memory_mib", node.memory_mib)
            raise InvalidInput(f"{path}: [{at}].node.{field}: expected 0 or more, got {value}", field=field)
        names.add(node.name)
    ordered = sorted((view.node for view in views), key=lambda node: (node.joined_s, node.name))
    return tuple(
        replace(node, incarnation=Incarnation(f"{node.name}-1"), joined_s=float(at), address="")
        for at, node in enumerate(ordered)
    )
