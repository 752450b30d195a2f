"""What a leader says of its failures, and how long it waits before it tries again by itself."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from shunter.coordinator.trouble import MAX_ERROR_CHARS, Trouble, one_line


def raised(error: Exception) -> Exception:
    try:
        raise error
    except type(error) as caught:
        return caught


def test_all_is_well_at_first() -> None:
    trouble = Trouble()
    assert (trouble.said, trouble.due(1e9)) == (None, False)


def test_it_counts_and_tells_the_latest_error_since_the_first() -> None:
    trouble = Trouble()
    assert trouble.failed(KeyError("x"), 10.0) is True
    first = trouble.said
    assert trouble.failed(ValueError("y"), 10.1) is False
    assert first is not None and trouble.said is not None
    assert (first.times, first.error) == (1, "KeyError: 'x'")
    assert (trouble.said.times, trouble.said.error, trouble.said.since_s) == (2, "ValueError: y", first.since_s)


def test_pauses_double_up_to_half_a_minute() -> None:
    trouble, now_s, pauses = Trouble(), 100.0, []
    for _ in range(8):
        trouble.failed(KeyError("x"), now_s)
        pause_s = next(pause_s for pause_s in range(100) if trouble.due(now_s + pause_s))
        pauses.append(pause_s)
        now_s += pause_s
    assert pauses == [1, 2, 4, 8, 16, 30, 30, 30]


def test_failures_that_changes_bring_do_not_put_the_next_try_off() -> None:
    trouble = Trouble()
    for number in range(50):
        trouble.failed(KeyError("x"), 100.0 + number / 100)
    assert not trouble.due(100.9)
    assert trouble.due(101.0)


def test_once_something_worked_it_is_forgotten() -> None:
    trouble = Trouble()
    for number in range(5):
        trouble.failed(KeyError("x"), 100.0 * number)
    trouble.worked()
    assert (trouble.said, trouble.due(1e9)) == (None, False)
    assert trouble.failed(KeyError("x"), 1_000.0) is True
    assert trouble.due(1_001.0)


def test_each_distinct_failure_is_logged_once_with_its_traceback() -> None:
    trouble = Trouble()
    with capture_logs() as logs:
        for number in range(5):
            trouble.failed(raised(KeyError(f"job {number}")), float(number))
        trouble.failed(raised(ValueError("y")), 5.0)
        trouble.worked()
        trouble.worked()
        trouble.failed(raised(KeyError("again")), 6.0)
    assert [entry["log_level"] for entry in logs] == ["error", "error", "info", "error"]
    assert [entry.get("error") for entry in logs] == ["KeyError: 'job 0'", "ValueError: y", None, "KeyError: 'again'"]
    assert logs[0]["exc_info"].__traceback__ is not None
    assert (logs[2]["event"], logs[2]["failures"]) == ("scheduling works again", 6)


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (KeyError("x"), "KeyError: 'x'"),
        (ValueError("two\n  lines\tand a tab"), "ValueError: two lines and a tab"),
        (ValueError("\x1b[31mred\x07"), "ValueError: ?[31mred?"),
        (AssertionError(), "AssertionError:"),
        (ValueError("x" * 1_000), f"ValueError: {'x' * 1_000}"[:MAX_ERROR_CHARS]),
    ],
)
def test_an_error_is_one_line_for_everybodys_tables(error: Exception, line: str) -> None:
    assert one_line(error) == line
