"""`shunter submit`."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from shunter.cli.connect import connect
from shunter.cli.options import duration, gpu_count, json_option
from shunter.cli.output import end_line, exit_status, print_json, warn, write
from shunter.cli.unknown import warn_of_unknown
from shunter.errors import ForeignStore, InvalidInput, ShunterError, Unavailable

if TYPE_CHECKING:
    from shunter.domain.job import JobSpec
    from shunter.domain.report import JobView
    from shunter.sdk.client import Client

_COMMAND: Final = "shunter.command"
_EXAMPLE: Final = "for example: shunter submit --gpus 1 -- python train.py"
_ENV_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)


class SubmitCommand(click.Command):
    """Takes what stands after the first `--` as it is: the command's options are not ours."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if "--" in args:
            at = args.index("--")
            args, ctx.meta[_COMMAND] = args[:at], args[at + 1 :]
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            if _COMMAND not in ctx.meta and any(not word.startswith("-") for word in args):
                raise click.UsageError(
                    f"no such option {error.option_name}; the command and its options go after --, {_EXAMPLE}", ctx
                ) from error
            raise


@click.command(cls=SubmitCommand, options_metavar="[OPTIONS]", short_help="Submit a job.")
@click.argument("file", required=False, metavar="[JOB.yaml] [-- COMMAND ARGS...]")
@click.argument("surplus", nargs=-1, metavar="")
@click.option("--gpus", type=gpu_count, metavar="N", help="GPUs of the whole job (1); 0.25 is a share of one.")
@click.option("--nodes", type=int, metavar="N", help="Nodes to divide them over (1).")
@click.option("--cpus", type=int, metavar="N", help="Cores on each node.")
@click.option("--memory-gib", type=float, metavar="X", help="Memory on each node.")
@click.option("--gpu-model", metavar="M", help="Only GPUs of this model, such as H100 or 'A100|H100'.")
@click.option("--label", multiple=True, metavar="K=V", help="Only nodes with this label (repeatable).")
@click.option("--avoid", multiple=True, metavar="NODE,...", help="Not on these nodes (repeatable).")
@click.option("--pool", metavar="NAME", help="Only nodes of this pool.")
@click.option("--within", type=click.Choice(["rack", "island"]), help="All in one rack, or GPUs in one NVLink island.")
@click.option("--name", metavar="TEXT", help="Name (default: the program's or the script's).")
@click.option("--time", type=duration("time"), metavar="2h", help="Time limit (default: none).")
@click.option("--expect", type=duration("expect"), metavar="1h", help="How long it is thought to run.")
@click.option("--grace", type=duration("grace"), metavar="30s", help="From SIGTERM to SIGKILL (30s).")
@click.option("--priority", type=click.Choice(["high", "medium", "low"]), help="Priority class (medium).")
@click.option("--env", multiple=True, metavar="K=V|K", help="Set a variable, or copy this one (repeatable).")
@click.option("--env-all", is_flag=True, default=None, help="Copy all variables but SHUNTER_TOKEN.")
@click.option("--cwd", metavar="DIR", help="Folder to run in (default: this one).")
@click.option("--user", metavar="NAME", help="User to run for (default: you).")
@click.option("--team", metavar="NAME", help="Team to run for.")
@click.option("--max-retries", type=int, metavar="N", help="Tries after infrastructure failures (3).")
@click.option("--split-stderr", is_flag=True, default=None, help="Keep stderr in a log of its own.")
@click.option("--script", metavar="FILE", help="Send this script and run it.")
@click.option("--key", metavar="TEXT", help="The same key never submits twice, within a day.")
@click.option("--follow", is_flag=True, help="Print the job's output; exit with its status.")
@json_option
@click.pass_context
def submit(
    ctx: click.Context,
    /,
    file: str | None,
    surplus: tuple[str, ...],
    key: str | None,
    follow: bool,
    as_json: bool,
    **given: Any,
) -> int:
    """Submit a job: a command after --, a script, or a job file (YAML; a list holds many jobs).

    Options win over the file. The job gets the variables that select a toolchain (PATH, VIRTUAL_ENV,
    CONDA_PREFIX, CONDA_DEFAULT_ENV, PYTHONPATH, LD_LIBRARY_PATH); --env and --env-all add others.

    \b
    Examples:
      shunter submit --gpus 2 --time 2h -- python train.py --lr 0.1
      shunter submit --gpus 1 --follow --script train.sh
      shunter submit --gpus 0.25 --gpu-model 'A100|H100' -- python serve.py
      shunter submit job.yaml --priority high

    \b
    job.yaml:
      command: python train.py --lr 0.1
      gpus: 2
      time: 2h
      env: {WANDB_MODE: offline}
    """
    command: list[str] | None = ctx.meta.get(_COMMAND)
    _check_words(file, surplus, command)
    if follow and as_json:
        raise InvalidInput("--follow: prints the job's output, so it goes not with --json", fix="leave one out")
    specs, is_list = _specs(file, command, given)
    if follow and len(specs) != 1:
        raise InvalidInput(f"--follow: expected one job, got {len(specs)}", fix="submit them, then `shunter logs -f`")
    with connect() as client:
        views = _accepted(client, specs, key)
        if as_json:
            print_json(views if is_list else views[0])
            warn_of_unknown(client, views)
            return 0
        for view in views:
            click.echo(f"submitted job {view.id}", err=follow)  # with --follow, stdout is the job's
        if not all(view.confirmed for view in views):
            warn("accepted, but no replica of Redis has confirmed it yet: a take-over in this moment may forget it")
        warn_of_unknown(client, views)
        _say_what_is_missing(client, views, followed=follow)
        return _follow(client, views[0].id) if follow else 0


