"""One cluster for all tests that leave it whole; those that break something start one with `yard_of`."""

from __future__ import annotations

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
