"""Durations: what people may write, what is refused and how, what they read."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shunter.domain.duration import FORMS, MAX_S, format_duration, parse_duration
from shunter.errors import InvalidInput
from tests.strategies import BRIEF


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (90, 90),
        ("90", 90),
        (" 90 ", 90),
        ("90s", 90),
        ("45m", 2_700),
        ("2h", 7_200),
        ("1h30m", 5_400),
        ("1d2h3m4s", 93_784),
        ("2d", 172_800),
        ("1:30:00", 5_400),
        ("100:00:00", 360_000),
        ("2-00:00:00", 172_800),
        ("1-02:03:04", 93_784),
        ("1", 1),
        ("366d", MAX_S),
    ],
)
def test_every_form_that_people_write_is_read(text: str | int, seconds: int) -> None:
    assert parse_duration(text, field="time") == seconds


@pytest.mark.parametrize(
    "text",
    ["", " ", "two hours", "1.5h", "-5", "30m1h", "1h 30m", "2H", "1:60:00", "1:00:60", "90:00", "٣", "9" * 10_000],
)
def test_what_is_no_duration_is_refused_with_field_value_and_forms(text: str) -> None:
    with pytest.raises(InvalidInput) as raised:
        parse_duration(text, field="time")
    error = raised.value
    assert error.message.startswith("time: expected a duration, got '")
    assert text[:20] in error.message
    assert (error.field, error.fix) == ("time", f"write {FORMS}")


@pytest.mark.parametrize("text", [0, -1, "0", "0s", "0:00:00", MAX_S + 1, "367d", "99999999d"])
def test_what_is_too_short_or_too_long_is_refused_with_the_limits(text: str | int) -> None:
    with pytest.raises(InvalidInput, match="grace: expected 1 s to 366 days, got") as raised:
        parse_duration(text, field="grace")
    assert repr(text) in raised.value.message


@given(st.text(max_size=12) | st.text("0123456789dhms:-", max_size=12) | st.integers())
@BRIEF
def test_invariant_10_any_input_gives_seconds_within_bounds_or_an_error_that_names_the_field(text: str | int) -> None:
    try:
        assert 1 <= parse_duration(text, field="time") <= MAX_S
    except InvalidInput as error:
        assert error.field == "time"
        assert error.fix


def test_a_long_text_does_not_make_a_long_message() -> None:
    with pytest.raises(InvalidInput) as raised:
        parse_duration("x" * 1_000_000, field="time")
    assert len(str(raised.value)) < 300


@given(st.integers(1, MAX_S))
@BRIEF
def test_seconds_written_in_each_form_read_back_the_same(seconds: int) -> None:
    minutes, s = divmod(seconds, 60)
    hours, m = divmod(minutes, 60)
    days, h = divmod(hours, 24)
    forms = (
        f"{seconds}",
        f"{seconds}s",
        f"{days}d{h}h{m}m{s}s",
        f"{hours}:{m:02d}:{s:02d}",
        f"{days}-{h}:{m:02d}:{s:02d}",
    )
    assert {parse_duration(form, field="time") for form in forms} == {seconds}


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-3.0, "0.0s"),
        (0.0, "0.0s"),
        (5, "5s"),
        (0.42, "0.4s"),
        (9.94, "9.9s"),
        (9.96, "10s"),
        (59.4, "59s"),
        (59.6, "1m00s"),
        (185, "3m05s"),
        (3_599.7, "1h00m"),
        (7_800, "2h10m"),
        (86_399.9, "1d00h"),
        (356_400, "4d03h"),
    ],
)
def test_a_duration_is_shown_in_at_most_two_units(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text
