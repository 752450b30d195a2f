"""Why an ask was refused, in numbers of the nodes that it may use."""

from __future__ import annotations

from collections.abc import Iterable

from shunter.domain.job import WHOLE_GPU, Request, Within
from shunter.domain.reason import NeverFits, NoNodes, NotEnoughFree, Reason
from shunter.scheduling.free import Profile
from shunter.scheduling.free_now import FreeNow
from shunter.scheduling.lanes import Ask
from shunter.scheduling.shelves import least_level
from shunter.scheduling.territory import avoided, big_enough, territory
from shunter.scheduling.view import View


def why_not(ask: Ask, view: View, free: FreeNow) -> Reason:
    """Return why *ask* was refused with *free* left, in numbers of the nodes that it may use."""
    if not view.places:
        cordoned = sum(bool(node.cordoned) for node in view.nodes.values())
        return NoNodes(cordoned, len(view.nodes) - cordoned)
    request = ask.request
    able = big_enough(view, ask)
    if able is not None:
        return NeverFits(request.nodes, request.gpus_per_node, able)
    kinds, out, gpus = territory(view, ask).kinds, avoided(view, ask), request.gpus_per_node
    if gpus and not out:
        rooms, least = free.rooms(kinds), least_level(request, gpus)
        fit = sum([len(refs) for at, _, profile, refs in rooms.rooms if at >= least and profile.fits(request, gpus)])
        island = _best_island(request, (profile for _, _, profile, _ in rooms.rooms))
        return NotEnoughFree(request.nodes, gpus, fit, rooms.most, rooms.total, island)
    fit = most = total = 0
    seen = []
    left_out = tuple(sorted(out.difference(request.avoid)))
    for _, _, profile, refs in free.all_rooms(kinds):
        if count := sum(name not in out for _, name in refs):
            seen.append(profile)
            most = max(most, profile.idle)
            total += profile.idle * count
            fit += count * profile.fits(request, gpus)
    return NotEnoughFree(request.nodes, gpus, fit, most, total, _best_island(request, seen), left_out)


def _best_island(request: Request, profiles: Iterable[Profile]) -> int | None:
    """Return the most idle devices in one island of *profiles*; None for a *request* that need not be in one."""
    if request.within is not Within.ISLAND or request.gpu_milli < WHOLE_GPU:
        return None
    return max((profile.whole[0] for profile in profiles if profile.whole), default=0)