def _accepted(client: Client, specs: list[JobSpec], key: str | None) -> list[JobView]:
    import uuid

    key = key or uuid.uuid4().hex
    try:
        return client.submit_many(specs, idempotency_key=key)
    except ForeignStore:
        raise
    except Unavailable as error:
        what = "the job was" if len(specs) == 1 else "the jobs were"
        error.message = f"it is not known whether {what} accepted: {error.message}"
        again = f"give the same command again with --key {key}, which never submits twice"
        error.fix = f"{error.fix}; then {again}" if error.fix else again
        raise


def _check_words(file: str | None, surplus: tuple[str, ...], command: list[str] | None) -> None:
    """Refuse a command without `--`, and an empty one."""
    looks_like_file = file is None or file.endswith((".yaml", ".yml", ".json")) or Path(file).is_file()
    if surplus or not looks_like_file:
        words = " ".join([file or "", *surplus])
        raise InvalidInput(
            f"file: expected a job file, got {words!r}", fix=f"put a command after --, {_EXAMPLE}", field="file"
        )
    if command is not None and not (command and command[0].strip()):
        raise InvalidInput("command: expected a program after --, got nothing", field="command", fix=_EXAMPLE)


def _specs(file: str | None, command: list[str] | None, given: dict[str, Any]) -> tuple[list[JobSpec], bool]:
    """Return the jobs to submit, and whether the file holds a list."""
    from shunter.domain.words import read_pairs
    from shunter.sdk.spec import make_spec

    flags = _flags(command, given)
    jobs: list[dict[str, object]] = [{}]
    is_list = False
    if file is not None:
        from shunter.cli.jobfile import read_jobs

        jobs, is_list = read_jobs(file)
    carried, chosen, labels = _carried(bool(given["env_all"])), _chosen(given["env"]), read_pairs(given["label"])
    specs = [make_spec(_merged(job, flags, carried=carried, chosen=chosen, labels=labels)) for job in jobs]
    return specs, is_list


def _flags(command: list[str] | None, given: dict[str, Any]) -> dict[str, object]:
    """Return the fields that the options set."""
    mixed_in = ("env", "env_all", "label")
    flags = {name: value for name, value in given.items() if value not in (None, ()) and name not in mixed_in}
    if "avoid" in flags:
        flags["avoid"] = list(given["avoid"])
    if given["script"] is not None:
        if command is not None:
            raise InvalidInput(
                "script: goes not with a command", field="script", fix="leave one out; a script takes no arguments"
            )
        flags |= _script(given["script"], given["name"])
    if command is not None:
        flags["command"] = command
    return flags


