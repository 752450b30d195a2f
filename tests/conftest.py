"""What holds for every test: none reads or writes the home of the person who runs it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session", autouse=True)
def _home_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SHUNTER_HOME", str(tmp_path_factory.mktemp("home")))
        for name in ("SHUNTER_REDIS", "SHUNTER_CLUSTER", "SHUNTER_STORAGE", "SHUNTER_POLICY"):
            patch.delenv(name, raising=False)
        yield
