from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest

from shunter.cli import connect
from shunter.cli.main import main
from tests.unit.sdk.fake import TOKEN, URL, FakeGateway


class Ran(NamedTuple):
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str


Cli = Callable[..., Ran]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home without a server, as the current folder."""
    for name in ("SHUNTER_URL", "SHUNTER_TOKEN", "SHUNTER_DEBUG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SHUNTER_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Cli:
    """Run a command line, as the console script does, and return what came of it."""

    def run(*argv: str) -> Ran:
        code = main(argv)
        printed = capsys.readouterr()
        assert "Traceback" not in printed.err
        return Ran(code, printed.out, printed.err)

    return run


@pytest.fixture
def gateway(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeGateway]:
    """The server that the environment names."""
    fake = FakeGateway()
    monkeypatch.setenv("SHUNTER_URL", URL)
    monkeypatch.setenv("SHUNTER_TOKEN", TOKEN)
    monkeypatch.setattr(connect, "TRANSPORT", httpx.MockTransport(fake))
    for pauses in ("REQUEST_PAUSES_S", "STORE_PAUSES_S"):  # one try: these tests are about what is said
        monkeypatch.setattr(f"shunter.sdk.transport.{pauses}", ())
    yield fake
    assert not fake.unused(), f"planned but never asked for: {fake.unused()}"