def _script(path: str, name: str | None) -> dict[str, object]:
    from shunter.cli.jobfile import read_text
    from shunter.domain.job import MAX_SCRIPT_BYTES

    return {
        "script": read_text(path, field="script", most=MAX_SCRIPT_BYTES),
        "name": name or Path(path).name[:128] or "script",
    }


def _merged(
    job: dict[str, object],
    flags: dict[str, object],
    *,
    carried: dict[str, str],
    chosen: dict[str, str],
    labels: dict[str, str],
) -> dict[str, object]:
    """Return the fields of *job* with *flags* over them; the job's variables stand between *carried* and *chosen*."""
    if "command" in flags or "script" in flags:
        job = {name: value for name, value in job.items() if name not in ("command", "script")}
    fields = {**job, **flags}
    if fields.get("command") is None and fields.get("script") is None:
        raise InvalidInput("command: expected one, got none", field="command", fix=_EXAMPLE)
    env, own_labels = job.get("env") or {}, job.get("labels") or {}
    assert isinstance(env, dict) and isinstance(own_labels, dict), "the job file's fields are checked"
    fields["env"] = {**carried, **env, **chosen}
    fields["labels"] = {**own_labels, **labels}
    return fields


def _carried(env_all: bool) -> dict[str, str]:
    """Return what --env-all adds to the variables that every client carries."""
    if not env_all:
        return {}
    # Exported shell functions and values in another encoding cannot travel, and nobody means them.
    return {
        name: value
        for name, value in os.environ.items()
        if name != "SHUNTER_TOKEN" and _ENV_NAME.fullmatch(name) and not any("\ud800" <= c <= "\udfff" for c in value)
    }


def _chosen(env: tuple[str, ...]) -> dict[str, str]:
    chosen = {}
    for item in env:
        name, equals, value = item.partition("=")
        if not _ENV_NAME.fullmatch(name):
            raise InvalidInput(f"env: expected NAME=VALUE or NAME, got {item!r}", field="env")
        if not equals and name not in os.environ:
            raise InvalidInput(f"env: {name} is not set here", field="env", fix=f"give it a value: --env {name}=VALUE")
        chosen[name] = value if equals else os.environ[name]
    return chosen


def _say_what_is_missing(client: Client, views: list[JobView], *, followed: bool) -> None:
    """Tell why nothing may happen for long: no node, no working leader or, for a *followed* job, no free GPUs."""
    if not any(view.state == "queued" for view in views):
        return
    try:
        cluster = client.cluster()
    except ShunterError:
        return  # the jobs are in: nothing that fails now may look as if they were not
    jobs = "it waits" if len(views) == 1 else "they wait"
    if not cluster.nodes:
        warn(f"{jobs}: no node has joined yet; `shunter node start` adds one")
    elif not cluster.leader:
        warn(f"{jobs}: no coordinator leads now; `shunter coordinator` starts one")
    elif cluster.failing is not None:
        warn(f"{jobs}: the scheduler fails ({cluster.failing.error}); `shunter cluster` says since when")
    elif followed and cluster.free_gpus < views[0].gpus:
        warn(f"it waits for GPUs ({cluster.free_gpus} of {cluster.gpus} free); `shunter show {views[0].id}` says why")


def _follow(client: Client, job: int) -> int:
    try:
        for text in client.logs(job, follow=True):
            write(text)
        [view] = client.wait(job)
    except KeyboardInterrupt:
        warn(f"job {job} goes on; `shunter cancel {job}` ends it")
        return 130
    except ShunterError as error:
        error.message = f"job {job} goes on, but following it failed: {error.message}"
        raise
    if view.state != "succeeded":
        warn(end_line(view))
    return exit_status(view)
