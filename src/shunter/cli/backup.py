"""`shunter backup` and `shunter restore`: a cluster's state in a file."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from shunter.store.keys import Keys
    from shunter.store.redis import Store


def _store_options(command: Callable[..., Any]) -> Callable[..., Any]:
    redis = click.option("--redis", envvar="SHUNTER_REDIS", metavar="URL", help="Redis (default: the home's own).")
    cluster = click.option("--cluster", envvar="SHUNTER_CLUSTER", help="Name of the cluster (main).")
    home = click.option("--home", type=click.Path(file_okay=False), help="State folder (default: SHUNTER_HOME).")
    return redis(cluster(home(command)))


@contextlib.contextmanager
def _opened(redis: str | None, cluster: str | None, home: str | None) -> Iterator[tuple[Store, Keys]]:
    from shunter.runtime.config import settings
    from shunter.store.keys import Keys
    from shunter.store.redis import Store
    from shunter.store.routes import with_cluster

    config = settings(cluster=cluster, redis=redis, home=home)
    with contextlib.closing(Store(with_cluster(config.redis, config.cluster), timeout_s=60.0)) as store:
        yield store, Keys(config.cluster)


@click.command(short_help="Write all state of a cluster to a file.")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@_store_options
def backup(file: Path, redis: str | None, cluster: str | None, home: str | None) -> None:
    """Write all state of a cluster to a file: jobs, nodes, use, events; all of one moment. All goes on meanwhile.

    Logs and checkpoints are on shared storage, and not in it. It has the environment of each job: keep it safe.

    \b
    Example:  shunter backup /mnt/backups/shunter-$(date +%F)
    """
    from shunter.store.backup import take, write

    with _opened(redis, cluster, home) as (store, keys):
        found = take(store, keys)
    write(found, file)
    click.echo(f"wrote {file}: cluster {found.cluster}, {len(found.keys)} keys, {file.stat().st_size} bytes")


@click.command(short_help="Put a backup into a Redis.")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@_store_options
@click.option("--replace", is_flag=True, help="Delete what this Redis has of the cluster first.")
def restore(file: Path, redis: str | None, cluster: str | None, home: str | None, replace: bool) -> None:
    """Put a backup into a Redis that has nothing of the cluster. Stop all gateways and coordinators before.

    Jobs that were submitted after the backup are unknown then, and end where they run; jobs that ended after it run
    again. Job numbers go on 10,000 further on.

    \b
    Example:  shunter restore /mnt/backups/shunter-2026-11-24 --redis redis://10.0.0.5:6379/0
    """
    from shunter.store import backup

    found = backup.read(file)
    with _opened(redis, cluster or found.cluster, home) as (store, keys):
        backup.restore(store, keys, found, replace=replace)
    at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(found.at_s))
    click.echo(f"restored cluster {found.cluster} as it was at {at}; start coordinators and gateways")
