"""From what a job says it needs to a Request, with errors that name field, value, limit and fix."""

from __future__ import annotations

import re
from typing import Final

from shunter.domain.ids import NodeName
from shunter.domain.job import MAX_AVOIDED, MAX_MODELS, WHOLE_GPU, JobSpec, Request, Within
from shunter.domain.words import check_labels, check_word
from shunter.errors import InvalidInput

_MODEL: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._/()+-]{0,63}", re.ASCII)
_DUST: Final = 1e-6
"""How far a share may be from whole thousandths: what reading `0.3` as a binary fraction costs, and far less than a
thousandth."""


def read_request(spec: JobSpec) -> Request:
    """Return what *spec* asks for. Raises InvalidInput for what no cluster could be asked."""
    gpus, milli = _gpus(spec.gpus)
    _check_gpus(gpus, milli, spec)
    per_node = gpus // spec.nodes
    return Request(
        per_node,
        spec.nodes,
        # A job that takes neither a GPU nor a core would let a node start any number of them.
        spec.cpus or int(per_node == 0),
        round(spec.memory_gib * 1024),
        gpu_milli=milli,
        models=_models(spec, gpus),
        labels=tuple(check_labels(spec.labels).items()),
        avoid=_avoid(spec.avoid),
        pool="" if spec.pool is None else check_word("pool", spec.pool),
        within=_within(spec),
    )


def _gpus(given: int | float) -> tuple[int, int]:
    """Return (devices, thousandths of each)."""
    if given == int(given):
        return int(given), WHOLE_GPU
    if given > 1:
        raise InvalidInput(
            f"gpus: expected a whole number, or a share below 1, got {given}",
            field="gpus",
            fix=f"ask for {int(given)} or {int(given) + 1} whole GPUs, or for a share such as 0.5",
        )
    milli = round(given * WHOLE_GPU)
    if not 1 <= milli < WHOLE_GPU or abs(given * WHOLE_GPU - milli) > _DUST:
        nearest = min(max(milli, 1), WHOLE_GPU - 1) / WHOLE_GPU
        raise InvalidInput(
            f"gpus: expected a share in steps of 0.001, got {given}", field="gpus", fix=f"ask for {nearest:g}"
        )
    return 1, milli


def _check_gpus(gpus: int, milli: int, spec: JobSpec) -> None:
    if milli < WHOLE_GPU and spec.nodes > 1:
        raise InvalidInput(
            f"gpus: expected whole GPUs for {spec.nodes} nodes, got {spec.gpus}",
            field="gpus",
            fix="a share is of one GPU: ask for one node, or for a GPU on each",
        )
    if gpus % spec.nodes:
        raise InvalidInput(
            f"gpus: expected a multiple of nodes ({spec.nodes}), got {gpus}",
            field="gpus",
            fix=f"ask for {gpus // spec.nodes * spec.nodes or spec.nodes} or another multiple of {spec.nodes}",
        )


def _models(spec: JobSpec, gpus: int) -> tuple[str, ...]:
    if spec.gpu_model is None:
        return ()
    given = spec.gpu_model.split("|") if isinstance(spec.gpu_model, str) else spec.gpu_model
    models = sorted({model.strip() for model in given})
    if not 1 <= len(models) <= MAX_MODELS:
        fix = "name fewer" if models else "name one, or leave it out"
        raise InvalidInput(
            f"gpu_model: expected 1 to {MAX_MODELS} models, got {len(models)}", field="gpu_model", fix=fix
        )
    for model in models:
        if not _MODEL.fullmatch(model):
            whole = f" in {spec.gpu_model!r:.80}" if len(given) > 1 else ""
            raise InvalidInput(
                f"gpu_model: expected a model (1 to 64 letters, digits, spaces and ._/()+-), got {model!r:.80}{whole}",
                field="gpu_model",
                fix="write H100, or A100|H100 where either will do; `shunter nodes` shows the models",
            )
    if not gpus:
        raise InvalidInput(
            f"gpu_model: expected none for a job without GPUs, got {' or '.join(models)}",
            field="gpu_model",
            fix="ask for a GPU, or choose the node with labels",
        )
    return tuple(models)


def _avoid(given: str | list[str]) -> tuple[NodeName, ...]:
    texts = [given] if isinstance(given, str) else given
    names = sorted({name.strip() for text in texts for name in text.split(",")})
    if len(names) > MAX_AVOIDED:
        raise InvalidInput(
            f"avoid: expected at most {MAX_AVOIDED} nodes, got {len(names)}",
            field="avoid",
            fix="choose the nodes with labels or a pool instead",
        )
    return tuple(NodeName(check_word("avoid", name)) for name in names)


def _within(spec: JobSpec) -> Within:
    """Whole nodes of a job without GPUs may be in one rack; an island is one of GPUs."""
    if spec.within is Within.ISLAND and not spec.gpus:
        raise InvalidInput(
            "within: expected none or rack for a job without GPUs, got island",
            field="within",
            fix="an island is of GPUs that NVLink joins: ask for a GPU, or leave within out",
        )
    if spec.within is Within.ISLAND and spec.nodes > 1:
        raise InvalidInput(
            f"within: expected rack for a job on {spec.nodes} nodes, got island",
            field="within",
            fix="GPUs joined by NVLink are on one node: ask for rack, or for one node",
        )
    return spec.within
