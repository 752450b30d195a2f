"""Real GPUs, against recorded answers of known machines."""

from __future__ import annotations

import inspect
import sys

import pynvml
import pytest

from shunter.agent.gpus.nvml import NvmlSource
from shunter.agent.gpus.nvml_health import RECOVERY_ACTION_FIELD, RECOVERY_ACTIONS
from shunter.domain.node import Gpu
from shunter.errors import InvalidInput, SetupError, Unavailable

from .recorded_nvml import (
    FUNCTION_NOT_FOUND,
    LOST,
    NOT_SUPPORTED,
    Card,
    RecordedNvml,
    a100_40gb,
    dgx_h100,
    geforce,
)


def problems(cards: list[Card]) -> list[str]:
    return [gpu.problem for gpu in NvmlSource(RecordedNvml(cards)).inventory()]


def recorded_functions() -> list[str]:
    return [name for name in vars(RecordedNvml) if name.startswith("nvml")]


@pytest.mark.parametrize("name", recorded_functions())
def test_recorded_function_has_the_parameters_of_the_real_one(name: str) -> None:
    real = inspect.signature(getattr(pynvml, name)).parameters
    recorded = list(inspect.signature(getattr(RecordedNvml, name)).parameters)[1:]
    required = [parameter.name for parameter in real.values() if parameter.default is parameter.empty]
    assert recorded == required


@pytest.mark.skipif(
    not hasattr(pynvml, "NVML_FI_DEV_GET_GPU_RECOVERY_ACTION"), reason="this nvidia-ml-py does not name them yet"
)
def test_recovery_actions_are_those_of_the_library() -> None:
    actions = {name: value for name, value in vars(pynvml).items() if name.startswith("NVML_GPU_RECOVERY_ACTION_")}
    assert pynvml.NVML_FI_DEV_GET_GPU_RECOVERY_ACTION == RECOVERY_ACTION_FIELD
    assert set(actions.values()) <= set(RECOVERY_ACTIONS)


def test_dgx_h100_reports_eight_healthy_gpus() -> None:
    gpus = NvmlSource(RecordedNvml(dgx_h100())).inventory()
    uuids = [card.uuid for card in dgx_h100()]
    assert gpus == tuple(Gpu(index, "NVIDIA H100 80GB HBM3", uuids[index], 81_559) for index in range(8))


def test_index_follows_the_pci_bus_not_the_nvml_index() -> None:
    cards = [Card(0x9D), Card(0x1B, domain=1), Card(0x1B), Card(0x43)]
    gpus = NvmlSource(RecordedNvml(cards)).inventory()
    assert [gpu.uuid for gpu in gpus] == [cards[2].uuid, cards[3].uuid, cards[0].uuid, cards[1].uuid]
    assert [gpu.index for gpu in gpus] == [0, 1, 2, 3]


def islands(cards: list[Card]) -> list[int]:
    return [gpu.island for gpu in NvmlSource(RecordedNvml(cards)).inventory()]


def test_gpus_behind_one_nvswitch_are_one_island() -> None:
    assert islands(dgx_h100()) == [0] * 8


def test_gpus_joined_in_pairs_are_islands_of_two_in_bus_order() -> None:
    """Two bridges, and the cards in another order than their buses."""
    cards = [Card(bus, fabric=f"bridge {bus % 2}") for bus in (4, 3, 1, 2)]
    assert islands(cards) == [0, 1, 0, 1]


def test_a_gpu_without_nvlink_beside_others_is_an_island_of_its_own() -> None:
    cards = dgx_h100()[:4]
    cards[1].fabric = ""
    cards[3].fabric = ""
    assert islands(cards) == [0, 1, 0, 2]


@pytest.mark.parametrize("code", [NOT_SUPPORTED, FUNCTION_NOT_FOUND, pynvml.NVML_ERROR_UNKNOWN])
def test_where_no_nvlink_is_known_all_gpus_are_one_island(code: int) -> None:
    cards = dgx_h100()
    for card in cards:
        card.errors["nvmlDeviceGetP2PStatus"] = code
    assert islands(cards) == [0] * 8
    assert islands([geforce(bus) for bus in range(1, 5)]) == [0] * 4


