"""Shunter's own history as a trace: what `shunter queue --all --json` prints, or the same with a job on each line."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import replace

from shunter.domain.ids import JobId
from shunter.domain.job import Job, Request
from shunter.domain.node import Node
from shunter.domain.report import ENDED_STATES
from shunter.errors import InvalidInput
from shunter.sim.capacity import Capacity, unknown_pool
from shunter.sim.files import MAX_ROWS, MOST, check_scale, lines, too_many, whole
from shunter.sim.result import Refused, TraceJob, Workload

PARTITIONS: Final = ("pool", "team", "user")

Seconds = Annotated[float, Meta(ge=0, le=MOST)]


class Past(Struct, frozen=True):
    """The part of a JobView that is replayed. The rest is not looked at: another version may print it otherwise."""

    id: int
    state: str
    submitted_s: Seconds
    job: Job
    cluster: str = ""
    ran_s: Seconds | None = None
    """Of the last attempt; None if that never started."""


Found = tuple[int, Past]
"""A job and its line; in a JSON array, its place from 1."""


def read_history(
    path: Path,
    nodes: Sequence[Node],
    *,
    partition: str | None = None,
    resources: frozenset[str] = frozenset(),
    scale_load: float = 1.0,
    max_rows: int = MAX_ROWS,
) -> Workload:
    """Return the jobs in *path* that ran to an end, from the first one's submission on, each as its last attempt ran.

    Refused are jobs that never ran, those that have not ended, and what *nodes* could never hold. *partition* is one of
    `pool` (that of the request), `team` and `user`; the rest is as for `read_trace`. Raises InvalidInput.
    """
    check_scale(scale_load)
    if partition is not None and partition not in PARTITIONS:
        raise InvalidInput(
            f"{path}: --partition: expected {', '.join(PARTITIONS)}, got {partition!r:.60}", field="partition"
        )
    workload = Workload(str(path), [], [])
    asks = _Asks(nodes, partition, resources)
    ran: list[tuple[Past, Request]] = []
    for line, past in sorted(_read(path, max_rows), key=lambda found: (found[1].submitted_s, found[1].id)):
        request = unfit(past) or asks.request_of(past.job)
        if isinstance(request, str):
            workload.refused.append(Refused(line, str(past.id), request))
        else:
            ran.append((past, request))
    for number, (past, request) in enumerate(ran, 1):
        submit_s = (past.submitted_s - ran[0][0].submitted_s) / scale_load
        duration_s = past.ran_s or 0.0
        job = replace(past.job, id=JobId(number), submitted_s=submit_s, expected_s=duration_s, request=request)
        workload.jobs.append(TraceJob(str(past.id), duration_s, job))
    return workload


def unfit(past: Past) -> str:
    """Return why *past* tells nothing of how long the job runs, "" if it does."""
    if past.state not in ENDED_STATES:
        return f"has not ended: it is {past.state:.20}"
    if past.ran_s is None:
        return f"never ran: {past.state} before it started"
    return ""


class _Asks:
    """What jobs of the history ask for, on *nodes*; equal requests are one object."""

    def __init__(self, nodes: Sequence[Node], partition: str | None, resources: frozenset[str]) -> None:
        self._capacity = Capacity(nodes)
        self._partition = partition
        self._resources = resources
        self._known: dict[Request, Request | str] = {}

    def request_of(self, job: Job) -> Request | str:
        """Return the request of *job* as it counts here, or why no state of the nodes could ever hold it."""
        pool = {"pool": job.request.pool, "team": job.team, "user": job.user, None: ""}[self._partition]
        if self._partition is not None and pool not in self._capacity.pools:
            return unknown_pool(self._partition, pool, self._capacity.pools)
        request = replace(
            job.request,
            pool=pool,
            models=job.request.models if self._capacity.models else (),
            cpus=job.request.cpus if "cpus" in self._resources else 0,
            memory_mib=job.request.memory_mib if "memory" in self._resources else 0,
        )
        if request not in self._known:
            self._known[request] = self._capacity.problem(request) or request
        return self._known[request]


def _read(path: Path, max_rows: int) -> list[Found]:
    """Raises InvalidInput for what is no list of jobs, for one that is there twice, and for more than *max_rows*."""
    found: list[Found] = []
    lines_of: dict[tuple[str, int], int] = {}
    for line, past in _decoded(path):
        if len(found) == max_rows:
            raise too_many(path, max_rows)
        key = past.cluster, past.id
        if lines_of.setdefault(key, line) != line:
            raise InvalidInput(
                f"{path}:{line}: id: expected each id once (it is in {lines_of[key]} too), got {past.id}", field="id"
            )
        found.append((line, past))
    if not found:
        raise InvalidInput(f"{path}: expected jobs, got none", fix="`shunter queue --all --json` prints them")
    return found


def _decoded(path: Path) -> Iterator[Found]:
    rest = lines(path)
    first = next(rest, "")
    if first.lstrip()[:1] == "[":
        yield from enumerate(decode(path, whole(path, chain([first], rest)), list[Past]), 1)
        return
    decoder = msgspec.json.Decoder(Past)
    for line, text in enumerate(chain([first], rest), 1):
        if text.strip():
            try:
                yield line, decoder.decode(text)
            except (msgspec.DecodeError, RecursionError) as error:
                raise InvalidInput(f"{path}:{line}: not a job as `shunter queue --json` prints it: {error}") from error


def decode(path: Path, text: str, kind: Any) -> Any:
    """Return the JSON *text* as *kind*. Raises InvalidInput."""
    try:
        return msgspec.json.decode(text, type=kind)
    except (msgspec.DecodeError, RecursionError) as error:
        raise InvalidInput(f"{path}: not what `shunter ... --json` prints: {error}") from error
