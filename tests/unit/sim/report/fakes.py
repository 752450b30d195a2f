"""Results to draw: a seeded load by day and night, run by a plain list scheduler that stands in for the simulator."""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Callable
from typing import NamedTuple

from shunter.domain.job import Priority
from shunter.sim.result import Moment, Refused, Result, Run, Share


class Ask(NamedTuple):
    name: str
    priority: Priority
    gpus: int
    submit_s: float
    duration_s: float


ORDERS: dict[str, Callable[[Ask], float]] = {
    "fifo": lambda ask: ask.submit_s,
    "shortest-first": lambda ask: ask.duration_s,
    "srgf": lambda ask: ask.duration_s * ask.gpus,
    "smallest-first": lambda ask: ask.gpus,
    "classes": lambda ask: list(Priority).index(ask.priority) * 1e9 + ask.submit_s,
}


def asks(seed: int, jobs: int, days: float) -> list[Ask]:
    """Return *jobs* jobs over *days*, more by day, most short and small, some very long."""
    draw = random.Random(seed)
    found: list[Ask] = []
    while len(found) < jobs:
        at_s = draw.random() * days * 86_400
        if draw.random() > 0.55 + 0.45 * math.sin(2 * math.pi * at_s / 86_400):
            continue
        priority = draw.choices(list(Priority), (1, 5, 2))[0]
        gpus = draw.choices((1, 2, 4, 8), (60, 15, 13, 12))[0]
        duration_s = min(draw.lognormvariate(7.2, 1.9), 12 * 86_400)
        found.append(Ask(f"job-{len(found)}", priority, gpus, at_s, duration_s))
    return sorted(found, key=lambda ask: ask.submit_s)


def simulated(policy: str, load: list[Ask], nodes: dict[str, int], refused: list[Refused] | None = None) -> Result:
    """Return what becomes of *load* if jobs start in the order of *policy* as long as the next one fits."""
    free = {name: list(range(count)) for name, count in nodes.items()}
    queue: list[tuple[float, int]] = []
    ends: list[tuple[float, int, str, tuple[int, ...]]] = []
    waiting, used, gpus = [0, 0, 0], 0, sum(nodes.values())
    runs: list[Run] = []
    moments: list[Moment] = []
    coming, classes = 0, list(Priority)
    while coming < len(load) or ends:
        now_s = min(load[coming].submit_s if coming < len(load) else math.inf, ends[0][0] if ends else math.inf)
        while ends and ends[0][0] <= now_s:
            _, _, name, given = heapq.heappop(ends)
            free[name] += given
            used -= len(given)
        while coming < len(load) and load[coming].submit_s <= now_s:
            heapq.heappush(queue, (ORDERS[policy](load[coming]), coming))
            waiting[classes.index(load[coming].priority)] += 1
            coming += 1
        while queue:
            ask = load[queue[0][1]]
            node = next((name for name, left in free.items() if len(left) >= ask.gpus), None)
            if node is None:
                break
            _, number = heapq.heappop(queue)
            given, free[node] = tuple(free[node][: ask.gpus]), free[node][ask.gpus :]
            used += ask.gpus
            waiting[classes.index(ask.priority)] -= 1
            end_s = now_s + ask.duration_s
            heapq.heappush(ends, (end_s, number, node, given))
            runs.append(Run(ask.name, ask.priority, ask.gpus, ask.submit_s, now_s, end_s, (Share(node, given),)))
        frag = sum(len(left) for name, left in free.items() if 0 < len(left) < nodes[name]) * 0.3
        moments.append(Moment(now_s, used, (waiting[0], waiting[1], waiting[2]), frag))
    return _result(policy, nodes, gpus, runs, moments, refused or [])


def _result(
    policy: str, nodes: dict[str, int], gpus: int, runs: list[Run], moments: list[Moment], refused: list[Refused]
) -> Result:
    waits = sorted(run.start_s - run.submit_s for run in runs)
    jobs = len(runs)

    def at(share: float) -> float:
        return waits[min(int(share * jobs), jobs - 1)] if jobs else 0.0

    busy_s = sum(run.gpus * (run.end_s - run.start_s) for run in runs)
    makespan_s = max((run.end_s for run in runs), default=0.0) - min((run.submit_s for run in runs), default=0.0)
    return Result(
        policy=policy,
        nodes=nodes,
        jobs=jobs,
        mean_jct_s=sum(run.end_s - run.submit_s for run in runs) / jobs if jobs else 0.0,
        mean_queue_s=sum(waits) / jobs if jobs else 0.0,
        p50_queue_s=at(0.5),
        p99_queue_s=at(0.99),
        p999_queue_s=at(0.999),
        queued_jobs=sum(wait > 0 for wait in waits),
        util_window=busy_s / (gpus * makespan_s) if gpus and makespan_s else 0.0,
        alloc_while_waiting=0.91,
        makespan_s=makespan_s,
        frag_fgd=0.043,
        wall_s=1.25,
        runs=runs,
        moments=moments,
        refused=refused,
    )


def cluster(count: int, gpus: int = 8) -> dict[str, int]:
    return {f"vc{number % 7}-{number:03d}": gpus for number in range(count)}


def several(seed: int, jobs: int, nodes: int, days: float, *policies: str) -> list[Result]:
    """Return one result for each of *policies*, all of them by default, with a few lines refused."""
    load, machines = asks(seed, jobs, days), cluster(nodes)
    refused = [
        Refused(line * 31, f"big-{line}", "gpus: expected 1 to 8 per node, got 16; ask for 2 nodes")
        for line in range(73)
    ]
    return [simulated(policy, load, machines, refused) for policy in policies or ORDERS]
