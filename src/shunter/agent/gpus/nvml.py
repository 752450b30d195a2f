"""Real NVIDIA GPUs, through NVML, the driver's management library (nvidia-ml-py).

Which device an index means. The NVML index is not used: NVML "has no guarantees of consistency between reboots" for
it, and it "may not correlate with other APIs, such as the CUDA device index" (NVML API Reference,
nvmlDeviceGetHandleByIndex_v2). Devices are sorted by PCI domain, bus and device when the source is opened, which is how
CUDA numbers them under CUDA_DEVICE_ORDER=PCI_BUS_ID, and looked up by bus id from then on, as the reference advises.

How a job is told. While every device is healthy a job gets indexes, which every framework reads. Once one is not, CUDA
may leave it out and number the rest anew, and a MIG device has no plain number either: an index could then mean a GPU
that another job holds. From there on jobs get UUIDs, which always mean the same device.

The driver stays open as long as the source: so `nvidia-smi --gpu-reset` needs the node worker to be stopped first.
"""

from __future__ import annotations

import contextlib
import importlib
from types import ModuleType
from typing import Any, Final

from msgspec import Struct

from shunter.agent.gpus.islands import nvlink_islands
from shunter.agent.gpus.nvml_health import ask, problem_of
from shunter.agent.gpus.port import check_index, cuda_environment
from shunter.domain.node import Gpu
from shunter.errors import SetupError, Unavailable

BYTES_PER_MIB: Final = 1 << 20
PROCESS_KINDS: Final = ("Compute", "Graphics", "MPSCompute")

BusKey = tuple[int, ...]
"""PCI (domain, bus, device); empty if unknown."""


class Device(Struct, frozen=True):
    """What never changes about one device; *silent* says why it did not answer when the source was opened."""

    bus_id: str = ""
    model: str = "unknown"
    uuid: str = ""
    memory_mib: int = 0
    silent: str = ""


class NvmlSource:
    """The GPUs of this machine that the driver shows to this process (in a container: those it was given).

    A device that did not answer at the start has no known identity: it stays unhealthy until the node worker restarts.
    One that is lost later and comes back is healthy again at the next inventory. *memory_mib* is 0 where the driver
    does not say (GPUs that share the memory of the CPU).
    """

    name = "nvml"

    def __init__(self, library: ModuleType | None = None) -> None:
        """Open the driver. *library* stands for the module `pynvml`. Raises SetupError if there is no usable GPU."""
        self._nvml = library or _load_library()
        self._open = False
        self._all_healthy = False
        try:
            self._nvml.nvmlInit()
            self._open = True
            self._devices = _devices_in_bus_order(self._nvml)
            self._islands = nvlink_islands(self._nvml, [device.bus_id for device in self._devices])
        except self._nvml.NVMLError as error:
            self.close()
            raise _setup_error(self._nvml, error) from error
        if not self._devices:
            self.close()
            raise SetupError(
                "the NVIDIA driver runs but shows no GPU",
                field="gpus",
                fix="check with nvidia-smi that this user or container was given one",
            )
        self.inventory()

    def inventory(self) -> tuple[Gpu, ...]:
        gpus = tuple(self._look(index, device) for index, device in enumerate(self._devices))
        self._all_healthy = all(gpu.healthy for gpu in gpus)
        return gpus

    def environment(self, indexes: tuple[int, ...]) -> dict[str, str]:
        for index in indexes:
            check_index(index, len(self._devices))
        if self._all_healthy:
            return cuda_environment(map(str, indexes))
        return cuda_environment(self._uuid(index) for index in indexes)

    def users(self, index: int) -> tuple[int, ...]:
        """As the port says. The pids are those of the machine: inside a pid namespace they mean nothing."""
        check_index(index, len(self._devices))
        device = self._devices[index]
        if device.silent:
            return ()
        try:
            handle = self._nvml.nvmlDeviceGetHandleByPciBusId(device.bus_id)
            pids = {process.pid for kind in PROCESS_KINDS for process in self._processes(kind, handle)}
        except self._nvml.NVMLError as error:
            if error.value == self._nvml.NVML_ERROR_GPU_IS_LOST:
                return ()
            raise Unavailable(f"GPU {index} did not say who uses it: {error}", field="gpus", fix="ask again") from error
        return tuple(sorted(pids))

    def close(self) -> None:
        if not self._open:
            return
        self._open = False
        with contextlib.suppress(self._nvml.NVMLError):  # The driver may be gone already: then nothing is held.
            self._nvml.nvmlShutdown()

    def _look(self, index: int, device: Device) -> Gpu:
        problem = device.silent or problem_of(self._nvml, device.bus_id)
        return Gpu(
            index,
            device.model,
            device.uuid,
            device.memory_mib,
            healthy=not problem,
            problem=problem,
            island=self._islands[index],
        )

    def _uuid(self, index: int) -> str:
        device = self._devices[index]
        if not device.uuid:
            raise Unavailable(f"GPU {index} can not be given to a job: it {device.silent}", field="gpus")
        return device.uuid

    def _processes(self, kind: str, handle: Any) -> list[Any]:
        """Return NVML's processes of one kind; none where the device keeps no such list.

        The versions are named, newest first: drivers before 510 lack the third, and the unversioned wrapper then raises
        something that is not an NVMLError.
        """
        for version in ("v3", "v2"):
            call = getattr(self._nvml, f"nvmlDeviceGet{kind}RunningProcesses_{version}")
            if (processes := ask(self._nvml, call, handle)) is not None:
                return list(processes)
        return []


