"""What is refused before a call is looked at: parameters that it does not have, and ids that are no plain numbers."""

from __future__ import annotations

import difflib
from functools import cache
from typing import Any

from litestar import Request
from litestar.handlers import BaseRouteHandler
from litestar.params import ParameterKwarg

from shunter.errors import InvalidInput, NotFound


async def check_request(request: Request[Any, Any, Any]) -> None:
    """Litestar ignores a parameter that it does not know: `?user_=ada` would list, or tell, what was not asked for."""
    _check_job_id(request)
    known = _parameters(request.route_handler)
    for name in request.query_params:
        if name not in known:
            close = difflib.get_close_matches(name, known, 1)
            fix = f"did you mean {close[0]!r}?" if close else f"known parameters: {', '.join(known) or 'none'}"
            raise InvalidInput(f"{name:.60}: unknown parameter", field=name[:60], fix=fix)


def _check_job_id(request: Request[Any, Any, Any]) -> None:
    """Litestar reads an id with `int`, which takes `+1`, `1_0` and the digits of every script."""
    if "job_id" in request.path_params:
        path = request.url.path
        text = [part for part in request.scope["path"].split("/") if part][2]
        if not (text.isascii() and text.isdigit()):
            raise NotFound(f"path: nothing is at {path:.120}", fix="write the job's id in digits only")


@cache
def _parameters(handler: BaseRouteHandler) -> tuple[str, ...]:
    """Return the names of the query parameters that *handler* takes."""
    taken_otherwise = {"request", *handler.resolve_dependencies(), *_in_path(handler)}
    names = []
    for name, field in handler.parsed_fn_signature.parameters.items():
        how = field.kwarg_definition
        in_header = isinstance(how, ParameterKwarg) and how.header
        if name not in taken_otherwise and not in_header:
            names.append(how.query if isinstance(how, ParameterKwarg) and how.query else name)
    return tuple(names)


def _in_path(handler: BaseRouteHandler) -> set[str]:
    return {part.strip("{}").partition(":")[0] for path in handler.paths for part in path.split("/") if "{" in part}
