"""How two policies differ, key by key."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from shunter.runtime.policy_file import KEYS, policy_tree
from shunter.scheduling.policy import Policy

_SHOWN: Final = 10


class Difference(NamedTuple):
    """The value of a key of two policies, as a file would have it; None where one has no such key."""

    path: str
    before: str | None
    after: str | None

    def __str__(self) -> str:
        return f"{self.path}: {self.before or 'not there'} -> {self.after or 'not there'}"


def differences(before: Policy, after: Policy) -> list[Difference]:
    """Return what differs, key by key, in the order of a policy file."""
    old, new = _flat(before), _flat(after)
    paths = sorted(dict.fromkeys([*old, *new]), key=lambda path: KEYS.index(path.partition(".")[0]))
    return [Difference(path, old.get(path), new.get(path)) for path in paths if old.get(path) != new.get(path)]


def summary(found: list[Difference]) -> list[str]:
    """Return the first of *found* as lines for a log."""
    more = [f"and {len(found) - _SHOWN} more"] if len(found) > _SHOWN else []
    return [*map(str, found[:_SHOWN]), *more]


def _flat(policy: Policy) -> dict[str, str]:
    return dict(_leaves(policy_tree(policy), ""))


def _leaves(tree: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, str]]:
    for key, value in tree.items():
        path = f"{prefix}{key}"
        if isinstance(value, dict):
            yield from _leaves(value, f"{path}.")
        elif isinstance(value, list):
            yield path, f"[{', '.join(value)}]"
        else:
            yield path, str(value).lower() if isinstance(value, bool) else str(value)
