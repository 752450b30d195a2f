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
_SIMULATED: Final = re.compile(
    r"simulated:(?P<count>[0-9]{1,6})(?:/(?P<island>[0-9]{1,6}))?(?::(?P<model>[A-Za-z0-9][A-Za-z0-9._-]{0,62}))?"
)
WITHOUT_GPU: Final = "use --gpus simulated:8 to try Shunter without one, or --gpus none for a node that runs CPU jobs"


def open_source(text: str, *, node: str = "") -> GpuSource:
    """Open the GPUs that *text* names: `nvml`, `simulated:N` (N from 1 to 64), `none`, or `auto` (nvml or an error).

    `simulated:8/4` has islands of four, `simulated:8:A100` a model, `simulated:8/4:A100` both. *node* only makes the
    UUIDs of simulated devices; empty: the host name. Raises InvalidInput for any other text, and SetupError if the
    NVIDIA driver can not be used. The caller closes the source.
    """
    if text == "nvml":
        return NvmlSource()
    if text == "auto":
        return _nvml_or_advice()
    if text == "none":
        return NoGpus()
    if simulated := _SIMULATED.fullmatch(text):
        count = _simulated_count(int(simulated["count"]))
        island = _island_size(simulated["island"], count)
        return SimulatedSource(count, island=island, model=simulated["model"] or "", node=node)
    raise InvalidInput(
        f"gpus: expected auto, nvml, simulated:N or none, got {text[:40]!r}",
        field="gpus",
        fix="use for example --gpus simulated:8, simulated:8/4 (islands of 4) or simulated:8/4:A100 (of this model)",
    )


def _island_size(text: str | None, count: int) -> int:
    """Return how many devices an island has, 0 for all."""
    size = count if text is None else int(text)
    if not 1 <= size <= count:
        raise InvalidInput(
            f"gpus: expected islands of 1 to {count} GPUs, got {size}",
            field="gpus",
            fix=f"use simulated:{count}/{count}",
        )
    return 0 if text is None else size


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
