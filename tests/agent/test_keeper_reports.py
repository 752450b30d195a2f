"""What a worker is told, once and again: it may come and go, and hears of everything until it has acknowledged it."""

from __future__ import annotations

import socket
import stat
import subprocess
import sys
from pathlib import Path

import msgspec

from shunter.agent.keeper.protocol import VERSION, Ended, Live, Start, decode_report, decode_request, encode
from shunter.domain.outcome import FailureClass
from shunter.runtime.paths import socket_path
from tests.agent.rig import Rig, eventually, gone


def end_now(rig: Rig, live: Live) -> Ended:
    rig.stop(live, now=True)
    return rig.ended(live)


def test_a_new_keeper_has_nothing_and_says_who_it_is(rig: Rig) -> None:
    assert rig.connect() == []
    assert rig.ready.version == VERSION
    assert rig.keeper.cmdline()[2:] == ["shunter.agent.keeper", str(rig.folder), rig.mark]


def test_a_start_is_reported_with_pid_and_gpus(rig: Rig) -> None:
    live = rig.start("sleep 600", gpus=(1, 3), job_id=7, attempt=2, rank=1)
    assert (live.job_id, live.attempt, live.rank, live.gpus, live.stopping) == (7, 2, 1, (1, 3), False)
    assert not gone(live.pid)


def test_a_worker_that_comes_back_is_told_what_lives(rig: Rig) -> None:
    lives = [rig.start("sleep 600", gpus=(number,)) for number in range(2)]
    rig.disconnect()
    assert rig.connect() == lives
    assert not any(gone(live.pid) for live in lives)


def test_an_end_is_repeated_at_each_connect_until_it_is_acknowledged(rig: Rig) -> None:
    ended = rig.run("exit 3")
    for _ in range(2):
        rig.disconnect()
        assert rig.connect() == [ended]
    rig.ack(ended)
    other = rig.run("exit 4")  # requests are served in order: by now the acknowledgement was
    rig.disconnect()
    assert rig.connect() == [other]


def test_an_end_while_no_worker_is_there_is_told_to_the_next(rig: Rig) -> None:
    rig.sign("go")
    live = rig.start("read -r < $SIGNS/go; exit 3")
    rig.disconnect()
    (rig.jobs / "go").write_text("\n")
    eventually(lambda: gone(live.pid), "it has ended")
    (ended,) = eventually(lambda: [one for one in rig.connect() if isinstance(one, Ended)] or None, "its end is told")
    assert ended.exit.code == 3


def test_two_workers_at_a_time_are_both_told(rig: Rig) -> None:
    first = rig.client
    rig.connect()
    ended = rig.run("exit 3")
    seen = []
    while ended not in seen:
        seen.append(first.reports.get(timeout=20))


def test_a_doubled_start_is_started_once(rig: Rig) -> None:
    request = rig.request("echo once; sleep 600")
    rig.client.send(request, request)
    live = rig.live(request.allocation)
    rig.client.send(request)
    eventually(lambda: rig.output(live) or None, "it has run")
    ended = end_now(rig, live)
    assert rig.output(ended) == "once\n"
    assert rig.said(request.allocation) == []


def test_a_start_of_what_ended_and_is_not_acknowledged_is_not_started_again(rig: Rig) -> None:
    request = rig.request("echo once; exit 3")
    rig.client.send(request)
    ended = rig.ended(request.allocation)
    rig.client.send(request)
    rig.run("exit 0")
    assert rig.output(ended) == "once\n"
    assert [type(one) for one in rig.said(request.allocation)] == [Live]


def test_a_gpu_that_a_job_holds_is_not_given_to_another(rig: Rig) -> None:
    """The second lock on a GPU, after the store's."""
    holder = rig.start("sleep 600", gpus=(0, 1))
    refused = rig.run("echo never", gpus=(1, 2))
    assert refused.exit.failure is FailureClass.NOT_STARTED
    assert refused.exit.message == "GPU [1] still has processes of another job"
    assert (refused.exit.code, refused.exit.signal) == (None, None)
    assert not (rig.jobs / str(refused.job_id)).exists()
    end_now(rig, holder)
    assert rig.run("exit 3", gpus=(1, 2)).exit.code == 3


def test_jobs_share_a_gpu_up_to_the_whole_of_it(rig: Rig) -> None:
    first = rig.start("sleep 600", gpus=(0,), gpu_milli=250)
    second = rig.start("sleep 600", gpus=(0,), gpu_milli=500)
    assert (first.gpu_milli, second.gpu_milli) == (250, 500)
    refused = rig.run("echo never", gpus=(0,), gpu_milli=251)
    assert refused.exit.failure is FailureClass.NOT_STARTED
    assert refused.exit.message == "GPU [0] still has processes of another job, which leave less than 0.251 of it"
    assert rig.run("exit 3", gpus=(0,)).exit.message == "GPU [0] still has processes of another job"
    assert rig.run("exit 3", gpus=(1,)).exit.code == 3
    assert rig.run("exit 3", gpus=(0,), gpu_milli=250).exit.code == 3
    end_now(rig, first)
    assert rig.run("exit 3", gpus=(0,), gpu_milli=500).exit.code == 3


