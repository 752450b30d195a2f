"""Options that a variable of the environment may give: where it did, an error names the variable."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import click
from click.core import ParameterSource

from shunter.errors import InvalidInput


@contextmanager
def naming_variables() -> Iterator[None]:
    """Have InvalidInput that is raised inside name the variable that the value of its field came from, if any did."""
    try:
        yield
    except InvalidInput as error:
        variable = _variable_of((error.field or "").partition(".")[0])
        if variable:
            error.message = f"{variable}: {error.message}"
        raise


def _variable_of(option: str) -> str | None:
    """Return the variable that *option* of the running command came from; None if it came from elsewhere."""
    context = click.get_current_context(silent=True)
    if context is None or context.get_parameter_source(option) is not ParameterSource.ENVIRONMENT:
        return None
    [variable] = [one.envvar for one in context.command.params if one.name == option]
    return variable if isinstance(variable, str) else None
