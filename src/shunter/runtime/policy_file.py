"""Policy files: the policy of a cluster in YAML, as an admin writes it. `policies/default.yaml` explains every key.

A key that is left out means what it means in an empty file: the defaults of `Policy`, but neither backfill nor
keep-whole. A policy is read whole or not at all; the first thing wrong is refused with its place, its value and what
works.
"""

from __future__ import annotations

import pkgutil
import re
from collections.abc import Callable, Collection, Mapping
from decimal import Decimal
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final

import yaml
from msgspec import Struct

from shunter import scheduling
from shunter.domain.duration import parse_duration
from shunter.domain.job import Priority
from shunter.domain.words import check_word
from shunter.errors import InvalidInput
from shunter.runtime.yaml_file import Value, closest, parse_yaml, read_text
from shunter.scheduling.parts import order_part
from shunter.scheduling.policy import Account, Backfill, FairShare, Policy, Route

EMPTY: Final = Policy(backfill=None, keep_whole_s=0.0)
"""What an empty file means."""

SHIPPED: Final = Path(__file__).with_name("policies")
MAX_DEPTH: Final = 1_000
MAX_NODES: Final = 1_000_000
MAX_SEED: Final = 2**63 - 1
MIN_WEIGHT: Final = 0.001
MAX_WEIGHT: Final = 1e6
KEYS: Final = (
    "order", "age-bound", "placement", "backfill", "keep-whole", "pools", "classes", "strict",
    "share-all-below", "fair-share", "teams", "users", "estimate", "ties", "seed",
)  # fmt: skip
_FIX: Final = "give the path of a policy file; `shunter policy show default` prints one to begin with"
_PERCENT: Final = re.compile(r"([0-9]{1,3}(?:\.[0-9]{1,30})?) ?%")
_UNIT: Final = re.compile(r"[0-9]{1,3}(?:\.[0-9]{1,30})?(?:[eE]-?[0-9]{1,3})?")


class PolicyText(Struct, frozen=True):
    """A policy with the *text* that it was read from. *source* names that for people: a file, or `easy (shipped)`."""

    policy: Policy
    text: str
    source: str


def read_policy(path_or_name: str | Path) -> Policy:
    """Return the policy in a file, or the shipped one of that name. Raises InvalidInput."""
    return load_policy(path_or_name).policy


def load_policy(path_or_name: str | Path) -> PolicyText:
    """Return the policy in a file, or the shipped one of that name, with its text. Raises InvalidInput."""
    path = locate(path_or_name)
    source = f"{path.stem} (shipped)" if path.parent == SHIPPED else str(path)
    text = read_text(path, field="policy", fix=_FIX)
    return PolicyText(parse_policy(text, source), text, source)


def locate(path_or_name: str | Path) -> Path:
    """Return the file that is meant: the one at this path, else the shipped one of this name. Raises InvalidInput."""
    path = Path(path_or_name).expanduser()
    given = str(path_or_name)
    if not given.strip():
        raise InvalidInput(
            f"policy: expected a file or the name of a shipped policy, got {given!r}",
            field="policy",
            fix=f"shipped are {', '.join(shipped())}",
        )
    if path.is_file() or "/" in given or path.suffix:
        return path
    if given in shipped():
        return SHIPPED / f"{given}.yaml"
    why = "expected a file, got the folder" if path.is_dir() else "no such file, and no shipped policy of that name:"
    close = "".join(f"; did you mean {name}?" for name in get_close_matches(given, shipped(), n=1))
    raise InvalidInput(f"policy: {why} {given}{close}", field="policy", fix=f"shipped are {', '.join(shipped())}")


def shipped() -> list[str]:
    """Return the names of the policies that come with Shunter."""
    return sorted(path.stem for path in SHIPPED.glob("*.yaml"))


def parts(kind: str) -> list[str]:
    """Return the names of the modules of `scheduling/order/` or `scheduling/placement/`, with hyphens."""
    folders = [f"{folder}/{kind}" for folder in scheduling.__path__]
    return sorted(module.name.replace("_", "-") for module in pkgutil.iter_modules(folders) if module.name[0] != "_")


def parse_policy(text: str, source: str) -> Policy:
    """Return the policy in *text*. Raises InvalidInput, which names *source*, line, keys, value and what works."""
    root = parse_yaml(text, source)
    if root is None:
        return EMPTY
    given = root.keys(KEYS)
    values: dict[str, Any] = {"backfill": EMPTY.backfill, "keep_whole_s": EMPTY.keep_whole_s}
    for key, read in _READERS.items():
        if key in given:
            values[_FIELDS.get(key, key.replace("-", "_"))] = read(given[key])
    if "classes" in given:
        values["classes"] = _classes(given["classes"], values.get("pools", {}))
    return Policy(**values)


# keys


