"""`shunter simulate` as tests call it: in an empty folder, without a home or a server."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from shunter.cli.main import main
from tests.unit.sim.traces import SMALL, SMALL_NODES, written

SAMPLE = (str(SMALL), "--nodes", str(SMALL_NODES))


class Ran(NamedTuple):
    code: int
    out: str
    err: str


Simulate = Callable[..., Ran]


@pytest.fixture
def simulate(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Simulate:
    """Run the command in an empty folder, without a home or a server."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SHUNTER_HOME", str(tmp_path / "no-home"))

    def run(*argv: str) -> Ran:
        code = main(["simulate", *argv])
        printed = capsys.readouterr()
        assert "Traceback" not in printed.err
        return Ran(code, printed.out, printed.err)

    return run


def given(folder: Path, *jobs: str, nodes: tuple[str, ...] = ("n1,4", "n2,4")) -> tuple[str, str, str]:
    trace, fleet = written(folder, jobs, nodes)
    return str(trace), "--nodes", str(fleet)


def records(ran: Ran) -> list[dict[str, Any]]:
    assert ran.code == 0, ran.err
    return [json.loads(line) for line in ran.out.splitlines()]
