"""Which coordinators live: the one that leads, and those that stand by."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import msgspec

from shunter.domain.report import CoordinatorView
from shunter.store import codec
from shunter.store.command import Command, plain
from shunter.store.keys import Keys


def coordinators(keys: Keys) -> Command[list[tuple[int, CoordinatorView]]]:
    """Return who has said that it is there, leader or not, each with until when that counts (store's clock, ms)."""

    def parse(reply: Any) -> list[tuple[int, CoordinatorView]]:
        found = []
        for value in (reply if isinstance(reply, dict) else codec.pairs(reply)).values():
            until_ms, _, text = value.partition(b" ")
            with suppress(msgspec.DecodeError):  # said by another version
                found.append((int(until_ms), msgspec.json.decode(text, type=CoordinatorView)))
        return sorted(found, key=lambda one: one[1].name)

    return plain("HGETALL", keys.coordinators, parse=parse)
