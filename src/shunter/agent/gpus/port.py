"""What the node worker asks of its GPUs, whichever source they come from."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from shunter.domain.node import Gpu
from shunter.errors import InvalidInput


class GpuSource(Protocol):
    """The GPUs of one node. How many there are, and which index means which device, never changes while it is open.

    Calls may come from any thread, one at a time. Nothing above the source may depend on which one it is.
    """

    @property
    def name(self) -> str:
        """Text that opens this source again, for example `simulated:8`: `Node.source`."""

    def inventory(self) -> tuple[Gpu, ...]:
        """Return every device as it is now, in index order.

        A device that does not answer stays in the list, unhealthy, and *problem* says why and what to do. Never raises
        because a device is broken: the lease renewal that carries the answer must go out.
        """

    def environment(self, indexes: tuple[int, ...]) -> dict[str, str]:
        """Return the variables that let a process see these devices only; with no index, none at all.

        The process numbers what it sees from 0, in the order of *indexes*. Raises InvalidInput for an index that this
        node does not have, Unavailable for a device that can not be named because it never answered.
        """

    def users(self, index: int) -> tuple[int, ...]:
        """Return the pids of the processes that hold memory on the device now, ascending.

        Empty if the device is lost or can not tell. Raises InvalidInput for an index that this node does not have,
        Unavailable if the device did not answer this time: keep the device, ask again.
        """

    def close(self) -> None:
        """Let go of the driver. Closing twice is allowed; no other call is, after the first."""


def cuda_environment(devices: Iterable[str]) -> dict[str, str]:
    """Return the variables that show CUDA these *devices* (indexes or UUIDs), numbered by PCI bus.

    `CUDA_VISIBLE_DEVICES` is set even when it is empty: without it a CPU job would see every GPU of the node.
    Source: CUDA C++ Programming Guide, "CUDA Environment Variables".
    """
    return {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": ",".join(devices)}


def check_index(index: int, count: int) -> None:
    """Raise InvalidInput unless *index* is one of *count* devices.

    CUDA says nothing about a number that it does not know: it hides that device and every one after it in the list.
    """
    if not 0 <= index < count:
        has = f"an index from 0 to {count - 1}" if count else "no index, since this node has no GPUs"
        raise InvalidInput(f"gpus: expected {has}, got {index}", field="gpus")