def test_a_gpu_that_does_not_answer_about_nvlink_is_alone() -> None:
    cards = dgx_h100()
    cards[0].errors["nvmlDeviceGetP2PStatus"] = LOST
    assert islands(cards) == [0] + [1] * 7


def test_a_gpu_that_did_not_answer_at_the_start_is_alone() -> None:
    cards = dgx_h100()[:4]
    cards[2].errors["nvmlDeviceGetHandleByIndex"] = LOST
    assert islands(cards) == [0, 0, 1, 0]


def test_text_may_come_as_bytes_from_older_libraries() -> None:
    library = RecordedNvml(dgx_h100(), text_as=str.encode)
    assert NvmlSource(library).inventory() == NvmlSource(RecordedNvml(dgx_h100())).inventory()


def test_lost_gpu_is_unhealthy_keeps_its_identity_and_the_others_stay() -> None:
    cards = dgx_h100()
    source = NvmlSource(RecordedNvml(cards))
    before = source.inventory()
    cards[3].lost = True
    after = source.inventory()
    assert [gpu.healthy for gpu in after] == [True, True, True, False, True, True, True, True]
    assert (after[3].uuid, after[3].model) == (before[3].uuid, before[3].model)
    assert after[3].problem == "GPU is lost: it fell off the PCI bus; reboot this machine"


def test_lost_gpu_that_comes_back_is_healthy_again() -> None:
    cards = dgx_h100()
    source = NvmlSource(RecordedNvml(cards))
    cards[3].lost = True
    source.inventory()
    cards[3].lost = False
    assert all(gpu.healthy for gpu in source.inventory())


def test_gpu_lost_before_the_start_keeps_its_place_in_bus_order() -> None:
    cards = [a100_40gb(bus) for bus in (0x07, 0x0F, 0x47, 0x4E)]
    cards[1].lost = True
    gpus = NvmlSource(RecordedNvml(cards)).inventory()
    assert [gpu.uuid for gpu in gpus] == [cards[0].uuid, "", cards[2].uuid, cards[3].uuid]
    assert (gpus[1].model, gpus[1].memory_mib, gpus[1].healthy) == ("unknown", 0, False)
    assert gpus[1].problem.startswith("did not answer when the node worker started (GPU is lost)")


def test_gpu_without_identity_stays_unhealthy_until_restart() -> None:
    cards = [a100_40gb(0x07), a100_40gb(0x0F)]
    cards[0].lost = True
    source = NvmlSource(RecordedNvml(cards))
    cards[0].lost = False
    assert [gpu.healthy for gpu in source.inventory()] == [False, True]
    assert [gpu.healthy for gpu in NvmlSource(RecordedNvml(cards)).inventory()] == [True, True]


@pytest.mark.parametrize("function", ["nvmlDeviceGetPciInfo", "nvmlDeviceGetName", "nvmlDeviceGetUUID"])
def test_gpu_that_fails_half_way_through_the_start_is_unhealthy(function: str) -> None:
    cards = dgx_h100()
    cards[7].errors = {function: pynvml.NVML_ERROR_UNKNOWN}
    gpus = NvmlSource(RecordedNvml(cards)).inventory()
    assert [gpu.healthy for gpu in gpus] == [True] * 7 + [False]


@pytest.mark.parametrize(
    "function",
    ["nvmlDeviceGetMemoryInfo", "nvmlDeviceGetMigMode", "nvmlDeviceGetFieldValues", "nvmlDeviceGetRemappedRows"],
)
def test_gpu_that_fails_half_way_through_an_inventory_is_unhealthy(function: str) -> None:
    cards = dgx_h100()
    source = NvmlSource(RecordedNvml(cards))
    cards[2].errors = {function: pynvml.NVML_ERROR_UNKNOWN}
    gpus = source.inventory()
    assert [gpu.index for gpu in gpus if not gpu.healthy] == [2]
    assert gpus[2].problem == "does not answer: Unknown Error; see dmesg for Xid errors"


