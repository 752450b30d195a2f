"""What a person reads when something went wrong: one line, what to do, and the exit code. Never a traceback."""

from __future__ import annotations

import errno
import os
from typing import NamedTuple

import click

from shunter.cli.table import printable
from shunter.errors import ShunterError


class Failure(NamedTuple):
    lines: list[str]
    exit_code: int
    pipe_is_broken: bool = False


class PipeClosed(Exception):
    """Whoever read our output has gone, as `head` does."""


def explain(error: BaseException) -> Failure:
    """Return what to say of *error*, which ended a command. SHUNTER_DEBUG=1 lets unexpected ones through."""
    match error:
        case SystemExit(code=code):
            return Failure([], code if isinstance(code, int) else 1)
        case KeyboardInterrupt() | click.Abort():
            return Failure([], 130)
        case ShunterError():
            return Failure([_line(str(error))], error.exit_code)
        case click.UsageError():
            return Failure([_line(_usage(error)), *_hint(error)], 2)
        case click.ClickException():
            return Failure([_line(error.format_message())], error.exit_code)
        case PipeClosed() | OSError(errno=errno.EPIPE):
            return Failure([], 141, pipe_is_broken=True)
        case OSError():
            name = f"{os.fspath(error.filename)!s}: " if error.filename else ""
            return Failure([_line(f"{name}{error.strerror or error}")], 1)
        case _:
            if os.environ.get("SHUNTER_DEBUG"):
                raise error
            said = f"unexpected {type(error).__name__}: {error}; SHUNTER_DEBUG=1 shows where"
            return Failure([_line(said)], 1)


def _line(text: str) -> str:
    return "shunter: " + printable(" ".join(text.split()))


def _usage(error: click.UsageError) -> str:
    """Return click's complaint in our form, `option: what is wrong`."""
    if isinstance(error, click.NoSuchOption):
        close = error.possibilities or ()
        return f"no such option {error.option_name}" + (f"; did you mean {close[0]}?" if close else "")
    name = _name(error.param) if isinstance(error, click.BadParameter) and error.param is not None else None
    if isinstance(error, click.MissingParameter):
        return f"{(name or 'an argument').upper()} is missing"
    message = error.message[:1].lower() + error.message[1:].removesuffix(".")
    return f"{name}: {message}" if name else message


def _name(parameter: click.Parameter) -> str | None:
    return max(parameter.opts, key=len).lstrip("-") if isinstance(parameter, click.Option) else parameter.name


def _hint(error: click.UsageError) -> list[str]:
    return [f"try `{error.ctx.command_path if error.ctx else 'shunter'} --help`"]
