"""From a claimed attempt to the keeper's request: environment, folders, and the script if the job came with one."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Final

import fsspec
import msgspec

from shunter.agent.environment import build_start, member_env
from shunter.agent.gpus.port import GpuSource
from shunter.agent.keeper.protocol import Start
from shunter.agent.supervisor import Attempt
from shunter.domain.job import Launch
from shunter.domain.outcome import FailureClass
from shunter.runtime.folders import jobs_folder

_PASSED_ON: Final = ("PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "TZ", "TMPDIR", "SHELL")
"""What a job gets of the node's own environment; everything else it brings along."""


class LaunchRefused(Exception):
    """The attempt cannot be handed to the keeper."""

    def __init__(self, message: str, failure: FailureClass) -> None:
        super().__init__(message)
        self.failure = failure


class Launcher:
    """*storage* is the folder that jobs write to, *data_set* tells whose jobs they are; *addresses* gives other nodes'
    addresses, for gangs."""

    def __init__(self, *, cluster: str, storage: Path, source: GpuSource, data_set: Callable[[], str]) -> None:
        self._cluster = cluster
        self._storage = storage
        self._data_set = data_set
        self._source = source
        self.addresses: dict[str, str] = {}

    def request(self, attempt: Attempt) -> Start:
        """Return what to ask the keeper. Raises LaunchRefused when the attempt's files cannot be made."""
        launch = attempt.launch
        assert launch is not None
        env = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
        env |= launch.env
        env |= self._source.environment(attempt.allocation.shares[attempt.rank].gpus)
        env |= member_env(
            attempt.job,
            attempt.allocation,
            attempt.number,
            attempt.rank,
            cluster=self._cluster,
            retries=attempt.record.phase.retries,
            addresses=self.addresses,
        )
        start = build_start(
            attempt.job,
            launch,
            attempt.allocation,
            attempt.number,
            attempt.rank,
            env=env,
            jobs=jobs_folder(PurePosixPath(self._storage), self._cluster, self._data_set()),
        )
        try:
            Path(start.folder).mkdir(parents=True, exist_ok=True)
            Path(start.env["SHUNTER_CHECKPOINT_DIR"]).mkdir(parents=True, exist_ok=True)
            if launch.script is not None or launch.script_ref is not None:
                return msgspec.structs.replace(start, argv=self._write_script(launch, start))
        except OSError as error:
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            raise LaunchRefused(
                f"cannot write to the job's folder {start.folder}: {error.strerror or error}",
                FailureClass.DISK_FULL if full else FailureClass.LAUNCH_FAILED,
            ) from error
        return start

    def _write_script(self, launch: Launch, start: Start) -> list[str]:
        if launch.script is not None:
            text = launch.script.encode()
        else:
            with fsspec.open(str(launch.script_ref), "rb") as file:
                text = file.read()
        path = Path(start.folder) / f"script.{start.rank}"
        path.write_bytes(text)
        path.chmod(0o700)
        interpreter = [] if text.startswith(b"#!") else ["/bin/sh"]
        return [*interpreter, str(path), *launch.argv]
