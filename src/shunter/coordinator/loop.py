"""Waiting and retrying around `step`: lead, stand by while another leads, sit out what the store cannot do."""

from __future__ import annotations

import contextlib
import itertools
import os
import secrets
import socket
import threading
import time
from typing import Final

import msgspec
import structlog

from shunter import __version__
from shunter.coordinator.nodes import StoreChanged
from shunter.coordinator.policy_source import PolicySource
from shunter.coordinator.step import PUBLISH_EVERY_S, Coordinator
from shunter.dispatch.celery import CeleryDispatcher
from shunter.domain.report import CoordinatorView
from shunter.errors import StaleLeader, Unavailable
from shunter.runtime.garbage import look_seldom
from shunter.runtime.log import Complaint
from shunter.runtime.process import boot_time_s
from shunter.store import commands
from shunter.store.commands import Lead, Leadership
from shunter.store.keys import Keys
from shunter.store.redis import Store

LEASE_MS: Final = 3_000
RENEW_S: Final = 1.0
TICK_S: Final = 0.5
TRUST_S: Final = 2.5
"""How long after we asked for it a lease of LEASE_MS is taken for ours, without another look."""
STANDBY_S: Final = 0.5
PRESENT_MS: Final = 5_000
"""For how long a coordinator counts as being there after it was heard from; it asks to lead at least every second."""
RETRY_S: Final = 0.25
FAILED_S: Final = 1.0

log = structlog.get_logger("coordinator")


class Loop:
    """`run()` until `stop` is set, by the policy of *source*, which is followed while another leads too."""

    def __init__(self, store: Store, keys: Keys, dispatcher: CeleryDispatcher, source: PolicySource, name: str) -> None:
        self._store = store
        self._keys = keys
        self._dispatcher = dispatcher
        self._source = source
        self._name = name
        self._token = secrets.token_hex(8)
        self._id = secrets.token_hex(8)
        here = CoordinatorView(name, socket.gethostname(), os.getpid(), __version__, time.time())
        self._present = (self._id, PRESENT_MS, msgspec.json.encode(here))
        self._stands_by = ""
        # Not the leadership's: after a short outage of the store the same epoch goes on, and its ids must not repeat.
        self._allocation_numbers = itertools.count(1)
        self._asked_s = 0.0
        self._complaint = Complaint()
        self.stop = threading.Event()

    def run(self) -> None:
        while not self.stop.is_set():
            try:
                lead = self._ask_to_lead()
                if (for_s := self._complaint.over()) is not None:
                    log.info("the store answers again", after_s=for_s)
                if not lead.leading:
                    self._stand_by(lead)
                    continue
                self._stands_by = ""
                self._lead(Leadership(lead.epoch, self._token))
            except StoreChanged:
                log.warning("another Redis server serves now: all is read anew")
            except StaleLeader as error:
                log.warning("no longer leading", error=str(error))
                self._token = secrets.token_hex(8)
            except Unavailable as error:
                if self._complaint.due(str(error)):
                    log.warning("store unavailable", error=str(error))
                self.stop.wait(RETRY_S)
            except Exception:
                # Ending would only have another process fail on the same. The lease outlives the pause.
                log.exception("coordinator failed; it begins anew")
                self.stop.wait(FAILED_S)

        with contextlib.suppress(Unavailable):  # else it is told for PRESENT_MS more
            self._store.run(commands.resign(self._keys, None, self._id))

    def _stand_by(self, lead: Lead) -> None:
        if lead.leader != self._stands_by:
            self._stands_by = lead.leader
            log.info("standing by", leader=lead.leader, epoch=lead.epoch)
        self._source.look()
        self.stop.wait(min(max(lead.left_ms / 1000, 0.01), STANDBY_S))

    def _lead(self, leadership: Leadership) -> None:
        coordinator = Coordinator(
            self._store,
            self._keys,
            self._dispatcher,
            self._source.policy,
            leadership,
            self._name,
            self._allocation_numbers,
        )
        coordinator.begin()
        look_seldom()
        coordinator.publish_policy(self._source)
        ticked_s = boot_time_s()
        while not self.stop.is_set():
            if boot_time_s() >= self._asked_s + RENEW_S:
                self._renew(leadership)
                self._follow_policy(coordinator)
            if boot_time_s() >= ticked_s + TICK_S:
                ticked_s = boot_time_s()
                coordinator.tick()
            wait_s = max(min(self._asked_s + RENEW_S, ticked_s + TICK_S) - boot_time_s(), 0.001)
            if coordinator.unpublished:
                wait_s = min(wait_s, PUBLISH_EVERY_S)
            cursor = coordinator.follower.cursor
            entries = self._store.run(commands.events(self._keys, cursor, block_ms=int(wait_s * 1000)))
            if boot_time_s() >= self._asked_s + TRUST_S:
                self._renew(leadership)  # we were paused: another may lead by now, and these entries are its to act on
            coordinator.step(entries)
        self._store.run(commands.resign(self._keys, leadership))

    def _follow_policy(self, coordinator: Coordinator) -> None:
        if self._source.look():
            if self._source.policy != coordinator.policy:
                coordinator.use(self._source.policy)
            coordinator.publish_policy(self._source)

    def _ask_to_lead(self) -> Lead:
        self._asked_s = boot_time_s()
        return self._store.run(commands.lead(self._keys, self._name, self._token, LEASE_MS, self._present))

    def _renew(self, leadership: Leadership) -> None:
        lead = self._ask_to_lead()
        if not lead.leading or lead.epoch != leadership.epoch:
            raise StaleLeader(f"leader: {lead.leader} leads with epoch {lead.epoch}")
