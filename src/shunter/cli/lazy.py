"""A click group whose commands are imported when they are used: `shunter --help` reads only a table."""

from __future__ import annotations

from difflib import get_close_matches
from importlib import import_module
from typing import Any, NamedTuple

import click

from shunter.cli.failure import PipeClosed
from shunter.errors import SetupError


class Lazy(NamedTuple):
    """A command that is not imported yet: `module:attribute`, its line in the help, and the heading there."""

    target: str
    help: str
    section: str = "Commands"


class LazyGroup(click.Group):
    """A group over a table of `Lazy` entries. A module that is missing breaks only its own command."""

    def __init__(self, *args: Any, table: dict[str, Lazy], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.table = table

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(self.table)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        lazy = self.table.get(cmd_name)
        if lazy is None:
            return None
        try:
            return _load(lazy.target)
        except ModuleNotFoundError as error:
            if ctx.resilient_parsing:  # shell completion lists what there is
                return None
            raise SetupError(
                f"{cmd_name}: this installation lacks the module {error.name}", fix="reinstall shunter"
            ) from error

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name not in self.table and not name.startswith("-"):
            close = get_close_matches(name, self.table, n=1)
            hint = f"; did you mean {close[0]}?" if close else ""
            raise click.UsageError(f"no such command {name!r}{hint}", ctx)
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:  # click itself would make an exit code of 1 of it
            raise PipeClosed from error

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        width = max(map(len, self.table))
        for section in dict.fromkeys(lazy.section for lazy in self.table.values()):
            rows = [(name.ljust(width), lazy.help) for name, lazy in self.table.items() if lazy.section == section]
            with formatter.section(section):
                formatter.write_dl(rows)


def _load(target: str) -> click.Command:
    module, _, attribute = target.partition(":")
    command = getattr(import_module(module), attribute)
    assert isinstance(command, click.Command)
    return command
