"""First come, first served: by job id, which grows with submission; a job that is tried again keeps its place."""

from __future__ import annotations

from shunter.scheduling.lanes import Pending
from shunter.scheduling.order import Plain


def _job_id(pending: Pending) -> int:
    return pending.job.id


class Part(Plain):
    job_key = staticmethod(_job_id)
