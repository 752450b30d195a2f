"""Whether a real GPU may be given to a job, from the driver's own flags.

At most six driver calls per device, no events and no state. The driver's *recovery action* is asked first: it is
NVIDIA's verdict on every fault since the last reset, uncorrectable memory errors included, and `none` means that "the
GPU can be immediately used again by starting a new GPU process". Only where a driver or device does not know it does
the count of uncorrectable ECC errors since the driver was loaded decide. A row remapping that waits for a reset is no
problem: "new workloads can be launched". One that failed is: the memory has no spare rows left.
Source: NVIDIA GPU Memory Error Management, "Error Recovery and Response Flags".
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any, Final

RECOVERY_ACTION_FIELD: Final = 230
"""NVML_FI_DEV_GET_GPU_RECOVERY_ACTION in nvml.h; the oldest nvidia-ml-py that is allowed has no name for it."""

RECOVERY_ACTIONS: Final = {
    0: "",
    1: "needs a reset: stop the node worker, run nvidia-smi --gpu-reset",
    2: "needs a reboot of this machine",
    3: "waits until all traffic between GPUs has stopped: drain this node",
    4: "needs a reset after a drain: stop the node worker, run nvidia-smi --gpu-reset",
    5: "",  # Recover the IMEX domain: about memory shared between machines; this GPU itself works.
    6: "needs a reset of its PCI bus: reboot this machine",
    7: "needs a reboot of this machine",
}
"""nvmlDeviceGpuRecoveryAction_t in nvml.h."""


def problem_of(nvml: ModuleType, bus_id: str) -> str:
    """Return why the device at this PCI bus id must not be used, with what to do; empty if it may be."""
    try:
        handle = nvml.nvmlDeviceGetHandleByPciBusId(bus_id)
        # A handle can come from a cache; memory is asked of the driver, so a lost device is noticed without ECC too.
        ask(nvml, nvml.nvmlDeviceGetMemoryInfo, handle)
        return _mig(nvml, handle) or _fault(nvml, handle) or _remapping(nvml, handle)
    except nvml.NVMLError as error:
        return _failure(nvml, error)


def ask(nvml: ModuleType, call: Callable[..., Any], *arguments: object) -> Any | None:
    """Return the driver's answer; None if this device, driver or user has none to give.

    Raises NVMLError for everything else: the device is in trouble.
    """
    try:
        return call(*arguments)
    except nvml.NVMLError as error:
        if error.value in _no_answer(nvml):
            return None
        raise


def _no_answer(nvml: ModuleType) -> tuple[int, ...]:
    return (
        nvml.NVML_ERROR_NOT_SUPPORTED,
        nvml.NVML_ERROR_FUNCTION_NOT_FOUND,
        nvml.NVML_ERROR_NO_PERMISSION,
        nvml.NVML_ERROR_NO_DATA,
        nvml.NVML_ERROR_VGPU_ECC_NOT_SUPPORTED,
    )


def _mig(nvml: ModuleType, handle: Any) -> str:
    mode = ask(nvml, nvml.nvmlDeviceGetMigMode, handle)
    if mode is None or mode[0] != nvml.NVML_DEVICE_MIG_ENABLE:
        return ""
    return "MIG mode is on, which Shunter does not support yet: turn it off with nvidia-smi --multi-instance-gpu=0"


def _fault(nvml: ModuleType, handle: Any) -> str:
    action = _field(nvml, handle, RECOVERY_ACTION_FIELD)
    if action is not None:
        return RECOVERY_ACTIONS.get(action, f"needs recovery action {action}: see nvidia-smi -q")
    errors = ask(
        nvml,
        nvml.nvmlDeviceGetTotalEccErrors,
        handle,
        nvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED,
        nvml.NVML_VOLATILE_ECC,
    )
    return f"{errors} uncorrectable memory errors: reboot this machine, or reset the GPU" if errors else ""


def _field(nvml: ModuleType, handle: Any, field: int) -> int | None:
    """Return one unsigned field of the device; None if it has none. The call can succeed while the field fails."""
    values = ask(nvml, nvml.nvmlDeviceGetFieldValues, handle, [field])
    if values is None or values[0].nvmlReturn in (*_no_answer(nvml), nvml.NVML_ERROR_INVALID_ARGUMENT):
        return None
    if values[0].nvmlReturn != nvml.NVML_SUCCESS:
        raise nvml.NVMLError(values[0].nvmlReturn)
    return int(values[0].value.uiVal)


def _remapping(nvml: ModuleType, handle: Any) -> str:
    rows = ask(nvml, nvml.nvmlDeviceGetRemappedRows, handle)
    if rows is None:
        return ""
    _, _, _, failed = rows
    return "bad memory that can not be remapped any more: replace the GPU" if failed else ""


def _failure(nvml: ModuleType, error: Any) -> str:
    """Return what an NVMLError from a device means."""
    if error.value == nvml.NVML_ERROR_GPU_IS_LOST:
        return "GPU is lost: it fell off the PCI bus; reboot this machine"
    if error.value == nvml.NVML_ERROR_RESET_REQUIRED:
        return RECOVERY_ACTIONS[1]
    return f"does not answer: {error}; see dmesg for Xid errors"
