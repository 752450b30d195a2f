"""Node leases: how long a node may run its attempts, and when they may go elsewhere. Pure: clocks are arguments.

Three sides run these rules; `docs/guarantees.md` proves that together they never let two attempts of a job run at once.

| side | holds | is told |
|---|---|---|
| node | `Lease` | its renewals and their answers, by its own CLOCK_BOOTTIME |
| store | the last `Mark` and the unfenced record of each node | renewals; `renewed` is what its script does |
| leader | `Watch` | what it reads in the store, by its own CLOCK_BOOTTIME |

All times are seconds. No side ever compares its clock with another's.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Final, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from shunter.domain.ids import NodeName
from shunter.errors import InvalidInput

MAX_DRIFT: Final = 1e-3
"""How far the rate of a clock may be off. Quartz is off by under 1e-4, and NTP slews by at most 5e-4."""

SETTLE_S: Final = 1.0
"""What a script wrote this long ago survives whatever happens to the store: its file is synced each second."""

GAP_S: Final = 2.0
"""A leader whose checks stood still for longer knows nothing about who renewed meanwhile."""

RENEWALS: Final = 3
"""A lease outlasts this many renewals in a row that fail, each after its time-out."""

T = TypeVar("T")


class LeaseTerms(Struct, frozen=True):
    """What a cluster's leases go by, in seconds. A renewal takes at most `renew_timeout_s`, then it has failed."""

    renew_s: float
    fence_after_s: float
    requeue_after_s: float
    freeze_within_s: float

    @property
    def renew_timeout_s(self) -> float:
        return self.renew_s

    @property
    def silent_after_s(self) -> float:
        """A node that has not renewed for this long (three tries) gets no new work: 7 s of the normal 20."""
        return 3 * self.renew_s + 1.0

    @property
    def least_requeue_s(self) -> float:
        """From here on no clocks within MAX_DRIFT let a successor start before the freeze; see the proof."""
        return (self.fence_after_s + self.freeze_within_s) * (1 + MAX_DRIFT) / (1 - MAX_DRIFT)

    @property
    def least_fence_s(self) -> float:
        return RENEWALS * (self.renew_s + self.renew_timeout_s)


NORMAL: Final = LeaseTerms(2.0, 20.0, 30.0, 1.0)
FAST: Final = LeaseTerms(0.5, 5.0, 8.0, 1.0)
RESTART: Final = LeaseTerms(2.0, 300.0, 330.0, 1.0)
"""Of a node whose worker was asked to end: time enough to install a new version and start again."""

TERMS: Final = {"normal": NORMAL, "fast": FAST, "restart": RESTART}
"""By the name that a node gives."""


def fastest(terms: Iterable[LeaseTerms]) -> LeaseTerms:
    """Return the terms by which a leader of nodes with all these *terms* tells that nobody renews."""
    return min(terms, key=lambda one: one.fence_after_s, default=NORMAL)


def check_terms(terms: LeaseTerms) -> None:
    """Raise InvalidInput naming the first of *terms* that contradicts the others, its limit and the fix."""
    for field in ("renew_s", "fence_after_s", "requeue_after_s", "freeze_within_s"):
        value = getattr(terms, field)
        if not (math.isfinite(value) and value > 0):
            raise _refused(field, value, "a number of seconds above 0", "give a positive number of seconds")
    if terms.fence_after_s < terms.least_fence_s:
        why = f"at least {terms.least_fence_s:g} s: {RENEWALS} renewals of {terms.renew_s:g} s with their time-outs"
        raise _refused("fence_after_s", terms.fence_after_s, why, "raise it, or lower renew_s")
    if terms.requeue_after_s < terms.least_requeue_s:
        least = math.ceil(terms.least_requeue_s * 1000) / 1000
        why = f"at least {least:g} s: fence_after_s + freeze_within_s, and {MAX_DRIFT:.1%} of drift of two clocks"
        raise _refused("requeue_after_s", terms.requeue_after_s, why, "raise it, or lower fence_after_s")


def _refused(field: str, value: float, expected: str, fix: str) -> InvalidInput:
    return InvalidInput(f"lease.{field}: expected {expected}, got {value:g}", field=f"lease.{field}", fix=fix)


# node and store


class Renewal(Struct, frozen=True):
    """One question of a node. *asked_s* stays on the node; the rest goes to the store.

    *number* counts the renewals since the registration, from 1. *done* is the latest whose answer was carried out: what
    it did not list is ended, and the keeper enforces its term. *fenced*: the keeper certainly enforces a deadline.
    """

    number: int
    asked_s: float
    done: int
    fenced: bool


