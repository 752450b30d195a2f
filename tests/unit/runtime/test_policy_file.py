"""Policy files: what they mean, and that whatever is wrong is one line with its place, its value and what works."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pytest
from hypothesis import given
from msgspec import Struct
from msgspec.structs import replace

from shunter.domain.job import Priority
from shunter.errors import InvalidInput
from shunter.runtime import yaml_file
from shunter.runtime.policy_file import (
    EMPTY,
    KEYS,
    SHIPPED,
    load_policy,
    parse_policy,
    parts,
    policy_tree,
    read_policy,
    shipped,
    write_policy,
)
from shunter.scheduling.policy import Account, Backfill, FairShare, Policy, Route
from tests.strategies import BRIEF, policies

FULL: Final = """
order:
  - priority
  - fair_share      # underscores too
placement: [best-fit]
age-bound: 30m
backfill: {depth: 4, default-time: 1d12h, tight: true}
pools: {dedicated: 25%, standard: 0.5, preemptible: "12.5 %"}
classes:
  high: {home: dedicated, borrow: [standard, preemptible]}
  low: {home: preemptible}
strict: yes
share_all_below: 0
fair-share: {half-life: 1:30:00, lookahead: 0}
teams: {research: {weight: 2}, vision: {parent: research, weight: 1.5}, no: {}}
users: {ada: {weight: 2}}
estimate: expected
ties: random
seed: 7
"""


def refusal(text: str) -> str:
    """Return what is said of *text*, without the file's name."""
    with pytest.raises(InvalidInput) as caught:
        parse_policy(text, "policy.yaml")
    said = str(caught.value)
    assert "\n" not in said
    assert said.startswith("policy.yaml:")
    return said.removeprefix("policy.yaml:")


# what files mean


def test_every_key_is_read() -> None:
    assert parse_policy(FULL, "policy.yaml") == Policy(
        order=("priority", "fair-share"),
        age_bound_s=1_800.0,
        placement=("best-fit",),
        backfill=Backfill(4, 129_600.0, tight=True),
        keep_whole_s=0.0,
        pools={"dedicated": 0.25, "standard": 0.5, "preemptible": 0.125},
        classes={Priority.HIGH: Route("dedicated", ("standard", "preemptible")), Priority.LOW: Route("preemptible")},
        strict=True,
        share_all_below=0,
        fair_share=FairShare(5_400.0, 0.0),
        teams={"research": Account(2.0), "vision": Account(1.5, "research"), "no": Account()},
        users={"ada": Account(2.0)},
        estimate="expected",
        ties="random",
        seed=7,
    )


@pytest.mark.parametrize("text", ["", "\n", "# nothing\n", "---\n", "---\n# nothing\n...\n", "{}", "\ufeff", "~"])
def test_an_empty_file_means_the_defaults_without_backfill_and_keep_whole(text: str) -> None:
    assert parse_policy(text, "policy.yaml") == EMPTY == replace(Policy(), backfill=None, keep_whole_s=0.0)


@pytest.mark.parametrize(
    ("text", "policy"),
    [
        ("backfill: {}", replace(EMPTY, backfill=Backfill())),
        ("backfill: none", EMPTY),
        ("backfill: {default_time: 90}", replace(EMPTY, backfill=Backfill(default_time_s=90.0))),
        ("pools: [a, b-1]", replace(EMPTY, pools={"a": 0.0, "b-1": 0.0})),
        ("pools: {a: 33.3%, b: 33.3%, c: 33.4%}", replace(EMPTY, pools={"a": 0.333, "b": 0.333, "c": 0.334})),
        ("pools: {a: 100%}", replace(EMPTY, pools={"a": 1.0})),
        ("order: []", replace(EMPTY, order=())),
        ("keep-whole: 2h", replace(EMPTY, keep_whole_s=7_200.0)),
        ('{"order": ["age"], "seed": 1}', replace(EMPTY, order=("age",), seed=1)),
        ("fair-share: {lookahead: 2h}", replace(EMPTY, fair_share=FairShare(lookahead_s=7_200.0))),
        ("teams: {1: {}, ~: {}}", replace(EMPTY, teams={"1": Account(), "~": Account()})),
        ("strict: OFF\r\nseed: 3\r\n", replace(EMPTY, seed=3)),
    ],
)
def test_other_ways_to_write_it(text: str, policy: Policy) -> None:
    assert parse_policy(text, "policy.yaml") == policy


