"""Files without end: no more of them is read than a line may have."""

from __future__ import annotations

import gzip
import subprocess
import sys
from pathlib import Path

import pytest

from shunter.errors import InvalidInput
from shunter.sim import files
from shunter.sim.files import MAX_LINE, lines
from shunter.sim.fleet import read_fleet
from shunter.sim.history import read_history
from tests.unit.sim.traces import SMALL, SMALL_NODES

HEADER = "job_id,submit_s,duration_s,gpus\n"
LONG = f"{HEADER}t,0,1,1\n{'x' * (MAX_LINE + 1)}\nu,0,1,1\n"
SAID = "expected lines of at most 1 MiB, got a longer one; see that it is a text file with a line for each job or node"


@pytest.mark.parametrize("argv", [["/dev/zero", "--nodes", str(SMALL_NODES)], [str(SMALL), "--nodes", "/dev/zero"]])
def test_a_device_without_end_is_refused(argv: list[str]) -> None:
    """In a process that would fail, and not take the machine with it, if it read on."""
    command = ["/bin/sh", "-c", 'ulimit -v 3000000; exec "$@"', "sh", sys.executable, "-m", "shunter", "simulate"]
    done = subprocess.run([*command, *argv], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (2, f"shunter: /dev/zero:1: {SAID}\n")


@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz", "t.jsonl", "t.json"])
def test_a_line_that_is_too_long_is_named(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(gzip.compress(LONG.encode()) if name.endswith(".gz") else LONG.encode())
    with pytest.raises(InvalidInput) as caught:
        list(lines(path))
    assert str(caught.value) == f"{path}:3: {SAID}"


def test_a_line_may_be_as_long_as_it_says(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("x" * (MAX_LINE - 1) + "\ny")
    assert [len(text) for text in lines(path)] == [MAX_LINE, 1]


def test_a_wrong_byte_far_into_a_line_is_named_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(b"a\n" + "é".encode() * (MAX_LINE - 9) + b"\xff\n")
    with pytest.raises(InvalidInput) as caught:
        list(lines(path))
    assert str(caught.value) == f"{path}:2: expected UTF-8 text, got the byte 0xff"


def test_a_list_may_be_one_line_of_json_however_long(tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    text = '[{"pad": "' + "x" * (2 * MAX_LINE) + '"},\n 7]'
    path.write_text(text)
    assert "".join(lines(path)) == text


def test_a_list_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MAX_LIST", 2 * MAX_LINE)
    path = tmp_path / "t.json"
    for text in ("[" + " " * (4 * MAX_LINE), "[\n" + f"{' ' * 1023}\n" * 4096):
        path.write_text(text)
        for read in (lambda: read_fleet(path, partition=False), lambda: read_history(path, ())):
            with pytest.raises(InvalidInput, match=r"t\.json: expected a list of at most 2 MiB, got a longer one"):
                read()
