"""The store on every version of Redis that it promises to run on; each test has a cluster of its own."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import pytest

from tests.contract.cluster import Cluster
from tests.contract.servers import CLUSTER, VERSIONS, Servers, find_binary, why_missing

_numbers = count(1)


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    servers = Servers(tmp_path_factory.mktemp("redis"))
    yield servers
    servers.stop()


@pytest.fixture(params=(*VERSIONS, CLUSTER))
def url(request: pytest.FixtureRequest, servers: Servers) -> str:
    version = "7.0" if request.param == CLUSTER else request.param
    if find_binary(version) is None:
        pytest.skip(why_missing(version))
    return servers.url(request.param)


@pytest.fixture
def cluster(url: str) -> Iterator[Cluster]:
    """A new, empty cluster. At the end of each test it must be consistent, and no key may lie outside its hash tag."""
    cluster = Cluster(url, f"t-{next(_numbers)}")
    yield cluster
    try:
        cluster.check()
        leaked = cluster.foreign_keys()
        assert not leaked, f"keys outside {cluster.keys.prefix}: {leaked}"
    finally:
        cluster.wipe()
