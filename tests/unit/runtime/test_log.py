"""Trouble that goes on is said, but not four times a second."""

from __future__ import annotations

import pytest

from shunter.runtime import log
from shunter.runtime.log import AGAIN_S, Complaint


def test_it_is_said_when_it_is_new_another_one_over_or_a_minute_old(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 10.0
    monkeypatch.setattr(log, "boot_time_s", lambda: now_s)
    complaint = Complaint()
    assert [complaint.due("a") for _ in range(3)] == [True, False, False]
    assert [complaint.due("b"), complaint.due("b"), complaint.due("a")] == [True, False, True]
    now_s += AGAIN_S
    assert [complaint.due("a"), complaint.due("a")] == [True, False]
    assert complaint.over() == AGAIN_S
    assert complaint.over() is None
    assert complaint.due("a")
