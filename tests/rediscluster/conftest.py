"""One cluster for all tests here: a test uses tags of its own, and leaves every server running."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.rediscluster.six import Six


@pytest.fixture(scope="session")
def six(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Six]:
    six = Six(tmp_path_factory.mktemp("six"), password="secret")
    try:
        six.start()
        yield six
    finally:
        six.stop()