def test_a_worker_that_connects_later_hears_of_the_share(rig: Rig) -> None:
    live = rig.start("sleep 600", gpus=(0,), gpu_milli=250)
    [found] = rig.connect()
    assert isinstance(found, Live)
    assert (found.allocation, found.gpus, found.gpu_milli) == (live.allocation, (0,), 250)


def test_requests_and_reports_without_a_share_are_about_whole_gpus(rig: Rig) -> None:
    """What a worker or keeper of an earlier version says."""
    start = msgspec.json.decode(encode(rig.request("true", gpus=(0, 1))))
    assert "gpu_milli" not in start
    request = decode_request(msgspec.json.encode(start))
    assert isinstance(request, Start)
    assert request.gpu_milli == 1_000
    live = decode_report(b'{"type":"live","allocation":"1.1","job_id":1,"attempt":1,"rank":0,"pid":9,"gpus":[0]}')
    assert isinstance(live, Live)
    assert (live.gpus, live.gpu_milli) == ((0,), 1_000)


def test_a_gpu_is_held_until_the_last_process_of_the_job_is_gone(rig: Rig) -> None:
    started = rig.sign("started")
    live = rig.start("(setsid bash -c 'echo $$ > $SIGNS/started; exec sleep 600' $0 &); sleep 600", gpus=(0,))
    child = int(started.word())
    rig.stop(live, now=True)
    request = rig.request("exit 3", gpus=(0,))
    rig.client.send(request)
    answer = rig.ended(request.allocation)
    assert answer.exit.failure is FailureClass.NOT_STARTED or gone(child)
    rig.ended(live)
    assert gone(child)


def test_what_is_not_understood_is_noted_and_nothing_else_happens(rig: Rig) -> None:
    with socket.socket(socket.AF_UNIX) as stranger:
        stranger.connect(str(socket_path(rig.folder / "keeper.sock")))
        stranger.sendall(b'{"type":"dance"}\nnot json\n\xff\n' + encode(rig.request("exit 3")) + b"\n")
        assert rig.ended("1.1").exit.code == 3
    assert rig.log().count("request not understood") == 3


def test_a_request_that_arrives_in_pieces_is_understood(rig: Rig) -> None:
    data = encode(rig.request("exit 3", env={"LONG": "x" * 300_000})) + b"\n"
    with socket.socket(socket.AF_UNIX) as stranger:
        stranger.connect(str(socket_path(rig.folder / "keeper.sock")))
        stranger.sendall(data[:1000])
        assert rig.run("exit 4").exit.code == 4
        stranger.sendall(data[1000:])
        failed = rig.ended("1.1")
    assert failed.exit.failure is FailureClass.LAUNCH_FAILED or failed.exit.code == 3


def test_only_its_owner_may_speak_to_a_keeper(rig: Rig) -> None:
    assert stat.S_IMODE(socket_path(rig.folder / "keeper.sock").stat().st_mode) == 0o600


def test_a_worker_that_does_not_read_does_not_keep_the_others_waiting(rig: Rig) -> None:
    """It is dropped after some seconds, and hears everything when it comes back."""
    with socket.socket(socket.AF_UNIX) as sleeper:
        sleeper.connect(str(socket_path(rig.folder / "keeper.sock")))
        requests = [rig.request("no-such-command", env={"NUMBER": str(number)}) for number in range(600)]
        rig.client.send(*requests)
        for request in requests:
            assert rig.ended(request.allocation).exit.code == 127


def test_a_keeper_started_in_a_long_folder_is_reached(tmp_path: Path) -> None:
    folder = tmp_path / ("long" * 20) / ("path" * 20)
    folder.mkdir(parents=True)
    rig = Rig(folder)
    try:
        rig.connect()
        assert rig.run("exit 3").exit.code == 3
    finally:
        rig.finish()


def test_a_second_keeper_in_the_same_folder_ends_and_says_why(rig: Rig) -> None:
    live = rig.start("sleep 600")
    command = [sys.executable, "-m", "shunter.agent.keeper", str(rig.folder), "n1"]
    second = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert second.returncode == 1
    assert second.stderr.strip() == f"keeper: another one keeps {rig.folder}"
    assert end_now(rig, live).exit.signal == 9
