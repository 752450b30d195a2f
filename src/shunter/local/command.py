"""`shunter up` and `shunter down`."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from shunter.agent.traits import read_traits, trait_options
from shunter.errors import NotFound, SetupError, ShunterError

if TYPE_CHECKING:
    from shunter.local.cluster import LocalCluster
    from shunter.sdk.client import Client

STOP_TIMEOUT_S = 60.0
READY_FD = "SHUNTER_UP_READY_FD"
"""Names the descriptor that `up --detach` reads from the process that it started."""

DOWN_REASON = "shunter down"
"""Why `down --drain` cordons; the next `up` takes such a cordon back, and no other."""

RUNNING = ("starting", "running", "stopping")


@click.command(short_help="Run everything on this machine.")
@click.option("--gpus", default="auto", show_default=True, metavar="SOURCE", help="auto, nvml, simulated:N or none.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=8470, show_default=True, type=click.IntRange(0, 65_535), help="0 picks a free one.")
@click.option("--name", help="Name of the node (default: this host's name).")
@click.option("--cluster", default="main", show_default=True, help="Name of the cluster.")
@click.option("--home", type=click.Path(file_okay=False), help="State folder (default: SHUNTER_HOME).")
@click.option(
    "--policy",
    envvar="SHUNTER_POLICY",
    metavar="FILE|NAME",
    help="Who goes first and where (default: SHUNTER_POLICY, else policy.yaml in the home, else the shipped default).",
)
@trait_options
@click.option("--detach", "-d", is_flag=True, help="Go to the background once it is up.")
def up(
    gpus: str,
    host: str,
    port: int,
    name: str | None,
    cluster: str,
    home: str | None,
    policy: str | None,
    pool: str | None,
    rack: str | None,
    label: tuple[str, ...],
    detach: bool,
) -> None:
    """Run everything on this machine: Redis, a gateway, a coordinator, and a node with this machine's GPUs.

    Ctrl-C stops it and leaves jobs running; the next `up` finds them.

    \b
    Examples:
      shunter up
      shunter up --gpus simulated:8 --detach
      shunter up --policy policy.yaml
    """
    from shunter.agent.gpus import open_source
    from shunter.coordinator.policy_source import PolicySource
    from shunter.local.cluster import LocalCluster, NodePlan
    from shunter.runtime import log
    from shunter.runtime.host import check_node_name
    from shunter.runtime.paths import default_home
    from shunter.runtime.variables import naming_variables

    folder = Path(home).expanduser().absolute() if home else default_home()
    node = check_node_name(name or socket.gethostname().partition(".")[0].lower())
    # Fail now, with the reason, rather than in the log of a role.
    with naming_variables():
        plan = NodePlan(node, gpus, traits=read_traits(pool, rack, label))
        PolicySource(policy or None, folder)
    open_source(gpus, node=node).close()
    if detach:
        _detach(folder)
        return
    log.configure("up")
    running = LocalCluster(folder, nodes=[plan], host=host, port=port, cluster=cluster, policy=policy)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: stop.set())
    running.start()
    watcher = threading.Thread(target=_guarded_watch, args=(running, stop), daemon=True)
    try:
        _say_up(_announcement(running, folder))
        watcher.start()
        stop.wait()
        left = _running_jobs(running)
    finally:
        click.echo("stopping ...")
        running.stop()
    _say_down(left)


def _guarded_watch(running: LocalCluster, stop: threading.Event) -> None:
    try:
        running.watch()
    finally:
        stop.set()


def _detach(folder: Path) -> None:
    """Start the same command without --detach in a session of its own, and wait until it is up."""
    from shunter.local.cluster import holder, running_already

    argv = [word for word in sys.argv[1:] if word not in ("--detach", "-d")]
    if holder(folder):
        raise running_already(folder)
    (folder / "logs").mkdir(parents=True, exist_ok=True, mode=0o700)
    path = folder / "logs" / "up.log"
    read, write = os.pipe()
    with path.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "shunter", *argv],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
            pass_fds=[write],
            env=os.environ | {READY_FD: str(write)},
        )
    os.close(write)
    with os.fdopen(read) as pipe:
        said = pipe.read()  # comes when it is up; nothing, if it ends before
    if not said:
        process.wait()
        raise SetupError(path.read_text().strip().removeprefix("shunter: ") or "up: ended at once")
    click.echo(said.rstrip().replace("Ctrl-C leaves jobs running; ", ""))


def _say_up(text: str) -> None:
    """Print *text*, and hand it to the `up --detach` that waits for it."""
    click.echo(text)
    sys.stdout.flush()
    ready = os.environ.pop(READY_FD, "")
    if ready:
        with os.fdopen(int(ready), "w") as pipe:
            pipe.write(text)


def _announcement(running: LocalCluster, folder: Path) -> str:
    """Return what to tell who started it; take the cordons of an earlier `down` back first."""
    with running.client() as client:
        for view in client.nodes():
            if view.node.cordoned == DOWN_REASON:
                client.uncordon(view.node.name)
        views = client.nodes()
        jobs = [job.state for job in client.jobs()]
    lines = [f"Shunter is up at {running.url} (API described at {running.url}/docs)"]
    for view in views:
        models = sorted({gpu.model for gpu in view.node.gpus})
        lines.append(
            f"  node   {view.node.name}: {len(view.node.gpus)} GPUs ({', '.join(models) or 'none'}), "
            f"{view.node.cpus} cores, {view.node.memory_mib / 1024:.0f} GiB"
        )
    lines.append(f"  state  {folder} (token in {folder / 'token'}, logs in {folder / 'logs'})")
    if jobs:
        going = sum(state in RUNNING for state in jobs)
        lines.append(f"  jobs   {going} running and {len(jobs) - going} queued from before")
    lines.append("  try    shunter submit --gpus 1 --follow -- python3 -c 'print(\"hello\")'")
    lines.append("  stop   Ctrl-C leaves jobs running; shunter down [--drain | --cancel]")
    return "\n".join(lines)


def _running_jobs(running: LocalCluster) -> list[int]:
    with contextlib.suppress(ShunterError), running.client() as client:
        return [job.id for job in client.jobs(states=RUNNING)]
    return []


def _say_down(left: list[int]) -> None:
    if left:
        click.echo(f"Shunter is down; jobs that go on under their keeper: {_listed(left)}; the next `up` finds them")
    else:
        click.echo("Shunter is down")


def _listed(ids: list[int]) -> str:
    return ", ".join(map(str, ids[:10])) + (f" and {len(ids) - 10} more" if len(ids) > 10 else "")


@click.command(short_help="Stop what `up` started.")
@click.option("--drain", is_flag=True, help="Wait for running jobs first; start no new ones.")
@click.option("--cancel", is_flag=True, help="End running jobs first; queued ones stay for the next `up`.")
@click.option("--home", type=click.Path(file_okay=False), help="State folder (default: SHUNTER_HOME).")
def down(drain: bool, cancel: bool, home: str | None) -> None:
    """Stop what `shunter up` started. Without an option, running jobs go on and the next `up` finds them.

    \b
    Examples:
      shunter down --drain
      shunter down --cancel
    """
    from shunter.local.cluster import holder
    from shunter.runtime.paths import default_home

    if drain and cancel:
        raise click.UsageError("--drain and --cancel exclude each other")
    folder = Path(home).expanduser().absolute() if home else default_home()
    pid = holder(folder)
    if pid is None:
        raise NotFound(f"down: no Shunter is running in {folder}", fix="start one with `shunter up`")
    left: list[int] = []
    if drain or cancel:
        with _client(folder) as client:
            _empty(client, cancel=cancel)
    else:
        with contextlib.suppress(ShunterError), _client(folder) as client:
            left = [job.id for job in client.jobs(states=RUNNING)]
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + STOP_TIMEOUT_S
    while holder(folder) == pid:
        if time.monotonic() > deadline:
            raise SetupError(f"down: process {pid} does not end", fix=f"see {folder / 'logs'}")
        time.sleep(0.05)
    _say_down(left)


def _client(folder: Path) -> Client:
    """Return a client of the `up` in *folder*, whatever SHUNTER_URL says."""
    from shunter.local.cluster import endpoint
    from shunter.sdk.client import Client

    found = endpoint(folder)
    if not found:
        raise SetupError("down: Shunter is still starting", fix="try again in a moment")
    try:
        return Client(str(found["url"]), (folder / "token").read_text().strip())
    except OSError as error:
        raise SetupError(
            f"token: cannot read {folder / 'token'}: {error.strerror}",
            fix="stop without --drain or --cancel; the next `shunter up` makes a new one",
        ) from error


def _empty(client: Client, *, cancel: bool) -> None:
    """Let no new job start, and wait until none runs."""
    nodes = [view.node.name for view in client.nodes() if not view.node.cordoned]
    for name in nodes:
        client.cordon(name, reason=DOWN_REASON)
    try:
        running = [job.id for job in client.jobs(states=RUNNING)]
        if running:
            what = "cancelling" if cancel else "waiting for"
            click.echo(f"{what} running jobs: {_listed(running)} ...")
            if cancel:
                client.cancel(*running)
            client.wait(*running)
    except BaseException:
        for name in nodes:
            client.uncordon(name)
        raise
