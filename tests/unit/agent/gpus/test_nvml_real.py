"""The real driver, where there is one. Nothing is changed on the GPUs; one CUDA call asks each for its UUID."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pynvml
import pytest

from shunter.agent.gpus import GpuSource, open_source


def driver_answers() -> bool:
    try:
        pynvml.nvmlInit()
        count: int = pynvml.nvmlDeviceGetCount()
        pynvml.nvmlShutdown()
    except pynvml.NVMLError:
        return False
    return count > 0


pytestmark = pytest.mark.skipif(not driver_answers(), reason="needs an NVIDIA GPU and its driver on this machine")

UUID_OF_FIRST_DEVICE = """
import ctypes
cuda = ctypes.CDLL("libcuda.so.1")
device, raw = ctypes.c_int(), (ctypes.c_ubyte * 16)()
for status in (cuda.cuInit(0), cuda.cuDeviceGet(ctypes.byref(device), 0), cuda.cuDeviceGetUuid(raw, device)):
    assert status == 0, f"CUDA error {status}"
print(bytes(raw).hex())
"""


@pytest.fixture
def source() -> Iterator[GpuSource]:
    opened = open_source("auto")
    yield opened
    opened.close()


def test_every_real_gpu_has_an_identity(source: GpuSource) -> None:
    gpus = source.inventory()
    assert [gpu.index for gpu in gpus] == list(range(len(gpus)))
    for gpu in gpus:
        assert gpu.uuid.startswith("GPU-") or not gpu.healthy, gpu
        assert gpu.healthy == (not gpu.problem), gpu
    assert len({gpu.uuid for gpu in gpus if gpu.healthy}) == sum(gpu.healthy for gpu in gpus)


def test_cuda_sees_the_gpu_that_the_index_means(source: GpuSource) -> None:
    for gpu in source.inventory():
        if not gpu.healthy:
            continue
        environment = os.environ | source.environment((gpu.index,))
        command = [sys.executable, "-c", UUID_OF_FIRST_DEVICE]
        seen = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
        assert seen.stdout.strip() == gpu.uuid.removeprefix("GPU-").replace("-", "")


def test_users_of_a_real_gpu_are_pids(source: GpuSource) -> None:
    for gpu in source.inventory():
        assert all(pid > 0 for pid in source.users(gpu.index))
