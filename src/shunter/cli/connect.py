"""The one place where commands get their client from."""

from __future__ import annotations

import sys
import warnings
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    import httpx

    from shunter.sdk.client import Client

TRANSPORT: httpx.BaseTransport | None = None
"""What tests put in the place of the network."""


def connect() -> Client:
    """Return a client of the server that the environment or the home folder names."""
    # httpx imports its own command line, and with it rich and pygments, when they are there: 60 ms for nothing.
    sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]
    from shunter.sdk.client import Client

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        client = Client(transport=TRANSPORT)
    for warning in caught:
        click.echo(f"shunter: {warning.message}", err=True)
    return client
