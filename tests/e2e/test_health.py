"""A GPU that breaks: what runs goes on, and nothing new comes there until it is well again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from shunter.domain.reason import NeverFits
from shunter.domain.report import NodeView
from tests.e2e.yard import Yard, eventually, yard_of

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

NEWS_WITHIN_S = 40.0
"""A node looks at its GPUs every 10 s."""


def problems(yard: Yard) -> dict[int, str]:
    (view,) = yard.client.nodes()
    return {gpu.index: gpu.problem for gpu in view.node.gpus if not gpu.healthy}


def test_a_gpu_that_breaks_gets_no_new_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    faults = tmp_path / "faults.json"
    monkeypatch.setenv("SHUNTER_SIMULATED_FAULTS", str(faults))
    with yard_of("n1=simulated:2") as yard:
        first = yard.held("first")
        yard.wait_for_lines("first")
        ((_, (broken,)),) = yard.client.job(first).devices.items()
        faults.write_text(json.dumps({str(broken): "fell off the bus"}))
        eventually(lambda: problems(yard) == {broken: "fell off the bus"}, "the node says so", within_s=NEWS_WITHIN_S)
        assert yard.client.job(first).state == "running"
        assert free(yard.client.nodes()) == 1
        yard.let_go("first")
        yard.ended(first)
        after = [yard.submit(["true"]) for _ in range(4)]
        wide = yard.submit(["true"], gpus=2)
        yard.ended(*after)
        assert free(yard.client.nodes()) == 1
        for event in yard.client.events(jobs=after):
            if event.kind == "placed":
                assert event.phase is not None
                assert event.phase.allocation.shares[0].gpus == (1 - broken,)  # type: ignore[union-attr]
        eventually(lambda: yard.client.job(wide).reason == NeverFits(1, 2, 0), "the wide one waits for two good GPUs")


def free(views: list[NodeView]) -> float:
    return sum(view.free_gpus for view in views)
