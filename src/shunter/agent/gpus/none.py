"""A node without GPUs, for jobs that need only CPUs."""

from __future__ import annotations

from shunter.agent.gpus.port import check_index, cuda_environment
from shunter.domain.node import Gpu


class NoGpus:
    """No devices; the environment hides any that the machine may have."""

    name = "none"

    def inventory(self) -> tuple[Gpu, ...]:
        return ()

    def environment(self, indexes: tuple[int, ...]) -> dict[str, str]:
        for index in indexes:
            check_index(index, 0)
        return cuda_environment(())

    def users(self, index: int) -> tuple[int, ...]:
        check_index(index, 0)
        return ()

    def close(self) -> None:
        """Nothing is held."""
