"""What people ask for: the specification of a job, and the part of it that scheduling reads."""

from __future__ import annotations

import enum
from typing import Annotated, Final

from msgspec import Meta, Struct

from shunter.domain.ids import JobId, NodeName

MAX_SCRIPT_BYTES: Final = 16 * 1024 * 1024
INLINE_SCRIPT_BYTES: Final = 64 * 1024
MAX_ENV_BYTES: Final = 256 * 1024
MAX_COMMAND_BYTES: Final = 128 * 1024
"""Linux refuses a longer single argument (MAX_ARG_STRLEN)."""


class Priority(enum.StrEnum):
    """Priority classes, highest first. Each has a home pool (design section 4)."""

    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"


PRIORITY_RANK: Final = {priority: rank for rank, priority in enumerate(Priority)}


WHOLE_GPU: Final = 1_000
"""Thousandths of a GPU in a whole one."""
MAX_MODELS: Final = 16
MAX_LABELS: Final = 32
MAX_AVOIDED: Final = 1_000


def in_gpus(milli: int) -> int | float:
    """Return thousandths of GPUs as people read them: an int for whole ones, else a float such as 0.25."""
    whole, rest = divmod(milli, WHOLE_GPU)
    return milli / WHOLE_GPU if rest else whole


class Within(enum.StrEnum):
    """How close together all GPUs of an attempt must be. *ISLAND*: joined by NVLink, so on one node."""

    ANYWHERE = ""
    RACK = "rack"
    ISLAND = "island"


class Request(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True, cache_hash=True):
    """Resources of one attempt: *nodes* members of equal shape. Cores and MiB are per node.

    *gpu_milli* is the share of its one GPU, in thousandths; below 1000 only with one GPU on one node. *last_gpus*: what
    the last member takes where the total does not divide evenly (0: as the others). The rest narrows the nodes: GPU of
    one of *models* (all, if empty), all of *labels* (pairs, sorted), none of *avoid*, only those of *pool*.
    """

    gpus_per_node: int = 1
    nodes: int = 1
    cpus: int = 0
    memory_mib: int = 0
    gpu_milli: int = WHOLE_GPU
    last_gpus: int = 0
    models: tuple[str, ...] = ()
    labels: tuple[tuple[str, str], ...] = ()
    avoid: tuple[NodeName, ...] = ()
    pool: str = ""
    within: Within = Within.ANYWHERE

    @property
    def gpus(self) -> int:
        """Devices of all members; a share counts as one."""
        return self.gpus_per_node * (self.nodes - 1) + self.gpus_of_last

    @property
    def gpus_of_last(self) -> int:
        return self.last_gpus or self.gpus_per_node

    @property
    def milli(self) -> int:
        """Thousandths of GPUs in all."""
        return self.gpus * self.gpu_milli

    def gpus_of(self, rank: int) -> int:
        """Devices of member *rank*, 0 to nodes - 1."""
        return self.gpus_of_last if rank == self.nodes - 1 else self.gpus_per_node


Name = Annotated[str, Meta(min_length=1, max_length=128)]
Gpus = Annotated[int, Meta(ge=0, le=1_000_000)] | Annotated[float, Meta(ge=0, le=1_000_000)]
Count = Annotated[int, Meta(ge=0, le=100_000)]


class JobSpec(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True, kw_only=True):
    """A job as submitted (the body of `POST /v1/jobs`, the fields of a job file).

    Exactly one of *command* and *script* is given. *gpus* is the whole job's; with *nodes* above 1 it is divided
    evenly; below 1 it is a share of one GPU, in steps of 0.001. *gpu_model* is one model, `A100|H100` or a list;
    *avoid* are nodes, in a list or as `n3,n4`. *time* is a duration such as `2h` (none: no limit), *expect* how long
    the run is thought to take; *grace* is how long the job may live after SIGTERM.
    """

    command: list[str] | str | None = None
    script: str | None = None
    name: Name | None = None
    gpus: Gpus = 1
    nodes: Annotated[int, Meta(ge=1, le=10_000)] = 1
    cpus: Count = 0
    memory_gib: Annotated[float, Meta(ge=0, le=1_000_000)] = 0.0
    priority: Priority = Priority.MEDIUM
    gpu_model: str | list[str] | None = None
    labels: dict[str, str] = {}
    avoid: str | list[str] = []
    pool: str | None = None
    within: Within = Within.ANYWHERE
    time: str | int | None = None
    expect: str | int | None = None
    grace: str | int = 30
    env: dict[str, str] = {}
    cwd: str | None = None
    user: Name | None = None
    team: Name | None = None
    max_retries: Annotated[int, Meta(ge=0, le=1_000)] = 3
    split_stderr: bool = False


class Job(Struct, frozen=True, omit_defaults=True):
    """The part of an accepted job that never changes and that scheduling and people's tables read.

    *submitted_s* is wall-clock time, *time_limit_s* and *grace_s* are seconds of run time. *expected_s* is how long the
    run is thought to take; nothing ends when it is over.
    """

    id: JobId
    name: str
    user: str
    request: Request
    submitted_s: float
    priority: Priority = Priority.MEDIUM
    team: str = ""
    time_limit_s: int | None = None
    grace_s: int = 30
    max_retries: int = 3
    expected_s: float | None = None


class Launch(Struct, frozen=True, omit_defaults=True):
    """The part of an accepted job that only its nodes read: what to run and where.

    *script_ref* is the storage path of a script above 64 KiB; *argv* are then the arguments after it.
    """

    argv: list[str]
    cwd: str
    env: dict[str, str] = {}
    script: str | None = None
    script_ref: str | None = None
    split_stderr: bool = False


class Submission(Struct, frozen=True, omit_defaults=True):
    """What a gateway hands to the store: a job that waits for its id (`job.id == 0`), and its launch."""

    job: Job
    launch: Launch