def test_field_that_fails_alone_makes_its_gpu_unhealthy() -> None:
    cards = dgx_h100()
    cards[0].recovery_return = LOST
    assert problems(cards)[0].startswith("GPU is lost")


def test_device_that_vanished_from_the_bus_is_unhealthy() -> None:
    cards = dgx_h100()
    library = RecordedNvml(cards)
    source = NvmlSource(library)
    library.cards = cards[:7]
    assert source.inventory()[7].problem == "does not answer: Not Found; see dmesg for Xid errors"


def test_mig_gpu_is_not_handed_out() -> None:
    cards = [a100_40gb(0x07), a100_40gb(0x0F)]
    cards[1].mig = True
    healthy, split = NvmlSource(RecordedNvml(cards)).inventory()
    assert healthy.healthy
    assert (split.healthy, split.memory_mib) == (False, 40_960)
    assert split.problem.startswith("MIG mode is on, which Shunter does not support yet")


@pytest.mark.parametrize("action", [1, 2, 3, 4, 6, 7, 99])
def test_gpu_that_needs_recovery_is_not_handed_out(action: int) -> None:
    assert problems([Card(0x1B, recovery_action=action)])[0]


@pytest.mark.parametrize("action", [0, 5])
def test_gpu_that_needs_no_recovery_of_its_own_is_healthy(action: int) -> None:
    assert problems([Card(0x1B, recovery_action=action)]) == [""]


def test_memory_errors_that_the_driver_contained_do_not_take_the_gpu_out() -> None:
    assert problems([Card(0x1B, uncorrected=1, remapped=(0, 1, 1, 0))]) == [""]


def test_memory_errors_take_the_gpu_out_where_the_driver_gives_no_verdict() -> None:
    card = a100_40gb(0x07)
    card.uncorrected = 2
    assert problems([card])[0].startswith("2 uncorrectable memory errors")


def test_failed_row_remapping_takes_the_gpu_out() -> None:
    assert problems([Card(0x1B, remapped=(0, 512, 0, 1))])[0].endswith("replace the GPU")


def test_card_that_supports_no_health_check_is_healthy() -> None:
    (gpu,) = NvmlSource(RecordedNvml([geforce(0x01)])).inventory()
    assert (gpu.healthy, gpu.model, gpu.memory_mib) == (True, "NVIDIA GeForce RTX 4090", 24_564)


@pytest.mark.parametrize("code", [NOT_SUPPORTED, FUNCTION_NOT_FOUND, pynvml.NVML_ERROR_NO_PERMISSION])
def test_health_check_without_an_answer_is_no_problem(code: int) -> None:
    checks = ("MigMode", "FieldValues", "TotalEccErrors", "RemappedRows")
    assert problems([Card(0x1B, errors={f"nvmlDeviceGet{check}": code for check in checks})]) == [""]


def test_gpu_that_does_not_tell_its_memory_has_zero() -> None:
    card = Card(0x01, name="NVIDIA GB10", errors={"nvmlDeviceGetMemoryInfo": NOT_SUPPORTED})
    (gpu,) = NvmlSource(RecordedNvml([card])).inventory()
    assert (gpu.healthy, gpu.memory_mib) == (True, 0)


