"""The lease of one node incarnation, as its threads share it: one renews, one carries out what the answers say.

The rules are `domain.lease`'s. A client of its own, with a time-out of its own, keeps renewals apart from all else.
"""

from __future__ import annotations

import secrets
import threading
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from shunter.domain.ids import Incarnation, JobId, NodeName
from shunter.domain.lease import SETTLE_S, TERMS, Granted, Lease, Lost, Renewal, Stale
from shunter.runtime.process import boot_time_s
from shunter.store import leases
from shunter.store.codec import Record
from shunter.store.keys import Keys
from shunter.store.redis import Store


class Superseded(Exception):
    """A later incarnation of this node has registered: this one must not act any more."""


class DeclaredLost(Exception):
    """This incarnation was declared lost, or the store does not know it: its attempts belong to others by now, or to
    nobody, and the node has to join anew."""


class Leased(Struct, frozen=True):
    """An answer to obey: end what is not *held*, have the keeper enforce *until_s*, then say `carried_out`."""

    held: dict[JobId, Record]
    asked: Renewal
    until_s: float | None


class NodeLease:
    """`begin()` once registered; then `renew()` again and again. *terms*: `normal` or `fast`.

    *unfenced*: the node shall run without a deadline, and only an operator says that it is lost.
    """

    def __init__(self, store: Store, keys: Keys, *, terms: str = "normal", unfenced: bool = False) -> None:
        self.token: Final = secrets.token_hex(8)
        self.terms: Final = terms
        self._store = store
        self._keys = keys
        self._unfenced = unfenced
        self._lock = threading.Lock()
        self._soon = threading.Event()
        self._name: NodeName
        self._incarnation: Incarnation
        self._lease: Lease

    def begin(self, node: NodeName, incarnation: Incarnation) -> None:
        """The registration of *incarnation* was answered."""
        self._name, self._incarnation = node, incarnation
        self._lease = Lease(TERMS[self.terms], boot_time_s())

    def renew(self, *, restart: bool = False) -> Leased | None:
        """Ask once, and return what to do; None if the answer is of no use. Raises Superseded, DeclaredLost, and
        Unavailable. With *restart* for a lease that outlasts a restart of this worker: the last that it asks for."""
        terms = "restart" if restart else self.terms
        with self._lock:
            self._lease, asked = replace(self._lease, terms=TERMS[terms]).ask(boot_time_s())
            if restart and not asked.done:
                return None  # the leader would not know: see `leases.renew`
        renewed = self._store.run(
            leases.renew(
                self._keys, self._name, self._incarnation, self.token, asked, terms=terms, unfenced=self._unfenced
            )
        )
        with self._lock:
            self._lease = self._lease.heard(asked, renewed.answer, boot_time_s())
            until_s, latest = self._lease.until_s, self._lease.answered == asked.number
        match renewed.answer:
            case Stale():
                raise Superseded
            case Lost():
                raise DeclaredLost
            case Granted() if latest:
                return Leased(renewed.held, asked, until_s)
        return None

    def pause(self) -> None:
        """Wait until the next renewal is due: sooner if it has a reason to be."""
        now_s, terms = boot_time_s(), self._lease.terms
        settles_s = self._lease.joined_s + SETTLE_S - now_s
        self._soon.wait(min(terms.renew_s, settles_s) if settles_s > 0 else terms.renew_s)
        self._soon.clear()

    def hurry(self) -> None:
        """Have the next renewal asked now."""
        self._soon.set()

    def carried_out(self, number: int) -> None:
        """The answer to renewal *number* was obeyed."""
        with self._lock:
            first = not self._lease.done
            self._lease = self._lease.carried_out(number)
        if first:
            self.hurry()  # the leader waits to hear it

    def may_claim(self) -> bool:
        with self._lock:
            return self._lease.done > 0 and self._lease.may_claim(boot_time_s())

    @property
    def until_s(self) -> float | None:
        """Until when attempts may run by the latest answer."""
        return self._lease.until_s
