"""Running a role as a process of its own: its errors are one line and an exit code, as on the command line."""

from __future__ import annotations

import sys
from typing import NoReturn

import click

from shunter.errors import ShunterError


def run_role(command: click.Command) -> NoReturn:
    """Run *command* with this process's arguments, and exit as it says."""
    try:
        command()
    except ShunterError as error:
        click.echo(f"shunter: {error}", err=True)
        sys.exit(error.exit_code)
    sys.exit(0)