def test_parts_are_the_modules_that_are_there() -> None:
    assert {"priority", "fair-share", "age", "shortest"} <= set(parts("order"))
    assert {"topology", "fragmentation", "best-fit", "first-fit"} <= set(parts("placement"))


def test_every_field_of_a_policy_has_its_key() -> None:
    """Who adds a field finds out here that no file can set it yet."""

    def keys(struct: type[Struct]) -> set[str]:
        return {name.removesuffix("_s").replace("_", "-") for name in struct.__struct_fields__}

    tree = policy_tree(parse_policy(FULL, "policy.yaml"))
    assert keys(Policy) == tree.keys() == set(KEYS)
    assert keys(Backfill) == tree["backfill"].keys()
    assert keys(FairShare) == tree["fair-share"].keys()
    assert keys(Route) == tree["classes"]["high"].keys()
    assert keys(Account) == tree["teams"]["vision"].keys()


# what is refused

FORMS: Final = "write seconds (90), units (45s, 30m, 2h, 1d, 1h30m), H:MM:SS (1:30:00) or D-HH:MM:SS"
SHARE: Final = "expected a share of the nodes, got"
SHARE_FIX: Final = "write 0% to 100%, or 0 to 1"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        # keys
        ("ordr: [age]", "1:1: ordr: no such key; did you mean order?"),
        ("seed: 1\nfair-share: {half_lief: 1d}", "2:14: fair-share.half_lief: no such key; did you mean half-life?"),
        ("backfill: {x: 1}", "1:12: backfill.x: no such key; choose from depth, default-time, tight"),
        ("classes: {urgent: {home: a}}", "1:11: classes.urgent: no such key; choose from high, medium, low"),
        ("classes: {hihg: {home: a}}", "1:11: classes.hihg: no such key; did you mean high?"),
        ("teams: {a: {wieght: 2}}", "1:13: teams.a.wieght: no such key; did you mean weight?"),
        ("users: {a: {parent: b}}", "1:13: users.a.parent: no such key; choose from weight"),
        ("seed: 1\nseed: 2", "2:1: seed: given twice; keep one of them"),
        ("share-all-below: 1\nshare_all_below: 2", "2:1: share_all_below: given twice; keep one of them"),
        ("teams: {a: {}, a: {}}", "1:16: teams.a: given twice; keep one of them"),
        ("? [a]\n: 1", "1:3: key: expected a name as the key"),
        ("<<: {seed: 1}", "1:1: <<: no such key; choose from order"),
        # kinds of values
        ("[order]", "1:1: expected keys and values, got a list"),
        ("age", "1:1: expected keys and values, got 'age'"),
        ("order: age", "1:8: order: expected a list, got 'age'; write for example [age, aged]"),
        ("order:", "1:7: order: expected a list, got nothing; write for example"),
        ("order: {age: 1}", "1:8: order: expected a list, got keys and values"),
        ("teams: [a]", "1:8: teams: expected keys and values, got a list; write for example {research: {weight: 2}}"),
        ("teams: {a: 2}", "1:12: teams.a: expected keys and values, got '2'"),
        ("strict: maybe", "1:9: strict: expected true or false, got 'maybe'"),
        ('strict: "true"', "1:9: strict: expected true or false, got 'true'"),
        ("strict: 1", "1:9: strict: expected true or false, got '1'"),
        ("seed: 1.5", "1:7: seed: expected a whole number from 0 to 9223372036854775807, got '1.5'"),
        ("seed: 0x10", "1:7: seed: expected a whole number"),
        ("seed: 010", "1:7: seed: expected a whole number"),
        ("seed: 1_000", "1:7: seed: expected a whole number"),
        ("seed: 2020-01-01", "1:7: seed: expected a whole number"),
        ("seed: '1'", "1:7: seed: expected a whole number"),
        pytest.param(f"seed: {'9' * 5_000}", "1:7: seed: expected a whole number", id="long number"),
        ("estimate: guess", "1:11: estimate: expected limit or expected, got 'guess'; choose from limit, expected"),
        ("ties: radnom", "1:7: ties: expected order or random, got 'radnom'; did you mean random?"),
        # numbers
        ("seed: -1", "1:7: seed: expected 0 to 9223372036854775807, got -1"),
        ("share-all-below: -1", "1:18: share-all-below: expected 0 to 1000000, got -1"),
        ("backfill: {depth: -1}", "1:19: backfill.depth: expected 0 to 1000, got -1"),
        ("backfill: {depth: 1001}", "1:19: backfill.depth: expected 0 to 1000, got 1001"),
        ("teams: {a: {weight: 0}}", "1:21: teams.a.weight: expected 0.001 to 1000000, got 0"),
        ("users: {a: {weight: -2}}", "1:21: users.a.weight: expected 0.001 to 1000000, got -2"),
        ("users: {a: {weight: .inf}}", "1:21: users.a.weight: expected a number from 0.001 to 1000000, got '.inf'"),
        ("users: {a: {weight: 1e999}}", "1:21: users.a.weight: expected 0.001 to 1000000, got 1e999"),
        # durations
        ("fair-share: {half-life: 7 days}", f"1:25: fair-share.half-life: expected a duration, got '7 days'; {FORMS}"),
        ("fair-share: {half-life: 1.5h}", f"1:25: fair-share.half-life: expected a duration, got '1.5h'; {FORMS}"),
        ("fair-share: {half-life: -1}", f"1:25: fair-share.half-life: expected a duration, got '-1'; {FORMS}"),
        ("fair-share: {half-life: 0}", "1:25: fair-share.half-life: expected 1 s to 366 days, got '0'"),
        ("fair-share: {half-life: 367d}", "1:25: fair-share.half-life: expected 1 s to 366 days, got '367d'"),
        (
            "fair-share: {half-life: }",
            "1:24: fair-share.half-life: expected a duration, got nothing; write for example",
        ),
        ("backfill: {default-time: 0}", "1:26: backfill.default-time: expected 1 s to 366 days, got '0'"),
        # shares
        ("pools: {a: 25}", f"1:12: pools.a: {SHARE} '25'; {SHARE_FIX}"),
        ("pools: {a: 101%}", f"1:12: pools.a: {SHARE} '101%'; {SHARE_FIX}"),
        ("pools: {a: -5%}", f"1:12: pools.a: {SHARE} '-5%'; {SHARE_FIX}"),
        ("pools: {a: half}", f"1:12: pools.a: {SHARE} 'half'; {SHARE_FIX}"),
        ("pools: {a: }", f"1:11: pools.a: {SHARE} nothing; {SHARE_FIX}"),
        ("pools: {a: 60%, b: 0.5}", "1:8: pools: expected shares of 100% in all at most, got 110%; lower some of them"),
        ("pools: {a b: 1%}", "1:14: pools.a b: name: expected 1 to 63 letters"),
        ("pools: [a, a]", "1:12: pools: a is named twice; keep one of them"),
        (
            "pools: a",
            "1:8: pools: expected keys and values, got 'a'; write for example {dedicated: 25%, standard: 75%}",
        ),
        # classes
        ("classes: {low: {home: a}}", "1:23: classes.low.home: unknown pool 'a'; name the pools under `pools` first"),
        (
            "pools: [abc]\nclasses: {low: {home: abd}}",
            "2:23: classes.low.home: expected a pool, got 'abd'; did you mean abc?",
        ),
        ("pools: [a]\nclasses: {low: {home: a, borrow: [x]}}", "2:35: classes.low.borrow: expected a pool, got 'x'"),
        ("pools: [a]\nclasses: {low: {home: a, borrow: [a]}}", "2:35: classes.low.borrow: a is named twice; keep one"),
        ("pools: [a]\nclasses: {low: {}}", "2:16: classes.low: home is missing; name a pool: choose from a"),
        ("pools: [a]\nclasses: {low: a}", "2:16: classes.low: expected keys and values, got 'a'"),
        # parts
        ("order: [aeg]", "1:9: order: expected a part, got 'aeg'; did you mean age?"),
        (
            "order: [topology]",
            "1:9: order: expected a part, got 'topology'; choose from age, aged, fair-share, priority, ",
        ),
        (
            "order: [age, priority]",
            "1:8: order: priority has no say after age, which orders single jobs; put priority bef",
        ),
        (
            "order: [aged, shortest]",
            "1:8: order: aged goes not with shortest: it looks at the oldest job of each owner",
        ),
        ("order: [age, [age]]", "1:14: order: expected a part, got a list"),
        ("placement: [best-fit, best_fit]", "1:23: placement: best-fit is named twice; keep one of them"),
        ("placement: [__init__]", "1:13: placement: expected a part, got '__init__'"),
        # teams
        ("teams: {a: {parent: b}}", "1:21: teams.a.parent: expected a team of this file, got 'b'; choose from a"),
        ("teams: {a: {parent: a}}", "1:12: teams.a: the team is above itself: a -> a; drop one of the parents"),
        (
            "teams: {x: {parent: research}, research: {parent: vision}, vision: {parent: research}}",
            "1:42: teams.research: the team is above itself: research -> vision -> research; drop one of the parents",
        ),
        ("teams: {'': {}}", "1:9: teams: expected a name, got ''; use 1 to 128 printable characters"),
        ('teams: {"a\\nb": {}}', "1:9: teams: expected a name, got 'a\\nb'; use 1 to 128 printable characters"),
        (f"users: {{{'x' * 129}: {{}}}}", "1:9: users: expected a name, got 'xxx"),
        # YAML
        ("order: [age", "1:12: expected ',' or ']', but got '<stream end>'"),
        ("order: [age]\n\tseed: 1", "2:1: found character '\\t' that cannot start any token"),
        ("seed: 1\n---\nseed: 2", "2:1: expected one document, found another"),
        ("teams: &a {x: {}}\nusers: *a", "2:8: an alias (*a) is not allowed here; write the value out"),
        ("strict: !!bool yes", "1:9: a tag (!!bool) is not allowed here; write only the value"),
        ("teams: !!python/object:os.system {}", "1:8: a tag (!!python/object:os.system) is not allowed here"),
        ("seed: 1\nstrict: \x1b", "2: expected text, got the character U+001B; remove it"),
        pytest.param("[" * 100_000, "1:21: nested deeper than 20 levels", id="lists"),
        pytest.param("{a: " * 100_000, ": nested deeper than 20 levels", id="mappings"),
        pytest.param("- " * 100_000, ": nested deeper than 20 levels", id="blocks"),
    ],
)
def test_what_is_wrong_is_refused_with_its_place_and_what_works(text: str, said: str) -> None:
    assert said in refusal(text)


