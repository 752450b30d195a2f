"""From what a job says it needs to a Request: shares, models, labels, nodes to avoid, pool, and how close together."""

from __future__ import annotations

from typing import Any, Final

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shunter.domain.job import JobSpec, Request, Within, in_gpus
from shunter.errors import InvalidInput
from shunter.gateway.resources import read_request
from tests.strategies import BRIEF


def request_of(**fields: Any) -> Request:
    """Return the request of a job with *fields*, which travel as JSON."""
    body = msgspec.json.encode({"command": "x", **fields})
    return read_request(msgspec.json.decode(body, type=JobSpec))


@pytest.mark.parametrize(("gpus", "milli"), [(0.25, 250), (0.001, 1), (0.999, 999), (0.3, 300), (0.1, 100)])
def test_a_number_below_one_is_a_share_of_one_gpu(gpus: float, milli: int) -> None:
    assert request_of(gpus=gpus) == Request(1, gpu_milli=milli)


@pytest.mark.parametrize(("gpus", "whole"), [(1, 1), (2, 2), (1.0, 1), (8.0, 8), (0.0, 0)])
def test_whole_numbers_are_whole_gpus_however_they_are_written(gpus: float, whole: int) -> None:
    request = request_of(gpus=gpus)
    assert (request.gpus, request.gpu_milli) == (whole, 1_000)
    assert isinstance(request.gpus_per_node, int)


@BRIEF
@given(st.integers(1, 999))
def test_every_thousandth_can_be_asked_for(milli: int) -> None:
    request = request_of(gpus=milli / 1_000)
    assert request.milli == milli
    assert in_gpus(request.milli) == milli / 1_000


def test_models_are_one_a_choice_or_a_list() -> None:
    assert request_of(gpu_model="H100").models == ("H100",)
    assert request_of(gpu_model="H100 | A100|H100").models == ("A100", "H100")
    assert request_of(gpu_model=["H100", "A100"]).models == ("A100", "H100")
    assert request_of(gpu_model="NVIDIA RTX 6000/8000").models == ("NVIDIA RTX 6000/8000",)
    assert len(request_of(gpu_model=[f"m{number}" for number in range(16)]).models) == 16


def test_labels_are_sorted_pairs() -> None:
    assert request_of(labels={"zone": "a", "disk": "nvme"}).labels == (("disk", "nvme"), ("zone", "a"))


def test_nodes_to_avoid_come_in_a_list_with_commas_or_both() -> None:
    assert request_of(avoid=["n3", "n1,n2", "n3"]).avoid == ("n1", "n2", "n3")
    assert request_of(avoid="n2, n1").avoid == ("n1", "n2")
    assert request_of(avoid=[]).avoid == ()
    assert len(request_of(avoid=[f"n{number}" for number in range(1_000)]).avoid) == 1_000


def test_pool_and_closeness_arrive() -> None:
    request = request_of(pool="gold", within="rack", gpus=16, nodes=2)
    assert (request.pool, request.within) == ("gold", Within.RACK)
    assert request_of(within="island", gpus=4).within is Within.ISLAND


@pytest.mark.parametrize(
    ("within", "fields"),
    [
        ("island", {"gpus": 1}),
        ("island", {"gpus": 0.5}),
        ("rack", {"gpus": 1}),
        ("rack", {"gpus": 0.5}),
        ("rack", {"gpus": 0}),
        ("rack", {"gpus": 0, "nodes": 2}),
    ],
)
def test_what_is_close_together_anyway_is_no_mistake(within: str, fields: dict[str, Any]) -> None:
    assert request_of(within=within, **fields).within == within


