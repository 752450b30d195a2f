"""Options that the benchmarks share, and how they end."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from benchmarks.output import BenchmarkFailed, say
from shunter.errors import ShunterError

AT_LEAST_ONE = click.IntRange(min=1)


def common(command: Callable[..., None]) -> Callable[..., None]:
    """Add --json-file and --folder."""
    file = click.option(
        "--json-file", type=click.Path(dir_okay=False, writable=True), help="Write the JSON lines here too."
    )
    folder = click.option(
        "--folder",
        type=click.Path(exists=True, file_okay=False, path_type=Path),
        default=tempfile.gettempdir(),
        show_default=True,
        help="Where the cluster's temporary home is made: its disk is measured too.",
    )
    return file(folder(command))


def run(command: click.Command, **arguments: Any) -> None:
    """Run *command* as a program: 1 for figures that do not count, 130 after Ctrl-C."""
    try:
        command.main(standalone_mode=False, **arguments)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (BenchmarkFailed, ShunterError) as error:
        say(f"FAILED: {error}")
        sys.exit(1)
    except (KeyboardInterrupt, click.Abort):
        say("interrupted")
        sys.exit(130)
