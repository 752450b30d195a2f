"""What people ask for these days: weights are powers of two, and change only now and then."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from shunter.domain.job import Request
from shunter.scheduling.mix import Mix
from tests.strategies import BRIEF
from tests.unit.scheduling.worlds import asks

SHAPES = [Request(0, cpus=1), Request(1), Request(2), Request(1, gpu_milli=250), Request(8, 4), Request(1, pool="gold")]
changes = st.lists(st.tuples(st.sampled_from(SHAPES), st.booleans()), max_size=60)


def mixed(counts: Counter[Request]) -> Mix:
    mix = Mix()
    for request in counts.elements():
        mix.add(request)
    return mix


@given(changes)
@BRIEF
def test_weights_depend_on_what_is_there_and_not_on_how_it_came(made: list[tuple[Request, bool]]) -> None:
    mix, counts = Mix(), Counter[Request]()
    for request, comes in made:
        version, weights = mix.version, mix.weights
        if comes:
            mix.add(request)
            counts[request] += 1
        elif counts[request]:
            mix.remove(request)
            counts[request] -= 1
        assert mix.weights == mixed(counts).weights
        assert mix.version != version or mix.weights == weights, "what was computed for a version must stay true"


@given(st.lists(asks, max_size=20))
@BRIEF
def test_a_weight_is_the_next_power_of_two_above_the_count(made: list[Request]) -> None:
    counts = Counter(made)
    for request, weight in mixed(counts).weights:
        assert weight / 2 <= counts[request] < weight
    assert {request for request, _ in mixed(counts).weights} == {request for request in counts if request.gpus}


def test_the_heaviest_come_first_and_jobs_without_gpus_do_not_count() -> None:
    mix = mixed(Counter({Request(1): 2, Request(2): 9, Request(4): 3, Request(0, cpus=4): 50}))
    assert mix.weights == ((Request(2), 16), (Request(1), 4), (Request(4), 4))


def test_only_the_64_most_frequent_shapes_count() -> None:
    mix = mixed(Counter({Request(gpus): 1 + (gpus == 70) for gpus in range(1, 71)}))
    assert len(mix.weights) == 64
    assert mix.weights[:2] == ((Request(70), 4), (Request(1), 2))


def test_what_has_gone_is_forgotten() -> None:
    mix = mixed(Counter({Request(1): 2}))
    mix.remove(Request(1))
    mix.remove(Request(1))
    assert mix.weights == ()
