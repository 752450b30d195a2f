"""Where a job's files lie on shared storage: written by its nodes, read by gateways.

Job numbers begin at 1 in every data set, and clusters may share a storage folder: so the data set is in the path.
"""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Final

_SHOWN: Final = 8
"""How much of a data set's identity is in a path: 32 random bits."""


def jobs_folder(storage: PurePosixPath, cluster: str, identity: str) -> PurePosixPath:
    """Return the folder with a folder for each job of the data set *identity* (16 hex digits) of *cluster*."""
    return storage / "jobs" / f"{cluster}-{identity[:_SHOWN]}"


def attempt_folder(jobs: PurePosixPath, job_id: int, attempt: int) -> PurePosixPath:
    return jobs / str(job_id) / f"attempt-{attempt}"


def checkpoint_folder(jobs: PurePosixPath, job_id: int) -> PurePosixPath:
    """Return the folder that all attempts of the job share."""
    return jobs / str(job_id) / "checkpoint"


def output_file(folder: PurePosixPath, rank: int, stream: str = "output") -> PurePosixPath:
    """Return the log of member *rank* in an attempt's folder: `output.log` of the first, `output.1.log`, ... of others.

    *stream*: output or stderr.
    """
    return folder / (f"{stream}.{rank}.log" if rank else f"{stream}.log")
