"""What an operator may decide about deciding. Deeper policies come as fields here and modules beside this one."""

from __future__ import annotations

from msgspec import Struct


class Policy(Struct, frozen=True, forbid_unknown_fields=True):
    """*overtake_s*: how long a job that does not fit lets others of its class start on the nodes it waits for."""

    overtake_s: float = 1800.0
