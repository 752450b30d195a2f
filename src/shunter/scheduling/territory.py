"""Which nodes an ask may use at all, whatever is free: its class's pools, its models, labels and pool."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection

from msgspec import Struct

from shunter.domain.ids import NodeName
from shunter.domain.job import Request
from shunter.scheduling.lanes import Ask
from shunter.scheduling.pools import routes
from shunter.scheduling.shelves import Kind, tightly
from shunter.scheduling.view import View

Tier = tuple[Kind, ...]


class Territory(Struct, frozen=True):
    """*tiers*: kinds of nodes in the order in which the class tries them, some perhaps empty; *kinds*: all of them.

    *home*: the pools of the first tier; blocked jobs of one home wait in one line. *whole*: the kinds of which a member
    takes whole nodes. *able*: how many nodes could, idle,
    hold a full member; *holds*: whether all of them together hold it whole. *fleet*: what this is true for.
    """

    fleet: object
    tiers: tuple[Tier, ...]
    kinds: Tier
    home: frozenset[str]
    whole: Tier
    able: int
    holds: bool


def territory(view: View, ask: Ask) -> Territory:
    """Return where *ask* may go, worked out once for each state of the fleet."""
    known: Territory | None = ask.territory
    if known is None or known.fleet is not view.fleet:
        known = ask.territory = _territory(view, ask)
    return known


def avoided(view: View, ask: Ask) -> frozenset[NodeName]:
    """Return the nodes that *ask* must not use.

    A node that just failed the job is used only when the others, even idle, could not hold it.
    """
    never = frozenset(ask.request.avoid)
    if not ask.avoid:
        return never
    both = ask.avoid | never
    return both if _could_hold(view, territory(view, ask).kinds, ask.request, both) else never


def big_enough(view: View, ask: Ask) -> int | None:
    """Return how many nodes that *ask* may use could, idle, hold a full member, if they cannot hold it whole.

    None: they can.
    """
    found = territory(view, ask)
    out = avoided(view, ask)
    if not out:
        return None if found.holds else found.able
    kinds = found.kinds
    if _could_hold(view, kinds, ask.request, out):
        return None
    return _most(view, kinds, ask.request, out)


def _most(view: View, kinds: Tier, request: Request, out: Collection[NodeName]) -> int:
    """Return how many of *kinds* could, idle, hold a full member; in the best rack if it must be in one."""
    counts: Counter[str] = Counter()
    for kind in kinds:
        counts[kind.rack if tightly(request) else ""] += _able(view, kind, request, request.gpus_per_node, out)
    return max(counts.values(), default=0)


def _could_hold(view: View, kinds: Tier, request: Request, out: Collection[NodeName]) -> bool:
    """Return whether *kinds* without the nodes that are *out* hold all members, in one rack if that is asked."""
    if tightly(request):
        racks = {kind.rack for kind in kinds}
        return any(_holds(view, [kind for kind in kinds if kind.rack == rack], request, out) for rack in racks)
    return _holds(view, kinds, request, out)


def _holds(view: View, kinds: Collection[Kind], request: Request, out: Collection[NodeName]) -> bool:
    full = sum(_able(view, kind, request, request.gpus_per_node, out) for kind in kinds)
    if not request.last_gpus:
        return full >= request.nodes
    last = sum(_able(view, kind, request, request.last_gpus, out) for kind in kinds)
    return full >= request.nodes - 1 and last >= request.nodes


def _able(view: View, kind: Kind, request: Request, gpus: int, out: Collection[NodeName]) -> int:
    """Return how many nodes of *kind* could, idle, hold a member of *gpus* devices."""
    if not kind.could_hold(request, gpus):
        return 0
    return view.shelves[kind].nodes - sum(name in view.places and view.places[name][0] == kind for name in out)


def _territory(view: View, ask: Ask) -> Territory:
    request = ask.request
    kinds = tuple(kind for kind in sorted(view.shelves, key=_sort_key) if kind.admits(request))
    if request.pool:
        tiers: tuple[Tier, ...] = (kinds,)  # who asks for a pool by name gets that one
    else:
        pools = Counter(view.pools.values())
        tiers = tuple(
            tuple(kind for kind in kinds if kind.pool in tier) for tier in routes(ask.rank, view.policy, pools)
        )
    same = view.fleet.same.setdefault
    anywhere = {kind for tier in tiers for kind in tier}
    together = tuple(kind for kind in kinds if kind in anywhere)
    together = same(together, together)
    whole = tuple(kind for kind in together if request.gpus_per_node >= kind.gpus > 0)
    return Territory(
        fleet=view.fleet,
        tiers=tuple(same(tier, tier) for tier in tiers),
        kinds=together,
        home=frozenset(kind.pool for kind in tiers[0]),
        whole=same(whole, whole),
        able=_most(view, together, request, ()),
        holds=_could_hold(view, together, request, ()),
    )


def _sort_key(kind: Kind) -> tuple[object, ...]:
    return kind.pool, kind.rack, kind.models, sorted(kind.labels), kind.islands, kind.cpus, kind.memory_mib
