"""A Redis Cluster transport for Kombu and Celery: `rediscluster://h1:p1;h2:p2;h3:p3/TAG`.

Import this package once, before the first connection; after that Kombu knows the scheme. See the README beside it.
"""

from __future__ import annotations

from typing import Final

from kombu.transport import TRANSPORT_ALIASES

TRANSPORT: Final = "kombu_rediscluster.transport:Transport"
TRANSPORT_ALIASES["rediscluster"] = TRANSPORT
