"""A keeper for each test, with and without cgroups, and small disks to fill."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest

from shunter.agent.keeper.tree import cgroup_base
from tests.agent.rig import Rig

BOTH = pytest.mark.parametrize("containment", ["cgroup", "no cgroup"], indirect=True)


@pytest.fixture(scope="session")
def cgroups_work() -> bool:
    """Whether this user may make cgroups here."""
    base = cgroup_base("shunter-test")
    if base is not None:
        base.rmdir()
    return base is not None


@pytest.fixture
def containment(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, cgroups_work: bool) -> str:
    """How the keeper holds its jobs together: what this machine offers, unless the test says which."""
    wanted: str = getattr(request, "param", "")
    if wanted == "cgroup" and not cgroups_work:
        pytest.skip("cgroup v2 with cgroup.kill (Linux 5.14) and the right to make cgroups are needed")
    if wanted == "no cgroup":
        monkeypatch.setenv("SHUNTER_CGROUP", "off")
    return wanted or ("cgroup" if cgroups_work else "no cgroup")


@pytest.fixture
def rig(tmp_path: Path, containment: str) -> Iterator[Rig]:
    """A connected worker with a keeper of its own. At the end no process of any of its jobs may be left."""
    rig = Rig(tmp_path)
    try:
        rig.connect()
        assert bool(rig.ready.cgroup) == (containment == "cgroup")
        yield rig
    finally:
        rig.finish()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """Return a function that mounts a file system of so many KiB and inodes (0: no limit)."""
    numbers = count(1)
    mounted: list[Path] = []

    def mount(*, kib: int = 1024, inodes: int = 0) -> Path:
        if os.geteuid() != 0 or shutil.which("mount") is None:
            pytest.skip("mounting a small tmpfs needs root")
        folder = tmp_path / f"disk-{next(numbers)}"
        folder.mkdir()
        options = f"size={kib}k,nr_inodes={inodes}"
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], capture_output=True, check=False
        )
        if done.returncode != 0:
            pytest.skip(f"this machine lets nobody mount a tmpfs: {done.stderr.decode().strip()}")
        mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        subprocess.run(["umount", "-l", folder], check=True)


def fill(disk: Path) -> Path:
    """Leave not a byte of room on *disk*; return the file that takes it."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file:
        for size in (65_536, 1):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                continue
    return ballast
