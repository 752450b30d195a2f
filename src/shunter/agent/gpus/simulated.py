"""GPUs that do not exist: for laptops, tests and load tests. Faults are injected through a file."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Annotated, Final
from uuid import NAMESPACE_URL, uuid5

import msgspec

from shunter.agent.gpus.port import check_index, cuda_environment
from shunter.domain.node import Gpu

MODEL: Final = "Simulated-80G"
MEMORY_MIB: Final = 81_920
FAULTS_VARIABLE: Final = "SHUNTER_SIMULATED_FAULTS"

Faults = dict[int, Annotated[str, msgspec.Meta(min_length=1)]]


class SimulatedSource:
    """*count* healthy devices, except those that the faults file names, in islands of *island* (0: all in one).

    The faults file is a JSON object from index to problem, `{"3": "fell off the bus"}`, and is read again at each
    inventory, so a GPU can be broken and healed while the node runs. Its path is *faults*, else the environment
    variable `SHUNTER_SIMULATED_FAULTS` as it was when the source was opened, else there is none. A missing file is no
    faults (so deleting it heals). A file that can not be read, is half written or says something else changes nothing:
    the last good state stays. An index that this source does not have is ignored.
    """

    def __init__(
        self, count: int, *, island: int = 0, model: str = "", node: str = "", faults: Path | None = None
    ) -> None:
        """*node* makes the UUIDs: equal for the same node and index at every start; empty: the host name."""
        variable = os.environ.get(FAULTS_VARIABLE)
        self.name = f"simulated:{count}" + (f"/{island}" if island else "") + (f":{model}" if model else "")
        self._island = island or count
        self._model = model or MODEL
        self._uuids = tuple(simulated_uuid(node or socket.gethostname(), index) for index in range(count))
        self._path = faults or (Path(variable) if variable else None)
        self._faults: Faults = {}

    def inventory(self) -> tuple[Gpu, ...]:
        self._faults = self._read_faults()
        return tuple(self._look(index, uuid) for index, uuid in enumerate(self._uuids))

    def environment(self, indexes: tuple[int, ...]) -> dict[str, str]:
        for index in indexes:
            check_index(index, len(self._uuids))
        return cuda_environment(map(str, indexes))

    def users(self, index: int) -> tuple[int, ...]:
        check_index(index, len(self._uuids))
        return ()

    def close(self) -> None:
        """Nothing is held."""

    def _look(self, index: int, uuid: str) -> Gpu:
        problem = self._faults.get(index, "")
        island = index // self._island
        return Gpu(index, self._model, uuid, MEMORY_MIB, healthy=not problem, problem=problem, island=island)

    def _read_faults(self) -> Faults:
        if self._path is None:
            return {}
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=Faults)
        except FileNotFoundError:
            return {}
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            # The writer may be half-way through; a node that crashed here would turn one injected fault into eight.
            return self._faults


def simulated_uuid(node: str, index: int) -> str:
    """Return the UUID of a simulated device, in the form that NVML uses, a function of its arguments alone."""
    return f"GPU-{uuid5(NAMESPACE_URL, f'shunter:simulated:{node}/{index}')}"
