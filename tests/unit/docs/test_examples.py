"""The examples are valid: the job file as a specification, the scripts as Python that runs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import yaml

from shunter.domain.job import JobSpec

EXAMPLES = Path(__file__).parents[3] / "examples"


def test_the_job_file_is_a_specification() -> None:
    spec = msgspec.convert(yaml.safe_load((EXAMPLES / "job.yaml").read_text()), JobSpec)
    assert spec.name == "hello"
    assert (spec.script or "").startswith("#!/bin/sh")


def test_the_resuming_example_goes_on_where_it_was_stopped(tmp_path: Path) -> None:
    (tmp_path / "count").write_text("100")
    env = os.environ | {"SHUNTER_CHECKPOINT_DIR": str(tmp_path), "SHUNTER_ATTEMPT": "2"}
    with subprocess.Popen([sys.executable, EXAMPLES / "resume.py"], env=env, stdout=subprocess.PIPE, text=True) as job:
        assert job.stdout is not None
        assert job.stdout.readline() == "attempt 2 begins at 100\n"
        job.send_signal(signal.SIGTERM)
        said = next(line for line in job.stdout if not line.startswith("step "))
        assert said.startswith("asked to stop at ")
        assert job.wait(20) == 143
    assert 100 <= int((tmp_path / "count").read_text()) < 1_000