def test_job_gets_indexes_while_every_gpu_is_healthy() -> None:
    source = NvmlSource(RecordedNvml(dgx_h100()))
    assert source.environment((2, 5)) == {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": "2,5"}


def test_job_gets_uuids_once_a_gpu_is_unhealthy_since_cuda_may_number_the_rest_anew() -> None:
    cards = dgx_h100()
    source = NvmlSource(RecordedNvml(cards))
    cards[0].lost = True
    source.inventory()
    assert source.environment((2, 5))["CUDA_VISIBLE_DEVICES"] == f"{cards[2].uuid},{cards[5].uuid}"


def test_cpu_job_sees_no_gpu() -> None:
    assert NvmlSource(RecordedNvml(dgx_h100())).environment(())["CUDA_VISIBLE_DEVICES"] == ""


def test_gpu_without_identity_can_not_be_given_to_a_job() -> None:
    cards = dgx_h100()
    cards[3].lost = True
    source = NvmlSource(RecordedNvml(cards))
    with pytest.raises(Unavailable, match="GPU 3 can not be given to a job: it did not answer"):
        source.environment((3,))


@pytest.mark.parametrize("index", [-1, 8])
def test_index_that_the_node_lacks_is_refused(index: int) -> None:
    source = NvmlSource(RecordedNvml(dgx_h100()))
    with pytest.raises(InvalidInput, match=f"expected an index from 0 to 7, got {index}"):
        source.environment((index,))
    with pytest.raises(InvalidInput, match=f"expected an index from 0 to 7, got {index}"):
        source.users(index)


def test_users_are_processes_of_every_kind_once_each() -> None:
    cards = dgx_h100()
    cards[1].processes = {"Compute": (4242, 17), "Graphics": (17,), "MPSCompute": (99,)}
    source = NvmlSource(RecordedNvml(cards))
    assert source.users(1) == (17, 99, 4242)
    assert source.users(0) == ()


def test_users_come_from_the_older_call_where_the_driver_lacks_the_newer() -> None:
    kinds = ("Compute", "Graphics", "MPSCompute")
    card = Card(0x1B, processes={"Compute": (17,)})
    card.errors = {f"nvmlDeviceGet{kind}RunningProcesses_v3": FUNCTION_NOT_FOUND for kind in kinds}
    assert NvmlSource(RecordedNvml([card])).users(0) == (17,)


def test_device_that_keeps_no_process_list_has_no_users() -> None:
    calls = [name for name in recorded_functions() if "Processes" in name]
    card = Card(0x1B, errors=dict.fromkeys(calls, NOT_SUPPORTED))
    assert NvmlSource(RecordedNvml([card])).users(0) == ()


def test_lost_gpu_has_no_users() -> None:
    cards = dgx_h100()
    cards[0].lost = True
    source = NvmlSource(RecordedNvml(cards))
    cards[1].lost = True
    assert (source.users(0), source.users(1)) == ((), ())


def test_users_that_can_not_be_read_now_are_unknown_not_none() -> None:
    card = Card(0x1B, errors={"nvmlDeviceGetComputeRunningProcesses_v3": pynvml.NVML_ERROR_TIMEOUT})
    with pytest.raises(Unavailable, match="GPU 0 did not say who uses it: Timeout"):
        NvmlSource(RecordedNvml([card])).users(0)


@pytest.mark.parametrize(
    ("code", "message", "fix"),
    [
        (pynvml.NVML_ERROR_LIBRARY_NOT_FOUND, "driver is not installed", "install the NVIDIA driver"),
        (pynvml.NVML_ERROR_DRIVER_NOT_LOADED, "kernel module is not loaded", "modprobe nvidia"),
        (pynvml.NVML_ERROR_NO_PERMISSION, "may not talk to the NVIDIA driver", "/dev/nvidiactl"),
        (pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH, "different versions", "reboot"),
        (pynvml.NVML_ERROR_UNKNOWN, "did not start: Unknown Error", "nvidia-smi"),
    ],
)
def test_driver_that_does_not_start_is_explained(code: int, message: str, fix: str) -> None:
    library = RecordedNvml([], init_error=code)
    with pytest.raises(SetupError, match=message) as caught:
        NvmlSource(library)
    assert fix in (caught.value.fix or "")


def test_missing_library_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    with pytest.raises(SetupError, match="nvidia-ml-py is not installed"):
        NvmlSource()


def test_driver_without_gpus_is_refused_and_closed() -> None:
    library = RecordedNvml([])
    with pytest.raises(SetupError, match="shows no GPU"):
        NvmlSource(library)
    assert library.opened == 0


def test_driver_is_held_until_the_source_is_closed_once_or_twice() -> None:
    library = RecordedNvml(dgx_h100())
    source = NvmlSource(library)
    assert library.opened == 1
    source.close()
    source.close()
    assert library.opened == 0