def _parts(kind: str) -> Callable[[Value], tuple[str, ...]]:
    def read(value: Value) -> tuple[str, ...]:
        known = parts(kind)
        found: list[str] = []
        for item in value.items(f"[{', '.join(known[:2])}]"):
            name = (item.text or "").replace("_", "-")
            if name not in known:
                item.refuse(f"expected a part, got {item.shown}", fix=closest(name, known))
            if name in found:
                item.refuse(f"{name} is named twice", fix="keep one of them")
            found.append(name)
        return tuple(found)

    return read


def _order(value: Value) -> tuple[str, ...]:
    """Parts that compare owners come before those that compare an owner's jobs: after those nothing has a say."""
    names = _parts("order")(value)
    by_job = ""
    for name in names:
        if order_part(name).job_key is not None:
            by_job = by_job or name
        elif by_job:
            value.refuse(f"{name} has no say after {by_job}, which orders single jobs", fix=f"put {name} before it")
    if "aged" in names and by_job not in ("", "age"):
        value.refuse(f"aged goes not with {by_job}: it looks at the oldest job of each owner", fix="leave one out")
    return names


def _backfill(value: Value) -> Backfill | None:
    if value.text == "none":
        return None
    given = value.keys(("depth", "default-time", "tight"))
    default = Backfill()
    return Backfill(
        depth=given["depth"].whole(0, MAX_DEPTH) if "depth" in given else default.depth,
        default_time_s=_duration(given["default-time"]) if "default-time" in given else default.default_time_s,
        tight=given["tight"].flag() if "tight" in given else default.tight,
    )


def _pools(value: Value) -> dict[str, float]:
    example = "{dedicated: 25%, standard: 75%} or [dedicated, standard]"
    if value.is_list:
        names = [(item, _pool_name(item, item.text or "")) for item in value.items(example)]
        pools: dict[str, float] = {}
        for item, name in names:
            if name in pools:
                item.refuse(f"{name} is named twice", fix="keep one of them")
            pools[name] = 0.0
        return pools
    pools = {_pool_name(item, name): _share(item) for name, item in value.names(example).items()}
    total = sum((Decimal(repr(share)) for share in pools.values()), Decimal())
    if total > 1:
        value.refuse(f"expected shares of 100% in all at most, got {_percent(total)}", fix="lower some of them")
    return pools


def _pool_name(item: Value, name: str) -> str:
    try:
        return check_word("name", name)
    except InvalidInput as error:
        item.refuse(error.message)


def _classes(value: Value, pools: Collection[str]) -> dict[Priority, Route]:
    classes = value.keys(tuple(Priority))
    return {Priority(name): _route(entry, pools) for name, entry in classes.items()}


def _route(value: Value, pools: Collection[str]) -> Route:
    given = value.keys(("home", "borrow"))
    if "home" not in given:
        value.refuse("home is missing", fix=f"name a pool: {closest('', pools)}" if pools else "name a pool")
    named = [_known_pool(given["home"], pools)]
    for item in given["borrow"].items("[standard, preemptible]") if "borrow" in given else ():
        pool = _known_pool(item, pools)
        if pool in named:
            item.refuse(f"{pool} is named twice", fix="keep one of them: the home pool comes first anyway")
        named.append(pool)
    return Route(named[0], tuple(named[1:]))


def _known_pool(value: Value, pools: Collection[str]) -> str:
    if not pools:
        value.refuse(f"unknown pool {value.shown}", fix="name the pools under `pools` first")
    return value.one_of(pools, "a pool")


def _fair_share(value: Value) -> FairShare:
    given = value.keys(("half-life", "lookahead"))
    default = FairShare()
    return FairShare(
        _duration(given["half-life"]) if "half-life" in given else default.half_life_s,
        _duration(given["lookahead"], zero=True) if "lookahead" in given else default.lookahead_s,
    )


def _teams(value: Value) -> dict[str, Account]:
    entries = value.names("{research: {weight: 2}}")
    teams = {}
    for name, entry in entries.items():
        given = entry.keys(("weight", "parent"))
        parent = given["parent"].one_of(entries.keys(), "a team of this file") if "parent" in given else ""
        teams[name] = Account(_weight(given), parent)
    if circle := _circle(teams):
        entries[circle[0]].refuse(f"the team is above itself: {' -> '.join(circle)}", fix="drop one of the parents")
    return teams


def _circle(teams: Mapping[str, Account]) -> list[str]:
    """Return a team, its parents in order, and itself again; nothing if the teams are a tree."""
    done: set[str] = set()
    for start in teams:
        path: dict[str, None] = {}
        at = start
        while at and at not in done:
            if at in path:
                climbed = list(path)
                return [*climbed[climbed.index(at) :], at]
            path[at] = None
            at = teams[at].parent
        done |= path.keys()
    return []


def _users(value: Value) -> dict[str, Account]:
    entries = value.names("{ada: {weight: 2}}")
    return {name: Account(_weight(entry.keys(("weight",)))) for name, entry in entries.items()}


def _weight(given: Mapping[str, Value]) -> float:
    return given["weight"].number(MIN_WEIGHT, MAX_WEIGHT) if "weight" in given else Account().weight


