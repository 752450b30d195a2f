"""What a node is called: options, environment, and the words that are refused."""

from __future__ import annotations

import click
import pytest
from click.testing import CliRunner

from shunter.agent.traits import Traits, read_traits, trait_options
from shunter.errors import InvalidInput


@click.command()
@trait_options
def show(pool: str | None, rack: str | None, label: tuple[str, ...]) -> None:
    traits = read_traits(pool, rack, label)
    click.echo(repr((traits.pool, traits.rack, traits.labels)))


def told(*argv: str, **env: str) -> str:
    ran = CliRunner().invoke(show, argv, env=env, catch_exceptions=False)
    assert ran.exit_code == 0, ran.output
    return ran.output.strip()


def test_options_say_what_the_node_is() -> None:
    options = ("--pool", "gold", "--rack", "r7", "--label", "zone=a", "--label", "disk=nvme,gen=4")
    assert told(*options) == repr(("gold", "r7", (("disk", "nvme"), ("gen", "4"), ("zone", "a"))))
    assert told() == repr(("", "", ()))


def test_the_environment_says_it_where_no_option_does() -> None:
    env = {"SHUNTER_POOL": "gold", "SHUNTER_RACK": "r7", "SHUNTER_LABELS": "zone=a,disk=nvme"}
    assert told(**env) == repr(("gold", "r7", (("disk", "nvme"), ("zone", "a"))))
    assert told("--pool", "iron", "--label", "zone=b", **env) == repr(("iron", "r7", (("zone", "b"),)))
    assert told(SHUNTER_POOL="", SHUNTER_LABELS="") == repr(("", "", ()))


def test_an_empty_pool_or_rack_is_none_whatever_the_environment_says() -> None:
    """As `--pool "$POOL"` means it where nothing is in there."""
    env = {"SHUNTER_POOL": "gold", "SHUNTER_RACK": "r7"}
    assert told("--pool", "", "--rack", "", **env) == repr(("", "", ()))


@pytest.mark.parametrize("pool", ["go ld", " ", "p" * 300, "p\x1b[31m", "p\n", "-p", "p\u00fc", "a,b"])
def test_a_pool_that_is_no_word_is_refused_by_name(pool: str) -> None:
    ran = CliRunner().invoke(show, ["--pool", pool])
    assert isinstance(ran.exception, InvalidInput)
    assert ran.exception.message.startswith("pool: expected 1 to 63 letters, digits, '.', '_' and '-', the first")
    assert ran.exception.message.isprintable()
    assert len(ran.exception.message) < 200


def test_what_up_tells_its_node_is_what_up_was_told() -> None:
    traits = Traits("gold", "r7", (("disk", "nvme"), ("zone", "a")))
    assert told(*traits.options()) == repr((traits.pool, traits.rack, traits.labels))
    assert Traits().options() == []


@pytest.mark.parametrize(
    ("pool", "rack", "label", "field"),
    [
        ("go ld", None, (), "pool"),
        (None, "r/7", (), "rack"),
        (None, None, ("zone",), "label"),
        (None, None, ("zone=a b",), "label.zone"),
        (None, None, tuple(f"k{number}=v" for number in range(33)), "label"),
    ],
)
def test_words_that_are_none_are_refused(
    pool: str | None, rack: str | None, label: tuple[str, ...], field: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        read_traits(pool, rack, label)
    assert caught.value.field == field
    assert caught.value.fix
