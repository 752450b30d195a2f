"""From a request's body to jobs that the store can take: every check that needs no store, each with its fix."""

from __future__ import annotations

import difflib
import re
from pathlib import PurePosixPath
from typing import Any, Final

import msgspec

from shunter.domain.duration import format_duration, parse_duration
from shunter.domain.ids import JobId
from shunter.domain.job import (
    INLINE_SCRIPT_BYTES,
    MAX_COMMAND_BYTES,
    MAX_ENV_BYTES,
    MAX_SCRIPT_BYTES,
    Job,
    JobSpec,
    Launch,
    Priority,
    Submission,
    Within,
)
from shunter.errors import InvalidInput, RequestTooLarge
from shunter.gateway.resources import read_request

MAX_JOBS: Final = 1000
MAX_ARGV_BYTES: Final = 1024 * 1024
"""Linux gives arguments and environment about 2 MiB together."""
MAX_VARIABLE_BYTES: Final = 128 * 1024
"""Linux refuses a longer `NAME=value`, its NUL included."""
MAX_CWD_BYTES: Final = 4096
_decode = msgspec.json.Decoder(JobSpec | list[JobSpec]).decode
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_ENV_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_UNKNOWN: Final = re.compile(r"Object contains unknown field `(.*?)`(?: - at `\$(.*)`)?")
_WITH_PATH: Final = re.compile(r"(.*) - at `\$(.*)`", re.DOTALL)
_INTERPRETERS: Final = re.compile(r"(python[\d.]*|bash|sh|zsh|perl|ruby|Rscript|julia|node)", re.ASCII)


def read_specs(body: bytes) -> list[JobSpec]:
    """Return the specs in *body*: one object, or a list of up to 1,000.

    Raises InvalidInput naming field, value and fix.
    """
    try:
        decoded = _decode(body)
    except msgspec.ValidationError as error:
        raise explain(error, body) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidInput(
            f"body: not valid JSON: {error}", field="body", fix="send one job or a list of jobs"
        ) from error
    specs = decoded if isinstance(decoded, list) else [decoded]
    if not 1 <= len(specs) <= MAX_JOBS:
        raise InvalidInput(
            f"body: expected 1 to {MAX_JOBS} jobs, got {len(specs)}", field="body", fix="send them in several requests"
        )
    return specs


def explain(error: msgspec.ValidationError, body: bytes) -> InvalidInput:
    """Return the error of ours for *error*: it names the field and the value that was sent."""
    text = str(error)
    if match := _UNKNOWN.fullmatch(text):
        name = match.group(1)
        close = difflib.get_close_matches(name, JobSpec.__struct_fields__, 1)
        fix = f"did you mean {close[0]!r}?" if close else f"known fields: {', '.join(JobSpec.__struct_fields__)}"
        return InvalidInput(f"{name}: unknown field", field=name, fix=fix)
    match = _WITH_PATH.fullmatch(text)
    said, path = (match.group(1), match.group(2).lstrip(".")) if match else (text, "")
    field = path or "body"
    value = _value_at(body, path)
    shown = "" if value is _MISSING else f", got {_short(value)}"
    said = said.replace("`", "").partition(", got ")[0]
    if said.startswith("Invalid enum value"):
        said = f"Expected one of {', '.join(one for one in (Within if field.endswith('within') else Priority) if one)}"
    return InvalidInput(
        f"{field}: {said[:1].lower()}{said[1:]}{shown}", field=field, fix="see /docs for the fields of a job"
    )


_MISSING: Final = object()


def _value_at(body: bytes, path: str) -> Any:
    try:
        value = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):  # what comes after the first mistake
        return _MISSING
    for name, index in re.findall(r"([^.\[\]]+)|\[(\d+)\]", path):
        try:
            value = value[int(index)] if index else value[name]
        except (KeyError, IndexError, TypeError):
            return _MISSING
    return value


def _short(value: Any) -> str:
    text = msgspec.json.encode(value).decode()
    return text if len(text) <= 80 else text[:77] + "..."


def build(spec: JobSpec, *, default_user: str, at_s: float) -> Submission:
    """Return *spec* as a job without an id. Raises InvalidInput for what no cluster could run."""
    argv = _argv(spec)
    _check_env(spec.env)
    _check_cwd(spec.cwd)
    for field in ("name", "user", "team"):
        _check_printable(field, getattr(spec, field))
    limit_s = None if spec.time is None else parse_duration(spec.time, field="time")
    job = Job(
        id=JobId(0),
        name=spec.name or default_name(argv, spec),
        user=spec.user or default_user,
        team=spec.team or "",
        request=read_request(spec),
        submitted_s=at_s,
        priority=spec.priority,
        time_limit_s=limit_s,
        grace_s=parse_duration(spec.grace, field="grace"),
        max_retries=spec.max_retries,
        expected_s=_expected_s(spec.expect, limit_s),
    )
    return Submission(job, Launch(argv, spec.cwd or "", spec.env, spec.script, None, spec.split_stderr))


def _expected_s(expect: str | int | None, limit_s: int | None) -> float | None:
    if expect is None:
        return None
    expected_s = parse_duration(expect, field="expect")
    if limit_s is not None and expected_s > limit_s:
        raise InvalidInput(
            f"expect: expected at most the time limit ({format_duration(limit_s)}), got {expect!r}",
            field="expect",
            fix="raise time, or leave expect out",
        )
    return float(expected_s)


