"""`shunter node start`."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path

import click

from shunter.agent.traits import read_traits, trait_options


@click.command(name="start", short_help="Run a node: offer this machine's GPUs.")
@click.option("--name", help="Name of the node (default: this host's name).")
@click.option("--gpus", default="auto", show_default=True, metavar="SOURCE", help="auto, nvml, simulated:N or none.")
@trait_options
@click.option(
    "--redis", envvar="SHUNTER_REDIS", metavar="URL",
    help="Redis of the cluster (default: SHUNTER_REDIS, else the home's own).",
)  # fmt: skip
@click.option("--cluster", envvar="SHUNTER_CLUSTER", help="Name of the cluster (default: SHUNTER_CLUSTER, else main).")
@click.option("--home", type=click.Path(file_okay=False), help="State folder (default: SHUNTER_HOME).")
@click.option(
    "--storage", envvar="SHUNTER_STORAGE", metavar="DIR",
    help="Folder for jobs' logs and checkpoints, the same on every node.",
)  # fmt: skip
@click.option("--cpus", type=click.IntRange(min=1), help="Cores to offer (default: all).")
@click.option("--memory-gib", type=click.FloatRange(min=0.1), help="Memory to offer (default: all).")
@click.option("--address", help="Address under which other nodes reach this one (default: its host name).")
@click.option(
    "--lease",
    type=click.Choice(["normal", "fast"]),
    default="normal",
    show_default=True,
    envvar="SHUNTER_LEASE",
    help="How soon a node that is cut off freezes its jobs, and they run elsewhere: 20 s and 30 s; fast: 5 s and 8 s.",
)
@click.option(
    "--fence", type=click.Choice(["lease", "operator"]), default="lease", show_default=True, envvar="SHUNTER_FENCE",
    help="operator: never freeze; only `shunter node lost` has the jobs run elsewhere.",
)  # fmt: skip
def start(
    name: str | None,
    gpus: str,
    pool: str | None,
    rack: str | None,
    label: tuple[str, ...],
    redis: str | None,
    cluster: str | None,
    home: str | None,
    storage: str | None,
    cpus: int | None,
    memory_gib: float | None,
    address: str | None,
    lease: str,
    fence: str,
) -> None:
    """Run a node: a Celery worker that takes jobs, and a keeper that runs them and outlives it.

    \b
    Examples:
      shunter node start --name n1 --gpus simulated:8 --redis redis://10.0.0.5:6379/0
      shunter node start --pool dedicated --rack r7 --label zone=a --label disk=nvme
    """
    from shunter import __version__
    from shunter.agent.gpus import open_source
    from shunter.agent.keeper.client import KeeperClient
    from shunter.agent.keeper.oom import shield
    from shunter.agent.launcher import Launcher
    from shunter.agent.node_lease import NodeLease
    from shunter.agent.worker import NodeAgent
    from shunter.dispatch.celery import Destination, run_worker
    from shunter.domain.ids import Incarnation, NodeName
    from shunter.domain.lease import TERMS
    from shunter.domain.node import Node
    from shunter.runtime import log
    from shunter.runtime.config import settings
    from shunter.runtime.host import check_node_name, memory_mib, node_identity
    from shunter.runtime.variables import naming_variables
    from shunter.store.identity import Identity, node_record
    from shunter.store.keys import Keys
    from shunter.store.redis import Store
    from shunter.store.startup import check_settings

    log.configure("node")
    shield()
    node = check_node_name(name or socket.gethostname().partition(".")[0].lower())
    with naming_variables():
        config = settings(cluster=cluster, redis=redis, home=home, storage=storage)
        traits = read_traits(pool, rack, label)
        keys, folder = Keys(config.cluster), config.home / "nodes" / node
        identity = Identity(keys, node_record(folder))
        store = Store(config.redis, identity=identity)
        renewals = Store(config.redis, timeout_s=TERMS[lease].renew_timeout_s, identity=identity)
    source = open_source(gpus, node=node)
    check_settings(store, TERMS[lease])

    def describe(incarnation: str) -> Node:
        return Node(
            NodeName(node),
            Incarnation(incarnation),
            source.inventory(),
            cpus or os.cpu_count() or 1,
            int(memory_gib * 1024) if memory_gib else memory_mib(),
            time.time(),
            address or socket.gethostname(),
            source.name,
            pool=traits.pool,
            rack=traits.rack,
            labels=dict(traits.labels),
            version=__version__,
            pid=os.getpid(),
        )

    launcher = Launcher(
        cluster=config.cluster, storage=Path(config.storage), source=source, data_set=lambda: identity.known
    )
    node_lease = NodeLease(renewals, keys, terms=lease, unfenced=fence == "operator")
    agent = NodeAgent(store, keys, KeeperClient(folder, node), launcher, source, node_lease)
    agent.join(describe, node_identity(folder))
    agent.start()
    try:
        run_worker(config.redis, keys, Destination(agent.node.name, agent.node.incarnation), agent.on_hints)
    finally:
        agent.stop()
