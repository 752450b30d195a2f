"""Files that people hand to the simulator: text (gzip or not) and CSV. Errors say file, line, field, value and what is
allowed."""

from __future__ import annotations

import csv
import gzip
import math
import zlib
from codecs import getincrementaldecoder
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Final, TextIO

from shunter.errors import InvalidInput

MAX_ROWS: Final = 2_000_000
"""Jobs that one trace may have, unless `--max-rows` says otherwise: about 1 GB of memory."""

MOST: Final = 1e12
"""Above any count, and any time in seconds; a time in milliseconds since 1970 is above it too."""

MAX_SCALE: Final = 1e6

MAX_LINE: Final = 2**20
"""Characters of a line: a row of any trace, or a job in JSON, has a thousand times less."""

MAX_LIST: Final = 2**30
"""Characters of a list in JSON, which is read whole: about a million jobs."""

_SHOWN: Final = 12


def is_json(path: Path) -> bool:
    """Return whether *path* is named as JSON or JSON lines, gzip or not."""
    return path.name.removesuffix(".gz").endswith((".json", ".jsonl"))


def lines(path: Path) -> Iterator[str]:
    """Yield the lines of *path*, each with its end, unzipped if it is named .gz, without a byte order mark.

    Raises InvalidInput for a file that cannot be read, is not what its name says, is not UTF-8, or has a line that no
    reader should be handed.
    """
    try:
        with _open(path) as file:
            for number, text in enumerate(iter(partial(file.readline, MAX_LINE + 1), ""), 1):
                if len(text) > MAX_LINE:
                    if number > 1 or not _begins_list(path, text):
                        raise InvalidInput(
                            f"{path}:{number}: expected lines of at most {MAX_LINE // 2**20} MiB, got a longer one",
                            fix="see that it is a text file with a line for each job or node",
                        )
                    yield text + file.read(MAX_LIST)
                    return
                yield text
    except UnicodeDecodeError as error:
        raise _not_utf8(path, error) from error
    except EOFError as error:
        raise InvalidInput(f"{path}: the gzip file is cut off", fix="copy it again") from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise InvalidInput(f"{path}: expected a gzip file, as its name says: {error}") from error
    except OSError as error:
        raise InvalidInput(f"{path}: {(error.strerror or str(error)).lower()}") from error


def whole(path: Path, lines: Iterable[str]) -> str:
    """Return *lines*, which are of *path*, as one text. Raises InvalidInput for more than a list may have."""
    parts: list[str] = []
    left = MAX_LIST
    for text in lines:
        left -= len(text)
        if left < 0:
            raise InvalidInput(
                f"{path}: expected a list of at most {MAX_LIST // 2**20} MiB, got a longer one",
                fix="write a job on each line, without a list around them",
            )
        parts.append(text)
    return "".join(parts)


def _begins_list(path: Path, text: str) -> bool:
    """Return whether *path* is a list in JSON, all of which may be one line."""
    return is_json(path) and text.lstrip()[:1] == "["


def _open(path: Path) -> TextIO:
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8-sig", newline="")
    return path.open(encoding="utf-8-sig", newline="")


def _not_utf8(path: Path, error: UnicodeDecodeError) -> InvalidInput:
    """Return what to say of *error*, which knows its place only within a block of the file: so read it once more."""
    at, line, decoder = "", 1, getincrementaldecoder("utf-8")()
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        for text in iter(partial(file.readline, MAX_LINE), b""):
            try:
                decoder.decode(text)
            except UnicodeDecodeError as found:
                error, at = found, f":{line}"
                break
            line += text.endswith(b"\n")
    return InvalidInput(f"{path}{at}: expected UTF-8 text, got the byte 0x{error.object[error.start]:02x}")


def listed(names: Iterable[str]) -> str:
    """Return *names* for a message, in their order, not all of them if there are many."""
    shown = [f"{name:.40}" for name in names]
    more = f" and {len(shown) - _SHOWN} more" if len(shown) > _SHOWN else ""
    return ", ".join(shown[:_SHOWN]) + more


