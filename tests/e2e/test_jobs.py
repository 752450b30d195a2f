"""One job, from submission to its end: what it prints, what it finds, how it ends, how it is told to end."""

from __future__ import annotations

import threading
from statistics import median

import pytest
import redis

from shunter.domain.outcome import FailureClass
from shunter.errors import Conflict, InvalidInput, NotFound, RequestTooLarge
from shunter.sdk.client import WaitTimedOut
from tests.e2e.yard import Yard, eventually

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(90)]


def output(yard: Yard, job: int, **options: object) -> str:
    return "".join(yard.client.logs(job, **options))  # type: ignore[arg-type]


# output and exit codes


def test_the_output_is_followed_to_the_end_and_the_exit_code_is_the_true_one(yard: Yard) -> None:
    job = yard.held("followed", code=3)
    yard.wait_for_lines("followed")
    talker = yard.submit("for n in 1 2 3; do echo line $n; done; echo to stderr >&2; exit 42")
    assert output(yard, talker, follow=True) == "line 1\nline 2\nline 3\nto stderr\n"
    yard.let_go("followed")
    first, second = yard.ended(job, talker)
    assert (first.state, first.exit_status) == ("failed", 3)
    assert (second.state, second.exit_status) == ("failed", 42)
    assert second.outcome is not None
    assert second.outcome.failure is FailureClass.USER_ERROR
    assert output(yard, talker, tail=2) == "line 3\nto stderr\n"


def test_what_a_running_job_prints_is_seen_before_it_ends(yard: Yard) -> None:
    job = yard.submit('echo first; until [ -e "$GO" ]; do sleep 0.05; done; echo last', env={"GO": f"{yard.files}/go"})
    pieces = yard.client.logs(job, follow=True)
    assert next(pieces) == "first\n"
    assert yard.client.job(job).state == "running"
    (yard.files / "go").touch()
    assert "".join(pieces) == "last\n"


@pytest.mark.parametrize("code", [0, 1, 85, 126, 137, 255])
def test_every_exit_code_comes_back_as_it_was(yard: Yard, code: int) -> None:
    (view,) = yard.ended(yard.submit(f"exit {code}"))
    assert view.exit_status == code
    assert view.state == ("failed" if code else "succeeded")


def test_stderr_has_its_own_log_where_that_was_asked_for(yard: Yard) -> None:
    job = yard.submit("echo out; echo err >&2", split_stderr=True)
    yard.ended(job)
    assert output(yard, job) == "out\n"
    assert output(yard, job, stream="stderr") == "err\n"


def test_a_command_that_is_not_there_fails_and_says_so(yard: Yard) -> None:
    job = yard.submit(["no-such-program-here", "--fast"])
    (view,) = yard.ended(job)
    assert (view.state, view.exit_status) == ("failed", 127)
    assert view.outcome is not None
    assert "command not found: no-such-program-here" in view.outcome.message
    assert "command not found: no-such-program-here" in output(yard, job)


def test_a_folder_that_is_not_there_fails_and_names_it(yard: Yard) -> None:
    (view,) = yard.ended(yard.submit(["true"], cwd="/no/such/folder"))
    assert view.outcome is not None
    assert view.outcome.failure is FailureClass.LAUNCH_FAILED
    assert "/no/such/folder" in view.outcome.message


# what a job finds


def test_a_job_finds_who_it_is_and_which_gpus_it_may_use(yard: Yard) -> None:
    job = yard.submit("env -0", gpus=2, name="who", user="ada", time="1h", max_retries=5, env={"MINE": "a = b\nc"})
    yard.ended(job)
    env = dict(one.split("=", 1) for one in output(yard, job).split("\0") if one)
    assert yard.replayed().shape(job) == (2,)
    expected = {
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
        "CUDA_VISIBLE_DEVICES": env["SHUNTER_GPUS"],
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": env["PET_MASTER_PORT"],
        "MINE": "a = b\nc",
        "NNODES": "1",
        "NODE_RANK": "0",
        "NPROC_PER_NODE": "2",
        "PET_NNODES": "1",
        "PET_NODE_RANK": "0",
        "PET_NPROC_PER_NODE": "2",
        "SHUNTER_ATTEMPT": "1",
        "SHUNTER_CLUSTER": yard.name,
        "SHUNTER_GPU_COUNT": "2",
        "SHUNTER_JOB_ID": str(job),
        "SHUNTER_JOB_NAME": "who",
        "SHUNTER_MAX_RETRIES": "5",
        "SHUNTER_NODES": env["SHUNTER_NODE"],
        "SHUNTER_NODE_RANK": "0",
        "SHUNTER_RESTART_COUNT": "0",
        "SHUNTER_RETRIES": "0",
        "SHUNTER_TIME_LIMIT_S": "3600",
        "SHUNTER_USER": "ada",
    }
    assert {name: env.get(name) for name in expected} == expected
    assert env["SHUNTER_NODE"] in ("n1", "n2")
    assert len(env["SHUNTER_GPUS"].split(",")) == 2
    assert 20_000 <= int(env["MASTER_PORT"]) < 32_000
    assert "RANK" not in env  # several GPUs: the launcher's children set it
    assert "SHUNTER_HOME" not in env


