"""What is told about the policy that the leader goes by."""

from __future__ import annotations

from msgspec import Struct

from shunter.scheduling.policy import Policy


class PolicyInForce(Struct, frozen=True):
    """The policy that *leader* goes by, in *epoch*. *text* is what its file said, *source* that file.

    *since_s*: wall-clock seconds since 1970 of when a leader first went by it. *error*: why what the file says now was
    refused, empty if nothing was.
    """

    policy: Policy
    text: str
    source: str
    since_s: float
    leader: str
    epoch: int
    error: str = ""
