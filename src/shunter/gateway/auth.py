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
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        if path.stat().st_mode & 0o077:
            raise SetupError(f"token: others may read {path}", fix=f"chmod 600 {path}") from None
        token = path.read_text().strip()
        if not token:
            raise SetupError(f"token: {path} is empty", fix="remove it; the next start makes a new one") from None
        return token
    with os.fdopen(descriptor, "w") as file:
        token = secrets.token_urlsafe(32)
        file.write(token + "\n")
    return token


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
