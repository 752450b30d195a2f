"""Which devices are joined by NVLink, from what the driver says of each pair."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any


def nvlink_islands(nvml: ModuleType, bus_ids: Sequence[str]) -> tuple[int, ...]:
    """Return the island of each device; an empty bus id is a device that does not answer.

    Through an NVSwitch every pair counts as joined. Where the driver knows no NVLink at all, all devices are one island
    (they share the PCIe of one machine, and telling them apart would only refuse jobs); else one without is its own.
    """

    def joined(first: int, second: int) -> bool:
        return _joined(nvml, bus_ids[first], bus_ids[second])

    found = components(len(bus_ids), joined)
    return found if len(set(found)) < len(found) else (0,) * len(found)


def components(count: int, joined: Callable[[int, int], bool]) -> tuple[int, ...]:
    """Return the connected component of each of *count* things, numbered in the order of their first members."""
    first = list(range(count))  # of each component, its lowest member
    for one in range(count):
        for other in range(one):
            if first[one] != first[other] and joined(other, one):
                low, high = sorted((first[one], first[other]))
                first = [low if at == high else at for at in first]
    numbers = {at: number for number, at in enumerate(sorted(set(first)))}
    return tuple(numbers[at] for at in first)


def _joined(nvml: ModuleType, first: str, second: str) -> bool:
    """Whether NVLink joins the devices at these PCI bus ids; a pair that the driver does not answer for is not."""
    if not first or not second:
        return False
    try:
        handles: list[Any] = [nvml.nvmlDeviceGetHandleByPciBusId(bus_id) for bus_id in (first, second)]
        status = nvml.nvmlDeviceGetP2PStatus(*handles, nvml.NVML_P2P_CAPS_INDEX_NVLINK)
    except nvml.NVMLError:
        return False
    return bool(status == nvml.NVML_P2P_STATUS_OK)
