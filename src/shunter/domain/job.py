"""What people ask for: the specification of a job, and the part of it that scheduling reads."""

from __future__ import annotations

import enum
from typing import Annotated, Final

from msgspec import Meta, Struct

from shunter.domain.ids import JobId

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


class Request(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """Resources of one attempt: *nodes* members of equal shape. Cores and MiB are per node."""

    gpus_per_node: int = 1
    nodes: int = 1
    cpus: int = 0
    memory_mib: int = 0

    @property
    def gpus(self) -> int:
        return self.gpus_per_node * self.nodes


Name = Annotated[str, Meta(min_length=1, max_length=128)]
Count = Annotated[int, Meta(ge=0, le=100_000)]


class JobSpec(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True, kw_only=True):
    """A job as submitted (the body of `POST /v1/jobs`, the fields of a job file).

    Exactly one of *command* and *script* is given. *gpus* is the whole job's; with *nodes* above 1 it is divided
    evenly. *time* is a duration such as `2h` (none: no limit); *grace* is how long the job may live after SIGTERM.
    """

    command: list[str] | str | None = None
    script: str | None = None
    name: Name | None = None
    gpus: Annotated[int, Meta(ge=0, le=1_000_000)] = 1
    nodes: Annotated[int, Meta(ge=1, le=10_000)] = 1
    cpus: Count = 0
    memory_gib: Annotated[float, Meta(ge=0, le=1_000_000)] = 0.0
    priority: Priority = Priority.MEDIUM
    time: str | int | None = None
    grace: str | int = 30
    env: dict[str, str] = {}
    cwd: str | None = None
    user: Name | None = None
    team: Name | None = None
    max_retries: Annotated[int, Meta(ge=0, le=1_000)] = 3
    split_stderr: bool = False


class Job(Struct, frozen=True, omit_defaults=True):
    """The part of an accepted job that never changes and that scheduling and people's tables read.

    *submitted_s* is wall-clock time, *time_limit_s* and *grace_s* are seconds of run time.
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
