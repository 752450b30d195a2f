"""The lines that the benchmarks write, and how submitters share the work."""

from __future__ import annotations

import io
import json

import pytest
from benchmarks.output import Output
from benchmarks.pyspy import Share, top
from benchmarks.submitters import divided


def test_each_line_is_one_object_on_stdout_and_in_the_file(capsys: pytest.CaptureFixture[str]) -> None:
    file = io.StringIO()
    out = Output("submit", file)
    out.line({"cpu": "Fast One"})
    out.figure("http", "ms", [1.0, 3.0], clients=1)
    out.repeated("load", "ms", [[1.0], [2.0]])
    out.failed("command", "exit code 1")
    shown = capsys.readouterr().out
    assert shown == file.getvalue()
    facts, http, load, command = map(json.loads, shown.splitlines())
    assert facts == {"cpu": "Fast One"}
    assert http == {
        "benchmark": "submit", "figure": "http", "unit": "ms", "n": 2, "median": 2.0, "min": 1.0, "max": 3.0,
        "p99": None, "clients": 1,
    }  # fmt: skip
    assert (load["n"], load["repetitions"], load["median_by_repetition"]) == (2, 2, [1.0, 2.0])
    assert command == {"benchmark": "submit", "figure": "command", "error": "exit code 1"}


def test_the_top_of_collapsed_stacks() -> None:
    stacks = ["main;work;read 6", "main;work 2", "main;sleep;select (selectors.py:451) 90", "main 2", "not a stack"]
    assert top(stacks) == [Share("main", 0.2, 1.0), Share("work", 0.2, 0.8), Share("read", 0.6, 0.6)]
    assert top([]) == []


def test_work_is_divided_evenly_and_whole() -> None:
    assert divided(10, 4) == [3, 3, 2, 2]
    assert divided(2, 4) == [1, 1, 0, 0]
