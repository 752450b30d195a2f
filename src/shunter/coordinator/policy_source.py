"""The policy file that a coordinator follows while it runs."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final

import msgspec
import structlog

from shunter.coordinator.trouble import one_line
from shunter.errors import InvalidInput
from shunter.runtime.policy_diff import differences, summary
from shunter.runtime.policy_file import SHIPPED, PolicyText, load_policy, locate
from shunter.runtime.policy_report import PolicyInForce
from shunter.scheduling.policy import Policy

FILE: Final = "policy.yaml"
"""What the policy is called in the home."""

Fingerprint = tuple[int, ...]
log = structlog.get_logger("coordinator")


class PolicySource:
    """The file that is *given* (a path, or the name of a shipped policy), else the one in *home*, else the default.

    What the file says counts once it is valid; until then, what it said before. Making a source reads it, and raises
    InvalidInput. The file should be on a local disk: the leader waits for it.
    """

    def __init__(self, given: str | None, home: Path) -> None:
        self._home_file = None if given else home / FILE
        self._path = locate(given).absolute() if given else SHIPPED / "default.yaml"
        self._choose()
        self._seen = self._next = _fingerprint(self._path)
        self._read = _load(self._path)
        self.error = ""

    @property
    def policy(self) -> Policy:
        """The last that was valid."""
        return self._read.policy

    def look(self) -> bool:
        """Look whether the file changed, and read it if so; return whether there is something new to publish.

        A change is read at the second look that finds it: whoever writes the file may not be done at the first, and
        half of a policy, or nothing, is a valid policy too.
        """
        self._choose()
        found = _fingerprint(self._path)
        if found == self._seen or found != self._next:
            self._next = found
            return False
        self._seen = found
        try:
            return self._take(_load(self._path))
        except InvalidInput as error:
            return self._refuse(str(error))
        except Exception as error:  # a part that does not import, say: whatever it is, the policy before is sound
            return self._refuse(f"policy: {self._path}: cannot be read: {one_line(error)}", error)

    def in_force(self, published: bytes | None, leader: str, epoch: int) -> PolicyInForce:
        """Return what *leader* is to publish; *published* is what there was before, which may be of the same policy."""
        before = _decoded(published)
        since_s = before.since_s if before is not None and before.policy == self.policy else time.time()
        read = self._read
        return PolicyInForce(read.policy, read.text, read.source, since_s, leader, epoch, self.error)

    def _choose(self) -> None:
        """Take the home's file once it is there, and for good: one that vanishes is an error, not the default."""
        if self._home_file is not None and _fingerprint(self._home_file):
            self._path, self._home_file = self._home_file, None

    def _take(self, new: PolicyText) -> bool:
        before, self._read = self._read, new
        was_wrong, self.error = self.error, ""
        if new.policy != before.policy:
            log.info("policy changed", source=new.source, changes=summary(differences(before.policy, new.policy)))
        elif was_wrong:
            log.info("policy is as it was", source=new.source)
        return bool(was_wrong) or new != before

    def _refuse(self, why: str, unexpected: Exception | None = None) -> bool:
        if why == self.error:
            return False
        log.error("policy refused, the one before stays in force", error=why, exc_info=unexpected)
        self.error = why
        return True


def _fingerprint(path: Path) -> Fingerprint:
    """Return what changes when the file does; nothing while there is none. The time of its last change of any kind
    (ctime) tells also of a change of rights, and of tools that keep the time of the content."""
    try:
        found = path.stat()
    except OSError:
        return ()
    return found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino


def _load(path: Path) -> PolicyText:
    if path.exists() and not path.is_file():  # reading a pipe could take for ever
        raise InvalidInput(f"policy: {path}: expected a file", field="policy", fix="give the path of a YAML file")
    return load_policy(path)


def _decoded(published: bytes | None) -> PolicyInForce | None:
    try:
        return None if published is None else msgspec.json.decode(published, type=PolicyInForce)
    except msgspec.DecodeError:  # by a coordinator of another version
        return None
