"""`--dump`: which job started when, and where, as CSV in order of start."""

from __future__ import annotations

import csv
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TextIO

from shunter.errors import InvalidInput
from shunter.sim.result import Run
from shunter.sim.whole import whole_file

COLUMNS: Final = ("job_id", "start_s", "end_s", "nodes")
STDOUT: Final = "-"


def targets(dump: str, policies: Sequence[str]) -> dict[str, str]:
    """Return for each of *policies* the file that its starts go to: *dump*, with its name in it if there are several.

    Raises InvalidInput where that is no place for a file; a long simulation asks this before it starts.
    """
    if len(policies) == 1:
        found = {policies[0]: dump}
    elif dump == STDOUT:
        raise _refusal(dump, f"standard output holds one policy, got {len(policies)}", "name a file")
    else:
        path = Path(dump)
        found = {policy: str(path.with_name(f"{path.stem}.{_slug(policy)}{path.suffix}")) for policy in policies}
    for target in found.values():
        if target != STDOUT:
            _check(Path(target))
    return found


def _slug(policy: str) -> str:
    return re.sub(r"[^\w.+-]+", "-", policy).strip("-.")


def _check(path: Path) -> None:
    if path.exists() and not path.is_file():
        what = "folder" if path.is_dir() else "device"
        raise _refusal(path, f"expected a file, got a {what}", "name a file; - is standard output")
    if path.suffix == ".gz":
        raise _refusal(path, "files are written as they are, not as gzip", "name it .csv")
    folder = path.resolve().parent
    if not folder.is_dir():
        raise _refusal(path, f"the folder {folder} does not exist", "create it, or name a file elsewhere")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise _refusal(path, f"files cannot be written into the folder {folder}", "name a file elsewhere, or allow it")


def _refusal(path: Path | str, what: str, fix: str) -> InvalidInput:
    return InvalidInput(f"--dump: {path}: {what}", field="dump", fix=fix)


@contextmanager
def dumping(target: str) -> Iterator[Callable[[Run], object]]:
    """Yield what writes a run to *target*, which is there when the block ends well, and else as it was before."""
    if target == STDOUT:
        yield _writer(sys.stdout)
        return
    with whole_file(Path(target)) as file:
        yield _writer(file)


def _writer(file: TextIO) -> Callable[[Run], object]:
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(COLUMNS)

    def write(run: Run) -> None:
        nodes = ";".join([share.node for share in run.shares])
        writer.writerow((run.name, _number(run.start_s), _number(run.end_s), nodes))

    return write


def _number(value: float) -> int | float:
    """Return *value* so that it reads back as the same float; whole seconds without `.0`, as traces have them."""
    return int(value) if value.is_integer() else value
