"""Every key of a cluster, in one place. All carry the cluster's hash tag, so that one script may touch any of them.

| key            | type   | holds                                                                      |
|----------------|--------|----------------------------------------------------------------------------|
| `meta`         | hash   | `identity` of the data set, `last_job`, `last_incarnation`; `run`, `jumped`: advance.lua |
| `specs`        | hash   | job id → job JSON, newline, launch JSON; never changes                      |
| `phases`       | hash   | job id → `PHASE ATTEMPT ALLOCATION REV` (see codec.py), newline, phase JSON |
| `active`       | zset   | ids of jobs that have not ended, scored by id                              |
| `ended`        | zset   | ids of ended jobs, scored by end (store's clock, ms), for retention         |
| `events`       | stream | every transition and every change of a node or leader                       |
| `leader`       | hash   | epoch, token, name, until_ms, since_ms                                      |
| `coordinators` | hash   | coordinator's id → until when it counts (store's clock, ms), and JSON for people |
| `nodes`        | hash   | node name → node JSON, as its incarnation reported                          |
| `incarnations` | hash   | node name → `INCARNATION HOST`, with a `-` before it once that is lost      |
| `cordons`      | hash   | node name → why it takes no new work, as an operator wants                  |
| `seen`         | hash   | node name → last renewal, store's clock, ms                                 |
| `renewals`     | hash   | node name → last renewal, see leases.py; none: it was lost                  |
| `unfenced`     | hash   | node name → which renewal first offered it to run without a deadline        |
| `ready_run`    | string | the store's run id under which all nodes were caught up once                |
| `held:NODE`    | set    | ids of jobs that hold something on the node                                 |
| `queues`       | set    | `NODE INCARNATION` of each that may have a queue; the leader buries the dead |
| `q:NODE:INC`   | list   | Celery's: hints to an incarnation; expires ten minutes after the last one    |
| `decision`     | string | the latest pass's refusals, for people; lost without harm                   |
| `policy`       | string | the policy in force and where it came from, for people                      |
| `usage`        | string | who has used how much, as the leader counts it                              |
| `idem:DIGEST`  | string | what an idempotency key was answered; expires after a day                   |
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from shunter.errors import InvalidInput

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,31}", re.ASCII)


@dataclass(frozen=True)
class Keys:
    """The key names of *cluster* (1–32 of a–z, 0–9 and -). Raises InvalidInput for another name."""

    cluster: str
    prefix: str = field(init=False)

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.cluster):
            raise InvalidInput(
                f"cluster: expected 1 to 32 of a-z, 0-9 and -, got {self.cluster!r}",
                field="cluster",
                fix="choose a short lower-case name",
            )
        object.__setattr__(self, "prefix", f"shunter:{{{self.cluster}}}:")

    def __getattr__(self, name: str) -> str:
        if name in _PLAIN:
            return f"{self.prefix}{name}"
        raise AttributeError(name)

    def held(self, node: str) -> str:
        return f"{self.prefix}held:{node}"

    def idem(self, digest: str) -> str:
        return f"{self.prefix}idem:{digest}"

    def queue(self, node: str, incarnation: str) -> str:
        """The Celery queue of one node incarnation."""
        return f"{self.prefix}q:{node}:{incarnation}"


_PLAIN = frozenset(
    {
        "meta", "specs", "phases", "active", "ended", "events", "leader", "coordinators", "nodes", "incarnations",
        "cordons", "seen", "renewals", "unfenced", "ready_run", "decision", "policy", "usage", "queues",
    }
)  # fmt: skip
