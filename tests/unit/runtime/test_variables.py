"""A value that came from the environment is refused by the name of its variable, in every command that takes it so."""

from __future__ import annotations

import os
import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from shunter.errors import InvalidInput
from shunter.runtime.variables import naming_variables


@click.command()
@click.option("--pool", envvar="SHUNTER_POOL")
@click.option("--field", default="pool")
def wrong(pool: str | None, field: str) -> None:
    with naming_variables():
        raise InvalidInput(f"{field}: wrong", field=field, fix="mend it")


def refusal(*argv: str, **env: str) -> str:
    ran = CliRunner().invoke(wrong, argv, env=env)
    assert isinstance(ran.exception, InvalidInput)
    return str(ran.exception)


def test_the_variable_is_named_only_where_it_gave_the_value() -> None:
    assert refusal(SHUNTER_POOL="a") == "SHUNTER_POOL: pool: wrong; mend it"
    assert refusal("--pool", "b", SHUNTER_POOL="a") == "pool: wrong; mend it"
    assert refusal(SHUNTER_POOL="") == "pool: wrong; mend it"
    assert refusal() == "pool: wrong; mend it"


def test_a_part_of_the_value_is_the_variables_too_and_another_field_is_not() -> None:
    assert refusal("--field", "pool.zone", SHUNTER_POOL="a") == "SHUNTER_POOL: pool.zone: wrong; mend it"
    assert refusal("--field", "rack", SHUNTER_POOL="a") == "rack: wrong; mend it"


def test_outside_of_a_command_nothing_is_added() -> None:
    with pytest.raises(InvalidInput, match=r"^pool: wrong$"), naming_variables():
        raise InvalidInput("pool: wrong", field="pool")


NODE, UP = ("shunter.agent", "--gpus", "simulated:1"), ("shunter", "up", "--gpus", "simulated:1")


@pytest.mark.parametrize(
    ("role", "variable", "value", "said"),
    [
        (NODE, "SHUNTER_LABELS", "zone", "label: expected NAME=VALUE, got 'zone'"),
        (NODE, "SHUNTER_LABELS", "zone=a/b", "label.zone: expected 1 to 63"),
        (UP, "SHUNTER_POOL", "a b", "pool: expected 1 to 63"),
        (UP, "SHUNTER_RACK", "a b", "rack: expected 1 to 63"),
        (UP, "SHUNTER_POLICY", "nope", "policy: no such file, and no shipped policy of that name: nope"),
        (("shunter.coordinator",), "SHUNTER_POLICY", "nope", "policy: no such file"),
        (("shunter.coordinator",), "SHUNTER_REDIS", "http://x", "redis: expected redis://"),
        (("shunter.gateway",), "SHUNTER_CLUSTER", "X", "cluster: expected 1 to 32 of a-z"),
        (("shunter.gateway",), "SHUNTER_STORAGE", "s3://x", "storage: expected a folder, got 's3://x'"),
    ],
)
def test_the_roles_name_it(role: tuple[str, ...], variable: str, value: str, said: str) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", *role], env=os.environ | {variable: value}, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 2
    assert ran.stderr.startswith(f"shunter: {variable}: {said}")
    assert ran.stderr.count("\n") == 1
