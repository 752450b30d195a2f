"""The embedded Redis: private, durable, alone in its home, and never older than what wrote the home."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from shunter.errors import SetupError
from shunter.store import commands, embedded
from shunter.store.commands import Leadership
from shunter.store.embedded import EmbeddedRedis, find_server
from shunter.store.keys import Keys
from shunter.store.redis import Store
from tests.contract.cluster import eventually
from tests.contract.servers import VERSIONS, find_binary, why_missing

KEYS = Keys("home")

Open = Callable[..., EmbeddedRedis]


@pytest.fixture(params=VERSIONS)
def binary(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Path:
    return use(monkeypatch, request.param)


def use(monkeypatch: pytest.MonkeyPatch, version: str) -> Path:
    """Have the embedded Redis find only *version*."""
    found = find_binary(version)
    if found is None:
        pytest.skip(why_missing(version))
    only(monkeypatch, found)
    return found


def only(monkeypatch: pytest.MonkeyPatch, server: Path) -> None:
    monkeypatch.setattr(embedded, "_candidates", lambda: [server])


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Open]:
    """Return a function that starts a server in a folder; all are stopped at the end."""
    started: list[EmbeddedRedis] = []

    def start(folder: Path = tmp_path / "redis") -> EmbeddedRedis:
        server = EmbeddedRedis(folder)
        started.append(server)
        server.start(log=tmp_path / "redis.log")
        return server

    yield start
    for server in started:
        server.stop()


def write(server: EmbeddedRedis, text: bytes) -> None:
    store = Store(server.url)
    lead = store.run(commands.lead(KEYS, "writer", "token", 60_000))
    assert store.run(commands.put_decision(KEYS, Leadership(lead.epoch, "token"), text))
    store.close()


def read(server: EmbeddedRedis) -> bytes | None:
    store = Store(server.url)
    try:
        return store.run(commands.decision(KEYS))
    finally:
        store.close()


def pid(server: EmbeddedRedis) -> int:
    assert server.process is not None
    return server.process.pid


# private and durable


@pytest.mark.usefixtures("binary")
def test_only_its_owner_may_open_its_socket_and_its_folder(opened: Open) -> None:
    server = opened()
    assert stat.S_IMODE(server.socket.stat().st_mode) == 0o700
    assert stat.S_IMODE(server.folder.stat().st_mode) == 0o700


@pytest.mark.usefixtures("binary")
def test_it_listens_on_its_socket_only(opened: Open) -> None:
    server = opened()
    assert psutil.Process(pid(server)).net_connections("inet") == []


@pytest.mark.usefixtures("binary")
def test_every_write_is_appended_and_synced_each_second_and_nothing_is_evicted(opened: Open) -> None:
    store = Store(opened().url)
    wanted = {
        b"appendonly": b"yes",
        b"appendfsync": b"everysec",
        b"no-appendfsync-on-rewrite": b"no",  # else a rewrite leaves up to 30 s unsynced
        b"maxmemory-policy": b"noeviction",
        b"save": b"",
    }
    for name, value in wanted.items():
        assert store._client.execute_command("CONFIG", "GET", name) == [name, value]
    store.close()


@pytest.mark.usefixtures("binary")
def test_a_home_with_a_long_path_works(opened: Open, tmp_path: Path) -> None:
    folder = tmp_path / ("long" * 20) / ("path" * 20) / "redis"
    assert len(str(folder)) > 150
    server = opened(folder)
    write(server, b"kept")
    assert len(str(server.socket)) <= 107
    assert EmbeddedRedis(folder).socket == server.socket
    assert read(server) == b"kept"


@pytest.mark.usefixtures("binary")
def test_state_survives_a_kill_9(opened: Open) -> None:
    server = opened()
    write(server, b"kept")
    assert server.process is not None
    server.process.kill()
    server.process.wait()
    assert read(opened()) == b"kept"


@pytest.mark.usefixtures("binary")
def test_state_survives_a_stop(opened: Open) -> None:
    server = opened()
    write(server, b"kept")
    server.stop()
    assert not server.socket.exists()
    assert read(opened()) == b"kept"


# alone in its home


@pytest.mark.usefixtures("binary")
def test_starting_it_twice_is_harmless(opened: Open, tmp_path: Path) -> None:
    server = opened()
    write(server, b"kept")
    before = pid(server)
    server.start(log=tmp_path / "redis.log")
    assert (pid(server), read(server)) == (before, b"kept")


def test_a_second_server_in_the_same_home_is_refused_and_harms_nothing(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = opened()
    write(server, b"kept")
    monkeypatch.setattr(embedded, "LOCK_TIMEOUT_S", 0.05)
    with pytest.raises(SetupError, match=r"redis: another server works in .*; stop that one, or use another --home"):
        opened()
    assert read(server) == b"kept"


PARENT = """
import os, sys
from pathlib import Path
from shunter.store.embedded import EmbeddedRedis
server = EmbeddedRedis(Path(sys.argv[1]))
server.start(log=Path(sys.argv[1] + ".log"))
print(server.process.pid, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def orphan(tmp_path: Path) -> Iterator[Callable[[], psutil.Process]]:
    """Return a function that starts a server in the home from a process of its own, and kills that process."""
    started: list[psutil.Process] = []

    def start() -> psutil.Process:
        parent = subprocess.Popen(
            [sys.executable, "-c", PARENT, str(tmp_path / "redis")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert parent.stdout is not None
        server = psutil.Process(int(parent.stdout.readline()))
        started.append(server)
        assert "redis-server" in server.name()
        parent.kill()
        parent.communicate()
        return server

    yield start
    for server in started:
        if server.is_running():
            server.kill()


def gone(process: psutil.Process) -> bool:
    """Whether it runs no more, though whoever adopted it may not have reaped it yet."""
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def test_it_dies_with_its_parent(orphan: Callable[[], psutil.Process]) -> None:
    server = orphan()
    eventually(lambda: gone(server) or None, "the server is gone")


def test_it_starts_again_at_once_after_its_parent_was_killed(
    orphan: Callable[[], psutil.Process], opened: Open
) -> None:
    """The old server writes its files and unlinks its socket as it ends: the new one waits for that."""
    for _ in range(3):
        old = orphan()
        server = opened()
        assert gone(old)
        write(server, b"kept")
        assert server.socket.exists()
        server.stop()


# never older than what wrote the home


def test_an_older_server_than_the_one_that_wrote_the_home_is_refused(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    newer = use(monkeypatch, "7.0")
    server = opened()
    write(server, b"kept")
    server.stop()
    use(monkeypatch, "6.2")
    with pytest.raises(
        SetupError, match=r"was written by Redis [78]\..*, found only 6\.2\.\d+ in .*; install Redis [78]\."
    ):
        opened()
    only(monkeypatch, newer)
    assert read(opened()) == b"kept"


def test_a_newer_server_opens_an_older_home_and_from_then_on_the_older_is_refused(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, "6.2")
    server = opened()
    write(server, b"kept")
    server.stop()
    use(monkeypatch, "7.0")
    server = opened()
    assert read(server) == b"kept"
    server.stop()
    use(monkeypatch, "6.2")
    with pytest.raises(SetupError, match="was written by Redis"):
        opened()


def test_the_version_is_noted_before_the_newer_server_touches_the_files(
    opened: Open, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It converts them while it starts; a start that is cut short must not let the older one in again."""
    only(monkeypatch, fake_server(tmp_path, says="Redis server v=7.2.4 sha=0", runs="exit 1"))
    with pytest.raises(SetupError, match="did not start"):
        opened()
    use(monkeypatch, "6.2")
    with pytest.raises(SetupError, match=r"was written by Redis 7\.2\.4"):
        opened()


# finding a server


def fake_server(folder: Path, *, says: str, runs: str = "exit 0") -> Path:
    """Put a script on PATH's place that answers --version and, when started, runs something else."""
    server = folder / "redis-server"
    server.write_text(f'#!/bin/sh\nif [ "$1" = --version ]; then echo "{says}"; exit 0; fi\n{runs}\n')
    server.chmod(0o755)
    return server


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """PATH is this empty folder."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


def test_without_any_server_it_says_what_to_install(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(SetupError, match=r"no redis-server on PATH.*apt-get install redis-server.*or give --redis URL"):
        find_server()


def test_without_one_on_path_the_bundled_one_serves(path: Path) -> None:
    if find_binary("6.2") is None:
        pytest.skip(why_missing("6.2"))
    assert find_server() == find_binary("6.2")


def test_one_on_path_goes_before_the_bundled_one(path: Path) -> None:
    server = fake_server(path, says="Redis server v=7.0.15 sha=0")
    assert find_server() == server


def test_one_on_path_that_is_too_old_makes_way_for_the_bundled_one(path: Path) -> None:
    if find_binary("6.2") is None:
        pytest.skip(why_missing("6.2"))
    fake_server(path, says="Redis server v=5.0.7 sha=0")
    assert find_server() == find_binary("6.2")


def test_a_newer_home_finds_a_newer_server_behind_an_older_one_on_path(path: Path) -> None:
    fake_server(path, says="Redis server v=6.2.14 sha=0")
    (path / "more").mkdir()
    newer = fake_server(path / "more", says="Redis server v=7.2.4 sha=0")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{path}{os.pathsep}{newer.parent}")
        assert find_server((7, 0, 15)) == newer
        assert find_server() == path / "redis-server"


def test_only_a_server_that_is_too_old_is_refused_with_both_versions(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    fake_server(path, says="Redis server v=5.0.7 sha=0")
    with pytest.raises(
        SetupError, match=r"Shunter needs 6\.2 or later, found only 5\.0\.7 in .*/redis-server; install a newer"
    ):
        find_server()


def test_a_server_that_does_not_say_its_version_is_refused(path: Path) -> None:
    fake_server(path, says="hello")
    with pytest.raises(SetupError, match="does not say its version: 'hello'"):
        find_server()


def test_a_server_that_does_not_start_shows_the_end_of_its_log(path: Path, opened: Open) -> None:
    fake_server(path, says="Redis server v=7.0.15 sha=0", runs="echo first; echo 'no room on disk' >&2; exit 1")
    with pytest.raises(SetupError, match=r"redis: did not start: .*no room on disk; see .*redis\.log"):
        opened()


def test_the_suite_finds_the_servers_it_says_it_finds() -> None:
    for version in VERSIONS:
        found = find_binary(version)
        assert found is None or (shutil.which(found) and os.access(found, os.X_OK))
