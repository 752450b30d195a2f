"""One scheduling cycle: the same few lines for the leader, the simulator and the tests."""

from __future__ import annotations

from msgspec import Struct

from shunter.scheduling.decide import decide
from shunter.scheduling.plan import Placement, Plan, Violation
from shunter.scheduling.verify import verify
from shunter.scheduling.view import View


class Cycle(Struct, frozen=True):
    """What to commit (*placements*), what was decided in all, and which rules the decision broke, which is a bug."""

    placements: tuple[Placement, ...]
    plan: Plan
    violations: tuple[Violation, ...]


def cycle(view: View, now_s: float) -> Cycle:
    """Let what is due join the queue of *view*, decide for its policy at *now_s* (wall clock), and verify."""
    view.advance(now_s)
    plan = decide(view, view.policy, now_s)
    if not plan.placements:
        return Cycle((), plan, ())
    violations = verify(plan, view)
    bad = {violation.job_id for violation in violations}
    return Cycle(tuple(made for made in plan.placements if made.job_id not in bad), plan, violations)
