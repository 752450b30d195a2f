"""`shunter coordinator`."""

from __future__ import annotations

import os
import signal
import socket

import click


@click.command(short_help="Run a coordinator (one of several leads).")
@click.option(
    "--redis", envvar="SHUNTER_REDIS", metavar="URL",
    help="Redis of the cluster (default: SHUNTER_REDIS, else the home's own).",
)  # fmt: skip
@click.option("--cluster", envvar="SHUNTER_CLUSTER", help="Name of the cluster (default: SHUNTER_CLUSTER, else main).")
@click.option("--home", type=click.Path(file_okay=False), help="State folder (default: SHUNTER_HOME).")
@click.option(
    "--policy",
    envvar="SHUNTER_POLICY",
    metavar="FILE|NAME",
    help="Who goes first and where (default: SHUNTER_POLICY, else policy.yaml in the home, else the shipped default).",
)
@click.option("--name", help="Name of this coordinator (default: host and process id).")
def coordinator(redis: str | None, cluster: str | None, home: str | None, policy: str | None, name: str | None) -> None:
    """Run a coordinator: it decides what runs where. Start two or three; one leads, the others stand by.

    The policy's file is followed while it runs; what `shunter policy check` refuses changes nothing.

    \b
    Examples:
      shunter coordinator --redis redis://10.0.0.5:6379/0
      shunter coordinator --redis redis://10.0.0.5:6379/0 --policy /etc/shunter/policy.yaml
    """
    from shunter.coordinator.loop import Loop
    from shunter.coordinator.policy_source import PolicySource
    from shunter.dispatch.celery import CeleryDispatcher
    from shunter.runtime import log
    from shunter.runtime.config import settings
    from shunter.runtime.variables import naming_variables
    from shunter.store.identity import Identity, home_record
    from shunter.store.keys import Keys
    from shunter.store.redis import Store
    from shunter.store.startup import check_settings

    log.configure("coordinator")
    with naming_variables():
        config = settings(cluster=cluster, redis=redis, home=home)
        keys = Keys(config.cluster)
        store = Store(config.redis, identity=Identity(keys, home_record(config.home, config.cluster)))
        source = PolicySource(policy or None, config.home)
    check_settings(store)
    name = name or f"{socket.gethostname()}-{os.getpid()}"
    loop = Loop(store, keys, CeleryDispatcher(config.redis, keys), source, name)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: loop.stop.set())
    loop.run()
