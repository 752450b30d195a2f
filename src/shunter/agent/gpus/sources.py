"""From the text of `--gpus` to an open source."""

from __future__ import annotations

import re
from typing import Final

from shunter.agent.gpus.none import NoGpus
from shunter.agent.gpus.nvml import NvmlSource
from shunter.agent.gpus.port import GpuSource
from shunter.agent.gpus.simulated import SimulatedSource
from shunter.errors import InvalidInput, SetupError

MOST_SIMULATED: Final = 64
WITHOUT_GPU: Final = "use --gpus simulated:8 to try Shunter without one, or --gpus none for a node that runs CPU jobs"


def open_source(text: str, *, node: str = "") -> GpuSource:
    """Open the GPUs that *text* names: `nvml`, `simulated:N` (N from 1 to 64), `none`, or `auto` (nvml or an error).

    *node* only makes the UUIDs of simulated devices; empty: the host name. Raises InvalidInput for any other text, and
    SetupError if the NVIDIA driver can not be used. The caller closes the source.
    """
    if text == "nvml":
        return NvmlSource()
    if text == "auto":
        return _nvml_or_advice()
    if text == "none":
        return NoGpus()
    if simulated := re.fullmatch(r"simulated:([0-9]{1,6})", text):
        return SimulatedSource(_simulated_count(int(simulated[1])), node=node)
    raise InvalidInput(
        f"gpus: expected auto, nvml, simulated:N or none, got {text[:40]!r}",
        field="gpus",
        fix="use for example --gpus simulated:8",
    )


def _simulated_count(count: int) -> int:
    if count == 0:
        raise InvalidInput("gpus: expected at least 1 simulated GPU, got 0", field="gpus", fix="use --gpus none")
    if count > MOST_SIMULATED:
        raise InvalidInput(
            f"gpus: expected 1 to {MOST_SIMULATED} simulated GPUs per node, got {count}",
            field="gpus",
            fix=f"use --gpus simulated:{MOST_SIMULATED}, and start more nodes",
        )
    return count


def _nvml_or_advice() -> GpuSource:
    """Open NVML; where it can not be, say so with the ways on without a GPU before the way to repair it."""
    try:
        return NvmlSource()
    except SetupError as error:
        raise SetupError(
            f"no NVIDIA GPU found on this machine ({error.message})",
            field="gpus",
            fix=f"{WITHOUT_GPU}; if it has one, {error.fix}",
        ) from error
