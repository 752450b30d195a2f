"""Structs are the wire format: what is written reads back the same, and names on the wire are unique."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given

from shunter.domain.event import Event, event_tag
from shunter.domain.job import PRIORITY_RANK, Job, Priority
from shunter.domain.phase import Phase, phase_tag
from tests.strategies import BRIEF, Life, lives
from tests.unit.domain.samples import EVENTS, PHASES

phase_decoder: msgspec.json.Decoder[Phase] = msgspec.json.Decoder(Phase)
event_decoder: msgspec.json.Decoder[Event] = msgspec.json.Decoder(Event)


@given(lives())
@BRIEF
def test_every_phase_and_event_of_a_life_reads_back_as_it_was_written(life: Life) -> None:
    assert msgspec.json.decode(msgspec.json.encode(life.job), type=Job) == life.job
    for step in life.steps:
        assert phase_decoder.decode(msgspec.json.encode(step.after)) == step.after
        assert event_decoder.decode(msgspec.json.encode(step.event)) == step.event


@pytest.mark.parametrize("phase", PHASES.values(), ids=phase_tag)
def test_every_kind_of_phase_reads_back_as_it_was_written(phase: Phase) -> None:
    assert phase_decoder.decode(msgspec.json.encode(phase)) == phase


@pytest.mark.parametrize("event", EVENTS.values(), ids=event_tag)
def test_every_kind_of_event_reads_back_as_it_was_written(event: Event) -> None:
    assert event_decoder.decode(msgspec.json.encode(event)) == event


def test_priority_classes_are_ranked_high_first() -> None:
    assert sorted(Priority, key=PRIORITY_RANK.__getitem__) == [Priority.HIGH, Priority.MEDIUM, Priority.LOW]
