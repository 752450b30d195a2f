"""The demo: the real system in a folder of its own, a real sweep, and a picture of what it did with the GPUs."""

from __future__ import annotations

import contextlib
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

import structlog
from msgspec import Struct
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from shunter.demo import picture
from shunter.demo.picture import Bar
from shunter.demo.sweep import RUNS, Run
from shunter.domain.duration import format_duration
from shunter.domain.job import JobSpec, Priority
from shunter.domain.report import ENDED_STATES, JobView
from shunter.errors import NotFound, SetupError
from shunter.local.cluster import LocalCluster, NodePlan
from shunter.sdk.client import Client

NODES: Final = (NodePlan("n1", "simulated:4"), NodePlan("n2", "simulated:4"))
SHAPE: Final = tuple((node.name, 4) for node in NODES)
REFRESH_S: Final = 0.4
TIMEOUT_S: Final = 600.0
STATE_STYLES: Final = {
    "queued": "dim", "starting": "cyan", "running": "cyan bold", "stopping": "yellow", "succeeded": "green",
    "failed": "red", "cancelled": "yellow", "timeout": "red", "lost": "red",
}  # fmt: skip
EXPECTED: Final = {"train": "succeeded", "fails": "failed", "cancelled": "cancelled"}


class Row(Struct):
    """A run, its job, and the last line that it printed."""

    run: Run
    job: JobView
    said: str = ""

    @property
    def accuracy(self) -> str:
        return self.said.removeprefix("accuracy=") if self.said.startswith("accuracy=") else ""


def check_extra() -> None:
    """Raise SetupError unless scikit-learn is installed."""
    from importlib.util import find_spec

    if find_spec("sklearn") is None:
        raise SetupError("demo: scikit-learn is not installed", fix="pip install 'shunter[demo]'")


def run_demo(console: Console, output: Path, *, keep: bool) -> bool:
    """Run the demo, write the picture to *output* (.svg or .html); return whether all ended as they were meant to."""
    check_extra()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    home = Path(tempfile.mkdtemp(prefix="shunter-demo-"))
    gpus = sum(run.gpus for run in RUNS)
    console.print(
        f"Starting Redis, a gateway, a coordinator and {len(NODES)} nodes with 4 simulated GPUs each, in {home} ..."
    )
    cluster = LocalCluster(home, nodes=NODES, cluster="demo")
    try:
        with cluster, cluster.client() as client:
            threading.Thread(target=cluster.watch, daemon=True).start()
            console.print(
                f"Up at {cluster.url}. Submitting {len(RUNS)} training runs on handwritten digits: {gpus} GPUs asked "
                "for, 8 there. One will fail, one will be cancelled.\n"
            )
            rows = _submit(client)
            try:
                _watch(console, client, rows)
            except BaseException:
                client.cancel(*[row.job.id for row in rows])
                client.wait(*[row.job.id for row in rows], timeout_s=30)
                raise
            _conclude(console, rows, output)
            return all(row.job.state == EXPECTED[row.run.purpose] for row in rows)
    finally:
        cluster.join_keepers()
        if keep:
            console.print(f"State, logs and checkpoints are kept in {home}")
        else:
            shutil.rmtree(home, ignore_errors=True)


def _submit(client: Client) -> list[Row]:
    """Submit all runs in one request: one scheduling pass sees them all, and priorities count from the start."""
    specs = [
        JobSpec(
            command=[sys.executable, "-m", "shunter.demo.train", *run.argv],
            name=run.name,
            gpus=run.gpus,
            priority=Priority(run.priority),
            time="5m",
            grace=10,
            env={"PYTHONUNBUFFERED": "1"},
            cwd="/",
        )
        for run in RUNS
    ]
    return [Row(run, job) for run, job in zip(RUNS, client.submit_many(specs), strict=True)]


def _watch(console: Console, client: Client, rows: list[Row]) -> None:
    """Show the jobs until all have ended.

    Cancel the one that is meant to be cancelled once it trains and others have ended.
    """
    cancelled = False
    deadline = time.monotonic() + TIMEOUT_S
    began = time.time()
    with Live(console=console, refresh_per_second=4, transient=True) as live:
        while not all(row.job.state in ENDED_STATES for row in rows):
            if time.monotonic() > deadline:
                raise SetupError(f"demo: not done within {TIMEOUT_S:g} s", fix="run it with --keep and see its logs")
            _refresh(client, rows)
            ended = sum(row.job.state in ENDED_STATES for row in rows)
            for row in rows:
                trains = row.job.state == "running" and row.said.startswith("epoch")
                if row.run.purpose == "cancelled" and not cancelled and trains and ended >= 3:
                    client.cancel(row.job.id)
                    cancelled = True
            live.update(_live_view(rows, time.time() - began))
            time.sleep(REFRESH_S)


