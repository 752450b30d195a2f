"""What an operator says a node is: its pool, its rack, its labels. The options of `node start` and of `up`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import click
from msgspec import Struct

F = TypeVar("F", bound=Callable[..., Any])


class Traits(Struct, frozen=True):
    """*pool* and *rack* may be empty; *labels* are sorted pairs."""

    pool: str = ""
    rack: str = ""
    labels: tuple[tuple[str, str], ...] = ()

    def options(self) -> list[str]:
        """Return the options of `node start` that say the same."""
        named = [f"--{name}={value}" for name, value in (("pool", self.pool), ("rack", self.rack)) if value]
        return named + [f"--label={name}={value}" for name, value in self.labels]


def trait_options(command: F) -> F:
    """Add --pool, --rack and --label; their values are for `read_traits`."""
    for option in (
        click.option("--label", multiple=True, envvar="SHUNTER_LABELS", metavar="K=V", help="A label (repeatable)."),
        click.option("--rack", envvar="SHUNTER_RACK", metavar="NAME", help="Rack that the node is in."),
        click.option("--pool", envvar="SHUNTER_POOL", metavar="NAME", help="Pool that the node belongs to."),
    ):
        command = option(command)
    return command


def read_traits(pool: str | None, rack: str | None, label: Iterable[str]) -> Traits:
    """Return the traits once they are checked; an empty pool or rack is none. Raises InvalidInput naming the option."""
    from shunter.domain.words import check_labels, check_word, read_pairs

    labels = check_labels(read_pairs(label), field="label")
    return Traits(
        check_word("pool", pool) if pool else "", check_word("rack", rack) if rack else "", tuple(labels.items())
    )
