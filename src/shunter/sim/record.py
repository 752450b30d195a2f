"""`--json`: what a policy made of a trace, for programs."""

from __future__ import annotations

from typing import Any, Final

from shunter.sim.result import Result

FIGURES: Final = (
    "policy", "jobs", "mean_jct_s", "mean_queue_s", "p50_queue_s", "p99_queue_s", "p999_queue_s", "queued_jobs",
    "util_window", "alloc_while_waiting", "makespan_s", "frag_fgd", "wall_s",
)  # fmt: skip
"""Fields of a Result, in the order in which they are printed."""

MOST_REFUSED: Final = 1_000


def record(result: Result) -> dict[str, Any]:
    """Return *result* as it is printed: its figures, then what was refused, at most the first 1,000 of it in full."""
    refused = result.refused[:MOST_REFUSED]
    return {
        **{name: getattr(result, name) for name in FIGURES},
        "refused": len(result.refused),
        "refused_jobs": [{"line": one.line, "job_id": one.name, "message": one.message} for one in refused],
        "refused_listed": len(refused),
    }
