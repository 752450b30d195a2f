"""Shunter: a GPU job platform for teams.

The public names are loaded on first use, so that `import shunter` in a job script costs almost nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["Client", "JobSpec", "ShunterError", "__version__"]

if TYPE_CHECKING:
    from shunter.domain.job import JobSpec
    from shunter.errors import ShunterError
    from shunter.sdk.client import Client

_HOMES = {
    "Client": "shunter.sdk.client",
    "JobSpec": "shunter.domain.job",
    "ShunterError": "shunter.errors",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'shunter' has no attribute {name!r}")
