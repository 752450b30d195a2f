"""`shunter wait`."""

from __future__ import annotations

import click

from shunter.cli.connect import connect
from shunter.cli.options import duration, job_id, json_option
from shunter.cli.output import end_line, exit_status, print_json
from shunter.domain.duration import parse_duration


@click.command(short_help="Wait until jobs have ended.")
@click.argument("ids", type=job_id, nargs=-1, required=True, metavar="ID...")
@click.option(
    "--timeout", type=duration("timeout"), metavar="10m", help="Give up after this long (exit 124); the jobs go on."
)
@json_option
def wait(ids: tuple[int, ...], timeout: str | None, as_json: bool) -> int:
    """Wait until jobs have ended. Exits with 0 if all succeeded, else with the status of the first that did not.

    \b
    Example:  shunter wait 12 13 --timeout 2h && echo both succeeded
    """
    timeout_s = None if timeout is None else parse_duration(timeout, field="timeout")
    ended = {}
    with connect() as client:
        for view in client.as_ended(*ids, timeout_s=timeout_s):
            ended[view.id] = view
            if not as_json:
                click.echo(end_line(view))
    views = [ended[id] for id in dict.fromkeys(ids)]
    if as_json:
        print_json(views)
    return next((exit_status(view) for view in views if view.state != "succeeded"), 0)