def _refresh(client: Client, rows: Iterable[Row]) -> None:
    jobs = {job.id: job for job in client.jobs(all=True, limit=len(RUNS))}
    for row in rows:
        if row.job.state in ENDED_STATES and row.said:
            continue
        row.job = jobs.get(row.job.id, row.job)
        if row.job.started_s is not None:
            with contextlib.suppress(NotFound):
                row.said = "".join(client.logs(row.job.id, tail=1)).strip() or row.said


def _live_view(rows: Sequence[Row], passed_s: float) -> Group:
    states = [row.job.state for row in rows]
    head = Text(
        f"{sum(s in ('running', 'starting', 'stopping') for s in states)} running, {states.count('queued')} queued, "
        f"{sum(s in ENDED_STATES for s in states)} ended   {format_duration(passed_s)}",
        style="bold",
    )
    table = _table({"id": 3, "name": 20, "prio": 6, "gpus": 4, "state": 9, "where": 6, "time": 5})
    table.add_column("last line, or why it waits", overflow="ellipsis", no_wrap=True)
    for row in rows:
        job = row.job
        spent = job.ran_s if job.ran_s is not None else job.waited_s
        says = job.why if job.state == "queued" else row.said
        style = STATE_STYLES.get(job.state, "")
        table.add_row(
            str(job.id), job.name, job.priority, str(job.gpus), Text(job.state, style=style), _where(job),
            format_duration(spent), Text(says, style="dim" if job.state == "queued" else ""),
        )  # fmt: skip
    return Group(head, table)


def _table(columns: dict[str, int]) -> Table:
    """Return an empty table whose columns, with least widths, fit 80 characters."""
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold underline")
    for name, width in columns.items():
        right = name in ("id", "gpus", "waited", "ran", "time", "exit", "accur.")
        table.add_column(name, justify="right" if right else "left", no_wrap=True, min_width=width)
    return table


def _where(job: JobView) -> str:
    """Return `n1:0` or `n1:0-3`."""
    return " ".join(
        f"{node}:{gpus[0]}-{gpus[-1]}"
        if gpus[-1] - gpus[0] == len(gpus) - 1 > 0
        else f"{node}:{','.join(map(str, gpus))}"
        for node, gpus in job.devices.items()
        if gpus
    )


def _conclude(console: Console, rows: Sequence[Row], output: Path) -> None:
    table = _table(
        {"id": 3, "name": 20, "prio": 6, "gpus": 4, "where": 6, "waited": 6, "ran": 5, "exit": 4, "result": 9,
         "accur.": 6}
    )  # fmt: skip
    console.print(Text("What became of the jobs", style="italic"))
    for row in rows:
        job = row.job
        table.add_row(
            str(job.id), job.name, job.priority, str(job.gpus), _where(job), format_duration(job.waited_s),
            format_duration(job.ran_s or 0), _exit(job), Text(job.state, style=STATE_STYLES[job.state]), row.accuracy,
        )  # fmt: skip
    console.print(table)
    bars = _bars(rows)
    console.print(Text("When each GPU was used, and by which job", style="italic"))
    console.print(picture.terminal(bars, SHAPE, console.width))
    svg = picture.svg(bars, SHAPE, "Shunter demo: 8 simulated GPUs")
    if output.suffix == ".html":
        svg = f"<!doctype html><meta charset=utf-8><title>Shunter demo</title>{svg}"
    output.write_text(svg)
    best = max((row for row in rows if row.accuracy), key=lambda row: float(row.accuracy), default=None)
    ok = sum(row.job.state == EXPECTED[row.run.purpose] for row in rows)
    console.print(f"\n{ok} of {len(rows)} runs ended as they were meant to", end="")
    if best is not None:
        console.print(f"; the best is {best.job.name} with an accuracy of {best.accuracy}", end="")
    console.print(f".\nThe same picture, larger: {output}")
    command = "shunter" if shutil.which("shunter") else str(Path(sys.argv[0]).parent / "shunter")
    console.print(f"Next: `{command} up --gpus simulated:8` (or without --gpus, on a machine with NVIDIA GPUs).")


def _exit(job: JobView) -> str:
    outcome = job.outcome
    if outcome is None:
        return ""
    return (
        f"signal {outcome.signal}"
        if outcome.signal is not None
        else str(outcome.code if outcome.code is not None else "")
    )


def _bars(rows: Iterable[Row]) -> list[Bar]:
    return [
        Bar(job.id, job.name, node, gpus, job.started_s, job.ended_s, job.state, job.priority)
        for job in (row.job for row in rows)
        if job.started_s is not None and job.ended_s is not None
        for node, gpus in job.devices.items()
    ]
