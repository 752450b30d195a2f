"""`shunter policy`: what decides who goes first, and where."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

import click

from shunter.cli.lazy import Lazy, LazyGroup
from shunter.cli.options import json_option
from shunter.cli.table import printable

if TYPE_CHECKING:
    from shunter.runtime.policy_report import PolicyInForce
    from shunter.scheduling.policy import Policy

SUBCOMMANDS: Final = {
    "check": Lazy("shunter.cli.policy:check", "Say whether a policy file is valid, and what is wrong."),
    "show": Lazy("shunter.cli.policy:show", "Show the policy in force, or one in a file."),
    "diff": Lazy("shunter.cli.policy:diff", "Show what differs from the policy in force, or between two."),
}


@click.command(cls=LazyGroup, table=SUBCOMMANDS, short_help="Check, show and compare policies.")
def policy() -> None:
    """Check, show and compare policies: who goes first, and where.

    A policy is a YAML file, or one of those that come with Shunter, by name: best-fit, default, easy, fgd, fifo-bf,
    fifo-ff, sjf. The leading coordinator follows its file while it runs (policy.yaml in the home, or `--policy`).

    \b
    Examples:
      shunter policy show                           the policy in force
      shunter policy show default > policy.yaml     begin one of your own: every key is explained in it
      shunter policy check policy.yaml
      shunter policy diff policy.yaml               what would change
    """


@click.command(short_help="Say whether a policy file is valid.")
@click.argument("file", metavar="FILE|NAME")
def check(file: str) -> None:
    """Say whether a policy file is valid, and what it says; exit with 2, and the place of the mistake, if it is not.

    \b
    Example:  shunter policy check policy.yaml
    """
    from shunter.runtime.policy_file import load_policy

    read = load_policy(file)
    click.echo(f"{printable(read.source)}: valid; {_summary(read.policy)}")


@click.command(short_help="Show the policy in force, or one in a file.")
@click.argument("file", metavar="[FILE|NAME]", required=False)
@click.option("--full", is_flag=True, help="Every key with its value, defaults too, instead of the file's own text.")
@json_option
def show(file: str | None, full: bool, as_json: bool) -> None:
    """Show the policy in force: its file's text, where it came from, since when, and who leads by it. Also says why the
    file was refused, if it was changed to something that is not valid. Or show the policy in FILE, or a shipped one.

    What is printed is a policy file again; in JSON, times are seconds and shares fractions.

    \b
    Examples:
      shunter policy show
      shunter policy show easy --full
      shunter policy show default > policy.yaml
    """
    from shunter.cli.output import print_json
    from shunter.runtime.policy_file import load_policy, write_policy

    if file is None:
        in_force = _in_force()
        policy, text, head = in_force.policy, in_force.text, _head(in_force)
    else:
        read = load_policy(file)
        policy, text, head = read.policy, read.text, ""
    if as_json:
        print_json(in_force if file is None else read)
        return
    body = write_policy(policy, full=True) if full else text
    click.echo(head + body, nl=not body.endswith("\n"))


@click.command(short_help="Show what differs between two policies.")
@click.argument("file", metavar="FILE|NAME")
@click.argument("other", metavar="[FILE|NAME]", required=False)
def diff(file: str, other: str | None) -> None:
    """Show what would change with the policy in FILE: how it differs from the one in force. Or, of two files, what the
    second one changes of the first.

    Lines with - are before, those with + after. As diff does, it exits with 0 if nothing differs, else with 1.

    \b
    Examples:
      shunter policy diff policy.yaml
      shunter policy diff default policy.yaml
    """
    from shunter.runtime.policy_diff import differences
    from shunter.runtime.policy_file import load_policy

    read = load_policy(file)
    if other is None:
        in_force = _in_force()
        before, after = (in_force.policy, f"in force: {in_force.source}"), (read.policy, read.source)
    else:
        second = load_policy(other)
        before, after = (read.policy, read.source), (second.policy, second.source)
    found = differences(before[0], after[0])
    if not found:
        return
    click.echo(f"--- {printable(before[1])}\n+++ {printable(after[1])}")
    for path, old, new in found:
        for sign, value, colour in (("-", old, "red"), ("+", new, "green")):
            if value is not None:
                click.echo(_coloured(f"{sign}{path}: {value}", colour))
    raise SystemExit(1)


def _in_force() -> PolicyInForce:
    from shunter.cli.connect import connect

    with connect() as client:
        return client.policy()


def _head(in_force: PolicyInForce) -> str:
    """Return where the policy in force comes from, as comments of the file that follows."""
    from shunter.cli.output import clock

    lines = [
        f"# in force since {clock(in_force.since_s)}: {printable(in_force.source)}",
        f"# put in force by the coordinator {printable(in_force.leader)} (epoch {in_force.epoch})",
    ]
    if in_force.error:
        lines.append(_coloured(f"# its file was changed and refused: {printable(in_force.error)}", "red"))
    return "\n".join([*lines, "", ""])


def _summary(policy: Policy) -> str:
    backfill = "no backfill" if policy.backfill is None else f"backfill {policy.backfill.depth} deep"
    counts = [
        f"{len(found)} {what}{'s' * (len(found) != 1)}"
        for what, found in (("pool", policy.pools), ("team", policy.teams), ("user", policy.users))
        if found
    ]
    rules = [f"order {', '.join(policy.order) or 'of submission'}", f"placement {', '.join(policy.placement) or 'any'}"]
    return "; ".join([*rules, backfill, *counts])


def _coloured(text: str, colour: str) -> str:
    from shunter.cli.table import terminal_width

    return click.style(text, fg=colour) if terminal_width() is not None and not os.environ.get("NO_COLOR") else text