def test_a_job_of_one_gpu_is_a_world_of_its_own(yard: Yard) -> None:
    job = yard.submit("echo $WORLD_SIZE $RANK $LOCAL_RANK $LOCAL_WORLD_SIZE")
    yard.ended(job)
    assert output(yard, job) == "1 0 0 1\n"


def test_a_job_without_gpus_sees_none(yard: Yard) -> None:
    job = yard.submit('echo "[$CUDA_VISIBLE_DEVICES] $SHUNTER_GPU_COUNT"', gpus=0, cpus=1)
    yard.ended(job)
    assert output(yard, job) == "[] 0\n"


def test_a_job_may_write_into_its_folders(yard: Yard) -> None:
    job = yard.submit(
        'echo weights >"$SHUNTER_CHECKPOINT_DIR/model" && echo note >"$SHUNTER_JOB_DIR/note"'
        ' && [ ! -e "$SHUNTER_STOP_FILE" ]'
    )
    (view,) = yard.ended(job)
    assert view.state == "succeeded"
    folder = yard.folder(job)
    assert (folder / "checkpoint" / "model").read_text() == "weights\n"
    assert (folder / "attempt-1" / "note").read_text() == "note\n"


# scripts


def test_a_script_runs_and_a_shebang_chooses_its_interpreter(yard: Yard) -> None:
    shell = yard.client.submit(script="echo shell $SHUNTER_NODE_RANK\n").id
    perl = yard.client.submit(script="#!/usr/bin/perl\nprint 'from perl';\n").id
    yard.ended(shell, perl)
    assert output(yard, shell) == "shell 0\n"
    assert output(yard, perl) == "from perl"


def test_a_large_script_goes_to_storage_and_not_into_redis(yard: Yard) -> None:
    script = "echo begin\n" + f": {'x' * 1020}\n" * 1024 + "echo end\n"
    assert len(script) > 1_000_000
    job = yard.client.submit(script=script).id
    yard.ended(job)
    assert output(yard, job) == "begin\nend\n"
    launch = yard.client.job(job).launch
    assert launch is not None
    assert launch.script is None
    assert launch.script_ref is not None
    assert launch.script_ref.startswith(str(yard.home / "storage" / "scripts"))
    with redis.Redis.from_url(yard.cluster.redis.url) as client:
        assert int(client.hstrlen(yard.keys.specs, str(job))) < 2_000


def test_a_script_above_16_mib_is_refused_before_it_travels(yard: Yard) -> None:
    with pytest.raises(RequestTooLarge, match=r"script: expected at most 16 MiB, got 17\.0 MiB") as refused:
        yard.client.submit(script="#" * (17 * 2**20))
    assert refused.value.field == "script"


# ends that are asked for


def test_a_job_that_runs_over_its_time_limit_is_ended_with_timeout(yard: Yard) -> None:
    job = yard.submit("sleep 600", time="1s", grace="1s")
    (view,) = yard.ended(job)
    assert view.state == "timeout"
    assert view.outcome is not None
    assert view.outcome.failure is FailureClass.TIME_LIMIT
    assert (view.outcome.signal, view.outcome.message) == (15, "time limit of 1s reached")
    assert yard.processes(job) == []


def test_a_queued_job_that_is_cancelled_never_runs(yard: Yard) -> None:
    full = [yard.held(f"full-{n}", gpus=4) for n in (1, 2)]
    job = yard.submit(["true"], gpus=1)
    result = yard.client.cancel(job)
    assert result.cancelled == [job]
    (view,) = yard.ended(job)
    assert (view.state, view.attempt, view.started_s) == ("cancelled", 0, None)
    yard.client.cancel(*full)
    assert yard.replayed().count(job, "placed") == 0


def test_a_running_job_that_is_cancelled_gets_sigterm_and_the_stop_file(yard: Yard) -> None:
    job = yard.submit(
        """trap '[ -e "$SHUNTER_STOP_FILE" ] && echo saved; exit 85' TERM; echo ready; while :; do sleep 0.05; done"""
    )
    pieces = yard.client.logs(job, follow=True)
    assert next(pieces) == "ready\n"
    assert yard.client.cancel(job).cancelled == [job]
    assert "".join(pieces).endswith("saved\n")
    (view,) = yard.ended(job)
    assert (view.state, view.exit_status) == ("cancelled", 85)


