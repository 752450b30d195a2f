"""`shunter show`."""

from __future__ import annotations

import shlex

import click

from shunter.cli.connect import connect
from shunter.cli.options import job_id, json_option
from shunter.cli.output import clock, print_json, why
from shunter.cli.table import pairs
from shunter.domain.duration import format_duration
from shunter.domain.job import WHOLE_GPU, Request, Within
from shunter.domain.phase import PastAttempt
from shunter.domain.report import JobView


@click.command(short_help="Show everything about a job.")
@click.argument("id", type=job_id)
@json_option
def show(id: int, as_json: bool) -> None:
    """Show a job: what it runs, where, since when, why it waits, and how its attempts ended.

    \b
    Examples:
      shunter show 12
      shunter show 12 --json | jq .state
    """
    with connect() as client:
        view = client.job(id)
    if as_json:
        print_json(view)
    else:
        click.echo(pairs(_rows(view)))


def _rows(view: JobView) -> list[tuple[str, str]]:
    launch, job = view.launch, view.job
    said = why(view)
    return [
        ("job", f"{view.id} {view.name}"),
        ("state", f"{view.state}: {said}" if said else view.state),
        ("user", f"{view.user} ({view.team})" if view.team else view.user),
        ("cluster", view.cluster),
        ("priority", view.priority),
        ("asks for", _request(view)),
        ("only on", _narrowing(job.request)),
        ("time limit", format_duration(job.time_limit_s) if job.time_limit_s else "none"),
        ("expected", "" if job.expected_s is None else format_duration(int(job.expected_s))),
        ("grace", format_duration(job.grace_s)),
        ("command", _command(view)),
        ("folder", launch.cwd if launch else ""),
        ("submitted", clock(view.submitted_s)),
        ("waited", format_duration(view.waited_s)),
        ("started", clock(view.started_s)),
        ("ended", clock(view.ended_s)),
        ("ran", _ran(view)),
        ("nodes", _placement(view)),
        ("exit status", "" if view.exit_status is None else str(view.exit_status)),
        ("attempt", f"{view.attempt} ({view.retries} of {job.max_retries} retries used)" if view.attempt else ""),
        *((f"attempt {past.attempt}", _past(past)) for past in view.past),
    ]


def _ran(view: JobView) -> str:
    ran = "" if view.ran_s is None else format_duration(view.ran_s)
    frozen_s = view.outcome.frozen_s if view.outcome else 0.0
    return f"{ran}, {format_duration(frozen_s)} of it frozen while its node had no lease" if frozen_s else ran


def _request(view: JobView) -> str:
    request = view.job.request
    parts = [f"{request.gpus} GPU{'' if request.gpus == 1 else 's'}"]
    if request.gpu_milli < WHOLE_GPU:
        parts = [f"{view.gpus} of a GPU"]
    if request.last_gpus:
        parts.append(f"{request.gpus_per_node} on each of {request.nodes} nodes but {request.last_gpus} on the last")
    elif request.nodes > 1:
        parts.append(f"{request.gpus_per_node} on each of {request.nodes} nodes")
    if request.cpus:
        parts.append(f"{request.cpus} cores")
    if request.memory_mib:
        parts.append(f"{request.memory_mib / 1024:g} GiB")
    return ", ".join(parts) + (" per node" if request.nodes > 1 and len(parts) > 2 else "")


def _narrowing(request: Request) -> str:
    parts = [f"pool {request.pool}"] if request.pool else []
    parts += [f"{name}={value}" for name, value in request.labels]
    if request.models:
        parts.append(" or ".join(request.models))
    if request.avoid:
        parts.append(f"not {', '.join(request.avoid)}")
    if request.within:
        parts.append(f"all in one {'NVLink ' if request.within is Within.ISLAND else ''}{request.within}")
    return "; ".join(parts)


def _command(view: JobView) -> str:
    if view.launch is None:
        return ""
    argv = view.launch.argv
    if argv[:2] == ["/bin/sh", "-c"] and len(argv) == 3:
        return argv[2]
    return shlex.join(argv) if argv else "a script"


def _placement(view: JobView) -> str:
    gpus = {node: ",".join(map(str, devices)) for node, devices in view.devices.items()}
    part_of = f"{view.gpus} of " if view.job.request.gpu_milli < WHOLE_GPU else ""
    return ", ".join(f"{node} ({part_of}GPU {gpus[node]})" if gpus.get(node) else node for node in view.nodes)


def _past(past: PastAttempt) -> str:
    ran = "" if past.started_s is None else f" after {format_duration(past.ended_s - past.started_s)}"
    said = f": {past.outcome.message}" if past.outcome.message else ""
    return f"{past.outcome.result}{ran} on {', '.join(past.nodes) or 'no node'}{said}"
