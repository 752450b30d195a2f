"""What an earlier keeper left when it died: its members have ended with it, or are ended now."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import Final

from shunter.agent.keeper.journal import Begun, Journal
from shunter.agent.keeper.protocol import Ended
from shunter.agent.keeper.tree import Cgroup, end
from shunter.domain.outcome import Exit, FailureClass

RECHECK_S: Final = 0.01
"""How often the killed remains are looked at until they are gone."""


def bury(journal: Journal) -> None:
    """End what the *journal* has as begun, and note that; how it went with it cannot be known."""
    lost_members = list(journal.begun.values())
    quiet = 0
    # A process that is just in exec shows no marker: it escapes one look, not two.
    while lost_members and quiet < 2:
        left = [begun for begun in lost_members if _end(begun)]
        quiet = 0 if left else quiet + 1
        time.sleep(RECHECK_S)
    for begun in lost_members:
        if begun.cgroup:
            Cgroup(Path(begun.cgroup)).remove()
            with contextlib.suppress(OSError):
                Path(begun.cgroup).parent.rmdir()
        lost = Exit(
            time.time(), failure=FailureClass.KEEPER_LOST, message="the node's keeper died, and with it the job"
        )
        journal.add(Ended(begun.allocation, begun.job_id, begun.attempt, begun.rank, lost), durable=True)


def _end(begun: Begun) -> bool:
    """Kill what is left of a member of an earlier keeper; return whether there was anything."""
    populated = False
    if begun.cgroup:
        cgroup = Cgroup(Path(begun.cgroup))
        populated = cgroup.populated()
        cgroup.kill()
    session = begun.leader.pid if begun.leader is not None and begun.leader.is_ours() else None
    return bool(end(session, begun.marker)) or populated
