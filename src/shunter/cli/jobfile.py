"""Job files: one job in YAML (or JSON, which is YAML), or a list of jobs, with errors that name line and column."""

from __future__ import annotations

import os
from typing import Any, Final, NoReturn

import yaml
from yaml.nodes import MappingNode, Node, SequenceNode

from shunter.errors import InvalidInput
from shunter.sdk.spec import check_name, check_value, script_too_large

MAX_FILE_BYTES: Final = 32 * 1024 * 1024
_EXAMPLE: Final = "for example: command: python train.py"


def read_jobs(path: str) -> list[dict[str, object]]:
    """Return the fields of each job in the file at *path*, checked one by one. Raises InvalidInput, with the place."""
    text = read_text(path, most=MAX_FILE_BYTES)
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            raise InvalidInput(f"{path}: expected a job or a list of jobs, got nothing", fix=_EXAMPLE)
        jobs = node.value if isinstance(node, SequenceNode) else [node]
        if not jobs:
            _refuse(path, node, "expected one job or more, got an empty list")
        return [_read_job(path, loader, job) for job in jobs]
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
        raise InvalidInput(f"{path}{place}: {error.problem or error.context}") from error
    except yaml.reader.ReaderError as error:
        raise InvalidInput(f"{path}: expected text, got the character U+{int(error.character):04X}") from error
    except yaml.YAMLError as error:
        raise InvalidInput(f"{path}: {error}") from error
    except RecursionError as error:
        raise InvalidInput(f"{path}: nested too deeply") from error
    finally:
        loader.dispose()


def read_text(path: str, *, most: int) -> str:
    """Return the file at *path* as text. Raises InvalidInput when it is not there, not UTF-8, or above *most* bytes."""
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - a path may be /dev/stdin, and is named as it was written
            content = file.read(most + 1)
    except OSError as error:
        raise InvalidInput(
            f"{path}: {(error.strerror or str(error)).lower()}", fix="give a file that is there"
        ) from error
    if len(content) > most:
        size = os.stat(path).st_size  # noqa: PTH116
        raise script_too_large(f"{size / 2**20:.1f} MiB" if size > most else "more")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InvalidInput(f"{path}:{line}: expected UTF-8 text, got the byte 0x{content[error.start]:02x}") from error


class _Loader(yaml.SafeLoader):
    """The safe loader. Its Python version, for the C one gives no better speed on files of a screen or two."""


def _read_job(path: str, loader: _Loader, node: Node) -> dict[str, object]:
    """Return the fields in *node*, each checked, so that an error stands at its place."""
    if not isinstance(node, MappingNode):
        _refuse(path, node, f"expected the fields of a job, got {_short(node)}", fix=_EXAMPLE)
    fields: dict[str, object] = {}
    for key, value in node.value:
        name: Any = loader.construct_object(key, deep=True)
        try:
            check_name(name)
        except InvalidInput as error:
            _refuse(path, key, error.message, fix=error.fix)
        if name in fields:
            _refuse(path, key, f"{name}: given twice")
        fields[name] = loader.construct_object(value, deep=True)
        try:
            check_value(name, fields[name])
        except InvalidInput as error:
            _refuse(path, value, error.message, fix=error.fix)
    return fields


def _refuse(path: str, node: Node, what: str, *, fix: str | None = None) -> NoReturn:
    mark = node.start_mark
    raise InvalidInput(f"{path}:{mark.line + 1}:{mark.column + 1}: {what}", fix=fix)


def _short(node: Node) -> str:
    text = str(node.value) if isinstance(node.value, str) else node.tag.rpartition(":")[2]
    return repr(text if len(text) <= 60 else f"{text[:57]}...")
