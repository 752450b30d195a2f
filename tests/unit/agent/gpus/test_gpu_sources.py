"""Opening a source from the text of `--gpus`."""

from __future__ import annotations

import subprocess
import sys

import pynvml
import pytest

from shunter.agent.gpus import open_source
from shunter.errors import InvalidInput, SetupError

from .recorded_nvml import RecordedNvml, dgx_h100


@pytest.mark.parametrize("count", [1, 8, 64])
def test_simulated_opens_that_many_gpus(count: int) -> None:
    source = open_source(f"simulated:{count}", node="box")
    assert len(source.inventory()) == count
    assert source.name == f"simulated:{count}"


@pytest.mark.parametrize(
    ("text", "islands", "model"),
    [
        ("simulated:4", [0, 0, 0, 0], "Simulated-80G"),
        ("simulated:4/4", [0, 0, 0, 0], "Simulated-80G"),
        ("simulated:4/2", [0, 0, 1, 1], "Simulated-80G"),
        ("simulated:5/2", [0, 0, 1, 1, 2], "Simulated-80G"),
        ("simulated:2/1", [0, 1], "Simulated-80G"),
        ("simulated:2:A100", [0, 0], "A100"),
        ("simulated:4/2:H100-SXM", [0, 0, 1, 1], "H100-SXM"),
    ],
)
def test_simulated_gpus_may_have_islands_and_a_model(text: str, islands: list[int], model: str) -> None:
    source = open_source(text, node="box")
    assert [gpu.island for gpu in source.inventory()] == islands
    assert {gpu.model for gpu in source.inventory()} == {model}
    assert source.name == text
    assert open_source(source.name, node="box").inventory() == source.inventory()


@pytest.mark.parametrize("size", [0, 9])
def test_an_island_is_at_most_the_node(size: int) -> None:
    with pytest.raises(InvalidInput) as caught:
        open_source(f"simulated:8/{size}")
    assert str(caught.value) == f"gpus: expected islands of 1 to 8 GPUs, got {size}; use simulated:8/8"


def test_node_name_reaches_the_uuids_of_simulated_gpus() -> None:
    first, same, other = (open_source("simulated:1", node=node).inventory()[0].uuid for node in ("a", "a", "b"))
    assert first == same != other


def test_none_is_a_node_whose_jobs_see_no_gpu() -> None:
    source = open_source("none")
    assert (source.name, source.inventory()) == ("none", ())
    assert source.environment(()) == {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": ""}
    with pytest.raises(InvalidInput, match="this node has no GPUs"):
        source.environment((0,))
    with pytest.raises(InvalidInput, match="this node has no GPUs"):
        source.users(0)
    source.close()


@pytest.mark.parametrize("text", ["nvml", "auto"])
def test_nvml_and_auto_open_the_real_gpus(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", RecordedNvml(dgx_h100()))
    source = open_source(text)
    assert (source.name, len(source.inventory())) == ("nvml", 8)


def test_nvml_without_a_driver_says_how_to_get_one(monkeypatch: pytest.MonkeyPatch) -> None:
    library = RecordedNvml([], init_error=pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)
    monkeypatch.setitem(sys.modules, "pynvml", library)
    with pytest.raises(SetupError, match=r"the NVIDIA driver is not installed.*; install the NVIDIA driver"):
        open_source("nvml")


def test_auto_without_a_gpu_says_what_works_without_one(monkeypatch: pytest.MonkeyPatch) -> None:
    library = RecordedNvml([], init_error=pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)
    monkeypatch.setitem(sys.modules, "pynvml", library)
    with pytest.raises(SetupError, match=r"^no NVIDIA GPU found on this machine") as caught:
        open_source("auto")
    assert (caught.value.fix or "").startswith(
        "use --gpus simulated:8 to try Shunter without one, or --gpus none for a node that runs CPU jobs"
    )
    assert "install the NVIDIA driver" in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "8",
        "simulated",
        "simulated:",
        "simulated:-1",
        "simulated:x",
        "simulated:٣",
        "simulated:8 ",
        "NVML",
        "simulated:9999999",
        "simulated:8/",
        "simulated:8/x",
        "simulated:8:",
        "simulated:8:A100/4",
        "simulated:8:A 100",
    ],
)
def test_other_text_is_refused_with_the_forms_that_work(text: str) -> None:
    with pytest.raises(InvalidInput, match="gpus: expected auto, nvml, simulated:N or none, got ") as caught:
        open_source(text)
    assert caught.value.field == "gpus"
    assert repr(text) in caught.value.message
    assert "simulated:8/4:A100" in (caught.value.fix or "")


@pytest.mark.parametrize(("count", "fix"), [(0, "use --gpus none"), (65, "use --gpus simulated:64")])
def test_number_of_simulated_gpus_is_bounded(count: int, fix: str) -> None:
    with pytest.raises(InvalidInput, match=f"got {count}") as caught:
        open_source(f"simulated:{count}")
    assert (caught.value.fix or "").startswith(fix)


def test_long_text_is_not_repeated_whole() -> None:
    with pytest.raises(InvalidInput) as caught:
        open_source("x" * 10_000)
    assert len(caught.value.message) < 200


def test_simulated_gpus_work_without_the_nvidia_library() -> None:
    code = "import sys; sys.modules['pynvml'] = None; from shunter.agent.gpus import open_source as o; o('simulated:2')"
    subprocess.run([sys.executable, "-c", code], check=True)
