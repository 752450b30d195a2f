"""The entry point of `shunter`. Imports here are paid by every call; the commands import the rest."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Final, NoReturn

import click

from shunter import __version__
from shunter.cli.failure import Failure, explain
from shunter.cli.lazy import Lazy, LazyGroup

_JOBS: Final = "Jobs"
_CLUSTER: Final = "Cluster"
_SERVERS: Final = "Servers"

COMMANDS: Final = {
    "submit": Lazy("shunter.cli.submit:submit", "Submit a job: a command, a script or a job file.", _JOBS),
    "queue": Lazy("shunter.cli.queue:queue", "List jobs, and why each one waits.", _JOBS),
    "show": Lazy("shunter.cli.show:show", "Show everything about a job.", _JOBS),
    "logs": Lazy("shunter.cli.logs:logs", "Print or follow what a job prints.", _JOBS),
    "cancel": Lazy("shunter.cli.cancel:cancel", "End jobs, waiting or running.", _JOBS),
    "wait": Lazy("shunter.cli.wait:wait", "Wait until jobs have ended.", _JOBS),
    "nodes": Lazy("shunter.cli.nodes:nodes", "List nodes and their GPUs.", _CLUSTER),
    "node": Lazy("shunter.cli.nodes:node", "Cordon, drain or give up a node, or run one here.", _CLUSTER),
    "events": Lazy("shunter.cli.events:events", "Print or follow every change of jobs and nodes.", _CLUSTER),
    "cluster": Lazy("shunter.cli.cluster:cluster", "Show the cluster in one look.", _CLUSTER),
    "policy": Lazy(
        "shunter.cli.policy:policy", "Check, show and compare policies: who goes first, and where.", _CLUSTER
    ),
    "simulate": Lazy("shunter.sim.command:simulate", "Try policies on a trace of jobs, without a cluster.", _CLUSTER),
    "demo": Lazy("shunter.demo.command:demo", "See Shunter at work: a sweep of small training jobs.", _SERVERS),
    "up": Lazy("shunter.local.command:up", "Start Shunter on this machine.", _SERVERS),
    "down": Lazy("shunter.local.command:down", "Stop what `up` started.", _SERVERS),
    "rejoin": Lazy(
        "shunter.cli.cluster:rejoin", "Give up data that Redis has lost, and go on with what it holds now.", _SERVERS
    ),
    "backup": Lazy("shunter.cli.backup:backup", "Write all state of a cluster to a file.", _SERVERS),
    "restore": Lazy("shunter.cli.backup:restore", "Put a backup into a Redis.", _SERVERS),
    "deploy": Lazy(
        "shunter.cli.deploy:deploy", "Write configuration for Redis with Sentinel or as a cluster.", _SERVERS
    ),
    "gateway": Lazy("shunter.gateway.command:gateway", "Run a gateway (the HTTP API; any number).", _SERVERS),
    "coordinator": Lazy(
        "shunter.cli.coordinator:coordinator", "Run a coordinator (one of several leads), or see who leads.", _SERVERS
    ),
}

EPILOG: Final = """\b
The server: SHUNTER_URL and SHUNTER_TOKEN, else the one that runs here (`shunter up`).

\b
Exit codes:
    0  done
    1  something unexpected; of `policy diff`: the two differ
    2  input that can never be accepted
    3  this machine lacks something, or no Shunter is known
    4  no such job, node or attempt
    5  wrong or missing token
    6  the state of the thing does not allow it
    7  the server cannot be reached; try again
  124  `wait --timeout` or `node drain --timeout` ran out
  130  Ctrl-C
`submit --follow` and `wait` exit with the job's own status (128 + N: killed by signal N).
"""


@click.command(
    cls=LazyGroup,
    table=COMMANDS,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=EPILOG,
)
@click.version_option(__version__, "-V", "--version", message="shunter %(version)s")
@click.pass_context
def shunter(ctx: click.Context) -> None:
    """Shunter runs GPU jobs for teams: it queues them, packs them onto nodes, and says why each one waits.

    \b
    shunter up                                     start it on this machine
    shunter submit --gpus 1 -- python train.py     submit a job
    shunter queue                                  see what runs and what waits
    shunter logs -f 1                              read along
    """
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command in *argv* (default: the process's own) and return its exit code; stderr says what went wrong."""
    for stream in (sys.stdout, sys.stderr):  # a log may hold characters that this terminal has not
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    try:
        status = shunter.main(args=argv, prog_name="shunter", standalone_mode=False)
        sys.stdout.flush()
    except BaseException as error:
        failure = explain(error)
        _say(failure)
        return failure.exit_code
    return status if isinstance(status, int) else 0


def _say(failure: Failure) -> None:
    try:
        for line in failure.lines:
            click.echo(line, err=True)
        if failure.pipe_is_broken:
            import os

            # What is still buffered would raise once more when Python closes stdout.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ValueError):
        pass  # stderr is gone too: the exit code is all that is left to say


def run() -> NoReturn:
    """The console script."""
    sys.exit(main())
