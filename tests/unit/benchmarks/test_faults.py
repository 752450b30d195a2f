"""How a fault's figures are judged: the stamps of attempts, and the table."""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmarks.faults import ROWS, Job, Row, Span, Tally, broken, doublings, span_of, table


@pytest.mark.parametrize(
    ("stamps", "span"),
    [
        ("", None),
        ("1.5", None),
        ("1.5000\n", Span(1.5, 1.5)),
        ("1.5000\n1.5100\n1.5200\n", Span(1.5, 1.52)),
        ("1.5000\n1.5100\n9", Span(1.5, 1.51)),
    ],
)
def test_a_line_that_is_half_written_is_no_stamp(stamps: str, span: Span | None) -> None:
    assert span_of(stamps) == span


@pytest.mark.parametrize(
    ("spans", "doubled"),
    [
        ([], 0),
        ([Span(0, 9)], 0),
        ([Span(0, 1), Span(2, 3), Span(4, 4)], 0),
        ([Span(0, 2.01), Span(2, 3)], 1),
        ([Span(0, 2), Span(2, 3)], 1),
        ([Span(0, 9), Span(2, 3), Span(4, 5)], 2),  # the first goes on beside both
        ([Span(0, 1), Span(2, 9), Span(4, 5), Span(10, 11)], 1),
    ],
)
def test_an_attempt_doubles_when_it_begins_before_all_earlier_ones_have_stopped(
    spans: list[Span], doubled: int
) -> None:
    assert doublings(spans) == doubled


def test_the_attempts_of_a_job_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for name, stamps in {"job.10": "30\n31\n", "job.2": "20\n21\n", "job.go": "", "job.3": "", "jobs.1": "1\n"}.items():
        (tmp_path / name).write_text(stamps)
    job = Job(1, tmp_path / "job")
    assert list(job.spans().items()) == [(2, Span(20, 21)), (10, Span(30, 31))]
    assert (job.first_s(10), job.first_s(3)) == (30, None)
    assert (job.goes_on(30.5), job.goes_on(31)) == (True, False)


@pytest.mark.parametrize(
    ("tally", "says"),
    [
        (Tally(1.0, 0, 0, 0), []),
        (Tally(1.0, 2, 0, 0), ["row: 2 jobs ran twice at once"]),
        (Tally(1.0, 0, 1, 0), ["row: 1 jobs were lost or ended"]),
        (Tally(1.0, 0, 0, 3), ["row: 3 jobs ran again that should have gone on"]),
    ],
)
def test_what_a_row_breaks(tally: Tally, says: list[str]) -> None:
    assert broken("row", Row(lambda _: 0.0, (None, None), 1, 0), [tally, Tally(2.0, 0, 0, 0)]) == says


def test_only_some_rows_let_jobs_run_again() -> None:
    assert broken("node-killed", ROWS["node-killed"], [Tally(1.0, 0, 0, 1)]) == []
    assert broken("redis-silent", ROWS["redis-silent"], [Tally(1.0, 0, 0, 1)]) != []


def test_the_table_has_a_line_for_each_row() -> None:
    shown = table({"node-killed": [Tally(9.0, 0, 0, 1), Tally(8.0, 0, 1, 1)], "redis-slow": "no answer"}, "fast")
    head, killed, slow = shown.splitlines()
    assert head.split() == ["row", "n", "median", "s", "max", "s", "aim", "s", "doubled", "lost", "requeued"]
    assert killed.split() == ["node-killed", "2", "8.50", "9.00", "10", "0", "1", "2"]
    assert slow == "redis-slow  FAILED: no answer"
