from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.sdk.fake import FakeGateway


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No server is known, whatever runs on this machine."""
    for name in ("SHUNTER_URL", "SHUNTER_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SHUNTER_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def gateway() -> Iterator[FakeGateway]:
    fake = FakeGateway()
    yield fake
    assert not fake.unused(), f"planned but never asked for: {fake.unused()}"