def test_the_field_of_a_refusal_is_the_path_of_keys() -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_policy("fair-share: {half-life: 7 days}", "policy.yaml")
    assert caught.value.field == "fair-share.half-life"


# files


def test_a_file_is_read_and_named_in_what_is_wrong_with_it(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text("\ufeffseed: 7\n", encoding="utf-8")
    assert read_policy(path).seed == read_policy(str(path)).seed == 7
    path.write_text("# so far\n\nsed: 7\n")
    with pytest.raises(InvalidInput, match=re.escape(f"{path}:3:1: sed: no such key; did you mean seed?")):
        read_policy(path)


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "latin.yaml").write_bytes(b"seed: 1\nteams: {caf\xe9: {}}\n")
    (tmp_path / "large.yaml").write_bytes(b"#" * (yaml_file.MAX_FILE_BYTES + 1))
    (tmp_path / "just.yaml").write_bytes(b"#" * yaml_file.MAX_FILE_BYTES)
    for name, said in {
        "missing.yaml": "policy: missing.yaml: no such file or directory; give the path of a policy file",
        "folder/": "policy: folder: is a directory; give the path of a policy file",
        "folder": "policy: expected a file, got the folder folder; shipped are best-fit,",
        "": "policy: expected a file or the name of a shipped policy, got ''; shipped are best-fit,",
        " ": "policy: expected a file or the name of a shipped policy, got ' '; shipped are best-fit,",
        "latin.yaml": "latin.yaml:2: expected UTF-8 text, got the byte 0xe9",
        "large.yaml": "policy: large.yaml: expected at most 1 MiB, got more",
    }.items():
        with pytest.raises(InvalidInput) as caught:
            read_policy(name)
        assert str(caught.value).startswith(said)
        assert caught.value.exit_code == 2
    assert read_policy("just.yaml") == EMPTY


