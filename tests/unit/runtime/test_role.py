"""A role started as a module says what is wrong in one line, as the command line does."""

from __future__ import annotations

import subprocess
import sys


def test_a_role_with_a_bad_option_ends_with_one_line_and_its_exit_code() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "shunter.agent", "--gpus", "bogus"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "shunter: gpus: expected auto, nvml, simulated:N or none, got 'bogus'; use for example --gpus simulated:8, "
        "simulated:8/4 (islands of 4) or simulated:8/4:A100 (of this model)"
    ]
