"""A cluster of real processes for a test, and the hands that the test lays on it: kill, stop, look, wait."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from pathlib import Path, PurePosixPath
from typing import Final, TypeVar

import psutil

from shunter.domain.reason import Reason
from shunter.domain.report import JobView, state_of
from shunter.errors import Unavailable
from shunter.local.cluster import LocalCluster, NodePlan
from shunter.runtime.folders import jobs_folder
from shunter.sdk.client import Client
from shunter.sdk.spec import make_spec
from shunter.store.keys import Keys
from shunter.store.redis import Store
from shunter.store.routes import with_cluster
from tests.e2e.audit import Audit

T = TypeVar("T")
R = TypeVar("R", bound=Reason)
LOOK_AGAIN_S: Final = 0.02
ENOUGH_S: Final = 20.0
"""How long anything may take on a busy machine before a test gives up on it."""

CPUS: Final = 64
"""What nodes say they have: no test is about cores, and the machine has few."""

HELD: Final = """
say() { echo "$1 $SHUNTER_ATTEMPT" >>"$FILES/$NAME"; }
say start
until [ -e "$FILES/$NAME.go" ]; do sleep 0.05; done
say end
exit "$CODE"
"""
"""A job that says so when it starts and ends, and ends when it is let go."""

_numbers = count(1)


def eventually(ask: Callable[[], T | None], what: str, *, within_s: float = ENOUGH_S) -> T:
    """Ask until the answer is neither None nor False, and return it; fail, saying *what* was waited for.

    A store or gateway that cannot be reached is no answer either.
    """
    deadline = time.monotonic() + within_s
    while True:
        answer: T | None = None
        with contextlib.suppress(Unavailable):
            answer = ask()
        if answer is not None and answer is not False:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within_s:g} s: {what}")
        time.sleep(LOOK_AGAIN_S)


class Yard:
    """A LocalCluster in a short home of its own. With *watched* its roles are started again when they die.

    The cluster's name is unlike that of any other on this machine, and so is the marker of its jobs' processes.
    """

    def __init__(
        self, nodes: Sequence[str | NodePlan], *, watched: bool = True, redis: str | None = None, coordinators: int = 1
    ) -> None:
        self.redis = redis
        self.coordinators = coordinators
        self.home = Path(tempfile.mkdtemp(prefix="sh-", dir="/tmp"))
        self.files = self.home / "files-0"
        self.files.mkdir()
        self.name = f"e2e-{os.getpid()}-{next(_numbers)}"
        self.keys = Keys(self.name)
        self.plans = [_plan(node) if isinstance(node, str) else node for node in nodes]
        self.watched = watched
        self.audit = Audit()
        self.cluster = self._new_cluster()
        self.client: Client
        self.store: Store
        self._watcher: threading.Thread | None = None
        self._checked = 0

    def new_files(self) -> None:
        """Have what jobs write from now on apart from what earlier ones wrote."""
        self.files = self.home / f"files-{int(self.files.name.partition('-')[2]) + 1}"
        self.files.mkdir()

    def folder(self, job: int, storage: Path | None = None) -> Path:
        """Where *job* finds and leaves its files."""
        identity = self.client.cluster().identity
        return Path(jobs_folder(PurePosixPath(storage or self.home / "storage"), self.name, identity)) / str(job)

    # up and down

    def _new_cluster(self) -> LocalCluster:
        return LocalCluster(
            self.home, nodes=self.plans, cluster=self.name, redis=self.redis, coordinators=self.coordinators
        )

    def up(self) -> Yard:
        self.cluster = self._new_cluster()
        self.cluster.start()
        self.client = self.cluster.client()
        self.store = Store(with_cluster(self.cluster.redis_url, self.name))
        if self.watched:
            self._watcher = threading.Thread(target=self.cluster.watch, name=f"watch {self.name}", daemon=True)
            self._watcher.start()
        return self

    def down(self) -> None:
        """Stop the roles; jobs go on under their keepers."""
        with contextlib.suppress(AttributeError):  # it never came up
            self.client.close()
            self.store.close()
        self.cluster.stop()
        if self._watcher is not None:
            self._watcher.join(ENOUGH_S)
            self._watcher = None

    def quiet(self) -> None:
        """Cancel what is left, see that nothing is held or runs any more, and check all that happened."""
        self.client.cancel(*(job.id for job in self.client.jobs()))
        self.client.wait(*(job.id for job in self.client.jobs()), timeout_s=ENOUGH_S)
        self.check()

    def check(self) -> None:
        """Nothing is active: then no GPU is held, no process is left, and every event was legal."""
        audit = self.replayed()
        assert list(self.client.jobs()) == []
        assert audit.holding() == {}
        for view in self.client.nodes():
            assert view.jobs == (), view
            assert view.free_gpus == (view.node.usable_gpus if view.state == "ready" else 0), view
        assert [one.cmdline() for one in self.processes()] == []
        states = {job: state_of(phase) for job, phase in audit.phases.items()}
        new = len(states) - self._checked
        shown = {view.id: view.state for view in self.client.jobs(all=True, limit=new)}
        assert shown == {job: states[job] for job in sorted(states)[-new:] if new}
        self._checked = len(states)

    def close(self) -> None:
        """End everything at once, whatever state a failed test left it in, and whichever step fails."""
        with contextlib.ExitStack() as last_first:
            last_first.callback(shutil.rmtree, self.home, ignore_errors=True)
            last_first.callback(self._end_jobs)
            last_first.callback(self.down)
            for role in self.cluster.roles.values():
                if role.process is not None:
                    role.process.kill()

    def _end_jobs(self) -> None:
        for plan in self.plans:
            with contextlib.suppress(OSError, ValueError):
                os.kill(self.keeper(plan.name), signal.SIGKILL)
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                process.kill()
        self.cluster.join_keepers()

    # jobs

    def submit(self, command: str | list[str], **fields: object) -> int:
        return self.client.submit(make_spec({"command": command, **fields})).id

    def held(self, name: str, *, code: int = 0, **fields: object) -> int:
        """Submit a job that runs until `let_go(name)`, then ends with *code*. It says both in `lines(name)`."""
        env = {"FILES": str(self.files), "NAME": name, "CODE": str(code)}
        return self.submit(HELD, name=name, env=env, **fields)

    def let_go(self, *names: str) -> None:
        for name in names:
            (self.files / f"{name}.go").touch()

    def lines(self, name: str) -> list[str]:
        path = self.files / name
        return path.read_text().splitlines() if path.exists() else []

    def wait_for_lines(self, name: str, number: int = 1) -> list[str]:
        def look() -> list[str] | None:
            lines = self.lines(name)
            return lines if len(lines) >= number else None

        return eventually(look, f"{number} lines in {name}")

    def ended(self, *ids: int, within_s: float = 2 * ENOUGH_S) -> list[JobView]:
        return self.client.wait(*ids, timeout_s=within_s)

    def in_state(self, id: int, *states: str) -> JobView:
        def look() -> JobView | None:
            view = self.client.job(id)
            return view if view.state in states else None

        return eventually(look, f"job {id} is {' or '.join(states)}")

    def waiting_for(self, id: int, kind: type[R]) -> R:
        """Return why *id* waits, once the published reason is a *kind*."""

        def look() -> R | None:
            reason = self.client.job(id).reason
            return reason if isinstance(reason, kind) else None

        return eventually(look, f"job {id} waits for {kind.__name__}")

    # processes

    def pid(self, role: str) -> int:
        process = self.cluster.roles[role].process
        assert process is not None
        return process.pid

    def kill(self, *roles: str) -> None:
        """Kill with SIGKILL, and return once they are dead."""
        processes = [self.cluster.roles[role].process for role in roles]
        for process in processes:
            assert process is not None
            process.kill()
        for process in processes:
            assert process is not None
            psutil_wait(process.pid)

    def revived(self, role: str) -> None:
        """Wait until the watcher has started *role* again, and the gateway until it answers."""

        def again() -> bool:
            process = self.cluster.roles[role].process
            return process is not None and process.poll() is None

        eventually(again, f"{role} runs again")
        eventually(lambda: self.client.health().status == "ok", "the gateway answers")

    def start(self, role: str) -> None:
        """Start a role that was killed, where nobody watches."""
        process = self.cluster.roles[role].process
        assert process is not None
        process.wait()
        self.cluster.roles[role].start()

    def keeper(self, node: str) -> int:
        return int((self.home / "nodes" / node / "keeper.lock").read_text())

    def processes(self, job: int | None = None) -> list[psutil.Process]:
        """Return the living processes of this cluster's jobs, or of *job*."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                env = process.environ()
                ours = env.get("SHUNTER_MEMBER", "").startswith(f"{self.name}:")
                if ours and job in (None, int(env["SHUNTER_JOB_ID"])) and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def incarnation(self, node: str) -> str:
        return next(view.node.incarnation for view in self.client.nodes() if view.node.name == node)

    def joined_anew(self, node: str, before: str) -> str:
        """Wait until *node* has a later incarnation than *before*."""

        def look() -> str | None:
            now = str(self.incarnation(node))
            return now if now > before else None

        return eventually(look, f"{node} joined anew")

    def new_epoch(self, before: int) -> int:
        """Wait until somebody leads with a later epoch than *before*."""

        def look() -> int | None:
            cluster = self.client.cluster()
            return cluster.epoch if cluster.leader and cluster.epoch > before else None

        return eventually(look, "a new leader")

    # events

    def replayed(self) -> Audit:
        """Return the audit of everything that has happened so far."""
        return self.audit.feed(self.client.events(after=self.audit.cursor))


def _plan(text: str) -> NodePlan:
    name, _, gpus = text.partition("=")
    return NodePlan(name, gpus, CPUS)


def psutil_wait(pid: int) -> None:
    """Wait until *pid* is gone or a zombie, whoever its parent is."""

    def dead() -> bool:
        try:
            return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return True

    eventually(dead, f"process {pid} is dead")


@contextlib.contextmanager
def yard_of(
    *nodes: str | NodePlan, watched: bool = True, redis: str | None = None, coordinators: int = 1
) -> Iterator[Yard]:
    """A cluster of *nodes* (such as `n1=simulated:4`), gone after the block, and checked if the block went well."""
    yard = Yard(nodes, watched=watched, redis=redis, coordinators=coordinators)
    try:
        yield yard.up()
        yard.quiet()
    finally:
        yard.close()
