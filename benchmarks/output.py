"""JSON lines on stdout (and in a file), progress for people on stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from benchmarks.stats import by_repetition, summary


class BenchmarkFailed(Exception):
    """What was measured is not what was meant to be measured: no figure of this run counts."""


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


class Output:
    """Every line is one JSON object: first the machine, then figures. *common* stands in each figure of a benchmark."""

    def __init__(self, benchmark: str, file: IO[str] | None = None) -> None:
        self._benchmark = benchmark
        self._file = file

    def line(self, fields: Mapping[str, Any]) -> None:
        text = json.dumps(fields)
        print(text, flush=True)
        if self._file is not None:
            print(text, file=self._file, flush=True)

    def figure(self, name: str, unit: str, samples: Sequence[float], **more: Any) -> None:
        """A figure from *samples*; *more* says under which conditions."""
        self.line({"benchmark": self._benchmark, "figure": name, "unit": unit, **summary(samples), **more})

    def repeated(self, name: str, unit: str, rounds: Sequence[Sequence[float]], **more: Any) -> None:
        """A figure from the samples of several repetitions: over all of them, and the spread between them."""
        together = [sample for samples in rounds for sample in samples]
        self.figure(name, unit, together, repetitions=len(rounds), **by_repetition(rounds), **more)

    def failed(self, name: str, error: str) -> None:
        self.line({"benchmark": self._benchmark, "figure": name, "error": error})


def open_output(benchmark: str, path: str | None) -> Output:
    return Output(benchmark, Path(path).open("w") if path else None)
