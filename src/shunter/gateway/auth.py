"""The bearer token: made at the first start, in a file that only its owner can read."""

from __future__ import annotations

import hmac
import os
import secrets
from pathlib import Path
from typing import Any

from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler

from shunter.errors import SetupError, Unauthorized


def load_or_make_token(path: Path) -> str:
    """Return the token in *path*, making it (mode 0600) if there is none. Raises SetupError if others may read it."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not path.exists():
        _make(path)
    if path.stat().st_mode & 0o077:
        raise SetupError(f"token: others may read {path}", fix=f"chmod 600 {path}")
    token = path.read_text().strip()
    if not token:
        raise SetupError(f"token: {path} is empty", fix="remove it; the next start makes a new one")
    return token


def _make(path: Path) -> None:
    """Make the file, with its token from the first moment on: others wait for it, or make one at the same time."""
    fresh = path.with_name(f".{path.name}-{os.getpid()}")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(secrets.token_urlsafe(32) + "\n")
    try:
        os.link(fresh, path)
    except FileExistsError:
        pass  # another gateway was first
    except OSError:  # a file system without links
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)


class TokenGuard:
    """A Litestar guard that lets only holders of *token* pass."""

    def __init__(self, token: str) -> None:
        self._token = token.encode()

    async def __call__(self, connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
        scheme, _sep, given = connection.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not given:
            raise Unauthorized("token: missing", fix="send 'Authorization: Bearer TOKEN' (SHUNTER_TOKEN for the CLI)")
        if not hmac.compare_digest(given.strip().encode(), self._token):
            raise Unauthorized("token: wrong", fix="use the one in the file `token` of the gateway's home")
