"""Simulated GPUs and their injected faults."""

from __future__ import annotations

from pathlib import Path

import pytest

from shunter.agent.gpus.simulated import FAULTS_VARIABLE, SimulatedSource
from shunter.domain.node import Gpu
from shunter.errors import InvalidInput


@pytest.fixture
def faults(tmp_path: Path) -> Path:
    return tmp_path / "faults.json"


def broken(source: SimulatedSource) -> dict[int, str]:
    return {gpu.index: gpu.problem for gpu in source.inventory() if not gpu.healthy}


def test_every_device_is_healthy_without_faults() -> None:
    gpus = SimulatedSource(3, node="box").inventory()
    assert [gpu.index for gpu in gpus] == [0, 1, 2]
    assert {(gpu.model, gpu.memory_mib, gpu.healthy) for gpu in gpus} == {("Simulated-80G", 81_920, True)}


def test_uuid_is_the_same_at_every_start_and_differs_by_node_and_index() -> None:
    def uuids(node: str) -> list[str]:
        return [gpu.uuid for gpu in SimulatedSource(8, node=node).inventory()]

    assert uuids("box") == uuids("box")
    assert len({*uuids("box"), *uuids("other")}) == 16


def test_node_name_defaults_to_the_host_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "box")
    assert SimulatedSource(1).inventory() == SimulatedSource(1, node="box").inventory()


def test_fault_appears_and_heals_while_the_source_is_open(faults: Path) -> None:
    source = SimulatedSource(8, node="box", faults=faults)
    assert broken(source) == {}
    faults.write_text('{"3": "fell off the bus"}')
    assert broken(source) == {3: "fell off the bus"}
    faults.write_text("{}")
    assert broken(source) == {}


def test_deleting_the_faults_file_heals(faults: Path) -> None:
    faults.write_text('{"3": "fell off the bus"}')
    source = SimulatedSource(8, node="box", faults=faults)
    assert broken(source) == {3: "fell off the bus"}
    faults.unlink()
    assert broken(source) == {}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b'{"3": "fell',
        b"[3]",
        b'{"3": ""}',
        b'{"3": null}',
        b'{"three": "x"}',
        b'{"3": "\xff"}',
        b"\xff\xfe",
        b"[" * 9999,
    ],
)
def test_faults_file_that_makes_no_sense_changes_nothing(faults: Path, content: bytes) -> None:
    faults.write_text('{"5": "too hot"}')
    source = SimulatedSource(8, node="box", faults=faults)
    source.inventory()
    faults.write_bytes(content)
    assert broken(source) == {5: "too hot"}


def test_faults_file_that_can_not_be_read_changes_nothing(faults: Path) -> None:
    faults.write_text('{"5": "too hot"}')
    source = SimulatedSource(8, node="box", faults=faults)
    source.inventory()
    faults.unlink()
    faults.mkdir()
    assert broken(source) == {5: "too hot"}


def test_fault_of_a_device_that_does_not_exist_is_ignored(faults: Path) -> None:
    faults.write_text('{"8": "no such GPU", "-1": "nor this", "0": "too hot"}')
    assert broken(SimulatedSource(8, node="box", faults=faults)) == {0: "too hot"}


def test_environment_variable_names_the_faults_file(faults: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    faults.write_text('{"1": "too hot"}')
    monkeypatch.setenv(FAULTS_VARIABLE, str(faults))
    assert broken(SimulatedSource(2, node="box")) == {1: "too hot"}
    monkeypatch.setenv(FAULTS_VARIABLE, "")
    assert broken(SimulatedSource(2, node="box")) == {}


def test_fault_leaves_the_rest_of_the_device_as_it_was(faults: Path) -> None:
    faults.write_text('{"1": "too hot"}')
    source = SimulatedSource(2, node="box", faults=faults)
    _, gpu = source.inventory()
    _, healthy = SimulatedSource(2, node="box").inventory()
    assert gpu == Gpu(1, healthy.model, healthy.uuid, healthy.memory_mib, healthy=False, problem="too hot")


def test_job_sees_its_indexes_and_nobody_holds_memory() -> None:
    source = SimulatedSource(8, node="box")
    assert source.environment((1, 4)) == {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": "1,4"}
    assert source.environment(())["CUDA_VISIBLE_DEVICES"] == ""
    assert source.users(4) == ()
    source.close()


def test_index_that_the_node_lacks_is_refused() -> None:
    source = SimulatedSource(8, node="box")
    with pytest.raises(InvalidInput, match="expected an index from 0 to 7, got 8"):
        source.environment((1, 8))
    with pytest.raises(InvalidInput, match="expected an index from 0 to 7, got 8"):
        source.users(8)
