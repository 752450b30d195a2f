"""`shunter policy`: what it says, in words, in JSON and in its exit code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from msgspec.structs import replace

from shunter.cli.policy import SUBCOMMANDS
from shunter.errors import NotFound
from shunter.runtime.policy_file import load_policy, parse_policy, read_policy, shipped
from shunter.runtime.policy_report import PolicyInForce
from tests.unit.cli.conftest import Cli
from tests.unit.sdk.fake import FakeGateway, ok, refusal

POLICY = "GET /v1/policy"
EASY = load_policy("easy")
IN_FORCE = PolicyInForce(EASY.policy, EASY.text, "/etc/policy.yaml", 1_700_000_000.0, "box-7", 3)


@pytest.fixture
def file(home: Path) -> Path:
    path = home / "mine.yaml"
    path.write_text("order: [age]\nbackfill: {depth: 4}\nteams: {vision: {}}\n")
    return path


@pytest.mark.parametrize("name", SUBCOMMANDS)
def test_every_subcommand_has_help_with_an_example(cli: Cli, name: str) -> None:
    ran = cli("policy", name, "--help")
    assert ran.code == 0
    assert "Example" in ran.out
    assert f"shunter policy {name}" in ran.out


def test_the_shipped_policies_are_named_where_people_look(cli: Cli) -> None:
    assert ", ".join(shipped()) in " ".join(cli("policy", "--help").out.split())
    guide = (Path(__file__).parents[3] / "docs/admin-guide.md").read_text()
    assert [name for name in shipped() if f"`{name}`" not in guide] == []


# check


def test_check_says_in_one_line_what_a_valid_file_says(cli: Cli, file: Path) -> None:
    said = (
        "mine.yaml: valid; order age; placement topology, fragmentation, stranding, best-fit; backfill 4 deep; 1 team\n"
    )
    assert cli("policy", "check", "mine.yaml") == (0, said, "")
    assert cli("policy", "check", "sjf").out == (
        "sjf (shipped): valid; order shortest, age; placement best-fit; no backfill\n"
    )


@pytest.mark.parametrize("command", [["check"], ["show"], ["diff", "easy"]])
def test_what_is_wrong_is_one_line_and_exit_2(cli: Cli, file: Path, command: list[str]) -> None:
    file.write_text("order: [age]\nfair-share: {half-life: 7 days}\n")
    ran = cli("policy", *command, "mine.yaml")
    assert (ran.code, ran.out, ran.err.count("\n")) == (2, "", 1)
    assert ran.err.startswith("shunter: mine.yaml:2:25: fair-share.half-life: expected a duration, got '7 days'; write")


def test_an_unknown_name_is_answered_with_the_shipped_ones(cli: Cli) -> None:
    ran = cli("policy", "check", "fair")
    assert (ran.code, ran.out) == (2, "")
    assert "shipped are best-fit, default, easy, fgd, fifo-bf, fifo-ff, sjf" in ran.err


# show


def test_show_prints_the_policy_in_force_as_a_file_with_its_source(cli: Cli, gateway: FakeGateway) -> None:
    gateway.plan(POLICY, ok(IN_FORCE), ok(IN_FORCE))
    ran = cli("policy", "show")
    first, second, empty, *rest = ran.out.splitlines()
    assert (ran.code, ran.err) == (0, "")
    assert first.startswith("# in force since 2023-11-1") and first.endswith(": /etc/policy.yaml")
    assert second == "# put in force by the coordinator box-7 (epoch 3)"
    assert (empty, "\n".join(rest) + "\n") == ("", EASY.text)
    assert parse_policy(ran.out, "out") == EASY.policy
    full = cli("policy", "show", "--full").out
    assert "fair-share: {half-life: 7d, lookahead: 1h}" in full
    assert parse_policy(full, "out") == EASY.policy


def test_show_says_why_the_file_was_refused(cli: Cli, gateway: FakeGateway) -> None:
    gateway.plan(POLICY, ok(replace(IN_FORCE, error="/etc/policy.yaml:1:1: sed: no such key; did you mean seed?")))
    ran = cli("policy", "show")
    line = "# its file was changed and refused: /etc/policy.yaml:1:1: sed: no such key; did you mean seed?"
    assert ran.out.splitlines()[2] == line
    assert ran.code == 0
    assert parse_policy(ran.out, "out") == EASY.policy


def test_the_refusal_is_red_on_a_terminal(cli: Cli, gateway: FakeGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shunter.cli.table.terminal_width", lambda: 80)
    monkeypatch.setattr("click.utils.should_strip_ansi", lambda *_, **__: False)
    monkeypatch.delenv("NO_COLOR", raising=False)
    gateway.plan(POLICY, ok(replace(IN_FORCE, error="bad")), ok(replace(IN_FORCE, error="bad")))
    assert "\x1b[31m# its file was changed and refused: bad\x1b[0m\n" in cli("policy", "show").out
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in cli("policy", "show").out


def test_show_json_has_the_structure_the_text_and_where_it_came_from(cli: Cli, gateway: FakeGateway) -> None:
    gateway.plan(POLICY, ok(IN_FORCE))
    shown = json.loads(cli("policy", "show", "--json").out)
    assert (shown["policy"]["backfill"]["depth"], shown["policy"]["fair_share"]["lookahead_s"]) == (1, 3_600.0)
    assert (shown["text"], shown["source"], shown["since_s"]) == (EASY.text, "/etc/policy.yaml", 1_700_000_000.0)
    assert (shown["leader"], shown["epoch"], shown["error"]) == ("box-7", 3, "")


def test_show_of_a_file_prints_it_with_its_comments_and_asks_no_server(cli: Cli) -> None:
    assert cli("policy", "show", "easy") == (0, EASY.text, "")
    shown = json.loads(cli("policy", "show", "easy", "--json").out)
    assert (shown["source"], shown["policy"]["order"]) == ("easy (shipped)", ["age"])
    full = cli("policy", "show", "default", "--full").out
    assert parse_policy(full, "out") == read_policy("default")


def test_show_ends_the_last_line_of_a_file_that_does_not(cli: Cli, file: Path) -> None:
    file.write_text("seed: 1")
    assert cli("policy", "show", "mine.yaml").out == "seed: 1\n"


def test_show_before_the_first_leader_exits_4(cli: Cli, gateway: FakeGateway) -> None:
    gateway.plan(POLICY, refusal(NotFound("policy: no coordinator has led this cluster yet", fix="start one")))
    assert cli("policy", "show") == (4, "", "shunter: policy: no coordinator has led this cluster yet; start one\n")


# diff


def test_diff_of_one_file_is_what_it_would_change(cli: Cli, gateway: FakeGateway, file: Path) -> None:
    gateway.plan(POLICY, ok(IN_FORCE))
    ran = cli("policy", "diff", "mine.yaml")
    assert (ran.code, ran.err) == (1, "")
    assert ran.out.splitlines() == [
        "--- in force: /etc/policy.yaml",
        "+++ mine.yaml",
        "-placement: [best-fit]",
        "+placement: [topology, fragmentation, stranding, best-fit]",
        "-backfill.depth: 1",
        "+backfill.depth: 4",
        "-backfill.tight: true",
        "+backfill.tight: false",
        "+teams.vision.weight: 1",
        "-estimate: expected",
        "+estimate: limit",
    ]


def test_diff_of_two_files_is_what_the_second_changes(cli: Cli) -> None:
    ran = cli("policy", "diff", "fifo-bf", "fifo-ff")
    assert (ran.code, ran.err) == (1, "")
    assert ran.out == (
        "--- fifo-bf (shipped)\n+++ fifo-ff (shipped)\n-placement: [best-fit]\n+placement: [first-fit]\n"
    )


def test_diff_of_equal_policies_says_nothing_and_exits_0(cli: Cli, gateway: FakeGateway, file: Path) -> None:
    file.write_text("# another text\n" + EASY.text)
    gateway.plan(POLICY, ok(IN_FORCE))
    assert cli("policy", "diff", "mine.yaml") == (0, "", "")
    assert cli("policy", "diff", "mine.yaml", "easy") == (0, "", "")
