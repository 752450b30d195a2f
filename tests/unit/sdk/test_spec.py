"""The shape of a job: errors name the field, what was expected, what came, and the fix."""

from __future__ import annotations

import pytest

from shunter.domain.job import MAX_SCRIPT_BYTES, JobSpec, Priority
from shunter.errors import InvalidInput, RequestTooLarge
from shunter.sdk.spec import checked, encode, make_spec


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"gpus": -1}, "gpus: expected a whole number from 0 to 1000000, or a share below 1 such as 0.25, got -1"),
        ({"gpus": True}, "gpus: expected a whole number from 0 to 1000000, or a share below 1 such as 0.25, got True"),
        (
            {"gpus": float("nan")},
            "gpus: expected a whole number from 0 to 1000000, or a share below 1 such as 0.25, got nan",
        ),
        ({"gpu_model": 4}, "gpu_model: expected a model such as H100, A100|H100 or a list of models, got 4"),
        (
            {"gpu_model": ["A100", 4]},
            "gpu_model: expected a model such as H100, A100|H100 or a list of models, got 4 as item 2",
        ),
        ({"labels": {"zone": 1}}, "labels: expected text by name, got 1 for zone; put it in quotes"),
        ({"avoid": ["n1", 2]}, "avoid: expected text or a list of texts, got 2 as item 2; put it in quotes"),
        ({"pool": 3}, "pool: expected text, got 3; put it in quotes"),
        ({"within": "row"}, "within: expected rack or island, got 'row'"),
        ({"expect": 1.5}, "expect: expected a duration such as 2h, got 1.5"),
        ({"memory_gib": float("nan")}, "memory_gib: expected a number from 0 to 1000000, got nan"),
        ({"priority": "hi"}, "priority: expected high, medium or low, got 'hi'"),
        ({"name": 3}, "name: expected text of 1 to 128 characters, got 3; put it in quotes"),
        ({"time": 1.5}, "time: expected a duration such as 2h, got 1.5"),
        ({"command": ["a", 1]}, "command: expected a list of texts or text, got 1 as item 2; put it in quotes"),
        ({"env": {"A": 1}}, "env: expected text by name, got 1 for A; put it in quotes"),
        ({"env": {1: "A"}}, "env: expected text by name, got 1 as a name; put it in quotes"),
        ({"split_stderr": "yes"}, "split_stderr: expected true or false, got 'yes'"),
        ({"gpu": 1}, "gpu: no such field of a job; did you mean gpus?"),
    ],
)
def test_wrong_value_is_named_with_its_field_and_what_was_expected(fields: dict[str, object], said: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        make_spec(fields)
    assert str(caught.value) == said
    assert caught.value.field in fields


def test_field_unlike_any_other_gets_the_list_of_fields() -> None:
    with pytest.raises(InvalidInput, match="the fields are command, script"):
        make_spec({"xyzzy": 1})


def test_script_over_the_limit_is_refused_before_it_is_sent() -> None:
    assert make_spec({"script": "x" * MAX_SCRIPT_BYTES})
    with pytest.raises(RequestTooLarge, match=r"script: expected at most 16 MiB, got 16\.0 MiB"):
        make_spec({"script": "x" * MAX_SCRIPT_BYTES + "é"})


def test_struct_made_in_python_is_checked_too() -> None:
    with pytest.raises(InvalidInput, match="gpus"):
        checked(JobSpec(command="a", gpus=-1))
    assert checked(JobSpec(command="a", priority=Priority.LOW)).priority is Priority.LOW


def test_text_that_is_not_utf8_is_named_with_its_field() -> None:
    with pytest.raises(InvalidInput, match="env: expected UTF-8 text"):
        encode([JobSpec(command="a"), JobSpec(command="b", env={"A": "\udcff"})])
