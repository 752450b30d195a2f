"""`shunter gateway`."""

from __future__ import annotations

import click


@click.command(short_help="Run a gateway (the HTTP API; any number).")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=8470, show_default=True, type=click.IntRange(1, 65_535), help="Port to listen on.")
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
@click.option("--token-file", type=click.Path(dir_okay=False), help="Bearer token (default: token in the home).")
def gateway(
    host: str,
    port: int,
    redis: str | None,
    cluster: str | None,
    home: str | None,
    storage: str | None,
    token_file: str | None,
) -> None:
    """Run a gateway: the HTTP API that people and programs talk to. It keeps no state; start as many as you like.

    \b
    Example:  shunter gateway --host 0.0.0.0 --port 8470 --redis redis://10.0.0.5:6379/0
    """
    import contextlib
    import getpass
    from pathlib import Path

    import structlog
    import uvicorn

    from shunter.gateway.app import make_app
    from shunter.gateway.auth import load_or_make_token
    from shunter.gateway.hub import Hub
    from shunter.gateway.service import Service
    from shunter.runtime import log
    from shunter.runtime.config import settings
    from shunter.runtime.variables import naming_variables
    from shunter.store.identity import Identity, home_record
    from shunter.store.keys import Keys
    from shunter.store.redis import AsyncStore, Store
    from shunter.store.startup import check_settings

    log.configure("gateway")
    with naming_variables():
        config = settings(cluster=cluster, redis=redis, home=home, storage=storage)
        identity = Identity(Keys(config.cluster), home_record(config.home, config.cluster))
        store = AsyncStore(config.redis, identity=identity)
        with contextlib.closing(Store(store.url)) as once:
            check_settings(once)
        service = Service(store, config, getpass.getuser())
    token = load_or_make_token(Path(token_file) if token_file else config.home / "token")
    app = make_app(service, Hub(store, service.keys), token)
    structlog.get_logger("gateway").info("listening", url=f"http://{host}:{port}", cluster=config.cluster)
    uvicorn.run(
        app, host=host, port=port, loop="uvloop", http="httptools", access_log=False, log_level="warning",
        timeout_graceful_shutdown=2,
    )  # fmt: skip