_FIELDS: Final = {"age-bound": "age_bound_s", "keep-whole": "keep_whole_s"}
_READERS: Final[dict[str, Callable[[Value], Any]]] = {
    "order": _order,
    "age-bound": lambda value: _duration(value, zero=True),
    "keep-whole": lambda value: _duration(value, zero=True),
    "placement": _parts("placement"),
    "backfill": _backfill,
    "pools": _pools,
    "strict": Value.flag,
    "share-all-below": lambda value: value.whole(0, MAX_NODES),
    "fair-share": _fair_share,
    "teams": _teams,
    "users": _users,
    "estimate": lambda value: value.one_of(("limit", "expected"), "limit or expected"),
    "ties": lambda value: value.one_of(("order", "random"), "order or random"),
    "seed": lambda value: value.whole(0, MAX_SEED),
}
"""How each key is read, but `classes`, which name pools."""


# values


def _duration(value: Value, *, zero: bool = False) -> float:
    if zero and value.text in ("0", "0s"):
        return 0.0
    if value.text is None:
        value.refuse(f"expected a duration, got {value.shown}", fix="write for example 7d, 12h or 1h30m")
    try:
        return float(parse_duration(value.text, field="at"))
    except InvalidInput as error:
        value.refuse(error.message.removeprefix("at: "), fix=error.fix)


def _share(value: Value) -> float:
    """Return a share as a fraction, the float that is nearest to what is written."""
    text = value.text or ""
    share = None
    if match := _PERCENT.fullmatch(text):
        share = Decimal(match.group(1)) / 100
    elif _UNIT.fullmatch(text):
        share = Decimal(text)
    if share is None or share > 1:
        value.refuse(f"expected a share of the nodes, got {value.shown}", fix="write 0% to 100%, or 0 to 1")
    return float(share)


# writing


def write_policy(policy: Policy, *, full: bool = False) -> str:
    """Return *policy* as a file that reads back as the same; only what an empty file would not mean, unless *full*.

    Durations must be whole seconds, as they are in a policy that was read.
    """
    tree = policy_tree(policy)
    if not full:
        tree = _changed(tree, policy_tree(EMPTY))
    if not tree:
        return ""
    return yaml.dump(tree, Dumper=_Dumper, sort_keys=False, allow_unicode=True, default_flow_style=None, width=120)


class _Dumper(yaml.SafeDumper):
    """Leaves in one line, and no aliases, which the reader refuses."""

    def ignore_aliases(self, _: object) -> bool:
        return True


def policy_tree(policy: Policy) -> dict[str, Any]:
    """Return *policy* as the keys and values of a file, every key of them."""
    backfill, fair = policy.backfill, policy.fair_share
    return {
        "order": list(policy.order),
        "age-bound": _written(policy.age_bound_s, "age-bound"),
        "placement": list(policy.placement),
        "backfill": "none" if backfill is None else {
            "depth": backfill.depth,
            "default-time": _written(backfill.default_time_s, "backfill.default-time"),
            "tight": backfill.tight,
        },
        "keep-whole": _written(policy.keep_whole_s, "keep-whole"),
        "pools": {name: _percent(Decimal(repr(share))) for name, share in policy.pools.items()},
        "classes": {
            name.value: {"home": route.home, "borrow": list(route.borrow)} for name, route in policy.classes.items()
        },
        "strict": policy.strict,
        "share-all-below": policy.share_all_below,
        "fair-share": {
            "half-life": _written(fair.half_life_s, "fair-share.half-life"),
            "lookahead": _written(fair.lookahead_s, "fair-share.lookahead"),
        },
        "teams": {name: _account(account) for name, account in policy.teams.items()},
        "users": {name: _account(account) for name, account in policy.users.items()},
        "estimate": policy.estimate,
        "ties": policy.ties,
        "seed": policy.seed,
    }  # fmt: skip


def _account(account: Account) -> dict[str, Any]:
    weight = int(account.weight) if account.weight.is_integer() else account.weight
    return {"weight": weight} | ({"parent": account.parent} if account.parent else {})


def _changed(tree: dict[str, Any], base: Mapping[str, Any]) -> dict[str, Any]:
    changed = {}
    for key, value in tree.items():
        below = base.get(key)
        if value != below:
            changed[key] = _changed(value, below) if isinstance(value, dict) and isinstance(below, dict) else value
    return changed


def _written(seconds: float, key: str) -> str:
    """Return *seconds* as `parse_duration` reads them: `7d`, `1h30m`."""
    left = int(seconds)
    if left != seconds or left < 0:
        raise InvalidInput(f"{key}: expected whole seconds, got {seconds!r}", field=key, fix="round it")
    text = ""
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)):
        count, left = divmod(left, size)
        text += f"{count}{unit}" if count else ""
    return text or "0s"


def _percent(share: Decimal) -> str:
    text = f"{share * 100:f}"
    if len(text) > 30:  # as a fraction with an exponent: a very small one
        return str(share)
    return f"{text.rstrip('0').rstrip('.') if '.' in text else text}%"
