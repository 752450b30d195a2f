"""From a body to jobs: what is accepted, as what, and how everything else is refused."""

from __future__ import annotations

from typing import Any, Final

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shunter.domain.job import INLINE_SCRIPT_BYTES, JobSpec, Launch, Priority, Request, Submission, in_gpus
from shunter.errors import InvalidInput, RequestTooLarge
from shunter.gateway.submission import build, default_name, needs_storage, read_specs
from tests.strategies import BRIEF

RUN: Final = {"command": ["true"]}


def body(value: Any) -> bytes:
    return msgspec.json.encode(value)


def made(**fields: Any) -> Submission:
    return build(read_specs(body({**RUN, **fields}))[0], default_user="gateway", at_s=5.0)


def refusal(value: Any) -> InvalidInput:
    with pytest.raises(InvalidInput) as refused:
        for spec in read_specs(value if isinstance(value, bytes) else body(value)):
            build(spec, default_user="gateway", at_s=5.0)
    return refused.value


# what is accepted


def test_one_job_or_a_list_of_them() -> None:
    assert read_specs(body(RUN)) == [JobSpec(command=["true"])]
    assert read_specs(body([RUN, {"script": "ls"}])) == [JobSpec(command=["true"]), JobSpec(script="ls")]
    assert len(read_specs(body([RUN] * 1_000))) == 1_000


def test_what_is_left_out_has_a_sensible_value() -> None:
    job, launch = made().job, made().launch
    assert (job.id, job.name, job.user, job.team, job.submitted_s) == (0, "true", "gateway", "", 5.0)
    assert job.request == Request(gpus_per_node=1, nodes=1, cpus=0, memory_mib=0)
    assert (job.priority, job.time_limit_s, job.grace_s, job.max_retries) == (Priority.MEDIUM, None, 30, 3)
    assert launch == Launch(["true"], "")


def test_every_field_arrives() -> None:
    whole = made(
        name="big", gpus=8, nodes=2, cpus=4, memory_gib=1.5, priority="high", time="1h30m", grace="2m",
        env={"A": "1"}, cwd="/data", user="ada", team="vision", max_retries=0, split_stderr=True,
    )  # fmt: skip
    job = whole.job
    assert (job.name, job.user, job.team, job.priority) == ("big", "ada", "vision", Priority.HIGH)
    assert job.request == Request(gpus_per_node=4, nodes=2, cpus=4, memory_mib=1_536)
    assert (job.time_limit_s, job.grace_s, job.max_retries) == (5_400, 120, 0)
    assert whole.launch == Launch(["true"], "/data", {"A": "1"}, split_stderr=True)


@pytest.mark.parametrize(
    ("fields", "gpus", "cpus"),
    [({}, 1, 0), ({"gpus": 0}, 0, 1), ({"gpus": 0, "cpus": 3}, 0, 3), ({"gpus": 4, "nodes": 2}, 2, 0)],
)
def test_a_job_takes_at_least_a_gpu_or_a_core(fields: dict[str, int], gpus: int, cpus: int) -> None:
    request = made(**fields).job.request
    assert (request.gpus_per_node, request.cpus) == (gpus, cpus)


def test_a_command_of_one_text_is_for_the_shell_and_a_script_has_no_command() -> None:
    assert build(JobSpec(command="a | b"), default_user="x", at_s=0).launch.argv == ["/bin/sh", "-c", "a | b"]
    script = build(JobSpec(script="#!/bin/sh\nls\n"), default_user="x", at_s=0).launch
    assert (script.argv, script.script) == ([], "#!/bin/sh\nls\n")


