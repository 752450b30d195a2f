"""The parts that a policy names, found by name: `order/NAME.py` and `placement/NAME.py`, hyphens for underscores.

There is no list of them, so that removing a part is removing its module and its line in the policy.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from shunter.scheduling.lanes import Pending
    from shunter.scheduling.order import OrderPart
    from shunter.scheduling.placement import PlacementPart


@cache
def order_part(name: str) -> type[OrderPart]:
    """Return the part *name* of an order. Raises ModuleNotFoundError for one that is not there."""
    part: type[OrderPart] = _part("order", name)
    return part


@cache
def placement_part(name: str) -> type[PlacementPart]:
    """Return the part *name* of a placement. Raises ModuleNotFoundError for one that is not there."""
    part: type[PlacementPart] = _part("placement", name)
    return part


def job_key(names: Sequence[str]) -> Callable[[Pending], tuple[Any, ...]]:
    """Return what orders the jobs inside a queue under an order of parts *names*."""
    keys = [key for name in names if (key := order_part(name).job_key) is not None]
    return lambda pending: tuple([key(pending) for key in keys])


def _part(kind: str, name: str) -> Any:
    return import_module(f"shunter.scheduling.{kind}.{name.replace('-', '_')}").Part
