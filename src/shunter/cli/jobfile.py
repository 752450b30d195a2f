"""Job files: one job in YAML (or JSON, which is YAML), or a list of jobs, with errors that name line and column."""

from __future__ import annotations

from pathlib import Path
from typing import Final, NoReturn

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from shunter.errors import InvalidInput, RequestTooLarge
from shunter.sdk.spec import check_name, check_value

MAX_FILE_BYTES: Final = 1024 * 1024
_EXAMPLE: Final = "for example: command: python train.py"


class _Loader(yaml.SafeLoader):
    """The safe loader, in Python: it refuses deep nesting with an error, where the C one may overflow the stack."""


def read_jobs(path: str) -> tuple[list[dict[str, object]], bool]:
    """Return the fields of each job in the file at *path*, and whether it is a list. Raises InvalidInput."""
    text = read_text(path, field="file", most=MAX_FILE_BYTES)
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            raise InvalidInput(f"{path}: expected a job or a list of jobs, got nothing", fix=_EXAMPLE)
        jobs = node.value if isinstance(node, SequenceNode) else [node]
        if not jobs:
            _refuse(path, node, "expected one job or more, got an empty list")
        return [_read_job(path, loader, job) for job in jobs], jobs is node.value
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise InvalidInput(
            f"{path}:{line}: expected text, got the character U+{ord(text[error.position]):04X}"
        ) from error
    except yaml.MarkedYAMLError as error:
        raise InvalidInput(_explain(path, error)) from error
    except RecursionError as error:
        raise InvalidInput(f"{path}: expected the fields of a job, got something nested too deeply") from error


def read_text(path: str, *, field: str, most: int) -> str:
    """Return the file at *path* as text. Raises InvalidInput when it is not there, not UTF-8, or above *most* bytes."""
    try:
        with Path(path).open("rb") as file:
            content = file.read(most + 1)
    except OSError as error:
        raise InvalidInput(f"{field}: {path}: {(error.strerror or str(error)).lower()}", field=field) from error
    if len(content) > most:
        size = max(Path(path).stat().st_size, len(content))  # a pipe has no size
        raise RequestTooLarge(
            f"{field}: expected at most {most // 2**20} MiB, got {size / 2**20:.1f} MiB in {path}",
            field=field,
            fix="keep data in files that the job reads, and submit only the program",
        )
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InvalidInput(f"{path}:{line}: expected UTF-8 text, got the byte 0x{content[error.start]:02x}") from error


def _read_job(path: str, loader: _Loader, node: Node) -> dict[str, object]:
    """Return the fields in *node*, each checked, so that an error stands at its place."""
    if not isinstance(node, MappingNode):
        _refuse(path, node, f"expected the fields of a job, got {_short(node)}", fix=_EXAMPLE)
    fields: dict[str, object] = {}
    for key, value in node.value:
        name = key.value if isinstance(key, ScalarNode) else _short(key)
        try:
            check_name(name)
        except InvalidInput as error:
            _refuse(path, key, error.message, fix=error.fix)
        if name in fields:
            _refuse(path, key, f"{name}: given twice")
        try:
            fields[name] = check_value(name, loader.construct_object(value, deep=True))
        except InvalidInput as error:
            _refuse(path, value, error.message, fix=error.fix)
        except (ValueError, TypeError, OverflowError) as error:  # PyYAML's own, of a date or a tag such as !!int
            _refuse(path, value, f"{name}: {error}")
    return fields


def _explain(path: str, error: yaml.MarkedYAMLError) -> str:
    mark = error.problem_mark or error.context_mark
    place = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
    if "another document" in (error.problem or ""):
        return f"{path}{place}: expected one document, found another; write the jobs as a list"
    return f"{path}{place}: {error.problem or error}"


def _refuse(path: str, node: Node, what: str, *, fix: str | None = None) -> NoReturn:
    mark = node.start_mark
    raise InvalidInput(f"{path}:{mark.line + 1}:{mark.column + 1}: {what}", fix=fix)


def _short(node: Node) -> str:
    text = str(node.value) if isinstance(node, ScalarNode) else f"a {node.tag.rpartition(':')[2]}"
    return repr(text) if len(text) <= 60 else f"{text[:57]!r}..."
