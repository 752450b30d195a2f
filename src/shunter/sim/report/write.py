"""The report on the disk: a page, and beside it a folder with its charts as SVG files."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from shunter.errors import InvalidInput
from shunter.sim.report.page import MARK, document, figures, page
from shunter.sim.report.plot import WIDE, stacked
from shunter.sim.report.study import study
from shunter.sim.result import Result
from shunter.sim.whole import whole_file

_HEAD: Final = 400
"""Bytes at the start of a file, among which the mark of the report is."""

_OTHER: Final = "name another file, or move this one away"
_SLUGS: Final = ("utilisation", "queue", "completion", "wait", "fragmentation", "nodes")


def write_report(results: Sequence[Result], path: Path, *, title: str, facts: Sequence[tuple[str, str]]) -> list[Path]:
    """Write the page at *path* and its charts into the folder `NAME_files` beside it; return all files, the page first.

    The first of *results* is what the others are measured against. *facts* are listed at the end of the page as given.
    Raises InvalidInput as `check_report` does, before anything is written; and also if writing fails.
    """
    check_report(path)
    binned = study(results)
    charts = figures(binned)
    texts = [page(binned, charts, title, facts)]
    texts += [document(stacked(figure.draw(WIDE), figure.heading)) for figure in charts]
    written = _targets(path)
    try:
        written[-1].parent.mkdir(exist_ok=True)
        for target, text in reversed(list(zip(written, texts, strict=True))):  # the page last: then all is there
            with whole_file(target) as file:
                file.write(text)
    except OSError as error:
        raise _unusable(path, error) from error
    return written


def check_report(path: Path) -> None:
    """Raise InvalidInput if a report cannot go to *path*; a long simulation asks this before it starts.

    The folder of *path* has to exist and to be writable, and no file may be there that is not from an earlier report.
    """
    try:
        _check(path, _targets(path))
    except OSError as error:
        raise _unusable(path, error) from error


def _targets(path: Path) -> list[Path]:
    folder = path.with_name(f"{path.stem}_files")
    return [path, *(folder / f"{slug}.svg" for slug in _SLUGS)]


def _check(path: Path, targets: Sequence[Path]) -> None:
    if path.is_dir():
        raise _refusal(path, "expected a file, got a folder", f"name a file in it: {path / 'report.html'}")
    if not path.parent.is_dir():
        raise _refusal(path, f"the folder {path.parent} does not exist", "create it, or name a file elsewhere")
    folder = targets[-1].parent
    if folder.exists() and not folder.is_dir():
        raise _refusal(folder, "expected a folder for the charts, got a file", _OTHER)
    for place in (path.parent, folder):
        if place.exists() and not os.access(place, os.W_OK | os.X_OK):
            raise _refusal(place, "files cannot be written into this folder", "name a file elsewhere, or allow it")
    for target in targets:
        if target.exists() and not _ours(target):
            raise _refusal(target, "it exists and is not from an earlier report", _OTHER)


def _ours(target: Path) -> bool:
    """Return whether *target* was written by a report, or is empty, so that nothing is lost."""
    with target.open("rb") as file:
        head = file.read(_HEAD)
    return not head or MARK.encode() in head


def _refusal(path: Path, what: str, fix: str) -> InvalidInput:
    return InvalidInput(f"--report: {path}: {what}", field="report", fix=fix)


def _unusable(path: Path, error: OSError) -> InvalidInput:
    return _refusal(Path(error.filename or path), (error.strerror or str(error)).lower(), "name a file elsewhere")
