"""What an operator may decide about deciding: one struct, read from a policy file (`runtime/policy_file.py`).

`order` and `placement` name modules of `scheduling/order/` and `scheduling/placement/`, in the order in which they have
their say; each part can be removed by deleting its module and its line. Times are seconds.
"""

from __future__ import annotations

from msgspec import Struct

from shunter.domain.job import Priority


class Route(Struct, frozen=True, forbid_unknown_fields=True):
    """Where a priority class runs: in its *home* pool, else in idle GPUs of the pools in *borrow*, first to last."""

    home: str
    borrow: tuple[str, ...] = ()


class Account(Struct, frozen=True, forbid_unknown_fields=True):
    """A team's or a user's claim: *weight* against its siblings, *parent* the team it belongs to ("": the root)."""

    weight: float = 1.0
    parent: str = ""


class FairShare(Struct, frozen=True, forbid_unknown_fields=True):
    """*half_life_s*: past use counts half after this long. *lookahead_s*: what runs now counts as used this far ahead,
    so that a burst from one user does not take everything before its use shows."""

    half_life_s: float = 7 * 86_400.0
    lookahead_s: float = 3_600.0


class Backfill(Struct, frozen=True, forbid_unknown_fields=True):
    """*depth*: how many blocked jobs of each home get a reservation.

    *default_time_s*: how long a job that takes whole nodes is thought to run if nothing is said of it. *tight*: a job
    that would delay a reservation at its best place is not tried at worse ones, which packs better and idles more.
    """

    depth: int = 4
    default_time_s: float = 600.0
    tight: bool = False


class Policy(Struct, frozen=True, forbid_unknown_fields=True):
    """*pools*: name to the share (0 to 1) of nodes that name no pool themselves and are dealt out to it.

    *age_bound_s*: a job that has waited longer goes before all younger ones of its class (order part `aged`).
    *keep_whole_s*: for this long, a job that needs less than a node does not break an idle one that a job before it
    needs whole; 0: it does at once.

    *strict* turns borrowing off. Below *share_all_below* nodes, every class uses every node. *ties*: `order` (the node
    that joined first) or `random` (a hash of *seed*, job and node). *estimate*: what is believed of a run's length, its
    `limit`, or what is `expected` of it where that is said (in a replayed trace: the true duration).
    """

    order: tuple[str, ...] = ("priority", "aged", "fair-share", "age")
    placement: tuple[str, ...] = ("topology", "fragmentation", "stranding", "best-fit")
    backfill: Backfill | None = Backfill()
    pools: dict[str, float] = {}
    classes: dict[Priority, Route] = {}
    strict: bool = False
    share_all_below: int = 4
    fair_share: FairShare = FairShare()
    age_bound_s: float = 3 * 3_600.0
    keep_whole_s: float = 3_600.0
    teams: dict[str, Account] = {}
    users: dict[str, Account] = {}
    ties: str = "order"
    seed: int = 0
    estimate: str = "limit"