class Mark(Struct, frozen=True):
    """What the store keeps of a node's last renewal (or, with number 0, its registration).

    *worker* is a random token, new at each registration. No two renewals have the same mark, whatever the store forgets
    and however its clock is set: so a mark that stands means that no renewal was applied.
    """

    worker: str
    number: int = 0
    done: int = 0


class Granted(Struct, frozen=True):
    """*unfenced* names the store's record that this node may run without a deadline; empty: it has a deadline."""

    unfenced: str = ""


class Stale(Struct, frozen=True):
    """A later incarnation has registered."""


class Lost(Struct, frozen=True):
    """The node was declared lost, or the store has forgotten it: it is to freeze at once, and to join anew."""


class Old(Struct, frozen=True):
    """A later renewal was applied before this one: it changed nothing and grants nothing."""


Answer = Granted | Stale | Lost | Old


def renewed(mark: Mark, record: str, worker: str, asked: Renewal, unfenced: bool) -> tuple[Mark, str, Answer]:
    """What the renew script does, in one step, for a renewal of the current incarnation: mark, record, answer.

    *record* is the node's unfenced record, empty if it has none; *unfenced* whether it shall have one: it is alone in
    its cluster, or set to `fence: operator`. The record is there before the node can know, and goes only by a renewal
    that says the keeper enforces a deadline; `Lease` heeds no older answer than that renewal's.
    """
    if mark.worker == worker and asked.number <= mark.number:
        return mark, record, Old()
    if unfenced:
        record = record or f"{worker}.{asked.number}"
    elif asked.fenced:
        record = ""
    return Mark(worker, asked.number, asked.done), record, Granted(record if unfenced else "")


class Lease(Struct, frozen=True):
    """The node's side: the lease of one incarnation. Times are the node's CLOCK_BOOTTIME."""

    terms: LeaseTerms
    joined_s: float
    """When the registration was answered."""
    until_s: float | None = -math.inf
    """Attempts may run until then; None is without end. At first it has passed: nothing was granted yet."""
    asked: int = 0
    answered: int = 0
    done: int = 0
    fenced: bool = False
    """Not known of a worker that has just begun: its predecessor's keeper may run without a deadline."""
    stale: bool = False
    record: str = ""
    recorded_s: float = math.inf
    """When an answer first named *record*."""

    def ask(self, now_s: float) -> tuple[Lease, Renewal]:
        """Begin a renewal. *now_s* must be read before anything of it is sent."""
        number = self.asked + 1
        return replace(self, asked=number), Renewal(number, now_s, self.done, self.fenced)

    def heard(self, asked: Renewal, answer: Answer, now_s: float) -> Lease:
        """Take the *answer* to *asked*, which came at *now_s*. Only the renewal asked last counts, however late."""
        if isinstance(answer, Stale | Lost):
            return replace(self, stale=True, until_s=-math.inf)
        if isinstance(answer, Old) or asked.number != self.asked:
            return self
        recorded_s = self.recorded_s if answer.unfenced and answer.unfenced == self.record else now_s
        # A record that the store may yet forget is no reason to run on.
        endless = bool(answer.unfenced) and asked.asked_s >= recorded_s + SETTLE_S
        return replace(
            self,
            answered=asked.number,
            until_s=None if endless else asked.asked_s + self.terms.fence_after_s,
            fenced=self.fenced and not endless,
            record=answer.unfenced,
            recorded_s=recorded_s,
        )

    def carried_out(self, number: int) -> Lease:
        """The answer to renewal *number* is obeyed: what it did not list has ended, and the keeper has its term."""
        latest = number == self.answered
        fenced = self.fenced or (latest and self.until_s is not None)
        return replace(self, done=max(self.done, number), fenced=fenced)

    def open(self, now_s: float) -> bool:
        """Whether attempts may run, and one may be started: ask again right before each start."""
        return self.until_s is None or now_s < self.until_s

    def may_claim(self, now_s: float) -> bool:
        """Whether attempts may be claimed: not before the store can no longer forget that this incarnation exists."""
        return self.open(now_s) and now_s >= self.joined_s + SETTLE_S


