"""Train a digit classifier, one ensemble member per GPU: a job script as a user would write it.

It knows nothing of Shunter but two environment variables: `CUDA_VISIBLE_DEVICES` (as many members as GPUs) and
`SHUNTER_CHECKPOINT_DIR` (where to save, and where to go on from after a restart). Run it anywhere:

    python -m shunter.demo.train --hidden 64 --lr 0.01 --epochs 12 --seed 3

Exit statuses: 0 trained, 3 the loss diverged, 143 stopped by SIGTERM with a checkpoint written.
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import signal
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# One thread per process, or eight runs with a pool each would fight for the cores. numpy reads these once, at import.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
from sklearn.datasets import load_digits
from sklearn.neural_network import MLPClassifier

DIGITS = np.arange(10)
BATCH = 32  # images per step
VALIDATION = 360  # of 1797 images, the same ones for every run, so that accuracies compare
LOSS_LIMIT = 10 * np.log(len(DIGITS))  # ten times the loss of a blind guess: no sane run comes near it
DIVERGED, TERMINATED = 3, 128 + signal.SIGTERM


@dataclass(frozen=True)
class Settings:
    """What decides the weights. *lr* is Adam's step size; *members* is the size of the ensemble, one per GPU."""

    hidden: int
    lr: float
    seed: int
    members: int


@dataclass
class State:
    """What a checkpoint holds. *epoch* counts finished epochs; *losses* are those of the unfinished one, by step."""

    settings: Settings
    members: list[Any]
    epoch: int = 0
    losses: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Data:
    """Images as rows of 64 brightnesses, 0 to 1, and their digits, 0 to 9."""

    images: Any
    digits: Any
    validation_images: Any
    validation_digits: Any


def load_data() -> Data:
    """Return scikit-learn's digits, split the same way every time."""
    images, digits = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(digits))
    images, digits = images[order] / 16, digits[order]
    return Data(images[VALIDATION:], digits[VALIDATION:], images[:VALIDATION], digits[:VALIDATION])


def gpu_count() -> int:
    """Return how many GPUs this process was given; 1 where nobody says."""
    return len([gpu for gpu in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if gpu.strip()]) or 1


def save(state: State, folder: Path) -> None:
    """Replace the checkpoint in *folder* by *state*, whole or not at all: a reader never sees half a file."""
    temporary = folder / f"checkpoint.{os.getpid()}.tmp"
    temporary.write_bytes(pickle.dumps(vars(state) | {"settings": vars(state.settings)}))
    temporary.replace(folder / "checkpoint.pkl")


def restore(settings: Settings, folder: Path | None) -> State:
    """Return where an earlier attempt with the same *settings* left off, else a fresh start."""
    path = folder / "checkpoint.pkl" if folder else None
    if path and path.exists():
        saved = pickle.loads(path.read_bytes())
        if saved["settings"] == vars(settings):
            print(f"resumed after epoch {saved['epoch']}, step {len(saved['losses'])} from {path}", flush=True)
            return State(**(saved | {"settings": settings}))
    seeds = [1000 * settings.seed + number for number in range(settings.members)]
    members = [MLPClassifier((settings.hidden,), learning_rate_init=settings.lr, random_state=seed) for seed in seeds]
    return State(settings, members)


class Stop:
    """True once SIGTERM has come. The training loop asks before every step, so it stops within milliseconds."""

    def __init__(self) -> None:
        self.asked = False
        signal.signal(signal.SIGTERM, self._ask)

    def _ask(self, *_: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second one must not kill the process while it saves and exits
        self.asked = True

    def __bool__(self) -> bool:
        return self.asked


def finish_epoch(state: State, data: Data, stop: Stop) -> float | None:
    """Train to the end of the epoch that *state* is in and return its mean loss; None when stopped on the way.

    The batches follow from seed and epoch alone, so that a resumed run takes the very steps that it would have taken.
    """
    order = np.random.default_rng((state.settings.seed, state.epoch)).permutation(len(data.digits))
    batches = np.array_split(order, len(order) // BATCH)
    for batch in batches[len(state.losses) :]:
        if stop:
            return None
        for member in state.members:
            member.partial_fit(data.images[batch], data.digits[batch], classes=DIGITS)
        state.losses.append(float(np.mean([member.loss_ for member in state.members])))
    loss = float(np.mean(state.losses))
    state.epoch, state.losses = state.epoch + 1, []
    return loss


def accuracy(state: State, data: Data) -> float:
    """Return the share of validation images, 0 to 1, that the members get right by their mean probabilities."""
    probabilities = np.mean([member.predict_proba(data.validation_images) for member in state.members], axis=0)
    return float(np.mean(DIGITS[probabilities.argmax(axis=1)] == data.validation_digits))


def train(state: State, data: Data, *, epochs: int, folder: Path | None) -> int:
    """Train until *epochs* are done, with a checkpoint in *folder* after each, and return the exit status."""
    stop = Stop()
    while state.epoch < epochs:
        loss = finish_epoch(state, data, stop)
        if loss is None:
            if folder:
                save(state, folder)
            print(f"stopped by SIGTERM in epoch {state.epoch + 1}", flush=True)
            return TERMINATED
        if not np.isfinite(loss) or loss > LOSS_LIMIT:
            print(f"loss diverged: {loss:.4g} after epoch {state.epoch}, lr {state.settings.lr:g}", file=sys.stderr)
            return DIVERGED
        print(f"epoch {state.epoch}/{epochs}  loss {loss:.4f}  accuracy {accuracy(state, data):.4f}", flush=True)
        if folder:
            save(state, folder)
    result = {"accuracy": round(accuracy(state, data), 4), "epochs": state.epoch, "members": len(state.members)}
    if folder:
        (folder / "result.json").write_text(json.dumps(result) + "\n")
    print(f"accuracy={result['accuracy']:.4f}", flush=True)
    return 0


def main() -> int:
    """Read the command line and the environment, train, and return the exit status."""
    parser = argparse.ArgumentParser(description="Train a digit classifier, one ensemble member per GPU.")
    parser.add_argument("--hidden", type=int, default=64, help="hidden units of each member")
    parser.add_argument("--lr", type=float, default=0.01, help="Adam's step size")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    folder = Path(os.environ["SHUNTER_CHECKPOINT_DIR"]) if os.environ.get("SHUNTER_CHECKPOINT_DIR") else None
    if folder:
        folder.mkdir(parents=True, exist_ok=True)
    settings = Settings(hidden=asked.hidden, lr=asked.lr, seed=asked.seed, members=gpu_count())
    print(f"training {settings.members} x {settings.hidden} hidden units, lr {settings.lr:g}", flush=True)
    return train(restore(settings, folder), load_data(), epochs=asked.epochs, folder=folder)


if __name__ == "__main__":
    sys.exit(main())
