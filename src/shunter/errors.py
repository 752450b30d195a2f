"""Every error that Shunter raises on purpose, as one tree.

    ShunterError
    ├── InvalidInput          a value that can never be accepted; names field, value, limit and fix   (HTTP 400, exit 2)
    │   └── RequestTooLarge   more than any node or gang could ever give, or too many bytes         (HTTP 413/422)
    ├── NotFound              no such job, node or attempt                                          (HTTP 404, exit 4)
    ├── Unauthorized          missing or wrong token                                                (HTTP 401, exit 5)
    ├── Conflict              the state of the thing does not allow this                            (HTTP 409, exit 6)
    │   └── StaleLeader       this coordinator no longer leads
    ├── Unavailable           the store or the gateway cannot be reached now; try again             (HTTP 503, exit 7)
    │   └── ForeignStore      the store holds another data set than this process belongs to           (HTTP 503, exit 7)
    ├── SetupError            this machine lacks something; says what to install or change          (exit 3)
    │   └── LoginRefused      the store refuses the account: of one that has served, also Unavailable (HTTP 503, exit 3)
    └── IllegalTransition     a (phase, event) pair that is not in the table: a bug or a stale report

Refusals that are part of normal work (stale, conflict) are values in the store's answers, not exceptions.
"""

from __future__ import annotations


class ShunterError(Exception):
    """Base of all: carries what a person needs, and the stable *code* that programs compare."""

    code = "error"
    http_status = 500
    exit_code = 1

    def __init__(self, message: str, *, field: str | None = None, fix: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.field = field
        self.fix = fix

    def __str__(self) -> str:
        return f"{self.message}; {self.fix}" if self.fix else self.message


class InvalidInput(ShunterError):
    code = "invalid_input"
    http_status = 400
    exit_code = 2


class RequestTooLarge(InvalidInput):
    code = "too_large"
    http_status = 422


class SetupError(ShunterError):
    code = "setup"
    exit_code = 3


class NotFound(ShunterError):
    code = "not_found"
    http_status = 404
    exit_code = 4


class Unauthorized(ShunterError):
    code = "unauthorized"
    http_status = 401
    exit_code = 5


class Conflict(ShunterError):
    code = "conflict"
    http_status = 409
    exit_code = 6


class StaleLeader(Conflict):
    code = "stale_leader"


class Unavailable(ShunterError):
    code = "unavailable"
    http_status = 503
    exit_code = 7


class LoginRefused(SetupError, Unavailable):
    """A role that starts ends with it; one that runs has had a login that worked, and tries again till it does."""

    code = "unavailable"


class ForeignStore(Unavailable):
    """Unavailable to whoever only wants to try again: nothing is done with it until an operator has decided."""

    code = "foreign_store"


class IllegalTransition(ShunterError):
    code = "illegal_transition"
    http_status = 409


BY_CODE: dict[str, type[ShunterError]] = {
    error.code: error
    for error in (
        InvalidInput,
        RequestTooLarge,
        SetupError,
        NotFound,
        Unauthorized,
        Conflict,
        StaleLeader,
        Unavailable,
        ForeignStore,
        IllegalTransition,
    )
}