MODEL: Final = "gpu_model: expected a model (1 to 64 letters, digits, spaces and ._/()+-)"
REFUSED: Final[list[tuple[dict[str, Any], str]]] = [
    (
        {"gpus": 1.5},
        "gpus: expected a whole number, or a share below 1, got 1.5; "
        "ask for 1 or 2 whole GPUs, or for a share such as 0.5",
    ),
    ({"gpus": 0.1234}, "gpus: expected a share in steps of 0.001, got 0.1234; ask for 0.123"),
    ({"gpus": 0.0001}, "gpus: expected a share in steps of 0.001, got 0.0001; ask for 0.001"),
    ({"gpus": 0.9999}, "gpus: expected a share in steps of 0.001, got 0.9999; ask for 0.999"),
    (
        {"gpus": 0.5, "nodes": 2},
        "gpus: expected whole GPUs for 2 nodes, got 0.5; a share is of one GPU: ask for one node, or for a GPU on each",
    ),
    ({"gpus": 3, "nodes": 2}, "gpus: expected a multiple of nodes (2), got 3; ask for 2 or another multiple of 2"),
    (
        {"gpu_model": ""},
        "gpu_model: expected a model (1 to 64 letters, digits, spaces and ._/()+-), got ''; "
        "write H100, or A100|H100 where either will do; `shunter nodes` shows the models",
    ),
    ({"gpu_model": "|"}, f"{MODEL}, got '' in '|'; write H100, or A100|H100 where either will do"),
    ({"gpu_model": "a||b"}, f"{MODEL}, got '' in 'a||b'; write"),
    ({"gpu_model": "A100|"}, f"{MODEL}, got '' in 'A100|'; write"),
    ({"gpu_model": ["A100", ""]}, f"{MODEL}, got '' in ['A100', '']; write"),
    ({"gpu_model": "x" * 65}, f"{MODEL}, got 'xxx"),
    ({"gpu_model": "H\x1b1"}, f"{MODEL}, got 'H\\x1b1'; write"),
    ({"gpu_model": []}, "gpu_model: expected 1 to 16 models, got 0; name one, or leave it out"),
    ({"gpu_model": [f"m{n}" for n in range(17)]}, "gpu_model: expected 1 to 16 models, got 17; name fewer"),
    ({"gpu_model": "H100", "gpus": 0}, "gpu_model: expected none for a job without GPUs, got H100; ask for a GPU, or"),
    ({"labels": {"zone": "a b"}}, "labels.zone: expected 1 to 63 letters"),
    ({"labels": {f"k{n}": "v" for n in range(33)}}, "labels: expected at most 32, got 33; leave some out"),
    ({"avoid": ["n1", "n[2-4]"]}, "avoid: expected 1 to 63 letters"),
    ({"avoid": [f"n{n}" for n in range(1_001)]}, "avoid: expected at most 1000 nodes, got 1001; choose the nodes with"),
    (
        {"avoid": ""},
        "avoid: expected 1 to 63 letters, digits, '.', '_' and '-', the first a letter or digit, got ''; give",
    ),
    ({"avoid": ["n1", " "]}, "avoid: expected 1 to 63 letters"),
    ({"avoid": "n1,,n2"}, "avoid: expected 1 to 63 letters"),
    ({"avoid": "n1,"}, "avoid: expected 1 to 63 letters"),
    ({"pool": ""}, "pool: expected 1 to 63 letters"),
    ({"pool": "p" * 300}, "pool: expected 1 to 63 letters"),
    ({"pool": "p\n"}, "pool: expected 1 to 63 letters"),
    ({"pool": "go ld"}, "pool: expected 1 to 63 letters"),
    (
        {"within": "island", "gpus": 4, "nodes": 2},
        "within: expected rack for a job on 2 nodes, got island; GPUs joined",
    ),
    ({"within": "island", "gpus": 0}, "within: expected none or rack for a job without GPUs, got island; an island is"),
    ({"within": "island", "gpus": 0, "nodes": 2}, "within: expected none or rack for a job without GPUs, got island"),
]


@pytest.mark.parametrize(("fields", "text"), REFUSED, ids=[text[:50] for _, text in REFUSED])
def test_a_refusal_names_field_value_limit_and_fix(fields: dict[str, Any], text: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        request_of(**fields)
    assert str(caught.value).startswith(text)
    assert caught.value.field == text.partition(":")[0]
    assert caught.value.fix