def test_a_shipped_policy_is_found_by_name_unless_a_file_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    read = load_policy("fifo-bf")
    assert (read.policy.order, read.policy.placement, read.source) == (("age",), ("best-fit",), "fifo-bf (shipped)")
    (tmp_path / "fifo-bf").write_text("seed: 3")
    assert read_policy("fifo-bf") == replace(EMPTY, seed=3)


def test_an_unknown_name_is_answered_with_the_shipped_ones() -> None:
    with pytest.raises(InvalidInput) as caught:
        read_policy("esy")
    assert str(caught.value) == (
        "policy: no such file, and no shipped policy of that name: esy; did you mean easy?; "
        "shipped are best-fit, default, easy, fgd, fifo-bf, fifo-ff, sjf"
    )


# writing


@BRIEF
@given(policies())
def test_a_policy_that_was_written_reads_back_as_the_same(policy: Policy) -> None:
    short, full = write_policy(policy), write_policy(policy, full=True)
    for text in (short, full):
        read = parse_policy(text, "policy.yaml")
        assert read == policy, text
        assert [*read.pools] == [*policy.pools]
    assert [key for key in KEYS if f"\n{key}:" not in f"\n{full}"] == []


def test_only_what_differs_from_an_empty_file_is_written() -> None:
    assert write_policy(EMPTY) == ""
    assert write_policy(Policy()) == "backfill: {depth: 4, default-time: 10m, tight: false}\nkeep-whole: 1h\n"
    assert write_policy(replace(EMPTY, fair_share=FairShare(90_000.0))) == "fair-share: {half-life: 1d1h}\n"
    assert write_policy(replace(EMPTY, pools={"a": 0.125})) == "pools: {a: 12.5%}\n"
    assert write_policy(replace(EMPTY, teams={"no": Account(2.0)})) == "teams:\n  'no': {weight: 2}\n"


