"""The simulator against pinned figures, against the reference job by job, and against published figures.

`python -m tests.unit.sim.test_exactness` pins the figures anew, for when a policy changed on purpose.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shunter.sim.record import FIGURES, record
from shunter.sim.result import Result
from tests.strategies import BRIEF
from tests.unit.sim.reference import RULES, reference
from tests.unit.sim.traces import SMALL, SMALL_NODES, Case, asks, boxes, case, real_trace, simulated, written

PINNED = Path(__file__).with_name("pinned.json")
POLICIES = (*RULES, "default")
PARTITIONS = (None, "group")


def figures(result: Result) -> dict[str, Any]:
    return {name: value for name, value in record(result).items() if name in FIGURES and name != "wall_s"}


def check_every_start(found: Case, policy: str) -> Result:
    result, starts = simulated(found, policy)
    expected = reference(asks(found), boxes(found), policy)
    wrong = {name: (starts.get(name), expected[name]) for name in expected if starts.get(name) != expected[name]}
    assert not wrong, f"{len(wrong)} of {len(expected)} jobs (found, expected): {dict(list(wrong.items())[:3])}"
    assert starts.keys() == expected.keys()
    return result


@pytest.mark.parametrize("partition", PARTITIONS)
@pytest.mark.parametrize("policy", POLICIES)
def test_figures_of_the_sample_stay_what_they_were(policy: str, partition: str | None) -> None:
    result, _ = simulated(case(SMALL, SMALL_NODES, partition), policy)
    assert figures(result) == json.loads(PINNED.read_text())[f"{policy}, {partition}"]


@pytest.mark.parametrize("partition", PARTITIONS)
@pytest.mark.parametrize("policy", RULES)
def test_every_job_of_the_sample_starts_when_and_where_the_reference_says(policy: str, partition: str | None) -> None:
    check_every_start(case(SMALL, SMALL_NODES, partition), policy)


seconds = st.integers(0, 12)
groups = st.sampled_from("ab")
jobs = st.lists(st.tuples(seconds, seconds, st.integers(0, 20), groups), min_size=1, max_size=30)
fleets = st.lists(st.tuples(st.sampled_from((1, 2, 4, 4, 8)), groups), min_size=1, max_size=6)


def check_any(
    policy: str, rows: list[tuple[int, int, int, str]], nodes: list[tuple[int, str]], partition: str | None
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        lines = [f"j{at}," + ",".join(map(str, row)) for at, row in enumerate(rows)]
        trace, fleet = written(Path(folder), lines, [f"n{at},{gpus},{pool}" for at, (gpus, pool) in enumerate(nodes)])
        check_every_start(case(trace, fleet, partition), policy)


@pytest.mark.parametrize("policy", ["fifo-ff", "fifo-bf", "sjf"])
@given(rows=jobs, nodes=fleets, partition=st.sampled_from(PARTITIONS))
@BRIEF
def test_any_trace_starts_when_and_where_the_reference_says(
    policy: str, rows: list[tuple[int, int, int, str]], nodes: list[tuple[int, str]], partition: str | None
) -> None:
    check_any(policy, rows, nodes, partition)


@given(
    rows=st.lists(st.tuples(seconds, seconds.map(lambda s: s + 1), st.integers(0, 8), groups), min_size=1, max_size=30),
    gpus=st.tuples(st.integers(1, 8), st.integers(1, 8)),
)
@BRIEF
def test_any_trace_under_easy_starts_when_the_reference_says(
    rows: list[tuple[int, int, int, str]], gpus: tuple[int, int]
) -> None:
    # One node in each pool. On several, a job that was refused at its best place speaks for the later ones of its
    # shape, though their best place may be another one by then: a few jobs in a thousand such traces start later.
    check_any("easy", rows, [(gpus[0], "a"), (gpus[1], "b")], "group")


PUBLISHED = {
    ("fifo-bf", None): (12_907.9, 1_138.6),
    ("fifo-bf", "group"): (65_720.5, 53_951.3),
    ("fifo-ff", "group"): (77_057.7, 65_288.5),
    ("sjf", "group"): (21_095.0, 9_325.8),
}
"""Mean completion and mean wait of the Venus trace, in seconds."""


def test_the_real_trace_has_the_known_figures_in_one_pool() -> None:
    check_published("fifo-bf", None)


@pytest.mark.soak
@pytest.mark.parametrize("policy", ["fifo-bf", "fifo-ff", "sjf"])
def test_the_real_trace_has_the_published_figures_by_pool(policy: str) -> None:
    check_published(policy, "group")


@pytest.mark.soak
def test_easy_on_the_real_trace_is_within_a_percent_of_the_published_figures() -> None:
    result = check_every_start(case(*real_trace(), "group"), "easy")
    assert result.mean_jct_s == pytest.approx(15_331, rel=0.01)
    assert result.mean_queue_s == pytest.approx(3_562, rel=0.01)


def check_published(policy: str, partition: str | None) -> None:
    result = check_every_start(case(*real_trace(), partition), policy)
    assert (round(result.mean_jct_s, 1), round(result.mean_queue_s, 1)) == PUBLISHED[policy, partition]


def main() -> None:
    found = {
        f"{policy}, {partition}": figures(simulated(case(SMALL, SMALL_NODES, partition), policy)[0])
        for policy in POLICIES
        for partition in PARTITIONS
    }
    PINNED.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
