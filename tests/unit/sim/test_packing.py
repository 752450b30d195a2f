"""`shunter simulate --snapshot` as people and programs call it."""

from __future__ import annotations

import statistics
from pathlib import Path

import pytest

from shunter.sim import packing, study
from tests.unit.sim.conftest import SAMPLE, Simulate, given, records

STEPS = [str(percent) for percent in range(5, 131, 5)]
RUN_KEYS = ["policy", "ties", "seed", "allocated", "jobs", "dropped", "wall_s"]
SUMMARY_KEYS = ["policy", "ties", "seeds", "mean_allocated", "stdev_allocated"]


def test_policies_are_columns_and_requested_shares_rows(simulate: Simulate) -> None:
    ran = simulate(*SAMPLE, "--snapshot", "--policy", "best-fit,fgd", "--policy", "default", "--seeds", "3")
    assert (ran.code, ran.err) == (0, "")
    lines = ran.out.splitlines()
    assert lines[0].endswith("small.csv: 300 jobs in 3 random orders on 8 nodes, 64 GPUs")
    assert lines[1].split() == ["requested", "best-fit", "fgd", "default"]
    assert [line.split()[0] for line in lines[3:9]] == ["80", "90", "95", "100", "110", "130"]
    assert lines[6].count("±") == 3 and lines[6].count("(") == 2
    assert "in brackets the difference to best-fit" in " ".join(lines[9:])
    assert max(map(len, lines)) <= 100


def test_one_policy_and_one_order_have_nothing_to_compare(simulate: Simulate, tmp_path: Path) -> None:
    ran = simulate(*given(tmp_path, "a,0,1,1"), "--snapshot", "--seeds", "1")
    assert ran.out.splitlines()[-9:] == [
        "requested  default",
        "        %        %",
        *(f"{asked:9}   {got}" for asked, got in [(80, " 87.50"), (90, "100.00"), (95, "100.00")]),
        *(f"{asked:9}   100.00" for asked in (100, 110, 130)),
        "allocated GPUs in % of all",
    ]


def test_nodes_without_gpus_are_left_out_and_counted(simulate: Simulate, tmp_path: Path) -> None:
    ran = simulate(*given(tmp_path, "a,0,1,1", nodes=("n1,4", "n2,0", "n3,0")), "--snapshot")
    assert "on 1 node, 4 GPUs (2 nodes without GPUs left out)" in " ".join(ran.out.split())


def test_refused_jobs_are_listed(simulate: Simulate, tmp_path: Path) -> None:
    ran = simulate(*given(tmp_path, "a,0,1,1", "wide,0,1,9"), "--snapshot")
    assert ran.err.splitlines()[0] == "shunter: 1 job refused:"
    assert "1 job in 10 random orders" in " ".join(ran.out.split())


def test_json_has_each_run_and_then_the_mean_of_its_policy(simulate: Simulate) -> None:
    found = records(
        simulate(*SAMPLE, "--snapshot", "--policy", "best-fit,fgd", "--seeds", "2", "--seed", "7", "--json")
    )
    assert [list(one) for one in found] == [RUN_KEYS, RUN_KEYS, SUMMARY_KEYS] * 2
    assert [one["policy"] for one in found] == ["best-fit"] * 3 + ["fgd"] * 3
    assert [one.get("seed") for one in found[:3]] == [7, 8, None]
    first, second, mean = found[:3]
    assert (mean["ties"], mean["seeds"]) == ("lexical", 2)
    for step in STEPS:
        shares = [first["allocated"][step], second["allocated"][step]]
        assert mean["mean_allocated"][step] == statistics.fmean(shares)
        assert mean["stdev_allocated"][step] == statistics.stdev(shares)
    assert list(first["allocated"]) == list(mean["mean_allocated"]) == STEPS


