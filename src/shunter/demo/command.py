"""`shunter demo`."""

from __future__ import annotations

from pathlib import Path

import click


@click.command(short_help="See it work: real training jobs on 8 simulated GPUs.")
@click.option(
    "--output", type=click.Path(dir_okay=False, writable=True), default="shunter-demo.svg", show_default=True,
    help="Where to write the picture of the schedule (.svg or .html).",
)  # fmt: skip
@click.option("--keep", is_flag=True, help="Keep the demo's folder: state, logs, checkpoints.")
def demo(output: str, keep: bool) -> None:
    """Start everything in a temporary folder (Redis, gateway, coordinator, two nodes with 4 simulated GPUs each), train
    a sweep of small networks on handwritten digits, show who ran where and when, and clean up.

    It takes about a minute, and needs the extra `shunter[demo]` (scikit-learn).
    """
    from rich.console import Console

    from shunter.demo.run import run_demo

    if not run_demo(Console(), Path(output), keep=keep):
        raise SystemExit(1)
