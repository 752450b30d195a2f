"""One cluster for all tests that leave it whole; those that break something start one with `yard_of`."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator

import pytest

from tests.e2e.yard import Yard, yard_of


@pytest.fixture(scope="session")
def _shared_yard() -> Iterator[Yard]:
    with yard_of("n1=simulated:4", "n2=simulated:4") as yard:
        yield yard


@pytest.fixture(scope="session")
def untouched(_shared_yard: Yard) -> Yard:
    """The same cluster, for tests that leave no job behind."""
    return _shared_yard


@pytest.fixture
def yard(_shared_yard: Yard) -> Iterator[Yard]:
    """Two nodes of 4 GPUs, idle. After each test nothing may be left of it: no job, no process, no cordon."""
    _shared_yard.new_files()
    yield _shared_yard
    for view in _shared_yard.client.nodes():
        if view.node.cordoned:
            _shared_yard.client.uncordon(view.node.name)
    _shared_yard.quiet()


@pytest.fixture(scope="session")
def namespaces() -> None:
    """Skip where there can be no network namespaces."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("network namespaces need root and the ip command (iproute2)")
    name = f"shp{os.getpid()}"
    ends = ("type", "veth", "peer", "name", f"{name}b")
    made = _ip("netns", "add", name), _ip("link", "add", name, "type", "bridge"), _ip("link", "add", f"{name}a", *ends)
    for gone in (("link", "del", name), ("link", "del", f"{name}a"), ("netns", "del", name)):
        _ip(*gone)
    if said := "".join(one.stderr for one in made):
        pytest.skip(f"no network namespaces, bridges or veth devices here: {said.strip()}")


def _ip(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