def test_cores_and_memory_count_always(simulate: Simulate, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("job_id,submit_s,duration_s,gpus,cpus\na,0,1,1,5\n")
    (tmp_path / "n.csv").write_text("node,gpus,cpus\nn,4,11\n")
    found = records(simulate("t.csv", "--nodes", "n.csv", "--snapshot", "--seeds", "1", "--json"))
    assert found[0]["allocated"]["130"] == 0.5


def test_pools_of_a_policy_are_left_out(simulate: Simulate, tmp_path: Path) -> None:
    (tmp_path / "pools.yaml").write_text(
        "order: [age]\nplacement: [best-fit]\npools: {one: 50%, two: 50%}\nclasses: {medium: {home: one}}\n"
        "strict: true\nshare-all-below: 0\n"
    )
    found = records(
        simulate(*given(tmp_path, "a,0,1,1"), "--snapshot", "--policy", "pools.yaml", "--seeds", "1", "--json")
    )
    assert found[-1]["mean_allocated"]["100"] == 1.0


def test_ties_take_the_place_of_those_that_the_policy_names(simulate: Simulate, tmp_path: Path) -> None:
    (tmp_path / "any.yaml").write_text("order: [age]\nplacement: [best-fit]\nties: random\nseed: 3\n")
    jobs = [f"j{at},0,1,{gpus}" for at, gpus in enumerate((1, 2, 3, 3, 5, 6, 7))]
    arguments = (*given(tmp_path, *jobs, nodes=tuple(f"n{at},8" for at in range(6))), "--snapshot", "--json")

    def shares(policy: str, *more: str) -> list[object]:
        return [one["allocated"] for one in records(simulate(*arguments, "--policy", policy, *more)) if "seed" in one]

    assert shares("any.yaml") == shares("best-fit", "--ties", "lexical")
    assert shares("any.yaml", "--ties", "random") == shares("best-fit", "--ties", "random")


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (("--snapshot", "--dump", "s.csv"), "--dump: goes not with --snapshot, where no time passes; leave one of"),
        (("--snapshot", "--report", "r.html"), "--report: goes not with --snapshot"),
        (("--snapshot", "--partition", "group"), "--partition: goes not with --snapshot"),
        (("--snapshot", "--scale-load", "1"), "--scale-load: goes not with --snapshot"),
        (("--snapshot", "--limits", "none"), "--limits: goes not with --snapshot"),
        (("--snapshot", "--resources", "gpus"), "--resources: goes not with --snapshot"),
        (("--ties", "random"), "--ties: goes with --snapshot only"),
        (("--seeds", "3"), "--seeds: goes with --snapshot only"),
        (("--snapshot", "--seeds", "0"), "seeds: 0 is not in the range"),
        (("--snapshot", "--policy", "fdg"), "no shipped policy of that name: fdg; did you mean fgd?"),
    ],
)
def test_options_that_make_no_sense_together_are_refused(
    simulate: Simulate, monkeypatch: pytest.MonkeyPatch, argv: tuple[str, ...], said: str
) -> None:
    monkeypatch.setattr(study, "simulate", None)
    monkeypatch.setattr(packing, "pack", None)
    ran = simulate(*SAMPLE, *argv)
    assert (ran.code, ran.out) == (2, "")
    assert said in ran.err.splitlines()[0]


@pytest.mark.parametrize(
    ("jobs", "nodes", "said"),
    [
        (("a,0,1,0",), ("n,4",), "jobs.csv: expected a job that asks for GPUs and fits the nodes, got none"),
        (("a,0,1,9",), ("n,4",), "jobs.csv: expected a job that asks for GPUs and fits the nodes, got none"),
        (("a,0,1,1",), ("n,0",), "nodes.csv: expected a node with GPUs, got none"),
    ],
)
def test_nothing_to_pack_is_an_error(
    simulate: Simulate, tmp_path: Path, jobs: tuple[str, ...], nodes: tuple[str, ...], said: str
) -> None:
    ran = simulate(*given(tmp_path, *jobs, nodes=nodes), "--snapshot")
    assert (ran.code, ran.out) == (2, "")
    assert said in ran.err