def to_end(since_s: Mapping[T, float], listed: Iterable[T], asked: Renewal) -> list[T]:
    """Return the attempts that the answer to *asked* takes away from the node.

    *since_s* has when each attempt's claim was answered, by the node's clock. One that is younger than the question
    stays: the list cannot know of it, and nobody but a script that makes the incarnation stale takes it away.
    """
    wanted = set(listed)
    return [one for one, at_s in since_s.items() if one not in wanted and at_s < asked.asked_s]


# leader


class Standing(StrEnum):
    """Why a node is not lost, or that it is."""

    LOST = "lost"
    WAITING = "waiting"
    """Its mark has not stood for requeue_after_s yet."""
    UNFENCED = "unfenced"
    """Silent for long enough, but it may run without a deadline: only an operator can say that it is lost."""
    ALL_SILENT = "all_silent"
    """No node at all renews: the trouble is on this side, and there is nowhere to go to."""


class Sighting(Struct, frozen=True):
    """*mark* has stood since *since_s*. *first* is the mark that was found when the store's present run was new."""

    mark: Mark
    since_s: float
    first: Mark

    @property
    def caught_up(self) -> bool:
        """Whether the node has obeyed an answer of the store's present run."""
        if self.mark.worker == self.first.worker:
            return self.mark.done > self.first.number
        return self.mark.done > 0


class Check(Struct, frozen=True):
    """What a leader found. *behind*: nodes that have not obeyed an answer of this run yet; place nothing until none."""

    standing: dict[NodeName, Standing]
    silent_s: dict[NodeName, float]
    behind: frozenset[NodeName]

    @property
    def lost(self) -> list[NodeName]:
        return [node for node, standing in self.standing.items() if standing is Standing.LOST]


class Watch(Struct, frozen=True):
    """The leader's side: begun anew with each leadership. Times are the leader's CLOCK_BOOTTIME.

    *ready_run* is the run id of the store under which every node was once caught up, as the leader before wrote it.
    """

    terms: LeaseTerms
    ready_run: str = ""
    run_id: str = ""
    checked_s: float = -math.inf
    moved_s: float = -math.inf
    """When any node's mark last changed."""
    sightings: dict[NodeName, Sighting] = {}

    def check(
        self,
        now_s: float,
        run_id: str,
        marks: Mapping[NodeName, Mark],
        unfenced: Iterable[NodeName],
        terms: Mapping[NodeName, LeaseTerms] | None = None,
    ) -> tuple[Watch, Check]:
        """Take what was read. *now_s* must be read after the answer came: each mark was written before it.

        *terms* are those that nodes are judged by, where they are not the watch's own: written with the mark, they are
        never faster than what the keeper goes by.
        """
        known = self.sightings if run_id == self.run_id else {}
        moved = any(node not in known or known[node].mark != mark for node, mark in marks.items())
        silent_s = now_s - self.moved_s
        anew = now_s - self.checked_s > GAP_S or (moved and silent_s >= self.terms.fence_after_s)
        sightings = {node: _sighting(known.get(node), mark, now_s, anew) for node, mark in marks.items()}
        moved_s = now_s if moved or anew else self.moved_s
        behind = frozenset(node for node, sighting in sightings.items() if not sighting.caught_up)
        if run_id == self.ready_run:
            behind = frozenset()
        after = Watch(self.terms, run_id if not behind else self.ready_run, run_id, now_s, moved_s, sightings)
        return after, after._found(frozenset(unfenced), behind, terms or {})

    def _found(
        self, unfenced: frozenset[NodeName], behind: frozenset[NodeName], terms: Mapping[NodeName, LeaseTerms]
    ) -> Check:
        silent_s = {node: self.checked_s - one.since_s for node, one in self.sightings.items()}
        standing = {
            node: self._standing(node in unfenced, age_s, terms.get(node, self.terms))
            for node, age_s in silent_s.items()
        }
        return Check(standing, silent_s, behind)

    def _standing(self, unfenced: bool, silent_s: float, terms: LeaseTerms) -> Standing:
        if silent_s < terms.requeue_after_s:
            return Standing.WAITING
        if unfenced:
            return Standing.UNFENCED
        if self.checked_s - self.moved_s >= self.terms.fence_after_s:
            return Standing.ALL_SILENT
        return Standing.LOST


def _sighting(known: Sighting | None, mark: Mark, now_s: float, anew: bool) -> Sighting:
    if known is None:
        return Sighting(mark, now_s, mark)
    if anew or known.mark != mark:
        return Sighting(mark, now_s, known.first)
    return known
