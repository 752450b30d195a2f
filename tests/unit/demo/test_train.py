"""The demo's training script, run as the demo runs it: as a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("sklearn", reason="the demo's training needs shunter[demo]")


def start(folder: Path, *argv: str, gpus: str = "0") -> subprocess.Popen[str]:
    environment = os.environ | {"SHUNTER_CHECKPOINT_DIR": str(folder), "CUDA_VISIBLE_DEVICES": gpus}
    return subprocess.Popen(
        [sys.executable, "-m", "shunter.demo.train", *argv],
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def trained(folder: Path, *argv: str, gpus: str = "0") -> tuple[int, str]:
    """Return the exit status and all output of a finished run."""
    process = start(folder, *argv, gpus=gpus)
    output, _ = process.communicate(timeout=60)
    return process.returncode, output


def test_a_second_run_goes_on_where_the_first_ended_and_comes_to_the_same_end(tmp_path: Path) -> None:
    status, output = trained(tmp_path / "two", "--epochs", "2", "--seed", "3", gpus="0,1")
    assert status == 0
    assert "epoch 2/2" in output
    status, output = trained(tmp_path / "two", "--epochs", "4", "--seed", "3", gpus="0,1")
    assert status == 0
    assert "resumed after epoch 2" in output
    assert "epoch 2/4" not in output
    _, unbroken = trained(tmp_path / "one", "--epochs", "4", "--seed", "3", gpus="0,1")
    assert output.splitlines()[-3:] == unbroken.splitlines()[-3:]
    result = json.loads((tmp_path / "two" / "result.json").read_text())
    assert output.splitlines()[-1] == f"accuracy={result['accuracy']:.4f}"
    assert result == {"accuracy": result["accuracy"], "epochs": 4, "members": 2}
    assert result["accuracy"] > 0.9
    assert sorted(path.name for path in (tmp_path / "two").iterdir()) == ["checkpoint.pkl", "result.json"]


def test_sigterm_leaves_a_checkpoint_and_143(tmp_path: Path) -> None:
    process = start(tmp_path, "--epochs", "100000")
    assert process.stdout is not None
    while not (line := process.stdout.readline()).startswith("epoch 2/"):
        assert line, "it ended before its second epoch"
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGTERM)  # impatience must not cost the checkpoint
    rest, _ = process.communicate(timeout=20)
    assert process.returncode == 143
    assert "stopped by SIGTERM" in rest
    _, output = trained(tmp_path, "--epochs", "3")
    assert "resumed after epoch" in output
    assert output.splitlines()[-1].startswith("accuracy=0.9")


def test_an_absurd_step_size_diverges_at_once(tmp_path: Path) -> None:
    status, output = trained(tmp_path, "--lr", "50", "--epochs", "20")
    assert status == 3
    assert output.splitlines()[-1].startswith("loss diverged")
    assert not (tmp_path / "result.json").exists()
