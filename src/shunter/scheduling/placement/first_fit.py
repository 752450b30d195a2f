"""First fit: the node that joined first. Fast, and leaves holes everywhere; a baseline to compare with."""

from __future__ import annotations

from shunter.scheduling.placement import Plain


class Part(Plain):
    pass
