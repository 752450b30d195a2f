"""A keeper that goes on as a newer program: same process, same members, same connections, and nobody notices."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

import shunter
from shunter.agent.keeper import client
from shunter.agent.keeper.protocol import Lease, Live, Ready, Replace, Stop, encode
from shunter.domain.outcome import FailureClass
from tests.agent.conftest import BOTH
from tests.agent.rig import Rig, Sign, eventually, gone
from tests.agent.stamps import Stamps, stamping

pytestmark = BOTH

BUILD = "9.9.9"
Copy = Callable[..., str]


@pytest.fixture
def copy(tmp_path: Path) -> Copy:
    """Return a function that makes another version of Shunter, with *changes* to its files, and says where."""

    def make(**changes: tuple[str, str]) -> str:
        folder = tmp_path / f"build-{len(list(tmp_path.iterdir()))}"
        source = Path(shunter.__file__).parent
        shutil.copytree(source, folder / "shunter", ignore=shutil.ignore_patterns("__pycache__"))
        initial = folder / "shunter" / "__init__.py"
        initial.write_text(initial.read_text().replace(f'"{shunter.__version__}"', f'"{BUILD}"'))
        for name, (old, new) in changes.items():
            file = folder / "shunter" / "agent" / "keeper" / f"{name}.py"
            assert old in file.read_text()
            file.write_text(file.read_text().replace(old, new))
        return str(folder)

    return make


def is_replaced(rig: Rig) -> Ready:
    ready = rig._take(lambda report: isinstance(report, Ready), "the keeper goes on as another build")
    assert isinstance(ready, Ready)
    return ready


def replace(rig: Rig, copy: Copy) -> None:
    """Have the keeper go on as another build, and see that it is the same process."""
    rig.client.send(Replace(sys.executable, copy()))
    ready = is_replaced(rig)
    assert (ready.build, ready.pid, ready.cgroup) == (BUILD, rig.ready.pid, rig.ready.cgroup)


def started(rig: Rig, name: str = "stamps", **changes: object) -> tuple[Live, Stamps]:
    stamps = Stamps(rig.jobs / name)
    live = rig.start(*stamping(stamps.path), **changes)
    stamps.wait()
    return live, stamps


def waiting_for(sign: str, status: int) -> str:
    """Return a script that says so, and ends with *status* when it is told to."""
    return f'echo runs > "$SIGNS/{sign}"; read word < "$SIGNS/{sign}-go"; exit {status}'


def tell(rig: Rig, sign: str) -> None:
    (rig.jobs / f"{sign}-go").write_text("go\n")


def both(rig: Rig, name: str) -> Sign:
    rig.sign(f"{name}-go")
    return rig.sign(name)


def test_members_run_on_and_their_true_ends_are_kept(rig: Rig, copy: Copy) -> None:
    _, stamps = started(rig)
    said = both(rig, "other")
    other = rig.start(waiting_for("other", 7))
    assert said.word() == "runs"
    replace(rig, copy)
    last_s = stamps.wait(after_s=stamps.all()[-1])
    tell(rig, "other")
    ended = rig.ended(other)
    assert (ended.exit.code, ended.exit.failure) == (7, None)
    found = stamps.wait(after_s=last_s), stamps.all()
    assert max(later - earlier for earlier, later in pairwise(found[1])) < 0.5, "it never stood still"
    assert [report.allocation for report in rig.connect() if isinstance(report, Live)] == ["1.1"]


def test_it_can_be_done_again_and_again(rig: Rig, copy: Copy) -> None:
    live, stamps = started(rig)
    fences = set()
    for _ in range(3):
        replace(rig, copy)
        (fence,) = eventually(lambda: rig.fences() or None, "it has a fence, which has let go of the lock")
        fences.add(fence.pid)
    assert len(fences) == 3, "each has a fence of its own, and leaves none behind"
    stamps.wait(after_s=stamps.all()[-1])
    rig.stop(live, now=True)
    assert rig.ended(live).exit.signal == 9


def test_what_was_asked_for_meanwhile_is_done_once(rig: Rig, copy: Copy) -> None:
    requests = [rig.request("true") for _ in range(20)]
    rig.client.send(*requests[:10], Replace(sys.executable, copy()), *requests[10:])
    for request in requests:
        assert rig.ended(request.allocation).exit.code == 0
    is_replaced(rig)
    assert not [one for request in requests for one in rig.said(request.allocation) if not isinstance(one, Live)]


def test_half_a_request_is_completed_for_the_next_program(rig: Rig, copy: Copy) -> None:
    path = copy()
    request = rig.request("true")
    line = encode(request) + b"\n"
    rig.client.send(Replace(sys.executable, path))
    assert rig.client._socket is not None
    rig.client._socket.sendall(line[:100])
    is_replaced(rig)
    rig.client._socket.sendall(line[100:])
    assert rig.ended(request.allocation).exit.code == 0


def slow(seconds: float, first: str = "") -> tuple[str, str]:
    """Return the change to `__main__.py` of a program that does *first* and then takes its time to take over."""
    handed = "'SHUNTER_KEEPER_ESTATE' in os.environ and '--try' not in sys.argv"
    begins = "if __name__ == "
    return begins, f"import os, time\nif {handed}:\n    {first or 'pass'}\n    time.sleep({seconds})\n{begins}"


def test_who_ended_while_the_program_changed_is_reaped(rig: Rig, copy: Copy) -> None:
    said = both(rig, "brief")
    brief = rig.start(waiting_for("brief", 5))
    assert said.word() == "runs"
    lets_it_end = f"open({str(rig.jobs / 'brief-go')!r}, 'w').write('go\\n')"
    rig.client.send(Replace(sys.executable, copy(__main__=slow(1.0, lets_it_end))))
    assert rig.ended(brief).exit.code == 5
    assert is_replaced(rig).build == BUILD


def test_a_time_limit_goes_on_where_it_was(rig: Rig, copy: Copy) -> None:
    live, stamps = started(rig, time_limit_s=4)
    first_s = stamps.all()[0]
    stamps.wait(after_s=first_s + 1.5)
    replace(rig, copy)
    ended = rig.ended(live)
    assert ended.exit.failure is FailureClass.TIME_LIMIT
    assert stamps.all()[-1] - first_s < 5.0, "it did not begin anew"


def test_a_grace_goes_on_where_it_was(rig: Rig, copy: Copy) -> None:
    said = rig.sign("deaf")
    live = rig.start(
        'trap "echo asked > $SIGNS/deaf" TERM; echo runs > "$SIGNS/deaf"; while :; do sleep 0.01; done', grace_s=3
    )
    assert said.word() == "runs"
    rig.stop(live)
    assert said.word() == "asked"
    replace(rig, copy)
    assert rig.ended(live).exit.signal == 9
    assert said.silent(), "it was asked once"


def test_the_lease_goes_on(rig: Rig, copy: Copy) -> None:
    live, stamps = started(rig)
    deadline_s = rig.lease(8.0)
    replace(rig, copy)
    stamps.wait(after_s=stamps.all()[-1])
    rig.frozen(live)
    assert deadline_s - 0.1 < stamps.all()[-1] < deadline_s + 1.0
    rig.lease(600.0)
    rig.frozen(live, frozen=False)
    stamps.wait(after_s=deadline_s + 1.0)


def test_what_is_frozen_stays_so_until_there_is_a_lease_and_then_the_program_changes(rig: Rig, copy: Copy) -> None:
    live, stamps = started(rig)
    rig.lease(-1.0)
    rig.frozen(live)
    last_s = stamps.all()[-1]
    late = rig.request("true")
    rig.client.send(late, Replace(sys.executable, copy()))
    assert rig.live(late.allocation).pid == 0
    assert rig.helpers(), "the keeper is there"
    rig.lease(600.0)
    assert is_replaced(rig).build == BUILD
    stamps.wait(after_s=last_s)
    assert rig.ended(late.allocation).exit.code == 0


def test_one_that_waits_for_a_lease_is_handed_on(rig: Rig, copy: Copy) -> None:
    """The lease passes while the program changes: what was sent by then waits under the next."""
    path = copy(__main__=slow(1.5))
    live, stamps = started(rig)
    deadline_s = rig.lease(1.5)
    late = rig.request("true")
    rig.client.send(Replace(sys.executable, path))
    eventually(lambda: "SHUNTER_KEEPER_ESTATE" in rig.keeper.environ(), "the next program starts")
    rig.client.send(late)
    is_replaced(rig)
    assert rig.live(late.allocation).pid == 0
    rig.frozen(live)
    assert stamps.all()[-1] < deadline_s + 1.0, "the old fence stood meanwhile"
    rig.lease(600.0)
    assert rig.ended(late.allocation).exit.code == 0
    stamps.wait(after_s=deadline_s + 1.0)


@pytest.mark.parametrize(
    ("broken", "says"),
    [
        ({"estate": ("FORMAT: Final = 1", "FORMAT: Final = 2")}, "cannot go on with an estate of another format"),
        ({"server": ("import contextlib", "import contextlib, no_such_module")}, "no_such_module"),
    ],
)
def test_a_program_that_cannot_go_on_is_not_tried_in_earnest(
    rig: Rig, copy: Copy, broken: dict[str, tuple[str, str]], says: str
) -> None:
    live, stamps = started(rig)
    rig.client.send(Replace(sys.executable, copy(**broken)))
    eventually(lambda: "this one stays" in rig.log(), "the log says so")
    assert says in rig.log()
    stamps.wait(after_s=stamps.all()[-1])
    replace(rig, copy)  # and another may
    rig.stop(live, now=True)
    rig.ended(live)


def test_a_python_that_is_not_there_changes_nothing(rig: Rig) -> None:
    _, stamps = started(rig)
    rig.client.send(Replace("/nowhere/python"))
    eventually(lambda: "/nowhere/python does not start: No such file" in rig.log(), "the log says so")
    stamps.wait(after_s=stamps.all()[-1])


def test_jobs_end_with_a_keeper_that_was_replaced(rig: Rig, copy: Copy) -> None:
    live, stamps = started(rig)
    replace(rig, copy)
    rig.kill_keeper()
    eventually(lambda: gone(live.pid), "the member has ended with its keeper")
    stamps_then = len(stamps.all())
    (ended,) = rig.connect()
    assert rig.ready.build == shunter.__version__
    assert ended.exit.failure is FailureClass.KEEPER_LOST  # type: ignore[union-attr]
    assert len(stamps.all()) == stamps_then


def test_other_workers_are_handed_on_and_only_the_latest_ones_lease_counts(rig: Rig, copy: Copy) -> None:
    live, _ = started(rig)
    earlier = rig.client
    rig.connect()
    rig.lease(600.0)
    replace(rig, copy)
    earlier.send(Lease(0.0))  # superseded: of two the one that connected later
    earlier.send(Stop(live.allocation, now=True))
    rig.ended(live)
    assert not [one for one in rig.said(live.allocation) if isinstance(one, Live) and one.frozen]


def test_a_worker_asks_a_keeper_of_another_build_once(rig: Rig, copy: Copy, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not rig.client.renew(rig.ready), "it is of this build"
    assert not rig.client.renew(Ready(3, 1)), "it could not"
    monkeypatch.setattr(client, "__version__", BUILD)
    monkeypatch.setenv("PYTHONPATH", copy())
    _, stamps = started(rig)
    assert rig.client.renew(rig.ready)
    assert not rig.client.renew(rig.ready)
    assert not rig.client.renew(is_replaced(rig))
    stamps.wait(after_s=stamps.all()[-1])
