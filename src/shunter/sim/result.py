"""What one run of the simulator found: the input of the table, the JSON, the dump and the report."""

from __future__ import annotations

from msgspec import Struct, field

from shunter.domain.job import Job, Priority


class TraceJob(Struct, frozen=True):
    """One accepted line of a trace. `job.id` counts accepted lines from 1; `job.submitted_s` is the trace's time.

    *name* is the id in the trace, *duration_s* how long the job runs once it is started.
    """

    name: str
    duration_s: float
    job: Job


class Refused(Struct, frozen=True):
    """A line of a trace that no state of the cluster could ever satisfy, and why. It is counted, and listed."""

    line: int
    name: str
    message: str


class Workload(Struct, frozen=True):
    """A trace as the simulator runs it: *jobs* in order of submission, ties in file order."""

    source: str
    jobs: list[TraceJob]
    refused: list[Refused]


class Share(Struct, frozen=True):
    """GPUs of one node that a job held."""

    node: str
    gpus: tuple[int, ...]
    gpu_milli: int = 1000


class Run(Struct, frozen=True):
    """One job, from submission to its end, in trace time; *gpus* counts devices, a share of one as its fraction."""

    name: str
    priority: Priority
    gpus: float
    submit_s: float
    start_s: float
    end_s: float
    shares: tuple[Share, ...]


class Moment(Struct, frozen=True):
    """The state of the cluster from *at_s* until the next moment.

    *waiting* are queued jobs by class (high, medium, low); *frag_gpus* is the expected number of GPUs that a typical
    job of the trace cannot use although they are free (FGD, ATC'23).
    """

    at_s: float
    used_gpus: float
    waiting: tuple[int, int, int]
    frag_gpus: float


class Result(Struct, frozen=True):
    """One policy on one trace. *moments* are in time order; each state change makes one, the last end too.
    *runs* are in start order.

    The figures are those of `shunter simulate --json`; see `sim/meter.py` for their definitions.
    """

    policy: str
    nodes: dict[str, int]
    jobs: int
    mean_jct_s: float
    mean_queue_s: float
    p50_queue_s: float
    p99_queue_s: float
    p999_queue_s: float
    queued_jobs: int
    util_window: float
    alloc_while_waiting: float
    makespan_s: float
    frag_fgd: float
    wall_s: float
    runs: list[Run] = field(default_factory=list)
    moments: list[Moment] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)
