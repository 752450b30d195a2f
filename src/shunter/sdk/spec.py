"""From the fields that a person wrote to a JobSpec, with errors that name the field, the value and the fix.

Only the shape is checked here, and what must not travel (16 MiB); the gateway checks what fields mean together.
"""

from __future__ import annotations

import getpass
import os
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Final

import msgspec
from msgspec import inspect

from shunter.domain.job import MAX_SCRIPT_BYTES, JobSpec
from shunter.errors import InvalidInput, RequestTooLarge

CARRIED: Final = ("PATH", "VIRTUAL_ENV", "CONDA_PREFIX", "CONDA_DEFAULT_ENV", "PYTHONPATH", "LD_LIBRARY_PATH")
"""What selects a toolchain: without it `python` on the node would be another one than here."""

_TYPES: Final = {field.name: field.type for field in msgspec.structs.fields(JobSpec)}
_IN_WORDS: Final = {
    "gpus": "a whole number from 0 to 1000000, or a share below 1 such as 0.25",
    "gpu_model": "a model such as H100, A100|H100 or a list of models",
    "within": "rack or island",
    "time": "a duration such as 2h",
    "expect": "a duration such as 2h",
    "grace": "a duration such as 30s",
}


def make_spec(fields: Mapping[str, object]) -> JobSpec:
    """Return the job that *fields* describe; raise InvalidInput for an unknown field or a value of the wrong shape."""
    for name in fields:
        check_name(name)
    values = {name: check_value(name, value) for name, value in fields.items()}
    return msgspec.convert(values, JobSpec)


def checked(spec: JobSpec) -> JobSpec:
    """Return *spec* once its fields are known to have the right shape: a struct made in Python may hold anything."""
    return make_spec(msgspec.structs.asdict(spec))


def check_name(name: object) -> None:
    if name not in _TYPES:
        close = get_close_matches(str(name), _TYPES, n=1)
        fix = f"did you mean {close[0]}?" if close else f"the fields are {', '.join(_TYPES)}"
        raise InvalidInput(f"{name}: no such field of a job", field=str(name), fix=fix)


def check_value(name: str, value: object) -> object:
    """Return *value* as the type of field *name*."""
    try:
        converted: object = msgspec.convert(value, _TYPES[name])
    except msgspec.ValidationError as error:
        wanted = _IN_WORDS.get(name) or _in_words(inspect.type_info(_TYPES[name]))
        wrong, where = _offender(value)
        fix = "put it in quotes" if "text" in wanted and isinstance(wrong, int | float) else None
        raise InvalidInput(f"{name}: expected {wanted}, got {_short(wrong)}{where}", field=name, fix=fix) from error
    if name == "script" and isinstance(value, str):
        _check_script(value)
    return converted


def _check_script(script: str) -> None:
    size = len(script) if script.isascii() else len(script.encode("utf-8", "surrogateescape"))
    if size > MAX_SCRIPT_BYTES:
        raise script_too_large(f"{size / 2**20:.1f} MiB")


def script_too_large(got: str) -> RequestTooLarge:
    return RequestTooLarge(
        f"script: expected at most {MAX_SCRIPT_BYTES // 2**20} MiB, got {got}",
        field="script",
        fix="keep its data in files that it reads, and submit only the program",
    )


def located(spec: JobSpec) -> JobSpec:
    """Return *spec* with what the server cannot know: an absolute folder (default: this one), this user's name, and the
    variables that select this toolchain, unless *spec* sets them."""
    cwd = Path(spec.cwd).expanduser() if spec.cwd else Path()
    if not cwd.is_absolute():
        try:
            cwd = Path.cwd() / cwd
        except FileNotFoundError as error:
            raise InvalidInput(
                "cwd: the current folder is gone", field="cwd", fix="change to one that is there, or name one"
            ) from error
    env = {name: os.environ[name] for name in CARRIED if name in os.environ} | spec.env
    return msgspec.structs.replace(spec, cwd=str(cwd), user=spec.user or _user(), env=env)


def _user() -> str | None:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a uid without a name, as in some containers
        return None


def encode(specs: JobSpec | list[JobSpec]) -> bytes:
    """Return *specs* as JSON; text that is not UTF-8 (a file name, a variable) is refused with its field."""
    try:
        return msgspec.json.encode(specs)
    except UnicodeEncodeError as error:
        for spec in specs if isinstance(specs, list) else [specs]:
            _refuse_not_utf8(spec)
        raise InvalidInput(f"expected UTF-8 text, got {_short(error.object)}") from error


def _refuse_not_utf8(spec: JobSpec) -> None:
    for name, value in msgspec.structs.asdict(spec).items():
        try:
            msgspec.json.encode(value)
        except UnicodeEncodeError as error:
            raise InvalidInput(f"{name}: expected UTF-8 text, got {_short(error.object)}", field=name) from error


def _in_words(kind: inspect.Type) -> str:
    match kind:
        case inspect.IntType(ge=least, le=most) | inspect.FloatType(ge=least, le=most):
            number = "a whole number" if isinstance(kind, inspect.IntType) else "a number"
            return number if least is None or most is None else f"{number} from {int(least)} to {int(most)}"
        case inspect.StrType(min_length=least, max_length=most):
            return "text" if least is None else f"text of {least} to {most} characters"
        case inspect.EnumType(cls=cls):
            *names, last = [str(member.value) for member in cls]
            return f"{', '.join(names)} or {last}"
        case inspect.BoolType():
            return "true or false"
        case inspect.ListType():
            return "a list of texts"
        case inspect.DictType():
            return "text by name"
        case inspect.UnionType(types=types):
            return " or ".join(_in_words(part) for part in types if not isinstance(part, inspect.NoneType))
        case _:
            return type(kind).__name__


def _offender(value: object) -> tuple[object, str]:
    """Return the part of a list or mapping that is not text, and where it is; any other value is its own offender."""
    parts: list[tuple[object, str]] = []
    if isinstance(value, Mapping):
        parts = [(key, " as a name") for key in value] + [(part, f" for {key}") for key, part in value.items()]
    elif isinstance(value, list | tuple):
        parts = [(part, f" as item {number}") for number, part in enumerate(value, 1)]
    return next(((part, where) for part, where in parts if not isinstance(part, str)), (value, ""))


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
