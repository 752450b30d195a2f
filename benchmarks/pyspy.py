"""py-spy around one role while a benchmark runs: where its time goes. Needs `pip install py-spy`, and mostly root.

Of the roles that wait for others only the samples that hold Python's lock count: where their CPU time goes. A keeper
has one thread, and while it waits for a fork or for the disk all of its jobs wait: there every sample but sleep counts.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from benchmarks.output import BenchmarkFailed

ROLES = ("gateway", "coordinator", "nodes", "keepers")


class Share(NamedTuple):
    """A function and the part of the samples, 0 to 1, in which it ran itself, or it or what it called."""

    function: str
    own: float
    total: float


ASLEEP = "select (selectors.py"


def top(collapsed: Iterable[str], most: int = 30) -> list[Share]:
    """Return the functions of collapsed stacks (`a;b;c 12` a line), those with the largest total first."""
    own: Counter[str] = Counter()
    total: Counter[str] = Counter()
    for line in collapsed:
        stack, _, count = line.rpartition(" ")
        frames = stack.split(";")
        if stack and count.isdigit() and ASLEEP not in frames[-1]:
            own[frames[-1]] += int(count)
            for frame in set(frames):
                total[frame] += int(count)
    samples = sum(own.values()) or 1
    ranked = sorted(total, key=lambda frame: (-total[frame], frame))
    return [Share(frame, own[frame] / samples, total[frame] / samples) for frame in ranked[:most]]


class Recorder:
    """Samples one process from `start()` to `stop()` into *file*, as collapsed stacks."""

    def __init__(self, role: str, pid: int, file: Path) -> None:
        beside = Path(sys.executable).with_name("py-spy")
        found = str(beside) if beside.exists() else shutil.which("py-spy")
        if found is None:
            raise BenchmarkFailed("--profile needs py-spy: pip install py-spy")
        self.file = file
        self._argv = [
            found, "record", "--pid", str(pid), "--format", "raw", "--rate", "200", "--output", str(file),
            "--duration", "unlimited", "--function", *([] if role == "keepers" else ["--gil"]),
        ]  # fmt: skip
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(
            self._argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            start_new_session=True,
        )  # fmt: skip

    def stop(self) -> list[Share]:
        """End the recording and return the top functions."""
        assert self._process is not None
        self._process.send_signal(signal.SIGINT)
        _, said = self._process.communicate(timeout=60)
        if not self.file.exists():
            raise BenchmarkFailed(f"py-spy: {said.decode(errors='replace').strip()}")
        return top(self.file.read_text().splitlines())
