"""What a view knows, as plain values: the one comparison of a view that was kept up to date with one built at once."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from shunter.scheduling.decide import decide
from shunter.scheduling.free import Free
from shunter.scheduling.lanes import Ask, Lanes
from shunter.scheduling.policy import Policy
from shunter.scheduling.view import View


def picture(view: View) -> dict[str, Any]:
    """Return all that *view* knows but use, jobs in the order in which they are looked at."""
    return {
        "jobs": dict(view.jobs),
        "phases": dict(view.phases),
        "nodes": dict(view.nodes),
        "silent": view.silent,
        "pools": dict(view.pools),
        "free": {name: _free(free) for name, free in view.free.items()},
        # A node without jobs may or may not have an (empty) entry.
        "held": {name: dict(shares) for name, shares in view.held.items() if shares},
        "shelves": {kind: (shelf.nodes, shelf.levels) for kind, shelf in view.shelves.items()},
        "places": dict(view.places),
        "mix": view.mix.weights,
        "asks": {key: _jobs_of(ask) for key, ask in view.lanes.asks.items()},
        "queues": _queues(view.lanes),
        "delayed": list(view.delayed),
        "avoiding": list(view.avoiding),
        "pending": (view.pending, len(view.lanes), sorted(one.job.id for one in view.lanes.pending())),
        "holders": sorted((name, job_id) for name, job_id, _ in view.holders()),
    }


def _free(free: Free) -> tuple[Any, ...]:
    return sorted(free.idle), free.parts, free.cpus, free.memory_mib, free.islands


def _queues(lanes: Lanes) -> dict[Any, Any]:
    """Return what the lanes are, with every index that stands beside the jobs."""
    return {
        name: {
            "is": (queue.rank, queue.owner),
            "in_order": [(key, _ask(lane.ask)) for key, lane in queue.in_order],
            "heads": [(key, _ask(lane.ask)) for key, lane in queue.heads.items()],
            "jobs": {_ask(ask): list(lane.jobs.items()) for ask, lane in queue.lanes.items()},
            "by_length": {_ask(ask): list(lane.by_length.items()) for ask, lane in queue.lanes.items()},
        }
        for name, queue in lanes.queues.items()
    }


def _jobs_of(ask: Ask) -> tuple[list[Any], ...]:
    return list(ask.ids), list(ask.lengths), list(ask.since)


def _ask(ask: Ask) -> tuple[Any, ...]:
    return ask.rank, ask.request, ask.avoid


def built(policy: Policy, view: View, now_s: float, *, past: bool = True) -> View:
    """Return a view made at once for *policy* from what *view* knows; *past*: with the use of ended jobs too."""
    fresh = View(policy)
    for name in sorted(view.nodes):
        fresh.put_node(view.nodes[name])
    fresh.set_silent(view.silent)
    for job_id in sorted(view.jobs, reverse=True):
        fresh.put_job(view.jobs[job_id], view.phases[job_id])
    if past:
        fresh.ledger.load(view.ledger.past(now_s), now_s)
    fresh.advance(now_s)
    return fresh


def assert_as_if_built_at_once(view: View, now_s: float) -> None:
    """Fail unless *view*, which has changed many times, is what one built from its nodes and jobs would be."""
    fresh = built(view.policy, view, now_s)
    kept, expected = picture(view), picture(fresh)
    for part in expected:
        assert kept[part] == expected[part], part
    assert_same_use(view, fresh, (now_s, now_s + 60, now_s + 86_400))
    # Sums of floats differ in the last digit, which may decide between two owners: compare plans for the same use.
    fresh.ledger = view.ledger
    assert decide(view, view.policy, now_s) == decide(fresh, view.policy, now_s)
    assert picture(view) == kept, "decide() changed the view"


def assert_same_use(view: View, other: View, times_s: Iterable[float]) -> None:
    names = view.ledger.accounts.keys() | other.ledger.accounts.keys()
    for name in sorted(names):
        one, two = view.ledger.accounts.get(name), other.ledger.accounts.get(name)
        held = [(account.held, account.jobs) if account else (0.0, 0) for account in (one, two)]
        assert held[0] == pytest.approx(held[1], abs=1e-9), name
        for now_s in times_s:
            used, expected = view.ledger.used(name, now_s), other.ledger.used(name, now_s)
            assert used == pytest.approx(expected, rel=1e-6, abs=1e-3), f"{name} at {now_s}"