def _load_library() -> ModuleType:
    """Import `pynvml` now and not with this module: the other sources must work without it."""
    try:
        return importlib.import_module("pynvml")
    except ImportError as error:
        raise SetupError(
            "the Python package nvidia-ml-py is not installed", field="gpus", fix="run pip install nvidia-ml-py"
        ) from error


def _devices_in_bus_order(nvml: ModuleType) -> tuple[Device, ...]:
    """Return every device, sorted by PCI bus; one without a known place goes after its predecessor in NVML's order."""
    found: list[tuple[BusKey, int, Device]] = []
    place: BusKey = ()
    for nvml_index in range(nvml.nvmlDeviceGetCount()):
        bus, device = _identify(nvml, nvml_index)
        place = bus or place
        found.append((place, nvml_index, device))
    return tuple(device for _, _, device in sorted(found, key=lambda entry: entry[:2]))


def _identify(nvml: ModuleType, nvml_index: int) -> tuple[BusKey, Device]:
    """Return what is fixed about one device, as far as it answers."""
    bus: BusKey = ()
    bus_id = ""
    try:
        handle = nvml.nvmlDeviceGetHandleByIndex(nvml_index)
        pci = nvml.nvmlDeviceGetPciInfo(handle)
        bus, bus_id = (pci.domain, pci.bus, pci.device), _text(pci.busId)
        memory = ask(nvml, nvml.nvmlDeviceGetMemoryInfo, handle)
        return bus, Device(
            bus_id=bus_id,
            model=_text(nvml.nvmlDeviceGetName(handle)),
            uuid=_text(nvml.nvmlDeviceGetUUID(handle)),
            memory_mib=memory.total // BYTES_PER_MIB if memory is not None else 0,
        )
    except nvml.NVMLError as error:
        silent = f"did not answer when the node worker started ({error}); repair it, then restart the node worker"
        return bus, Device(bus_id=bus_id, silent=silent)


def _text(answer: str | bytes) -> str:
    """Return NVML's text: older libraries answer with bytes, newer ones with str."""
    return answer.decode(errors="replace") if isinstance(answer, bytes) else answer


def _setup_error(nvml: ModuleType, error: Any) -> SetupError:
    """Return what NVML's refusal to start means and what to do; *error* is an NVMLError."""
    known = {
        nvml.NVML_ERROR_LIBRARY_NOT_FOUND: (
            "the NVIDIA driver is not installed: libnvidia-ml.so.1 can not be loaded",
            "install the NVIDIA driver, or give the container its GPUs (docker run --gpus all)",
        ),
        nvml.NVML_ERROR_DRIVER_NOT_LOADED: (
            "the NVIDIA kernel module is not loaded",
            "load it (sudo modprobe nvidia) and check with nvidia-smi",
        ),
        nvml.NVML_ERROR_NO_PERMISSION: (
            "this user may not talk to the NVIDIA driver",
            "give it read and write access to /dev/nvidiactl and /dev/nvidia0, /dev/nvidia1, ...",
        ),
        nvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH: (
            "the NVIDIA library and the loaded kernel module have different versions",
            "reboot to finish the driver update",
        ),
    }
    message, fix = known.get(error.value, (f"the NVIDIA driver did not start: {error}", "run nvidia-smi to see why"))
    return SetupError(message, field="gpus", fix=fix)
