"""What an exit means: the verdict, and the status that a shell would show."""

from __future__ import annotations

import pytest
from hypothesis import given

from shunter.domain.outcome import (
    INFRASTRUCTURE,
    Exit,
    FailureClass,
    Outcome,
    Result,
    classify,
    describe_exit,
    signal_name,
)
from tests.strategies import BRIEF, exits

VERDICTS = [
    (Exit(1.0, code=0), Result.SUCCEEDED, None, ""),
    (Exit(1.0, code=3), Result.FAILED, FailureClass.USER_ERROR, "exit code 3"),
    (Exit(1.0, signal=9), Result.FAILED, FailureClass.SIGNALLED, "killed by SIGKILL"),
    (Exit(1.0, signal=40), Result.FAILED, FailureClass.SIGNALLED, "killed by signal 40"),
    (Exit(1.0), Result.FAILED, FailureClass.USER_ERROR, "no exit status"),
    (
        Exit(1.0, signal=15, failure=FailureClass.TIME_LIMIT, message="ran 2h"),
        Result.TIMEOUT,
        FailureClass.TIME_LIMIT,
        "ran 2h",
    ),
    (
        Exit(1.0, code=0, failure=FailureClass.TIME_LIMIT),
        Result.TIMEOUT,
        FailureClass.TIME_LIMIT,
        "exit code 0",
    ),
    (
        Exit(1.0, failure=FailureClass.NODE_LOST, message="n1 silent"),
        Result.LOST,
        FailureClass.NODE_LOST,
        "n1 silent",
    ),
    (Exit(1.0, failure=FailureClass.KEEPER_LOST), Result.LOST, FailureClass.KEEPER_LOST, "no exit status"),
    (Exit(1.0, failure=FailureClass.NOT_STARTED), Result.LOST, FailureClass.NOT_STARTED, "no exit status"),
    (
        Exit(1.0, failure=FailureClass.LAUNCH_FAILED, message="no such file: train.py"),
        Result.FAILED,
        FailureClass.LAUNCH_FAILED,
        "no such file: train.py",
    ),
    (Exit(1.0, failure=FailureClass.DISK_FULL), Result.FAILED, FailureClass.DISK_FULL, "no exit status"),
]


@pytest.mark.parametrize(("exit", "result", "failure", "message"), VERDICTS)
def test_each_kind_of_exit_has_its_verdict(
    exit: Exit, result: Result, failure: FailureClass | None, message: str
) -> None:
    assert classify(exit, cancelled=False) == Outcome(result, exit.code, exit.signal, failure, message)


@given(exits)
@BRIEF
def test_a_cancel_wins_over_every_exit_and_the_true_status_is_kept(exit: Exit) -> None:
    outcome = classify(exit, cancelled=True)
    assert (outcome.result, outcome.failure) == (Result.CANCELLED, FailureClass.CANCELLED)
    assert (outcome.code, outcome.signal) == (exit.code, exit.signal)


@given(exits)
@BRIEF
def test_only_an_exit_without_failure_and_with_code_0_succeeds(exit: Exit) -> None:
    outcome = classify(exit, cancelled=False)
    assert (outcome.result is Result.SUCCEEDED) == (exit.code == 0 and exit.failure is None)
    assert (outcome.failure is None) == (outcome.result is Result.SUCCEEDED)


@given(exits)
@BRIEF
def test_only_infrastructure_failures_are_called_lost(exit: Exit) -> None:
    assert (classify(exit, cancelled=False).result is Result.LOST) == (exit.failure in INFRASTRUCTURE)


@given(exits)
@BRIEF
def test_a_job_that_did_not_succeed_never_shows_status_0(exit: Exit) -> None:
    for cancelled in (False, True):
        outcome = classify(exit, cancelled=cancelled)
        assert (outcome.exit_status == 0) == (outcome.result is Result.SUCCEEDED)
        assert 0 <= outcome.exit_status <= 255


@pytest.mark.parametrize(
    ("outcome", "status"),
    [
        (Outcome(Result.SUCCEEDED, 0), 0),
        (Outcome(Result.FAILED, 3), 3),
        (Outcome(Result.FAILED, signal=9), 137),
        (Outcome(Result.TIMEOUT, signal=15), 143),
        (Outcome(Result.CANCELLED, 0), 1),
        (Outcome(Result.CANCELLED, signal=15), 143),
        (Outcome(Result.LOST), 1),
    ],
)
def test_exit_status_is_what_a_shell_would_show(outcome: Outcome, status: int) -> None:
    assert outcome.exit_status == status


def test_a_signal_has_its_name_or_at_least_its_number() -> None:
    assert [signal_name(number) for number in (9, 15, 50)] == ["SIGKILL", "SIGTERM", "signal 50"]


def test_a_signal_speaks_before_a_code() -> None:
    assert describe_exit(Exit(1.0, code=1, signal=9)) == "killed by SIGKILL"
