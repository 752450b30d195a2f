"""The policies that a simulation compares, each with a name of its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from shunter.errors import InvalidInput
from shunter.runtime.policy_file import locate, read_policy, shipped
from shunter.scheduling.policy import Policy


class Named(Struct, frozen=True):
    """A policy, what it is called in tables and files, and the file that it was read from."""

    name: str
    policy: Policy
    path: Path


def read_policies(given: Sequence[str], seed: int | None) -> list[Named]:
    """Return the policies in *given*, each a shipped name, a file, or several with commas between, in that order.

    A file is called by its name without folder and suffix, or as it was given where that is not the only one of it.
    *seed* takes the place of the seeds that they name. Raises InvalidInput, also for a policy that is named twice.
    """
    texts = [text for one in given for text in _split(one)]
    stems = Counter(locate(text).stem for text in texts)
    found: list[Named] = []
    for text in texts:
        path = locate(text)
        policy = read_policy(path)
        if any(other.path.resolve() == path.resolve() for other in found):
            raise InvalidInput(f"--policy: {text} is named twice", field="policy", fix="leave one out")
        name = path.stem if stems[path.stem] == 1 else text
        found.append(Named(name, policy if seed is None else replace(policy, seed=seed), path))
    return found


def _split(given: str) -> Iterator[str]:
    if Path(given).is_file():  # whose name may have a comma in it
        yield given
        return
    for text in given.split(","):
        if not text.strip():
            raise InvalidInput(
                f"--policy: expected a name or a file, got {given!r:.60}",
                field="policy",
                fix=f"shipped are {', '.join(shipped())}",
            )
        yield text.strip()
