"""A stand-in for the module `pynvml` that gives the answers of known machines and fails on any call not expected.

Names, constants, structures and error classes are the real library's; only the functions that reach the driver are
replaced. Names, memory and bus ids are those that nvidia-smi prints on such machines.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import pynvml

MIB = 1 << 20
RECOVERY_ACTION_FIELD = 230  # nvml.h; the oldest library that is allowed has no name for it
DGX_H100_BUSES = (0x1B, 0x43, 0x52, 0x61, 0x9D, 0xC3, 0xD1, 0xDF)

LOST = pynvml.NVML_ERROR_GPU_IS_LOST
NOT_SUPPORTED = pynvml.NVML_ERROR_NOT_SUPPORTED
FUNCTION_NOT_FOUND = pynvml.NVML_ERROR_FUNCTION_NOT_FOUND


@dataclass
class Card:
    """One device and its answers; *errors* is an NVML error code per function that fails on it.

    Devices with the same *fabric*, if any, are joined by NVLink.
    """

    bus: int
    name: str = "NVIDIA H100 80GB HBM3"
    memory_mib: int = 81_559
    domain: int = 0
    mig: bool = False
    recovery_action: int = 0
    recovery_return: int = pynvml.NVML_SUCCESS
    uncorrected: int = 0
    remapped: tuple[int, int, int, int] = (0, 0, 0, 0)
    processes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    errors: dict[str, int] = field(default_factory=dict)
    lost: bool = False
    fabric: str = "nvswitch"

    @property
    def bus_id(self) -> str:
        return f"{self.domain:08X}:{self.bus:02X}:00.0"

    @property
    def uuid(self) -> str:
        return f"GPU-{self.bus:08x}-0f3a-11ee-be56-0242ac120002"


def dgx_h100() -> list[Card]:
    return [Card(bus) for bus in DGX_H100_BUSES]


def a100_40gb(bus: int) -> Card:
    """An A100 under a driver that does not know the recovery action."""
    return Card(
        bus, name="NVIDIA A100-SXM4-40GB", memory_mib=40_960, recovery_return=pynvml.NVML_ERROR_INVALID_ARGUMENT
    )


def geforce(bus: int) -> Card:
    """A consumer card: no MIG, no ECC, no row remapping, no recovery action."""
    unsupported = dict.fromkeys(
        ("nvmlDeviceGetMigMode", "nvmlDeviceGetTotalEccErrors", "nvmlDeviceGetRemappedRows"), NOT_SUPPORTED
    )
    return Card(
        bus,
        name="NVIDIA GeForce RTX 4090",
        memory_mib=24_564,
        recovery_return=NOT_SUPPORTED,
        errors=unsupported,
        fabric="",
    )


class RecordedNvml(ModuleType):
    """*cards* in the order of the NVML index; *text_as* is how this library version answers with text."""

    def __init__(self, cards: list[Card], *, init_error: int = 0, text_as: Callable[[str], str | bytes] = str) -> None:
        super().__init__("pynvml")
        self.cards = cards
        self.init_error = init_error
        self.text_as = text_as
        self.opened = 0

    def __getattr__(self, name: str) -> Any:
        if name.startswith("nvml") and not isinstance(getattr(pynvml, name), type):
            raise AssertionError(f"{name} is not recorded: a call that nobody expected")
        return getattr(pynvml, name)

    def nvmlInit(self) -> None:  # noqa: N802  the library's name, here and below
        if self.init_error:
            raise pynvml.NVMLError(self.init_error)
        self.opened += 1

    def nvmlShutdown(self) -> None:  # noqa: N802
        self._must_be_open()
        self.opened -= 1

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        self._must_be_open()
        return len(self.cards)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> Card:  # noqa: N802
        return self._reach(self.cards[index], "nvmlDeviceGetHandleByIndex")

    def nvmlDeviceGetHandleByPciBusId(self, pciBusId: str) -> Card:  # noqa: N802, N803
        """Answers for a lost device too, as the driver does once it holds a handle."""
        self._must_be_open()
        for card in self.cards:
            if card.bus_id == pciBusId:
                return card
        raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_FOUND)

    def nvmlDeviceGetPciInfo(self, handle: Card) -> Any:  # noqa: N802
        card = self._reach(handle, "nvmlDeviceGetPciInfo")
        return pynvml.nvmlPciInfo_t(domain=card.domain, bus=card.bus, device=0, busId=card.bus_id.encode())

    def nvmlDeviceGetName(self, handle: Card) -> str | bytes:  # noqa: N802
        return self.text_as(self._reach(handle, "nvmlDeviceGetName").name)

    def nvmlDeviceGetUUID(self, handle: Card) -> str | bytes:  # noqa: N802
        return self.text_as(self._reach(handle, "nvmlDeviceGetUUID").uuid)

    def nvmlDeviceGetMemoryInfo(self, handle: Card) -> Any:  # noqa: N802
        return pynvml.c_nvmlMemory_t(total=self._reach(handle, "nvmlDeviceGetMemoryInfo").memory_mib * MIB)

    def nvmlDeviceGetMigMode(self, device: Card) -> list[int]:  # noqa: N802
        mode = int(self._reach(device, "nvmlDeviceGetMigMode").mig)
        return [mode, mode]

    def nvmlDeviceGetFieldValues(self, handle: Card, fieldIds: list[int]) -> Any:  # noqa: N802, N803
        """Succeeds even for a field that fails: that one carries its own code."""
        self._reach(handle, "nvmlDeviceGetFieldValues")
        if fieldIds != [RECOVERY_ACTION_FIELD]:
            raise AssertionError(f"fields {fieldIds} are not recorded")
        values = (pynvml.c_nvmlFieldValue_t * 1)()
        values[0].nvmlReturn = handle.recovery_return
        values[0].value.uiVal = handle.recovery_action
        return values

    def nvmlDeviceGetTotalEccErrors(self, handle: Card, errorType: int, counterType: int) -> int:  # noqa: N802, N803
        if (errorType, counterType) != (pynvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, pynvml.NVML_VOLATILE_ECC):
            raise AssertionError("only uncorrected errors since the driver was loaded are recorded")
        return self._reach(handle, "nvmlDeviceGetTotalEccErrors").uncorrected

    def nvmlDeviceGetRemappedRows(self, device: Card) -> tuple[int, int, int, int]:  # noqa: N802
        return self._reach(device, "nvmlDeviceGetRemappedRows").remapped

    def nvmlDeviceGetP2PStatus(self, device1: Card, device2: Card, p2pIndex: int) -> int:  # noqa: N802, N803
        if p2pIndex != pynvml.NVML_P2P_CAPS_INDEX_NVLINK:
            raise AssertionError("only NVLink is recorded")
        first, second = (self._reach(card, "nvmlDeviceGetP2PStatus") for card in (device1, device2))
        if first.fabric and first.fabric == second.fabric:
            return int(pynvml.NVML_P2P_STATUS_OK)
        return int(pynvml.NVML_P2P_STATUS_NOT_SUPPORTED)

    def nvmlDeviceGetComputeRunningProcesses_v3(self, handle: Card) -> list[Any]:  # noqa: N802
        return self._processes(handle, "Compute", "v3")

    def nvmlDeviceGetComputeRunningProcesses_v2(self, handle: Card) -> list[Any]:  # noqa: N802
        return self._processes(handle, "Compute", "v2")

    def nvmlDeviceGetGraphicsRunningProcesses_v3(self, handle: Card) -> list[Any]:  # noqa: N802
        return self._processes(handle, "Graphics", "v3")

    def nvmlDeviceGetGraphicsRunningProcesses_v2(self, handle: Card) -> list[Any]:  # noqa: N802
        return self._processes(handle, "Graphics", "v2")

    def nvmlDeviceGetMPSComputeRunningProcesses_v3(self, handle: Card) -> list[Any]:  # noqa: N802
        return self._processes(handle, "MPSCompute", "v3")

    def nvmlDeviceGetMPSComputeRunningProcesses_v2(self, handle: Card) -> list[Any]:  # noqa: N802
        return self._processes(handle, "MPSCompute", "v2")

    def _processes(self, handle: Card, kind: str, version: str) -> list[Any]:
        card = self._reach(handle, f"nvmlDeviceGet{kind}RunningProcesses_{version}")
        infos = [pynvml.c_nvmlProcessInfo_v3_t(pid=pid, usedGpuMemory=MIB) for pid in card.processes.get(kind, ())]
        return [pynvml.nvmlStructToFriendlyObject(info) for info in infos]

    def _reach(self, card: Card, function: str) -> Card:
        self._must_be_open()
        if code := card.errors.get(function, LOST if card.lost else 0):
            raise pynvml.NVMLError(code)
        return card

    def _must_be_open(self) -> None:
        if not self.opened:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_UNINITIALIZED)