def test_a_job_that_ignores_sigterm_is_killed_after_its_grace(yard: Yard) -> None:
    job = yard.submit("trap '' TERM; echo deaf; while :; do sleep 0.05; done", grace="1s")
    pieces = yard.client.logs(job, follow=True)
    assert next(pieces) == "deaf\n"
    yard.client.cancel(job)
    assert yard.in_state(job, "stopping").devices  # it holds its GPU until it is gone
    (view,) = yard.ended(job)
    assert view.state == "cancelled"
    assert view.outcome is not None
    assert view.outcome.signal == 9


def test_a_cancel_may_be_repeated_and_an_ended_job_is_named(yard: Yard) -> None:
    job = yard.submit("trap '' TERM; echo deaf; while :; do sleep 0.05; done", grace="1s")
    assert next(yard.client.logs(job, follow=True)) == "deaf\n"
    assert yard.client.cancel(job, 10**9).unknown == [10**9]
    assert yard.client.cancel(job).cancelled == [job]
    yard.ended(job)
    assert yard.client.cancel(job).already_ended == [job]
    assert yard.replayed().count(job, "stop_asked") == 1


def test_a_node_hears_of_starts_and_stops_without_waiting_for_its_lease(yard: Yard) -> None:
    """A lost hint costs up to 2 s, until the next renewal; so most of these would take long if hints were lost."""
    jobs = []
    for _ in range(8):
        jobs.append(yard.submit(["sleep", "600"]))
        yard.in_state(jobs[-1], "running")
        yard.client.cancel(jobs[-1])
        yard.ended(jobs[-1])
    at_s = {(event.job, event.kind): event.at_s for event in yard.client.events(jobs=jobs)}
    for told, done in (("placed", "started"), ("stop_asked", "exited")):
        assert median(at_s[job, done] - at_s[job, told] for job in jobs) < 0.5


# waiting


def test_waiting_sees_every_end_however_soon_it_comes(yard: Yard) -> None:
    for _ in range(10):
        (view,) = yard.ended(yard.submit(["true"]))
        assert view.state == "succeeded"
    ids = [yard.submit(f"exit {n}") for n in range(10)]
    found: list[list[int | None]] = []

    def wait() -> None:
        with yard.cluster.client() as client:
            found.append([view.exit_status for view in client.wait(*ids, timeout_s=30)])

    waiters = [threading.Thread(target=wait) for _ in range(3)]
    for one in waiters:
        one.start()
    for one in waiters:
        one.join()
    assert found == [list(range(10))] * 3


def test_waiting_gives_up_in_time_and_the_job_goes_on(yard: Yard) -> None:
    job = yard.held("patient")
    with pytest.raises(WaitTimedOut, match=str(job)):
        yard.client.wait(job, timeout_s=0.3)
    yard.let_go("patient")
    assert yard.ended(job)[0].state == "succeeded"


def test_a_job_that_never_was_is_not_found(yard: Yard) -> None:
    with pytest.raises(NotFound, match="job 999999: unknown"):
        yard.client.job(999_999)
    with pytest.raises(NotFound, match="job 999999: unknown"):
        yard.client.wait(999_999, timeout_s=5)
    with pytest.raises(NotFound, match="attempt"):
        output(yard, yard.submit(["true"]), attempt=7)


# submitting


def test_the_same_idempotency_key_answers_the_same_job(yard: Yard) -> None:
    first = yard.client.submit(command=["true"], idempotency_key="release-7")
    again = yard.client.submit(command=["true"], idempotency_key="release-7")
    assert again.id == first.id
    with pytest.raises(Conflict, match="already used for another request"):
        yard.client.submit(command=["false"], idempotency_key="release-7")
    yard.ended(first.id)
    assert yard.replayed().count(first.id, "submitted") == 1


def test_many_jobs_are_accepted_all_or_none(yard: Yard) -> None:
    from shunter.domain.job import JobSpec

    before = yard.client.submit(command=["true"]).id
    with pytest.raises(InvalidInput, match=r"job 2 of 3: gpus: expected at most 4 per node, got 5"):
        yard.client.submit_many([JobSpec(command=["true"], gpus=gpus) for gpus in (1, 5, 1)])
    views = yard.client.submit_many([JobSpec(command=["true"], gpus=gpus) for gpus in (1, 2, 1)])
    assert [view.id for view in views] == [before + 1, before + 2, before + 3]
    assert [view.state for view in yard.ended(*(view.id for view in views))] == ["succeeded"] * 3


def test_events_of_one_job_tell_its_whole_story(yard: Yard) -> None:
    job = yard.submit(["true"])
    stream = yard.client.events(after=yard.audit.cursor, jobs=[job], follow=True)
    told = []
    for event in stream:
        told.append((event.kind, event.rev, event.state))
        if event.state == "succeeded":
            break
    stream.close()  # type: ignore[attr-defined]
    assert told == [
        ("submitted", 1, "queued"),
        ("placed", 2, "starting"),
        ("started", 3, "running"),
        ("exited", 4, "succeeded"),
    ]
    eventually(lambda: yard.client.cluster().active_jobs == 0, "nothing is active")
