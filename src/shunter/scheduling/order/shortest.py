"""Shortest job first, by how long runs are thought to take: the least mean wait, and no protection for long jobs.

Source: Smith, "Various optimizers for single-stage production", 1956.
"""

from __future__ import annotations

from shunter.scheduling.lanes import Pending
from shunter.scheduling.order import Plain


def _said_s(pending: Pending) -> float:
    return pending.said_s


class Part(Plain):
    job_key = staticmethod(_said_s)
