"""What every role does first: see whether its Redis is set up so that jobs are safe there."""

from __future__ import annotations

import structlog

from shunter.domain.lease import NORMAL, LeaseTerms
from shunter.errors import LoginRefused, SetupError, Unavailable
from shunter.store.checks import problems
from shunter.store.redis import Store

log = structlog.get_logger("store")


def check_settings(store: Store, terms: LeaseTerms = NORMAL) -> None:
    """Log what is wrong with the Redis of *store*; raise SetupError for what would lose or double jobs, or a bad login.

    A Redis that cannot be reached is not checked: roles start without one, and wait for it.
    """
    try:
        found = store.examine()
    except LoginRefused:
        raise
    except Unavailable as error:
        log.warning("redis is not checked", error=str(error))
        return
    for problem in problems(found, terms):
        if problem.refused:
            raise SetupError(str(problem), fix="see docs/redis.md; `shunter deploy check` tells all that is wrong")
        log.warning("redis settings", problem=str(problem))