@pytest.mark.parametrize(
    ("spec", "name"),
    [
        (JobSpec(command=["/usr/bin/nvidia-smi", "-L"]), "nvidia-smi"),
        (JobSpec(command=["python3.11", "-m", "torch.distributed.run", "x.py"]), "torch.distributed.run"),
        (JobSpec(command=["/opt/bin/python", "/home/ada/train.py", "--lr", "1"]), "train.py"),
        (JobSpec(command=["python", "-c", "print(1)"]), "python"),
        (JobSpec(command=["bash"]), "bash"),
        (JobSpec(command="cd /data && ./run.sh"), "cd"),
        (JobSpec(command="/data/run.sh --fast"), "run.sh"),
        (JobSpec(script="echo hi"), "script"),
        (JobSpec(command=["/"]), "job"),
        (JobSpec(command=["x" * 300]), "x" * 128),
        (JobSpec(command=["/bin/train"], name="mine"), "mine"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_job_without_a_name_is_called_after_what_it_runs(spec: JobSpec, name: str) -> None:
    assert build(spec, default_user="x", at_s=0).job.name == name


@BRIEF
@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=200), min_size=1, max_size=4))
def test_a_default_name_is_always_one_that_could_have_been_given(argv: list[str]) -> None:
    assert 1 <= len(default_name(argv, JobSpec(command=argv))) <= 128


@pytest.mark.parametrize(("size", "large"), [(INLINE_SCRIPT_BYTES, False), (INLINE_SCRIPT_BYTES + 1, True)])
def test_a_script_above_64_kib_goes_to_storage(size: int, large: bool) -> None:
    assert needs_storage(build(JobSpec(script="x" * size), default_user="x", at_s=0)) == large


def test_the_size_of_a_script_is_counted_in_bytes() -> None:
    assert needs_storage(build(JobSpec(script="\u20ac" * 30_000), default_user="x", at_s=0))
    assert isinstance(refusal({"script": "\u20ac" * 6_000_000}), RequestTooLarge)


# what is refused: tests/e2e/test_bad_input.py has the table of fields, over HTTP


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({**RUN, "gpus": "x" * 200}, 'gpus: expected int | float, got "' + "x" * 76 + "..."),
        ({**RUN, "env": {"A": 1}}, 'env[...]: expected str, got {"A":1}'),
        ([RUN, {**RUN, "gpus": None}], "[1].gpus: expected int | float, got null"),
        ([RUN, 7], "[1]: expected object, got 7"),
        (None, "body: expected object | array, got null"),
        ({**RUN, "time": 1.5}, "time: expected int | str | null, got 1.5"),
        ({**RUN, "gpuss": 1}, "gpuss: unknown field"),
        (b'{"gpus": "two", "command": [', "gpus: expected int | float"),
        ({**RUN, "within": "row"}, 'within: expected one of rack, island, got "row"'),
        ([RUN, {**RUN, "within": 3}], "[1].within: expected str, got 3"),
        ({**RUN, "gpu_model": [1]}, "gpu_model[0]: expected str, got 1"),
        ({**RUN, "labels": {"zone": 1}}, 'labels[...]: expected str, got {"zone":1}'),
        ({**RUN, "avoid": {"n1": 1}}, 'avoid: expected str | array, got {"n1":1}'),
        ({**RUN, "priority": "urgent"}, 'priority: expected one of high, medium, low, got "urgent"'),
        (b'{"memory_gib": 1e999}', "memory_gib: number out of range"),
    ],
)
def test_a_refusal_names_field_and_value(value: Any, message: str) -> None:
    assert refusal(value).message == message


MIB: Final = 2**20


def test_a_command_of_many_arguments_is_refused_only_beyond_what_linux_starts() -> None:
    fits = ["x" * (64 * 1024 - 1)] * 16  # with their NULs 1 MiB
    assert made(command=fits).launch.argv == fits
    error = refusal({"command": [*fits, ""]})
    assert isinstance(error, RequestTooLarge)
    assert error.field == "command"
    assert error.message == f"command: expected at most 1 MiB in all, got {MIB + 1} bytes"
    assert error.fix


@pytest.mark.parametrize("value", ["x" * (128 * 1024 - len("NAME=") - 1), "\u20ac" * 43_688])
def test_a_variable_may_be_as_long_as_linux_takes_it(value: str) -> None:
    assert made(env={"NAME": value}).launch.env == {"NAME": value}
    error = refusal({**RUN, "env": {"OK": "1", "NAME": value + "xxx"}})
    assert isinstance(error, RequestTooLarge)
    assert error.field == "env.NAME"
    assert error.message.startswith("env.NAME: expected name and value below 128 KiB")
    assert error.fix


