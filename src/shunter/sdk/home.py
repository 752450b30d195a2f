"""Which server a client speaks to, and with which token: arguments, else the environment, else the home folder."""

from __future__ import annotations

import os
import stat
import warnings
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct

from shunter.errors import InvalidInput, SetupError
from shunter.runtime.paths import default_home


class TokenFileWarning(UserWarning):
    """The token file can be read by others."""


class Server(Struct, frozen=True):
    """Where to send requests. *url* has no trailing slash; without *token* only the health check is answered."""

    url: str
    token: str | None = None

    def __repr__(self) -> str:  # a token must not end up in a log
        return f"Server({self.url!r})"


class _Endpoint(Struct):
    """What Shunter cares about in `endpoint.json`, which `shunter up` writes."""

    url: str


def find_server(url: str | None = None, token: str | None = None, *, home: str | Path | None = None) -> Server:
    """Return the server to use.

    *url*: the argument, else SHUNTER_URL, else `endpoint.json` in the home folder. *token*: the argument, else
    SHUNTER_TOKEN, else the file `token` there, unless that folder belongs to a server at another URL: a token is
    never sent to a server it was not made for. Raises SetupError when no URL is known, InvalidInput for a bad one.
    """
    folder = Path(home).expanduser() if home is not None else default_home()
    local = _local_url(folder)
    chosen = url or os.environ.get("SHUNTER_URL") or local
    if not chosen:
        raise SetupError("no Shunter is running here", fix="run `shunter up`, or set SHUNTER_URL and SHUNTER_TOKEN")
    chosen = _checked_url(chosen)
    chosen_token = token or os.environ.get("SHUNTER_TOKEN")
    if not chosen_token and (local is None or _checked_url(local) == chosen):
        chosen_token = _token_in(folder / "token")
    return Server(chosen, _checked_token(chosen_token) if chosen_token else None)


def is_loopback(url: str) -> bool:
    """Say whether *url* is this machine's: such requests must not go through a proxy."""
    host = urlsplit(url).hostname or ""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _local_url(folder: Path) -> str | None:
    path = folder / "endpoint.json"
    content = _read(path)
    if content is None:
        return None
    try:
        return msgspec.json.decode(content, type=_Endpoint).url
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise SetupError(
            f'{path}: expected {{"url": "http://..."}}, got something else ({error})',
            fix="run `shunter up` again, or set SHUNTER_URL and SHUNTER_TOKEN",
        ) from error


def _token_in(path: Path) -> str | None:
    content = _read(path)
    if content is None:
        return None
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        warnings.warn(f"{path} can be read by others; run `chmod 600 {path}`", TokenFileWarning, stacklevel=4)
    return content.decode("utf-8", "replace").strip()


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise SetupError(
            f"{path}: cannot be read: {error.strerror}",
            fix="see that it is yours, or set SHUNTER_URL and SHUNTER_TOKEN",
        ) from error


def _checked_url(url: str) -> str:
    try:
        parts = urlsplit(url.strip())
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        good = good and not (parts.query or parts.fragment) and url.isprintable()
    except ValueError:
        good = False
    if not good:
        raise InvalidInput(
            f"url: expected http://HOST:PORT or https://HOST, got {url!r}", field="url", fix="set SHUNTER_URL to it"
        )
    return url.strip().rstrip("/")


def _checked_token(token: str) -> str:
    token = token.strip()
    if not (token.isascii() and token.isprintable()) or " " in token:
        raise InvalidInput(
            "token: expected printable ASCII without spaces, got something else",
            field="token",
            fix="set SHUNTER_TOKEN to the token that `shunter up` or your administrator gave you",
        )
    return token
