"""Traces of jobs: CSV with a line for each, or Shunter's own history (`history.py`).

Columns: `job_id`, `submit_s`, `duration_s`, `gpus` (of the whole job; 0: CPU only) are required. `user`, `group`,
`team`, `gpu_milli`, `gpu_model` (`A|B`: either), `cpus` and `mem_gib` (of the whole job), `priority` and `time_limit_s`
are read if they are there. What else a file has is not looked at, but may name the pool of each job.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from sys import intern
from typing import Final

from msgspec.structs import replace

from shunter.domain.ids import JobId
from shunter.domain.job import Job, Priority
from shunter.domain.node import Node
from shunter.errors import InvalidInput
from shunter.sim.files import MAX_ROWS, Column, Table, check_scale, is_json, listed, too_many
from shunter.sim.history import read_history
from shunter.sim.result import Refused, TraceJob, Workload
from shunter.sim.shape import Shapes

REQUIRED: Final = ("job_id", "submit_s", "duration_s", "gpus")
PROGRESS_ROWS: Final = 10_000
NOBODY: Final = "nobody"

_PRIORITIES: Final = {"": Priority.MEDIUM} | {priority.value: priority for priority in Priority}


def read_trace(
    path: Path,
    nodes: Sequence[Node],
    *,
    partition: str | None = None,
    resources: frozenset[str] = frozenset(),
    scale_load: float = 1.0,
    max_rows: int = MAX_ROWS,
    progress: Callable[[int], None] | None = None,
) -> Workload:
    """Return the jobs in *path*, in order of submission; what *nodes* could never hold is listed as refused.

    *partition* is the column that names each job's pool. *resources*: which of `cpus` and `memory` count beside GPUs.
    Times of submission are divided by *scale_load*. *progress* is called with the rows read so far, every 10,000.
    Raises InvalidInput for a file that is not such a trace: file, line, field, value and what is allowed.
    """
    if is_json(path):
        return read_history(
            path, nodes, partition=partition, resources=resources, scale_load=scale_load, max_rows=max_rows
        )
    check_scale(scale_load)
    table = Table(path, REQUIRED)
    _check_partition(table, partition)
    workload = Workload(str(path), [], [])
    found = _Rows(table, Shapes(table, nodes, partition, resources), scale_load)
    for count, one in enumerate(found.read(), 1):
        if count > max_rows:
            raise too_many(path, max_rows)
        if isinstance(one, Refused):
            workload.refused.append(one)
        else:
            workload.jobs.append(one)
        if progress is not None and not count % PROGRESS_ROWS:
            progress(count)
    if not workload.jobs and not workload.refused:
        raise InvalidInput(f"{path}: expected a line for each job after the header, got none")
    _sort(workload.jobs)
    return workload


def _check_partition(table: Table, partition: str | None) -> None:
    if partition is not None and partition not in table.columns:
        raise InvalidInput(
            f"{table.path}:1: --partition: expected a column of the trace, got {partition!r:.60}",
            field="partition",
            fix=f"its columns are {listed(table.columns)}",
        )


class _Rows:
    """The rows of *table* as jobs. It runs for each of millions: what can be is looked up and not worked out."""

    def __init__(self, table: Table, shapes: Shapes, scale_load: float) -> None:
        self._table = table
        self._shapes = shapes
        self._scale_load = scale_load
        self._submit = Column(table, "submit_s")
        self._duration = Column(table, "duration_s")
        self._limit = Column(table, "time_limit_s", least=1)
        self._lines: dict[str, int] = {}

    def read(self) -> Iterator[TraceJob | Refused]:
        """Yield a job, numbered from 1, or a refusal for each row, in file order."""
        table, shapes, durations, scale = self._table, self._shapes, self._duration, self._scale_load
        read_submit, cells_of, lines = self._submit.read, shapes.cells_of, self._lines
        name_at, submit_at, duration_at = self._table.place("job_id"), self._submit.place, durations.place
        user_at, team_at, group_at = table.place("user"), table.place("team"), table.place("group")
        priority_at, limit_at = table.place("priority"), self._limit.place
        number = 0
        for row in table.rows():
            name = row[name_at]
            if not name or lines.setdefault(name, table.line) != table.line:
                raise self._bad_name(name)
            submit_s, duration_s = read_submit(row[submit_at]) / scale, durations[row[duration_at]]
            if (priority := _PRIORITIES.get(row[priority_at])) is None:
                raise table.wrong("priority", row[priority_at], f"{', '.join(Priority)} or nothing")
            limit_s = math.ceil(self._limit[row[limit_at]]) if row[limit_at] else None
            request = shapes[cells_of(row)]
            if isinstance(request, str):
                yield Refused(table.line, name, request)
                continue
            number += 1
            user, team = intern(row[user_at] or NOBODY), intern(row[team_at] or row[group_at])
            id = JobId(number)
            yield TraceJob(
                name,
                duration_s,
                Job(id, name, user, request, submit_s, priority, team, limit_s, expected_s=duration_s),
            )

    def _bad_name(self, name: str) -> InvalidInput:
        if not name:
            return self._table.wrong("job_id", name, "an id")
        return self._table.wrong("job_id", name, f"each id once (it is in line {self._lines[name]} too)")


def _sort(jobs: list[TraceJob]) -> None:
    """Put *jobs* in order of submission, ties as they are, and number them anew if that changes anything."""
    times = [one.job.submitted_s for one in jobs]
    if all(map(float.__le__, times, times[1:])):
        return
    jobs.sort(key=lambda one: one.job.submitted_s)
    for place, one in enumerate(jobs):
        jobs[place] = replace(one, job=replace(one.job, id=JobId(place + 1)))
