"""Where a node's GPUs come from: `open_source("nvml" | "simulated:8" | "none" | "auto")`."""

from shunter.agent.gpus.port import GpuSource
from shunter.agent.gpus.sources import open_source

__all__ = ["GpuSource", "open_source"]