def _argv(spec: JobSpec) -> list[str]:
    if spec.command is None and spec.script is None:
        raise InvalidInput("command: missing", field="command", fix="give a command (a list or a string) or a script")
    if spec.command is not None and spec.script is not None:
        raise InvalidInput("command: given together with script", field="command", fix="give only one of them")
    if spec.script is not None:
        size = len(spec.script.encode(errors="surrogatepass"))
        if size > MAX_SCRIPT_BYTES:
            raise RequestTooLarge(
                f"script: expected at most 16 MiB, got {size / 2**20:.1f} MiB",
                field="script",
                fix="put data into a file on shared storage and let the script read it",
            )
        if not spec.script.strip():
            raise InvalidInput("script: expected some text, got an empty one", field="script", fix="write the commands")
        return []
    if isinstance(spec.command, str):
        if not spec.command.strip():
            raise InvalidInput(
                "command: expected something to run, got an empty string", field="command", fix="name it"
            )
        return _checked(["/bin/sh", "-c", spec.command])
    assert spec.command is not None
    if not spec.command or not spec.command[0]:
        raise InvalidInput(
            f"command: expected a program and its arguments, got {_short(spec.command)}",
            field="command",
            fix="name the program to run",
        )
    return _checked(spec.command)


def _checked(argv: list[str]) -> list[str]:
    if any("\0" in part for part in argv):
        raise InvalidInput("command: contains a NUL character", field="command", fix="remove it")
    longest = max(len(part.encode(errors="surrogatepass")) for part in argv)
    if longest >= MAX_COMMAND_BYTES:
        raise RequestTooLarge(
            f"command: expected arguments below {MAX_COMMAND_BYTES // 1024} KiB (Linux's limit), got {longest} bytes",
            field="command",
            fix="send it as a script",
        )
    total = sum(len(part.encode(errors="surrogatepass")) + 1 for part in argv)
    if total > MAX_ARGV_BYTES:
        raise RequestTooLarge(
            f"command: expected at most {MAX_ARGV_BYTES // 2**20} MiB in all, got {total} bytes",
            field="command",
            fix="put the arguments into a file, or send a script",
        )
    return argv


def _check_env(env: dict[str, str]) -> None:
    for name, value in env.items():
        if not _ENV_NAME.fullmatch(name):
            raise InvalidInput(
                f"env: expected names of letters, digits and _, got {name!r}", field="env", fix="rename the variable"
            )
        if "\0" in value:
            raise InvalidInput(f"env.{name}: contains a NUL character", field=f"env.{name}", fix="remove it")
    size = sum(len(name) + len(value.encode(errors="surrogatepass")) + 2 for name, value in env.items())
    if size > MAX_ENV_BYTES:
        raise RequestTooLarge(
            f"env: expected at most {MAX_ENV_BYTES // 1024} KiB in all, got {size // 1024} KiB",
            field="env",
            fix="put the values into a file",
        )
    for name, value in env.items():
        size = len(name) + len(value.encode(errors="surrogatepass")) + 2
        if size > MAX_VARIABLE_BYTES:
            raise RequestTooLarge(
                f"env.{name:.60}: expected name and value below {MAX_VARIABLE_BYTES // 1024} KiB (Linux's limit), "
                f"got {size} bytes",
                field=f"env.{name:.60}",
                fix="put the value into a file",
            )


def _check_cwd(cwd: str | None) -> None:
    if cwd is None:
        return
    if not cwd.startswith("/"):
        raise InvalidInput(f"cwd: expected an absolute path, got {cwd!r:.120}", field="cwd", fix="begin it with /")
    if "\0" in cwd:
        raise InvalidInput("cwd: contains a NUL character", field="cwd", fix="remove it")
    size = len(cwd.encode(errors="surrogatepass"))
    if size > MAX_CWD_BYTES:
        raise InvalidInput(
            f"cwd: expected at most {MAX_CWD_BYTES} bytes (Linux's limit), got {size}",
            field="cwd",
            fix="give a shorter path",
        )


def _check_printable(field: str, value: str | None) -> None:
    """These three stand in everybody's tables, where an escape sequence or a line break would forge other rows."""
    if value is not None and (found := _CONTROL.search(value)):
        raise InvalidInput(
            f"{field}: contains the control character {found.group()!r}", field=field, fix="write it without"
        )


def default_name(argv: list[str], spec: JobSpec) -> str:
    """Return a name for people, one that could have been given: the script that an interpreter runs, or the program."""
    return _CONTROL.sub("?", _program(argv, spec)[:128]) or "job"


def _program(argv: list[str], spec: JobSpec) -> str:
    if not argv or isinstance(spec.command, str):
        words = (spec.command if isinstance(spec.command, str) else "script").split()
        return PurePosixPath(words[0]).name
    name = PurePosixPath(argv[0]).name
    if _INTERPRETERS.fullmatch(name):
        if len(argv) > 2 and argv[1] == "-m":
            return argv[2]
        if len(argv) > 1 and not argv[1].startswith("-"):
            return PurePosixPath(argv[1]).name or name
    return name


def needs_storage(submission: Submission) -> bool:
    """Whether the script is too large to stand in Redis."""
    script = submission.launch.script
    return script is not None and len(script.encode()) > INLINE_SCRIPT_BYTES
