"""`shunter deploy redis`: configuration files for a Redis that survives the loss of a machine."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import click

from shunter.cli.table import pairs
from shunter.errors import InvalidInput, NotFound


@click.group(short_help="Write configuration for what Shunter runs on.")
def deploy() -> None:
    """Write configuration for what Shunter runs on.

    \b
    Example:  shunter deploy redis --mode sentinel --start
    """


@deploy.command(short_help="See whether a Redis is set up so that jobs are safe there.")
@click.option("--redis", "url", envvar="SHUNTER_REDIS", required=True, metavar="URL", help="As the roles get it.")
@click.option("--lease", type=click.Choice(["normal", "fast"]), default="normal", show_default=True)
def check(url: str, lease: str) -> None:
    """See whether a Redis is set up so that jobs are safe there. Exit code 3: roles would refuse it.

    \b
    Example:  shunter deploy check --redis 'sentinel://10.0.0.1:26379;10.0.0.2:26379;10.0.0.3:26379/shunter'
    """
    from shunter.domain.lease import TERMS
    from shunter.store.checks import problems
    from shunter.store.redis import Store
    from shunter.store.routes import CLUSTER, parse, with_cluster

    if parse(url).kind == CLUSTER and not parse(url).name:
        url = with_cluster(url, os.environ.get("SHUNTER_CLUSTER") or "main")
    with contextlib.closing(Store(url)) as store:
        found = list(problems(store.examine(), TERMS[lease]))
    for problem in found:
        click.echo(f"{'refused' if problem.refused else 'warning'}  {problem}")
    if any(problem.refused for problem in found):
        raise click.exceptions.Exit(3)
    if not found:
        click.echo("all as it should be")


@deploy.command(short_help="Redis with Sentinel, or a Redis Cluster.")
@click.option("--mode", type=click.Choice(["sentinel", "cluster"]), required=True, help="See docs/redis.md.")
@click.option(
    "--hosts", default="127.0.0.1", show_default=True, metavar="H1,H2,H3",
    help="Machines to spread the servers over: three, or six for a cluster; one is for trying it out.",
)  # fmt: skip
@click.option("--dir", "folder", default="shunter-redis", show_default=True, metavar="DIR", help="Where files go.")
@click.option("--port", type=click.IntRange(1, 50_000), help="First port (6379; of a cluster 7000).")
@click.option(
    "--sentinel-port",
    type=click.IntRange(1, 50_000),
    default=26_379,
    show_default=True,
    help="First port of sentinels.",
)
@click.option("--password", envvar="SHUNTER_REDIS_PASSWORD", default="", help="Password of all data servers.")
@click.option("--start", is_flag=True, help="Start all servers here, in the background (one host only).")
@click.option("--stop", is_flag=True, help="Stop those that were started.")
def redis(
    mode: str, hosts: str, folder: str, port: int | None, sentinel_port: int, password: str, start: bool, stop: bool
) -> None:
    """Write a configuration file for each Redis server and sentinel, and say which URL Shunter is to be given.

    With --start they run here at once, for trying it out: on real machines, have the service manager of each start
    what is in its folders.

    \b
    Examples:
      shunter deploy redis --mode sentinel --start
      shunter deploy redis --mode cluster --hosts 10.0.0.1,10.0.0.2,10.0.0.3 --dir /etc/shunter/redis
      shunter deploy redis --mode sentinel --stop
    """
    from shunter.local.redis_servers import RedisServers
    from shunter.store.deploy import plan

    names = [host.strip() for host in hosts.split(",") if host.strip()]
    first = port or (6_379 if mode == "sentinel" else 7_000)
    made = plan(mode, names, port=first, sentinel_port=sentinel_port, password=password)
    servers = RedisServers(made, Path(folder), password)
    if start and stop:
        raise InvalidInput("start, stop: expected one of them, got both", fix="leave one out")
    if start and len(names) > 1:
        raise InvalidInput("start: starts servers on this machine only", fix="start each on its own; see docs/redis.md")
    if stop:
        if not Path(folder).is_dir():
            raise NotFound(f"dir: nothing in {folder}", field="dir", fix="give the --dir they were started with")
        servers.stop()
        click.echo("stopped")
        return
    written = servers.write()
    if start:
        try:
            servers.start_all()
        except BaseException:
            servers.stop()
            raise
    else:
        for path in written:
            click.echo(path)
    click.echo(pairs([("Redis", "runs" if start else "is to be started from these files"), ("URL", made.url)]))
    if mode == "cluster" and not start:
        every = " ".join(f"{one.host}:{one.port}" for one in made.servers)
        login = f" -a {password}" if password else ""
        click.echo(f"once all six run: redis-cli{login} --cluster create {every} --cluster-replicas 1")
