"""The command line as a whole: fast to start, and never a traceback."""

from __future__ import annotations

import subprocess
import sys

import click
import pytest

from shunter import __version__
from shunter.cli import main as main_module
from shunter.cli.failure import PipeClosed, explain
from shunter.cli.lazy import Lazy
from shunter.cli.main import COMMANDS, shunter
from shunter.cli.nodes import SUBCOMMANDS
from shunter.errors import Conflict
from tests.unit.cli.conftest import Cli

SLOW = {"httpx", "rich", "yaml", "celery", "redis", "litestar"}


@pytest.mark.parametrize("argv", [["--help"], ["--version"], ["queue", "--help"], ["submit", "--help"]])
def test_nothing_slow_is_imported_to_start(argv: list[str]) -> None:
    code = (
        "import sys; from shunter.cli.main import main; main(sys.argv[1:]);"
        f"sys.exit(','.join({SLOW!r} & set(sys.modules)) or 0)"
    )
    ran = subprocess.run([sys.executable, "-c", code, *argv], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, f"imported: {ran.stderr}"


def test_version_is_printed(cli: Cli) -> None:
    assert cli("--version") == (0, f"shunter {__version__}\n", "")


def test_help_lists_every_command_even_when_its_module_is_missing(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(COMMANDS, "up", Lazy("shunter.no_such_module:up", "Start it."))
    ran = cli("--help")
    assert ran.code == 0 and all(f"  {name} " in ran.out for name in COMMANDS)
    missing = cli("up")
    assert missing.code == 3
    assert missing.err == "shunter: up: this installation lacks the module shunter.no_such_module; reinstall shunter\n"


def test_no_arguments_print_the_help(cli: Cli) -> None:
    assert cli() == cli("--help")


@pytest.mark.parametrize("name", [name for name, lazy in COMMANDS.items() if lazy.target.startswith("shunter.cli")])
def test_every_command_has_help_with_an_example(cli: Cli, name: str) -> None:
    ran = cli(name, "--help")
    assert ran.code == 0 and "Example" in ran.out and f"shunter {name}" in ran.out


@pytest.mark.parametrize("name", ["cordon", "uncordon"])
def test_subcommands_of_node_have_help_too(cli: Cli, name: str) -> None:
    assert name in SUBCOMMANDS
    assert "Example" in cli("node", name, "--help").out


def test_exit_codes_are_documented(cli: Cli) -> None:
    text = cli("--help").out
    assert all(f"  {code}  " in text for code in (0, 1, 2, 3, 4, 5, 6, 7, 124, 130))


@pytest.mark.parametrize(
    ("argv", "line", "hint"),
    [
        (["sumbit"], "no such command 'sumbit'; did you mean submit?", "try `shunter --help`"),
        (["queue", "--al"], "no such option --al; did you mean --all?", "try `shunter queue --help`"),
        (["show"], "ID is missing", "try `shunter show --help`"),
        (["queue", "--limit", "x"], "limit: 'x' is not a valid integer", "try `shunter queue --help`"),
        (["logs", "--tail"], "option '--tail' requires an argument", "try `shunter --help`"),
    ],
)
def test_wrong_usage_is_one_line_and_a_hint(cli: Cli, argv: list[str], line: str, hint: str) -> None:
    ran = cli(*argv)
    assert (ran.code, ran.out) == (2, "")
    first, second = ran.err.splitlines()
    assert first.startswith(f"shunter: {line}") and second == hint


@pytest.mark.parametrize(
    ("error", "lines", "code"),
    [
        (Conflict("job 7: has ended", fix="submit it again"), ["shunter: job 7: has ended; submit it again"], 6),
        (KeyboardInterrupt(), [], 130),
        (click.Abort(), [], 130),
        (BrokenPipeError(32, "Broken pipe"), [], 141),
        (PipeClosed(), [], 141),
        (FileNotFoundError(2, "No such file or directory", "/x"), ["shunter: /x: No such file or directory"], 1),
        (ValueError("two\nlines"), ["shunter: unexpected ValueError: two lines; SHUNTER_DEBUG=1 shows where"], 1),
    ],
)
def test_every_error_ends_in_a_line_and_an_exit_code(error: BaseException, lines: list[str], code: int) -> None:
    failure = explain(error)
    assert (failure.lines, failure.exit_code) == (lines, code)


def test_interrupt_in_a_command_exits_130(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    @click.command()
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(main_module, "_interrupted", interrupted, raising=False)
    monkeypatch.setitem(COMMANDS, "interrupted", Lazy("shunter.cli.main:_interrupted", ""))
    assert cli("interrupted").code == 130


def test_reader_that_goes_away_is_no_error() -> None:
    ran = subprocess.run(
        f"set -o pipefail; {sys.executable} -m shunter --help | true",
        shell=True,
        executable="/bin/bash",
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.stderr == ""


def test_shell_completion_knows_the_commands() -> None:
    context = click.Context(shunter, info_name="shunter", resilient_parsing=True)
    assert {item.value for item in shunter.shell_complete(context, "su")} == {"submit"}
