"""What is refused at the door: requests that no state of the cluster could ever satisfy."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from typing import Final

from shunter.domain.job import Request, Within, in_gpus
from shunter.domain.narrow import allowed, is_model, most_gpus
from shunter.domain.node import Node
from shunter.errors import RequestTooLarge

SHOWN: Final = 10
"""How many names a message lists."""


def check_fits_ever(request: Request, nodes: Iterable[Node]) -> None:
    """Raise RequestTooLarge, with the field, the maximum and the fix, if all of *nodes* idle could not hold *request*.

    With no nodes at all nothing is refused: they may yet join, and the job waits with that reason.
    """
    nodes = list(nodes)
    if not nodes:
        return
    _check_pool(request, nodes)
    _check_labels(request, nodes)
    left = [node for node in nodes if allowed(node, request)]
    if not left:
        raise _refusal("avoid", f"expected some node to be left, got {_listed(request.avoid)}", "leave one of them out")
    _check_models(request, left)
    _check_gpus(request, left)
    _check_nodes(request, left)


# what narrows the nodes


def _check_pool(request: Request, nodes: list[Node]) -> None:
    pools = {node.pool for node in nodes}
    if request.pool and request.pool not in pools:
        known = _listed(pools - {""})
        expected = f"one of {known} (what the nodes here are in)" if known else "none (no node here is in a pool)"
        fix = "ask for one of them, or leave pool out" if known else "leave pool out, or start a node with --pool"
        raise _refusal("pool", f"expected {expected}, got {request.pool}", fix)


def _check_labels(request: Request, nodes: list[Node]) -> None:
    nodes = [node for node in nodes if request.pool in ("", node.pool)]
    among = f" in pool {request.pool}" if request.pool else ""
    for name, value in request.labels:
        values = {node.labels[name] for node in nodes if name in node.labels}
        if value not in values:
            fix = f"the nodes{among} have {name}={_listed(values)}" if values else f"no node{among} has a label {name}"
            raise _refusal("labels", f"no node{among} has {name}={value}", fix)
    if not any(set(request.labels) <= set(node.labels.items()) for node in nodes):
        wanted = " and ".join(f"{name}={value}" for name, value in request.labels)
        raise _refusal("labels", f"no node{among} has {wanted} together", "ask for fewer of them")


def _check_models(request: Request, nodes: list[Node]) -> None:
    models = {"|".join(sorted({gpu.model for gpu in node.gpus})) for node in nodes if node.gpus}
    if models and not any(_is_able(node, request, min(request.gpus, 1)) for node in nodes):
        raise _refusal(
            "gpu_model",
            f"expected one of {_listed(models)} (what the nodes {_here(request)} have), got {_either(request.models)}",
            "ask for one of them, or leave gpu_model out",
        )


# what must fit


def _is_able(node: Node, request: Request, gpus: int) -> bool:
    """Whether *node*, idle, has *gpus* devices for a member. One of another model is no place for 0 of them either."""
    return most_gpus(node, request) >= gpus and all(is_model(request.models, gpu.model) for gpu in node.gpus)


def _shapes(request: Request) -> list[tuple[int, int]]:
    """Return (GPUs per member, members), the widest first; the last member of an uneven request is one of its own."""
    each, last, others = request.gpus_per_node, request.gpus_of_last, request.nodes - 1
    if last == each:
        return [(each, request.nodes)]
    return sorted(((gpus, count) for gpus, count in ((each, others), (last, 1)) if count), reverse=True)


def _check_gpus(request: Request, nodes: list[Node]) -> None:
    offers = [most_gpus(node, request) for node in nodes]
    biggest, widest = max(offers), _shapes(request)[0][0]
    if widest <= biggest:
        return
    fix = f"ask for at most {biggest} GPUs per node ({sum(offers)} in all)"
    if not biggest:
        fix = f"no node {_here(request)} has a GPU: ask for 0, or add a node that has"
    elif request.within is Within.ISLAND:
        fix = f"ask for at most {biggest}, the largest island of GPUs joined by NVLink {_here(request)}"
    elif (spread := _spread(request.gpus, offers)) is not None:
        fix = f"spread it with nodes: {spread} (at most {biggest} GPUs per node {_here(request)})"
    got = in_gpus(request.milli) if request.nodes == 1 else widest
    place = "per island" if request.within is Within.ISLAND else "per node"
    raise _refusal("gpus", f"expected at most {biggest} {place}{_where(request)}, got {got}", fix)


def _spread(gpus: int, offers: list[int]) -> int | None:
    """Return the fewest nodes that hold *gpus* in equal parts; None if no number does."""
    offers = sorted(offers, reverse=True)
    return next((n for n, least in enumerate(offers, 1) if gpus % n == 0 and gpus <= least * n), None)


def _check_nodes(request: Request, nodes: list[Node]) -> None:
    """Raise RequestTooLarge unless one rack (where that is asked), or else all nodes together, hold the request."""
    groups: dict[str, list[Node]] = defaultdict(list)
    for node in nodes:
        groups[node.rack if request.within is Within.RACK else ""].append(node)
    refusals = [_refusal_of_group(request, group) for group in sorted(groups.values(), key=len, reverse=True)]
    first = refusals[0]
    if first is not None and None not in refusals:
        raise first


def _refusal_of_group(request: Request, nodes: list[Node]) -> RequestTooLarge | None:
    """Return why *nodes*, all idle, do not hold *request*; None if they do."""
    members = 0
    for gpus, count in _shapes(request):
        members += count
        able = [node for node in nodes if _is_able(node, request, gpus)]
        if len(able) < members:
            return _too_few(request, gpus, members, len(able))
        refusal = _short_of("cpus", request.cpus, [node.cpus for node in able], members)
        if refusal is None:
            # One node must have both: memory on nodes that lack the cores is of no use.
            offers = [node.memory_mib / 1024 for node in able if node.cpus >= request.cpus]
            refusal = _short_of("memory_gib", request.memory_mib / 1024, offers, members)
        if refusal is not None:
            return refusal
    return None


def _too_few(request: Request, gpus: int, members: int, able: int) -> RequestTooLarge:
    rack = " in one rack" if request.within is Within.RACK else ""
    return _refusal(
        "nodes",
        f"expected at most {able} with {gpus} GPUs each{rack}{_where(request)}, got {members}",
        f"ask for at most {able} nodes, or fewer GPUs per node" + (", or leave within out" if rack else ""),
    )


def _short_of(field: str, wanted: float, offers: list[float], nodes: int) -> RequestTooLarge | None:
    """Return the refusal unless *nodes* of *offers* reach *wanted*; it names the most that so many reach."""
    limit = sorted(offers)[-nodes]
    if wanted <= limit:
        return None
    limit = math.floor(limit * 100) / 100  # rounded up, the fix would be refused again
    return _refusal(
        field,
        f"expected at most {limit:.12g} per node, got {wanted:.12g}",
        f"ask for at most {limit:.12g} on each of {nodes} node(s)",
    )


# words


def _refusal(field: str, message: str, fix: str) -> RequestTooLarge:
    return RequestTooLarge(f"{field}: {message}", field=field, fix=fix)


def _listed(names: Iterable[str]) -> str:
    names = sorted(names)
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")


def _either(models: Iterable[str]) -> str:
    return " or ".join(models)


def _narrowing(request: Request) -> list[str]:
    parts = [f"{name}={value}" for name, value in request.labels]
    if request.pool:
        parts.insert(0, f"pool {request.pool}")
    if request.models:
        parts.append(_either(request.models))
    return parts + ([f"without {_listed(request.avoid)}"] if request.avoid else [])


def _where(request: Request) -> str:
    """Return what the nodes were narrowed by, in brackets; nothing if by nothing."""
    parts = _narrowing(request)
    return f" ({', '.join(parts)})" if parts else ""


def _here(request: Request) -> str:
    """Return `here`, or that only some of the nodes are meant."""
    return "that are left" if request.pool or request.labels or request.avoid else "here"
