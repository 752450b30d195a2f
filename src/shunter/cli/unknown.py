"""What a submission names that is not there now: no mistake, for it may come, but perhaps a slip of the pen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from shunter.cli.output import warn
from shunter.errors import NotFound, ShunterError

if TYPE_CHECKING:
    from shunter.domain.report import JobView
    from shunter.sdk.client import Client


def warn_of_unknown(client: Client, views: Sequence[JobView]) -> None:
    """Say which nodes the jobs avoid, and which pools they ask for, that neither nodes nor policy know."""
    requests = [view.job.request for view in views]
    avoided = {str(name) for request in requests for name in request.avoid}
    pools = {request.pool for request in requests} - {""}
    if not avoided and not pools:
        return
    try:
        nodes = client.nodes()
        pools -= {view.pool for view in nodes}
        pools -= _pools_of_policy(client) if pools else set()
    except ShunterError:
        return  # the jobs are in: nothing that fails now may look as if they were not
    jobs = "the job" if len(views) == 1 else "they"
    avoided -= {view.node.name for view in nodes}
    for name in sorted(avoided):
        warn(f"no node {name} now; {jobs} will avoid it if it joins")
    for name in sorted(pools):
        warn(f"no node is in a pool {name} now, and the policy has none; {jobs} will wait for a node of it")


def _pools_of_policy(client: Client) -> set[str]:
    try:
        return set(client.policy().policy.pools)
    except NotFound:  # nobody has led yet
        return set()
