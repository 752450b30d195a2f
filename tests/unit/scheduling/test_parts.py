"""Each part of a policy can be removed: its module and its line, and the rest runs on."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import shunter
from shunter.runtime.policy_file import parts
from shunter.scheduling.parts import order_part, placement_part
from shunter.scheduling.score import Scorer
from shunter.scheduling.turns import Turns
from tests.unit.scheduling.cluster import PLAIN, view_of, waits

PACKAGE = Path(shunter.__file__).parent
ROOT = Path(__file__).parents[3]
EVERY = [(kind, name) for kind in ("order", "placement") for name in parts(kind)]

CYCLE = """
import sys
import shunter
from shunter.runtime.policy_file import parse_policy, parts
from shunter.scheduling.cycle import cycle
from tests.unit.scheduling.cluster import NOW_S, runs, view_of, waits

policy = parse_policy(sys.argv[1], "test")
jobs = runs(9, "n1:0", limit=100), waits(1, 4, owner="red/bob"), waits(2, 2, 2), waits(3, 0.5), waits(4, limit=10)
view = view_of("n1:4+4/r1 n2:4/r2", *jobs, policy=policy)
found = cycle(view, NOW_S)
assert found.placements and not found.violations, found
print(shunter.__file__, *parts("order"), *parts("placement"))
"""


def run_cycle(text: str, package: Path) -> str:
    """Return what a cycle prints under the policy *text*, with the package *package*/shunter."""
    done = subprocess.run(
        [sys.executable, "-c", CYCLE, text],
        env={"PYTHONPATH": f"{package}:{ROOT}", "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def policy_text(**without: str) -> str:
    order = [name for name in parts("order") if name != without.get("order")]
    order.sort(key=lambda name: order_part(name).job_key is not None)  # those have the last word
    if "age" not in order:
        order.remove("aged")
    placement = [name for name in parts("placement") if name != without.get("placement")]
    return f"order: [{', '.join(order)}]\nplacement: [{', '.join(placement)}]\nbackfill: {{depth: 2}}"


@pytest.mark.parametrize(("kind", "name"), EVERY)
def test_a_part_can_be_removed_by_its_module_and_its_line(kind: str, name: str, tmp_path: Path) -> None:
    shutil.copytree(PACKAGE, tmp_path / "shunter")
    (tmp_path / "shunter" / "scheduling" / kind / f"{name.replace('-', '_')}.py").unlink()
    where, *left = run_cycle(policy_text(**{kind: name}), tmp_path).split()
    assert where.startswith(str(tmp_path))
    assert sorted(left) == sorted(other for pair in EVERY for other in pair[1:] if pair != (kind, name))


def test_backfill_can_be_removed_by_its_line() -> None:
    run_cycle(policy_text().replace("backfill: {depth: 2}", ""), PACKAGE.parent)


def test_all_parts_at_once_make_a_policy() -> None:
    run_cycle(policy_text(), PACKAGE.parent)


def test_a_policy_of_no_parts_makes_a_policy() -> None:
    run_cycle("order: []\nplacement: []", PACKAGE.parent)


@pytest.mark.parametrize(("kind", "name"), EVERY)
def test_a_part_does_what_the_protocol_says(kind: str, name: str) -> None:
    view = view_of("n1:4", waits(1))
    part = order_part(name) if kind == "order" else placement_part(name)
    for method in ("of_queue", "placed", "job_key") if kind == "order" else ("score", "arrange"):
        assert hasattr(part, method)
    assert (part(view, 0.0) if kind == "order" else part(view)) is not None  # type: ignore[call-arg]


def test_a_part_that_is_not_there_is_an_error() -> None:
    with pytest.raises(ModuleNotFoundError):
        order_part("luck")
    with pytest.raises(ModuleNotFoundError):
        placement_part("luck")


def test_parts_are_asked_in_the_order_of_the_policy() -> None:
    view = view_of("n1:4", waits(1), policy=PLAIN)
    assert [type(part).__module__.rpartition(".")[2] for part in Turns(view, 0.0)._parts] == ["priority", "age"]
    assert [type(part).__module__.rpartition(".")[2] for part in Scorer(view)._parts] == ["best_fit"]
