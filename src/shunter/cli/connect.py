"""The one place where commands get their client from."""

from __future__ import annotations

import sys
import time
import warnings
from typing import TYPE_CHECKING, Final

import click

if TYPE_CHECKING:
    import httpx

    from shunter.sdk.client import Client

TRANSPORT: httpx.BaseTransport | None = None
"""What tests put in the place of the network."""


QUIET_S: Final = 1.0
"""Whoever waits for longer is told why."""


def _pause(seconds: float) -> None:
    if seconds > QUIET_S:
        click.echo("shunter: no answer yet; trying again", err=True)
    time.sleep(seconds)


def connect() -> Client:
    """Return a client of the server that the environment or the home folder names."""
    # httpx imports its own command line, and with it rich and pygments, when they are there: 60 ms for nothing.
    sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]
    from shunter.sdk.client import Client

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        client = Client(transport=TRANSPORT, pause=_pause)
    for warning in caught:
        click.echo(f"shunter: {warning.message}", err=True)
    return client
