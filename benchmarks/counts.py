"""How many commands Redis ran, and who sent them: from INFO without disturbing anything, from MONITOR exactly.

Redis (6.2 and 7.0 alike) counts a command that a script runs like one that a client sends: `total_commands_processed`
is the sum of all calls in `INFO commandstats`, with both. INFO cannot tell them apart where a name is used both ways,
but it can where a name is never used in a script: EVALSHA, XREAD, BRPOP, LPUSH, ... Their sum is what clients sent *at
least*. What it misses are the few plain HMGET, TIME and SET, a handful a second. MONITOR marks what a script ran with
`lua`, so it tells exactly, and by script; but it slows the server down, so it is used in a pass of its own.
"""

from __future__ import annotations

import re
import socket
import threading
from collections import Counter
from collections.abc import Iterable, Mapping
from importlib import resources
from typing import Final, NamedTuple

import msgspec

from shunter.scheduling.plan import Decision
from shunter.store import commands
from shunter.store.command import script
from shunter.store.keys import Keys
from shunter.store.redis import Store

_CALL: Final = re.compile(r"(?:redis\.p?call|in_parts)\(\s*'([A-Za-z]+)'")
_MONITORED: Final = re.compile(rb'^\+?\d+\.\d+ \[\d+ ([^\]]*)\] "([^"]*)"(?: "([^"]*)")?')
_CALLS: Final = re.compile(r"calls=(\d+)")


def parse_commandstats(info: Mapping[str, str]) -> Counter[str]:
    """Return calls by command, as INFO commandstats says them. Subcommands (`client|id`) count as their command."""
    calls: Counter[str] = Counter()
    for name, value in info.items():
        found = _CALLS.match(value)
        if name.startswith("cmdstat_") and found:
            calls[name.removeprefix("cmdstat_").partition("|")[0]] += int(found[1])
    return calls


def called_in(text: str) -> frozenset[str]:
    """Return the commands, in lower case, that the Lua script *text* may run."""
    return frozenset(name.lower() for name in _CALL.findall(text))


def script_names() -> dict[str, str]:
    """Return the names of Shunter's scripts by their digests."""
    folder = resources.files("shunter.store") / "scripts"
    names = [path.name.removesuffix(".lua") for path in folder.iterdir() if not path.name.startswith("_")]
    return {script(name).sha: name for name in names if "." not in name}


def commands_of_scripts() -> frozenset[str]:
    return frozenset().union(*(called_in(script(name).text) for name in script_names().values()))


def sent_at_least(calls: Mapping[str, int], in_scripts: frozenset[str]) -> int:
    """Return how many of *calls* clients must have sent, for no script runs a command of that name."""
    return sum(count for name, count in calls.items() if name not in in_scripts)


class Split(NamedTuple):
    """What MONITOR saw. *by_script* is (calls of the script, commands that it ran)."""

    sent: Counter[str]
    in_scripts: Counter[str]
    by_script: dict[str, tuple[int, int]]


def split(lines: Iterable[bytes], names: Mapping[str, str]) -> Split:
    """Return who sent what. MONITOR shows a script first, then what it runs; nothing comes in between."""
    sent: Counter[str] = Counter()
    inner: Counter[str] = Counter()
    calls: Counter[str] = Counter()
    ran: Counter[str] = Counter()
    current = ""
    for line in lines:
        found = _MONITORED.match(line)
        if found is None:
            continue
        by, name, first = found[1], found[2].decode().lower(), (found[3] or b"").decode(errors="replace")
        if by == b"lua":
            inner[name] += 1
            ran[current] += 1
        else:
            sent[name] += 1
            if name in ("evalsha", "eval"):
                current = names.get(first.lower(), "other")
                calls[current] += 1
    return Split(sent, inner, {name: (calls[name], ran[name]) for name in sorted(calls)})


class Probe:
    """Our own look at the store, which takes out what it adds to the counts itself."""

    def __init__(self, url: str, cluster: str) -> None:
        self._store = Store(url)
        self._keys = Keys(cluster)
        self.own: Counter[str] = Counter()

    def calls(self) -> Counter[str]:
        """Return calls by command so far, without ours."""
        own = self.own.copy()  # INFO does not count itself yet
        self.own["info"] += 1
        calls = parse_commandstats(self._store.info("commandstats"))
        calls.subtract(own)
        return calls

    def active(self) -> int:
        """Return how many jobs have not ended."""
        self.own["zcard"] += 1
        return self._store.run(commands.active_count(self._keys))

    def waiting(self) -> int:
        """Return how many jobs wait, by the decision that the leader published last."""
        self.own["get"] += 1
        text = self._store.run(commands.decision(self._keys))
        return sum(refusal.count for refusal in msgspec.json.decode(text, type=Decision).refusals) if text else 0

    def used_memory(self) -> int:
        """Return the bytes that Redis says it uses for data."""
        self.own["info"] += 1
        return int(self._store.info("memory")["used_memory"])

    def close(self) -> None:
        self._store.close()


class Monitor:
    """Everything that Redis runs while the context lasts. *lines* may be read after it."""

    def __init__(self, path: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(path)
        self._data = bytearray()
        self._thread = threading.Thread(target=self._read, daemon=True)

    def __enter__(self) -> Monitor:
        self._socket.sendall(b"MONITOR\r\n")
        if not self._socket.recv(5).startswith(b"+OK"):
            raise OSError("redis: refuses MONITOR")
        self._thread.start()
        return self

    def _read(self) -> None:
        while data := self._socket.recv(1 << 20):
            self._data += data

    def __exit__(self, *_: object) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._socket.close()

    @property
    def lines(self) -> list[bytes]:
        return bytes(self._data).split(b"\r\n")
