"""A Celery app that has nothing to do with Shunter: its tasks write a line into the file that the worker was told."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any, Final

from celery import Celery
from celery.worker import WorkController

import kombu_rediscluster  # noqa: F401  teaches Kombu the scheme

QUICK: Final = {"visibility_timeout": 3, "unacked_restore_interval": 0.5, "unacked_restore_throttle": 1}
"""What is taken and not acknowledged comes back after seconds, not after an hour."""


def build(url: str, **options: Any) -> Any:
    """Return the app with the broker at *url*; *options* go to the transport."""
    app = Celery("notes", broker=url, set_as_current=False)
    app.conf.update(
        broker_transport_options={"confirm_replicas": 1, "socket_timeout": 5, **QUICK, **options},
        broker_connection_retry_on_startup=True,
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        task_ignore_result=True,
        worker_prefetch_multiplier=4,
    )

    app.task(write, name="note")
    app.task(hold, name="hold")
    app.task(when, name="when")
    return app


def write(line: str) -> None:
    with Path(os.environ["NOTES"]).open("a") as file:
        file.write(line + "\n")


def hold(line: str) -> None:
    """Say so at the start, and go on once there is a file of that name beside the worker's."""
    write(f"{line} started")
    while not Path(os.environ["NOTES"]).with_name(line).exists():
        time.sleep(0.02)
    write(f"{line} ended")


def when(line: str) -> None:
    write(f"{line} {time.time()}")


app = build(os.environ.get("BROKER", ""), **json.loads(os.environ.get("OPTIONS", "{}")))

if os.environ.get("LOOP") == "blocking":  # which Celery has for gevent and eventlet
    WorkController.should_use_eventloop = lambda _: False
