"""What people see of a job in each phase."""

from __future__ import annotations

import pytest

from shunter.domain.outcome import Outcome, Result
from shunter.domain.phase import Ended, Phase, Queued, Reserved, Running, Stopping, phase_tag
from shunter.domain.reason import HeldBack
from shunter.domain.report import ENDED_STATES, STATES, state_of, view_of
from tests.unit.domain.samples import LOST, PAIR, PHASES, job

WORDS = {Queued: "queued", Reserved: "starting", Running: "running", Stopping: "stopping", Ended: "lost"}


@pytest.mark.parametrize("kind", PHASES, ids=phase_tag)
def test_each_phase_has_its_word(kind: type[Phase]) -> None:
    assert state_of(PHASES[kind]) == WORDS[kind]


@pytest.mark.parametrize("result", Result)
def test_an_ended_job_shows_its_result_as_its_state(result: Result) -> None:
    state = state_of(Ended(Outcome(result), 9.0))
    assert state == result.value
    assert state in ENDED_STATES


def test_states_are_the_words_of_all_phases_and_results() -> None:
    assert set(STATES) == set(WORDS.values()) | {result.value for result in Result}
    assert set(STATES) - ENDED_STATES == {"queued", "starting", "running", "stopping"}


def test_a_job_that_never_ran_waited_until_now() -> None:
    seen = view_of(job(), Queued(1.0), cluster="eu", now_s=31.0)
    assert (seen.waited_s, seen.ran_s, seen.started_s, seen.ended_s, seen.exit_status) == (30.0, None, None, None, None)


def test_a_retried_job_waits_since_its_last_attempt_ended() -> None:
    assert view_of(job(), PHASES[Running], cluster="eu", now_s=31.0).waited_s == 4.0  # ended at 8, started at 12


def test_a_running_job_ran_until_now_and_an_ended_one_until_its_end() -> None:
    assert view_of(job(), PHASES[Running], cluster="eu", now_s=31.0).ran_s == 19.0
    assert view_of(job(), PHASES[Ended], cluster="eu", now_s=31.0).ran_s == 2.0


def test_a_clock_that_stepped_back_shows_zero_not_a_negative_time() -> None:
    seen = view_of(job(), PHASES[Running], cluster="eu", now_s=0.0)
    assert seen.ran_s == 0.0
    assert view_of(job(), Queued(1.0), cluster="eu", now_s=0.0).waited_s == 0.0


def test_devices_are_shown_by_node() -> None:
    seen = view_of(job(nodes=2), PHASES[Running], cluster="eu", now_s=31.0)
    assert seen.devices == {"n1": (0,), "n2": (0,)}
    assert seen.nodes == PAIR.nodes


def test_an_ended_job_shows_its_outcome_and_the_status_a_shell_would_show() -> None:
    seen = view_of(job(), PHASES[Ended], cluster="eu", now_s=31.0)
    assert (seen.outcome, seen.exit_status) == (LOST, 1)


def test_a_reason_and_its_text_are_shown_only_while_the_job_waits() -> None:
    waiting = view_of(job(), PHASES[Queued], cluster="eu", now_s=31.0, reason=HeldBack(7))
    assert (waiting.reason, waiting.why) == (HeldBack(7), "the free GPUs are kept for job 7, which goes first")
    running = view_of(job(), PHASES[Running], cluster="eu", now_s=31.0, reason=HeldBack(7))
    assert (running.reason, running.why) == (None, "")
