"""A Redis Cluster transport for Kombu and Celery: `rediscluster://h1:p1;h2:p2;h3:p3/TAG`.

Import this package once, before the first connection; after that Kombu knows the scheme. See the README beside it.
"""

from __future__ import annotations

from typing import Any, Final

from kombu.connection import Connection
from kombu.transport import TRANSPORT_ALIASES
from kombu.utils.collections import HashedSeq

from kombu_rediscluster.url import SCHEME

TRANSPORT: Final = "kombu_rediscluster.transport:Transport"

_plain_eqhash: Final = Connection.__eqhash__


def _eqhash(self: Any) -> Any:
    """Tell pools of connections apart by all that a URL says.

    Kombu (5.7) takes connections whose first hosts are the same for the same, so that an app would publish with the
    tag, which stands behind the last host, of another app in its process. Connections of other transports are not
    concerned.
    """
    plain = _plain_eqhash(self)
    return HashedSeq(*plain, *self.alt) if self.transport_cls == SCHEME else plain


Connection.__eqhash__ = _eqhash  # type: ignore[method-assign]
TRANSPORT_ALIASES[SCHEME] = TRANSPORT