def test_fractions_of_a_second_cannot_be_written() -> None:
    with pytest.raises(InvalidInput, match=r"fair-share\.half-life: expected whole seconds, got 1\.5; round it"):
        write_policy(Policy(fair_share=FairShare(1.5)))


# what is shipped


@pytest.mark.parametrize("name", shipped())
def test_every_shipped_policy_is_valid(name: str) -> None:
    policy = read_policy(name)
    assert parse_policy(write_policy(policy), name) == policy
    assert (SHIPPED / f"{name}.yaml").read_text().startswith("# ")


def test_the_shipped_policies_are_those_that_are_promised() -> None:
    assert shipped() == ["best-fit", "default", "easy", "fgd", "fifo-bf", "fifo-ff", "sjf"]
    assert read_policy("best-fit") == read_policy("fifo-bf")
    assert read_policy("fgd") == replace(EMPTY, order=("age",), placement=("fragmentation", "best-fit"))
    assert read_policy("fifo-ff") == replace(EMPTY, order=("age",), placement=("first-fit",))
    assert read_policy("fifo-bf") == replace(EMPTY, order=("age",), placement=("best-fit",))
    shortest = replace(EMPTY, order=("shortest", "age"), placement=("best-fit",), estimate="expected")
    assert read_policy("sjf") == shortest
    assert read_policy("easy") == replace(shortest, order=("age",), backfill=Backfill(1, tight=True))


def test_the_default_has_the_pools_and_classes_of_the_design() -> None:
    default = read_policy("default")
    assert default.pools == {"dedicated": 0.25, "standard": 0.5, "preemptible": 0.25}
    assert {name: route.home for name, route in default.classes.items()} == {
        Priority.HIGH: "dedicated",
        Priority.MEDIUM: "standard",
        Priority.LOW: "preemptible",
    }
    assert (default.order, default.placement) == (Policy().order, Policy().placement)


def test_the_default_file_explains_every_key_and_part() -> None:
    """Its settings that are comments (`#key: value`) are the defaults, but for the examples of teams and users."""
    text = (SHIPPED / "default.yaml").read_text()
    uncommented = parse_policy(re.sub(r"^#((?:  )?[a-z-]+:)", r"\1", text, flags=re.MULTILINE), "default")
    assert uncommented.teams
    assert uncommented.users
    assert replace(uncommented, teams={}, users={}) == read_policy("default")
    inner = ("depth", "default-time", "tight", "home", "borrow", "half-life", "lookahead", "weight", "parent")
    words = (*KEYS, *inner, *Priority, *parts("order"), *parts("placement"), "limit", "expected", "random")
    assert [word for word in words if not re.search(rf"(?<![\w-]){word}(?![\w-])", text)] == []
    assert [key for key in KEYS if not re.search(rf"^#?{key}:", text, re.MULTILINE)] == []
