"""The text of the Lua scripts: the table is the core's, keys are declared, commands are those of Redis 6.2."""

from __future__ import annotations

import re
from importlib import resources
from typing import Any, Final

import pytest

from shunter.domain.event import (
    Cancelled,
    Event,
    Exited,
    MemberClaimed,
    MemberExited,
    MemberFailed,
    Placed,
    Requeued,
    Returned,
    Started,
    StopAsked,
)
from shunter.domain.phase import phase_tag
from shunter.domain.transition import TRANSITIONS, targets
from shunter.store.command import MOVES, script
from tests.contract.cluster import Cluster

EVENTS_OF: Final[dict[str, tuple[type[Event], ...]]] = {
    "place": (Placed, Returned),
    "claim": (MemberClaimed, Started),
    "report": (MemberExited, MemberFailed, Exited, Requeued),
    "stop": (Cancelled, StopAsked),
    "lose": (Returned, MemberExited, MemberFailed, Exited, Requeued),
}
"""Who may move a job how: the leader places, a node claims and reports, anyone stops. What is lost returns what was
reserved and reports what ran."""

FILES: Final = sorted(
    file.name.removesuffix(".lua")
    for file in (resources.files("shunter.store") / "scripts").iterdir()
    if file.name.endswith(".lua")
)
SCRIPTS: Final = [name for name in FILES if not name.startswith("_")]
CALL: Final = re.compile(r"(?:redis\.call|in_parts)\(\s*'(\w+)'(?:\s*,\s*([^,)\s]+))?")
KEYLESS: Final = {"TIME", "INFO"}


def legal(name: str) -> set[tuple[str, str]]:
    (table,) = re.findall(r"local legal = \{(.*?)\}", script(name).text, re.DOTALL)
    return set(re.findall(r"\['(\w+)>(\w+)'\] = true", table))


def test_the_scripts_that_move_jobs_are_those_with_a_table() -> None:
    assert {name for name in SCRIPTS if "local legal" in script(name).text} == MOVES == EVENTS_OF.keys()


def test_every_event_of_the_table_belongs_to_one_script_besides_lose() -> None:
    events = [event for name, of_script in EVENTS_OF.items() if name != "lose" for event in of_script]
    assert len(events) == len(set(events))
    assert set(events) == {event for _, event in TRANSITIONS}


@pytest.mark.parametrize("name", EVENTS_OF)
def test_the_table_of_each_script_is_the_cores_table_for_its_events(name: str) -> None:
    pairs = {
        (phase_tag(source), phase_tag(to)) for (source, event), to in targets().items() if event in EVENTS_OF[name]
    }
    assert legal(name) == pairs


def test_together_the_scripts_have_the_whole_table() -> None:
    pairs = {(phase_tag(source), phase_tag(to)) for (source, _), to in targets().items()}
    assert set().union(*map(legal, EVENTS_OF)) == pairs


@pytest.mark.parametrize("name", SCRIPTS)
def test_the_head_of_each_script_names_its_keys_arguments_and_answer(name: str) -> None:
    lines = (resources.files("shunter.store") / "scripts" / f"{name}.lua").read_text().splitlines()
    head = "\n".join(line for line in lines if line.startswith("--"))
    assert lines[0].startswith(f"-- {name}: ")
    assert re.search(r"^-- KEYS: 1 ", head, re.MULTILINE)
    assert re.search(r"^-- ARGV: (1 |none$)", head, re.MULTILINE)
    assert re.search(r"^-- Answer: ", head, re.MULTILINE)


@pytest.mark.parametrize("name", SCRIPTS)
def test_each_command_in_a_script_gets_its_key_from_keys(name: str) -> None:
    """What Redis itself refuses at run time (DeclaredKeysStore), checked for branches that no test takes as well."""
    for command, key in CALL.findall(script_text(name)):
        assert command in KEYLESS or key.startswith("KEYS["), f"{command} {key}"


@pytest.mark.parametrize("name", EVENTS_OF)
def test_each_key_that_a_helper_of_common_lua_touches_is_given_from_keys(name: str) -> None:
    helpers = dict(re.findall(r"^local function (\w+)\((.*?)\)$", script_text("_common"), re.MULTILINE))
    touched = {key for command, key in CALL.findall(script_text("_common")) if command not in KEYLESS}
    for helper, given in re.findall(rf"\b({'|'.join(helpers)})\((.*?)\)", script_text(name)):
        for parameter, argument in zip(helpers[helper].split(", "), given.split(", "), strict=True):
            assert parameter not in touched or argument.startswith("KEYS["), f"{helper}: {parameter} = {argument}"
    parameters = {parameter for signature in helpers.values() for parameter in signature.split(", ")}
    assert {key for key in touched if not key.startswith("KEYS[")} <= parameters


def test_every_command_of_the_scripts_is_known_to_this_server(cluster: Cluster) -> None:
    used = sorted({command for name in FILES for command, _ in CALL.findall(script_text(name))})
    known: list[Any] = cluster.plain._client.execute_command("COMMAND", "INFO", *used)
    assert [name for name, info in zip(used, known, strict=True) if info is None] == []


def script_text(name: str) -> str:
    return (resources.files("shunter.store") / "scripts" / f"{name}.lua").read_text()
