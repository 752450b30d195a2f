"""The runs of the demo: a sweep over width, step size and ensemble size; one run diverges and one is to be cancelled.

They are in the order of submission. The first seven fill the eight GPUs, the others queue: together they ask for 38.
A run takes 1 to 3 s on a core of its own, 45 s all together; the one to be cancelled would take 100 s more.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

Purpose = Literal["train", "fails", "cancelled"]
Priority = Literal["high", "medium", "low"]


class Run(Struct, frozen=True):
    """One training job. *argv* follows `python -m shunter.demo.train`; *purpose* is how the run is meant to end."""

    name: str
    argv: tuple[str, ...]
    gpus: Literal[1, 2, 4]
    priority: Priority
    purpose: Purpose = "train"


def _run(
    hidden: int,
    lr: float,
    gpus: Literal[1, 2, 4],
    priority: Priority,
    *,
    epochs: int,
    seed: int = 0,
    purpose: Purpose = "train",
) -> Run:
    """Return a run named after what sets it apart: width, step size, and what is unusual about it."""
    name = f"mlp-{hidden}-lr{lr:g}" + (f"-x{gpus}" if gpus > 1 else "") + (f"-seed{seed}" if seed else "")
    name += f"-{epochs}ep" if epochs >= 100 else ""
    argv = ("--hidden", str(hidden), "--lr", f"{lr:g}", "--epochs", str(epochs), "--seed", str(seed))
    return Run(name, argv, gpus, priority, purpose)


RUNS: tuple[Run, ...] = (
    _run(64, 0.003, 1, "low", epochs=2000, purpose="cancelled"),
    _run(32, 0.01, 1, "low", epochs=24),
    _run(64, 0.01, 1, "low", epochs=28),
    _run(64, 50, 1, "medium", epochs=20, purpose="fails"),
    _run(128, 0.003, 2, "medium", epochs=14),
    _run(128, 0.01, 1, "medium", epochs=26),
    _run(32, 0.03, 1, "low", epochs=24),
    _run(64, 0.01, 4, "medium", epochs=8),
    _run(256, 0.003, 2, "high", epochs=12),
    _run(64, 0.03, 1, "low", epochs=24),
    _run(128, 0.01, 4, "high", epochs=9),
    _run(128, 0.03, 1, "low", epochs=20),
    _run(64, 0.01, 1, "medium", epochs=28, seed=1),
    _run(256, 0.01, 2, "medium", epochs=14),
    _run(32, 0.003, 1, "low", epochs=30),
    _run(256, 0.003, 4, "medium", epochs=7),
    _run(128, 0.003, 4, "high", epochs=9),
    _run(64, 0.03, 2, "low", epochs=14),
    _run(32, 0.01, 2, "high", epochs=14),
    _run(256, 0.001, 2, "medium", epochs=14),
)
