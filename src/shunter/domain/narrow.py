"""Which nodes, and which of their GPUs, a request may use at all, whatever is free on them."""

from __future__ import annotations

import re
from collections import Counter
from functools import lru_cache

from shunter.domain.job import Request, Within
from shunter.domain.node import Node


def allowed(node: Node, request: Request) -> bool:
    """Whether pool, labels and the nodes to avoid leave *node* to *request*."""
    return (
        request.pool in ("", node.pool)
        and all(node.labels.get(name) == value for name, value in request.labels)
        and node.name not in request.avoid
    )


@lru_cache(maxsize=4_096)
def is_model(wanted: tuple[str, ...], model: str) -> bool:
    """Whether a GPU of *model* is one of *wanted*; any is, if nothing is wanted.

    All words of a wanted one stand in the model, in either case: `H100` is any `NVIDIA H100 80GB HBM3`, and `A10` is
    no `A100`.
    """
    return not wanted or any(words and words <= _words(model) for words in map(_words, wanted))


def _words(text: str) -> frozenset[str]:
    return frozenset(re.findall(r"[a-z0-9]+", text.lower()))


def most_gpus(node: Node, request: Request) -> int:
    """Return how many devices of *node*, healthy or not, one member of *request* could hold together.

    A node of mixed models must be all of the models asked for: a job is not told which device is which.
    """
    if not all(is_model(request.models, gpu.model) for gpu in node.gpus):
        return 0
    if request.within is Within.ISLAND:
        return max(Counter(gpu.island for gpu in node.gpus).values(), default=0)
    return len(node.gpus)