def test_a_folder_may_be_as_long_as_linux_takes_it() -> None:
    longest = "/" + "d" * 4_095
    assert made(cwd=longest).launch.cwd == longest
    error = refusal({**RUN, "cwd": longest + "d"})
    assert (error.field, error.message) == ("cwd", "cwd: expected at most 4096 bytes (Linux's limit), got 4097")
    assert refusal({**RUN, "cwd": "/a\0b"}).message == "cwd: contains a NUL character"
    assert made(cwd="/a\nb").launch.cwd == "/a\nb"


@pytest.mark.parametrize("field", ["name", "user", "team"])
@pytest.mark.parametrize("mark", ["\0", "\n", "\t", "\x1b", "\x7f"])
def test_what_stands_in_tables_has_no_control_characters(field: str, mark: str) -> None:
    error = refusal({**RUN, field: f"a{mark}b"})
    assert (error.field, error.message) == (field, f"{field}: contains the control character {mark!r}")
    assert error.fix
    assert made(**{field: "Zo\u00eb's \u8a13\u7df4 #1"})


def test_a_default_name_is_cleaned() -> None:
    assert made(command=["/bin/a\x1b[2J\nb"]).job.name == "a?[2J?b"
    assert made(command=["python", "-m", ""]).job.name == "job"


@pytest.mark.parametrize(
    ("sent", "fix"),
    [
        ("gpu", "did you mean 'gpus'?"),
        ("comand", "did you mean 'command'?"),
        ("retries", "did you mean 'max_retries'?"),
        ("zzz", "known fields: command, script, name"),
    ],
)
def test_an_unknown_field_is_answered_with_the_one_that_was_meant(sent: str, fix: str) -> None:
    error = refusal({**RUN, sent: 1})
    assert error.field == sent
    assert error.fix is not None
    assert error.fix.startswith(fix)


@pytest.mark.parametrize(
    ("gpus", "nodes", "fix"),
    [(3, 2, "ask for 2 or another multiple of 2"), (1, 4, "ask for 4 or another multiple of 4")],
)
def test_gpus_that_do_not_divide_are_answered_with_some_that_do(gpus: int, nodes: int, fix: str) -> None:
    assert refusal({**RUN, "gpus": gpus, "nodes": nodes}).fix == fix


def test_the_expected_time_arrives_and_is_at_most_the_limit() -> None:
    assert made().job.expected_s is None
    assert made(expect="2h").job.expected_s == 7_200
    assert made(expect="2h", time="2h").job.expected_s == 7_200
    error = refusal({**RUN, "expect": "2h", "time": "1h"})
    assert (error.field, error.message) == ("expect", "expect: expected at most the time limit (1h00m), got '2h'")
    assert error.fix == "raise time, or leave expect out"
    assert refusal({**RUN, "expect": "soon"}).message == "expect: expected a duration, got 'soon'"


json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=8), children, max_size=3),
    max_leaves=8,
)
bodies = st.one_of(
    st.binary(max_size=60),
    json_values.map(body),
    st.dictionaries(st.sampled_from(JobSpec.__struct_fields__), json_values, max_size=6).map(body),
    st.tuples(json_values.map(body), st.integers(0, 30)).map(lambda pair: pair[0][: pair[1]]),
)


@BRIEF
@given(bodies)
def test_any_bytes_are_a_job_or_a_refusal_with_field_and_fix(sent: bytes) -> None:
    try:
        specs = read_specs(sent)
        for spec in specs:
            submission = build(spec, default_user="gateway", at_s=5.0)
            assert in_gpus(submission.job.request.milli) == pytest.approx(spec.gpus)
            assert 1 <= len(submission.job.name) <= 128
    except InvalidInput as error:
        assert error.message
        assert error.field is not None
        assert error.fix
