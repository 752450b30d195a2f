"""What is free on a node: devices are picked and given back so that profiles say what they hold."""

from __future__ import annotations

from hypothesis import assume, given
from hypothesis import strategies as st
from msgspec.structs import replace

from shunter.domain.ids import Incarnation
from shunter.domain.job import WHOLE_GPU, Request, Within
from shunter.domain.node import Node
from shunter.domain.phase import NodeShare
from shunter.scheduling.free import Free, Profile
from tests.strategies import BRIEF, NODE_NAMES
from tests.unit.scheduling.cluster import nodes_of
from tests.unit.scheduling.worlds import Rest, asks, fleet_nodes

members = st.one_of(
    asks.map(lambda request: replace(request, nodes=1, last_gpus=0)),
    st.sampled_from([250, 500, 700]).map(lambda milli: Request(1, gpu_milli=milli)),
)


@st.composite
def taken_nodes(draw: st.DrawFn) -> tuple[Node, list[NodeShare]]:
    """A node of any kind, and shares that it gave, whole devices and parts."""
    node = draw(fleet_nodes(NODE_NAMES[0]))
    rest, shares = Rest(node), []
    for request in draw(st.lists(members, max_size=6)):
        share = rest.room(request, request.gpus_per_node)
        if share is not None:
            rest.take(share)
            shares.append(share)
    return node, shares


def share_of(node: Node, request: Request, free: Free, device: int) -> NodeShare:
    gpus = free.pick(request, request.gpus_per_node, device) if request.gpus_per_node else ()
    return NodeShare(node.name, Incarnation("1"), gpus, request.cpus, request.memory_mib, request.gpu_milli)


def choices(profile: Profile, request: Request) -> tuple[int, ...]:
    return (WHOLE_GPU,) if request.gpu_milli == WHOLE_GPU else profile.devices(request)


@given(taken_nodes(), members, st.data())
@BRIEF
def test_the_profile_after_a_placement_is_that_of_what_is_left_once_it_was_picked_and_taken(
    taken: tuple[Node, list[NodeShare]], request: Request, data: st.DataObject
) -> None:
    node, shares = taken
    free = Free.of(node, shares)
    profile = free.profile()
    assume(profile.fits(request, request.gpus_per_node))
    device = data.draw(st.sampled_from(choices(profile, request)))
    free.take(share_of(node, request, free, device))
    assert free.profile() == profile.after(request, request.gpus_per_node, device)


@given(taken_nodes(), members, st.data())
@BRIEF
def test_what_is_picked_is_free_and_healthy_and_in_one_island_where_asked(
    taken: tuple[Node, list[NodeShare]], request: Request, data: st.DataObject
) -> None:
    node, shares = taken
    free, rest = Free.of(node, shares), Rest(node, shares)
    assume(free.profile().fits(request, request.gpus_per_node))
    picked = share_of(node, request, free, data.draw(st.sampled_from(choices(free.profile(), request)))).gpus
    healthy = {gpu.index: gpu.island for gpu in node.gpus if gpu.healthy}
    assert len(set(picked)) == request.gpus_per_node
    assert list(picked) == sorted(picked)
    assert all(gpu in healthy and rest.free[gpu] >= request.gpu_milli for gpu in picked)
    if request.within is Within.ISLAND:
        assert len({healthy[gpu] for gpu in picked}) <= 1


@given(taken_nodes(), members)
@BRIEF
def test_a_profile_fits_what_a_look_at_the_devices_says(taken: tuple[Node, list[NodeShare]], request: Request) -> None:
    node, shares = taken
    rest = Rest(replace(node, gpus=tuple(gpu for gpu in node.gpus if gpu.healthy)), shares)
    islands = {gpu.island for gpu in node.gpus} if request.within is Within.ISLAND else {None}
    found = False
    for island in islands or {None}:
        part = replace(node, gpus=tuple(gpu for gpu in rest.node.gpus if island in (None, gpu.island)))
        found |= Rest(part, shares).room(request, request.gpus_per_node) is not None
    assert Free.of(node, shares).profile().fits(request, request.gpus_per_node) == found


@given(taken_nodes(), st.randoms())
@BRIEF
def test_what_was_given_back_is_free_again_in_whatever_order(
    taken: tuple[Node, list[NodeShare]], random: object
) -> None:
    node, shares = taken
    free = Free.of(node, shares)
    for number, share in enumerate(shares):
        if number % 2:
            free.give_back(share)
    left = [share for number, share in enumerate(shares) if not number % 2]
    assert state(free) == state(Free.of(node, left))
    random.shuffle(left)  # type: ignore[attr-defined]
    for share in left:
        free.give_back(share)
    assert state(free) == state(Free.of(node, ()))
    assert free.idle == {gpu.index for gpu in node.gpus if gpu.healthy}


def state(free: Free) -> tuple[object, ...]:
    return free.idle, free.parts, free.cpus, free.memory_mib, free.profile()


@given(taken_nodes())
@BRIEF
def test_a_copy_goes_its_own_way(taken: tuple[Node, list[NodeShare]]) -> None:
    node, shares = taken
    free = Free.of(node, ())
    before = state(free.copy())
    twin = free.copy()
    for share in shares:
        twin.take(share)
    assert state(free) == before


@given(taken_nodes())
@BRIEF
def test_a_profile_counts_what_is_free(taken: tuple[Node, list[NodeShare]]) -> None:
    node, shares = taken
    rest, healthy = Rest(node, shares), [gpu.index for gpu in node.gpus if gpu.healthy]
    profile = Free.of(node, shares).profile()
    assert profile.idle == sum(rest.free[gpu] == WHOLE_GPU for gpu in healthy)
    assert profile.milli == sum(rest.free[gpu] for gpu in healthy)
    assert sorted(profile.parts) == sorted(rest.free[gpu] for gpu in healthy if 0 < rest.free[gpu] < WHOLE_GPU)


def test_a_device_that_is_given_up_to_the_last_thousandth_is_no_part() -> None:
    (node,) = nodes_of("n1:2")
    free = Free.of(node, ())
    for milli in (400, 600):
        free.take(NodeShare(node.name, node.incarnation, (1,), gpu_milli=milli))
    assert free.profile() == Profile((1,), (), node.cpus, node.memory_mib)


def test_a_node_without_gpus_holds_what_needs_none() -> None:
    profile = Free.of(nodes_of("n1:0")[0], ()).profile()
    assert (profile.idle, profile.milli) == (0, 0)
    assert profile.fits(Request(0, cpus=1), 0)
    assert profile.fits(Request(0, within=Within.ISLAND), 0)
    assert not profile.fits(Request(1, gpu_milli=1), 1)
    assert profile.after(Request(0, cpus=4), 0, WHOLE_GPU).cpus == profile.cpus - 4
