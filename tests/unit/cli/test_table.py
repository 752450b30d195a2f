"""Tables: aligned for pipes, cut for terminals."""

from __future__ import annotations

from shunter.cli.queue import page
from shunter.cli.table import Cell, Column, pairs, printable, render
from tests.unit.sdk.fake import view

COLUMNS = (Column("ID", right=True), Column("NAME", most=6), Column("REASON"))


def test_pipe_gets_every_character_and_no_colour() -> None:
    text = render(COLUMNS, [["1", "a-very-long-name", Cell("r" * 300, "red")]], width=None)
    assert "a-very-long-name" in text and "r" * 300 in text and "\x1b" not in text


def test_terminal_gets_lines_no_wider_than_itself() -> None:
    lines = render(COLUMNS, [["1", "a-very-long-name", "r" * 300]], width=40).splitlines()
    assert max(map(len, lines)) == 40
    assert "a-ver…" in lines[1] and lines[1].endswith("…")


def test_wide_and_combining_characters_keep_the_columns_aligned() -> None:
    lines = render(COLUMNS, [["1", "日本", "x"], ["2", "e\u0301", "x"], ["3", "ab", "x"]], width=None).splitlines()
    assert lines[1:] == [" 1  日本  x", " 2  e\u0301     x", " 3  ab    x"]


def test_empty_cell_is_a_dash_and_empty_pair_is_left_out() -> None:
    assert render(COLUMNS, [["1", "", ""]], width=None).splitlines()[1] == " 1  -     -"
    assert pairs([("a", "1"), ("longer", ""), ("bcd", "2")]) == "a    1\nbcd  2"


def test_control_characters_do_not_reach_the_terminal() -> None:
    assert printable("a\x1b[31m\r\n\tb\x9b") == "a\ufffd[31m\ufffd  b\ufffd"


def test_times_go_on_while_nothing_is_read_and_stop_at_the_end() -> None:
    views = [view(1), view(2, "running"), view(3, "succeeded")]
    later = page(views, width=None, shift_s=60.0)
    assert [line.split()[-2] for line in page(views, width=None).splitlines()[2:]][1:] == ["2.0s", "5.0s"]
    assert [line.split()[-2] for line in later.splitlines()[2:]][1:] == ["1m02s", "5.0s"]