def too_many(path: Path, max_rows: int) -> InvalidInput:
    return InvalidInput(f"{path}: expected at most {max_rows} jobs, got more", fix="raise --max-rows")


def check_scale(scale_load: float) -> None:
    """Raise InvalidInput for a factor that would leave no time between submissions, or no order."""
    if not 1 / MAX_SCALE <= scale_load <= MAX_SCALE:
        raise InvalidInput(
            f"--scale-load: expected a number from {1 / MAX_SCALE:.6f} to {MAX_SCALE:.0f}, got {scale_load}",
            field="scale_load",
        )


class Table:
    """A CSV file whose first line names its columns. *columns*: name to place; *line*: that of the last row read."""

    def __init__(self, path: Path, required: Sequence[str]) -> None:
        """Raises InvalidInput for an empty file and for a header that lacks one of *required* or names one twice."""
        self.path = path
        self.line = 0
        self._cells = self._read()
        header = [name.strip() for name in next(self._cells, [])]
        if not any(header):
            raise InvalidInput(f"{path}: is empty", fix=f"its first line names the columns: {', '.join(required)}, ...")
        self.columns = {name: place for place, name in enumerate(header)}
        if missing := [name for name in required if name not in self.columns]:
            raise InvalidInput(
                f"{path}:1: expected the column{'s' * (len(missing) > 1)} {', '.join(missing)}, got {listed(header)!r}",
                field=missing[0],
            )
        if len(self.columns) < len(header):
            twice = next(name for name in header if header.count(name) > 1)
            raise InvalidInput(f"{path}:1: expected each column once, got {twice!r:.60} twice", field=twice)

    def place(self, column: str) -> int:
        """Return where *column* is in a row; -1, where each row has an empty cell, for one that the file lacks."""
        return self.columns.get(column, -1)

    def rows(self) -> Iterator[list[str]]:
        """Yield the cells of each row, and one more, empty, that stands for all columns that the file lacks."""
        width = len(self.columns)
        for cells in self._cells:
            if len(cells) != width:
                if not cells:
                    continue
                raise InvalidInput(f"{self.path}:{self.line}: expected {width} cells, got {len(cells)}")
            cells.append("")
            yield cells

    def wrong(self, field: str, value: str, expected: str, *, fix: str | None = None) -> InvalidInput:
        """Return the error for *value* in the column *field* of the last row read."""
        return InvalidInput(
            f"{self.path}:{self.line}: {field}: expected {expected}, got {value!r:.60}", field=field, fix=fix
        )

    def _read(self) -> Iterator[list[str]]:
        reader = csv.reader(lines(self.path), strict=True)
        try:
            for cells in reader:
                self.line = reader.line_num
                yield cells
        except csv.Error as error:
            raise InvalidInput(
                f"{self.path}:{reader.line_num}: not a row of CSV: {error}", fix="look for a quote that is not closed"
            ) from error


class Column(dict[str, float]):
    """The numbers of one column by their text, each read once. *empty* is what an empty cell stands for."""

    def __init__(
        self,
        table: Table,
        name: str,
        *,
        least: float = 0.0,
        most: float = MOST,
        whole: bool = False,
        empty: float | None = None,
    ) -> None:
        super().__init__({} if empty is None else {"": empty})
        self.name = name
        self.place = table.place(name)
        self._table = table
        self._least = least
        self._most = most
        self._whole = whole

    def __missing__(self, cell: str) -> float:
        value = self[cell] = self.read(cell)
        return value

    def read(self, cell: str) -> float:
        """Return the number in *cell*. For columns whose values hardly repeat: it is not kept."""
        try:
            value = float(cell)
        except ValueError:
            value = math.nan
        # Python reads 1_000 and ٣ as numbers; other programs that read the file do not.
        if not self._least <= value <= self._most or "_" in cell or not cell.isascii():
            raise self._wrong(cell)
        if self._whole and not value.is_integer():
            raise self._wrong(cell)
        return value

    def _wrong(self, cell: str) -> InvalidInput:
        kind = "a whole number" if self._whole else "a number"
        return self._table.wrong(self.name, cell, f"{kind} from {self._least:.12g} to {self._most:.12g}")
