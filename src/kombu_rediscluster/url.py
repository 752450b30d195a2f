"""What a broker URL says: `rediscluster://[USER:PASSWORD@]HOST:PORT[;HOST:PORT…][/TAG]`."""

from __future__ import annotations

from typing import Final, NamedTuple
from urllib.parse import unquote, urlsplit

SCHEME: Final = "rediscluster"
DEFAULT_PORT: Final = 6379
DEFAULT_TAG: Final = "kombu"
EXPECTED: Final = f"expected {SCHEME}://[USER:PASSWORD@]HOST:PORT;HOST:PORT/TAG"

Address = tuple[str, int]


class Url(NamedTuple):
    """What a broker URL says. *tag* is the hash tag of all keys, without braces."""

    seeds: tuple[Address, ...]
    tag: str
    username: str | None
    password: str | None


class _Part(NamedTuple):
    """What one of the hosts of a URL says; a list of URLs says things once for each."""

    seed: Address
    tag: str
    account: str


def parse_url(url: str) -> Url:
    """Read a broker URL. Hosts after the first may repeat scheme, account and tag, as in Celery's lists of URLs.

    User, password and tag are percent-decoded. Raises ValueError, saying what is wrong and never showing an account.
    """
    parts = [_part(text) for text in url.split(";") if text.strip()]
    if not parts:
        raise ValueError(f"broker URL: {EXPECTED}, got no host")
    tags = sorted({part.tag for part in parts} - {""})
    if len(tags) > 1:
        raise ValueError(f"broker URL: its hosts name different tags, {' and '.join(tags)}; name one")
    tag = checked_tag(tags[0] if tags else "")
    if len({part.account for part in parts} - {""}) > 1:
        raise ValueError("broker URL: its hosts name different accounts; all nodes of a cluster need one and the same")
    account = next((part.account for part in parts if part.account), "")
    username, _, password = account.partition(":")
    seeds = tuple(dict.fromkeys(part.seed for part in parts))
    return Url(seeds, tag, unquote(username) or None, unquote(password) or None)


def checked_tag(tag: str) -> str:
    """Return *tag*, or DEFAULT_TAG for none. Raises ValueError if Redis would take it for another one."""
    if not set(tag).isdisjoint("{}/"):
        raise ValueError(f"broker URL: the tag is written without braces and slashes, got {tag!r}")
    return tag or DEFAULT_TAG


def address_text(address: Address) -> str:
    """Return HOST:PORT, an IPv6 address in brackets."""
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _part(text: str) -> _Part:
    scheme, separator, rest = text.strip().partition("://")
    if not separator:
        rest = scheme
    elif scheme != SCHEME:
        raise ValueError(f"broker URL: {EXPECTED}, got the scheme {scheme!r}")
    account, _, place = rest.rpartition("@")
    place, question, _ = place.partition("?")
    if question:
        raise ValueError(
            "broker URL: options after '?' are not read; give them as broker_transport_options, those of TLS as "
            "broker_use_ssl"
        )
    host, _, tag = place.partition("/")
    return _Part(_address(host), unquote(tag.strip("/")), account)


def _address(text: str) -> Address:
    if "," in text:
        raise ValueError(f"broker URL: hosts are separated by ';', got {text!r}")
    if text.count(":") > 1 and not text.startswith("["):
        raise ValueError(f"broker URL: an IPv6 address is written in brackets, [::1]:7000, got {text!r}")
    parts = urlsplit(f"//{text}")
    try:
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise ValueError(f"broker URL: expected HOST:PORT with a port from 1 to 65535, got {text!r}") from error
    if not host or port == 0 or any(letter.isspace() for letter in text):
        raise ValueError(f"broker URL: expected HOST:PORT with a port from 1 to 65535, got {text!r}")
    return host, port or DEFAULT_PORT
