"""How much everyone has used, decayed: what fair share compares.

Use is GPU-seconds. What was used *t* seconds ago counts `2 ** (-t / half_life)` of itself (Slurm's multifactor plugin,
PriorityDecayHalfLife). A job that runs since *s* on *g* GPUs has used, as it counts at *now*,
`g * h / ln 2 * (1 - 2 ** (-(now - s) / h))`, the integral of that. So every account needs four numbers, however many
jobs run: decayed use of ended jobs and its time, GPUs held now, and their start factors summed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Final

from msgspec import Struct

from shunter.scheduling.policy import Policy

Owner = tuple[str, str]
"""(team, user)."""

AccountKey = tuple[str, ...]
"""`("team", NAME)` or `("user", TEAM, NAME)`."""

_REBASE_HALF_LIVES: Final = 200.0
"""2 ** 200 is far from what a float holds; beyond, start factors are counted from a later moment."""


class Used(Struct, frozen=True):
    """Decayed use of one owner, in GPU-seconds."""

    team: str
    user: str
    gpu_s: float


class Usage(Struct, frozen=True):
    """What everyone has used in jobs that had ended by *at_s* (wall clock), entry *cursor* of the event stream.

    The leader keeps it in the store, so that the next one knows it.
    """

    at_s: float
    cursor: str
    used: tuple[Used, ...]


class Account(Struct):
    """One node of the tree. *past* is the decayed use of ended jobs at *at_s*, *held* counts GPUs held now, *starts* is
    the sum of `gpus * 2 ** ((start - base) / half_life)` over them."""

    past: float = 0.0
    at_s: float = 0.0
    held: float = 0.0
    starts: float = 0.0
    jobs: int = 0


class Ledger:
    """Accounts of users and of the teams above them. An owner's path runs from the root's child to the user."""

    def __init__(self, policy: Policy) -> None:
        self._half_life_s = policy.fair_share.half_life_s
        self._gain = self._half_life_s / math.log(2)
        self._teams = policy.teams
        self._users = policy.users
        self._paths: dict[Owner, tuple[AccountKey, ...]] = {}
        self._base_s: float | None = None
        self._ahead_of: tuple[tuple[float | None, float], float] = (None, 0.0), 1.0
        self.accounts: dict[AccountKey, Account] = {}
        self.weights: dict[AccountKey, float] = {}
        """What is due to an account, against its siblings."""
        self.depth = max((len(self.path((team, ""))) for team in policy.teams), default=2)
        """No path is longer."""

    def path(self, owner: Owner) -> tuple[AccountKey, ...]:
        """Return the accounts that *owner*'s use is charged to, from the top; the last is the user's own."""
        known = self._paths.get(owner)
        if known is not None:
            return known
        team, user = owner
        path: tuple[AccountKey, ...] = (("user", team, user),)
        self.weights[path[0]] = self._users[user].weight if user in self._users else 1.0
        while team and ("team", team) not in path:
            path = (("team", team), *path)
            self.weights[path[0]] = self._teams[team].weight if team in self._teams else 1.0
            team = self._teams[team].parent if team in self._teams else ""
        self._paths[owner] = path
        for name in path:
            self.accounts.setdefault(name, Account())
        return path

    def hold(self, owner: Owner, gpus: float, start_s: float) -> None:
        """From *start_s* on, *owner* holds *gpus* more."""
        self._change(owner, gpus, start_s, 1)

    def release(self, owner: Owner, gpus: float, start_s: float) -> None:
        """Undo `hold`; what was used until now is not kept, see `charge`."""
        self._change(owner, -gpus, start_s, -1)

    def charge(self, owner: Owner, gpus: float, start_s: float, end_s: float) -> None:
        """Add the use of *gpus* from *start_s* to *end_s* to the past. A clock that stepped back counts as no use."""
        used = self._gain * gpus * (1.0 - 2.0 ** (-max(end_s - start_s, 0.0) / self._half_life_s))
        for name in self.path(owner):
            self._add_past(name, used, end_s)

    def _add_past(self, name: AccountKey, used_gpu_s: float, at_s: float) -> None:
        """Add *used_gpu_s*, as it counted at *at_s*, to account *name*."""
        account = self.accounts.setdefault(name, Account())
        if at_s >= account.at_s:
            account.past = account.past * self._decay(at_s - account.at_s) + used_gpu_s
            account.at_s = at_s
        else:
            account.past += used_gpu_s * self._decay(account.at_s - at_s)

    def used(self, name: AccountKey, now_s: float) -> float:
        """Return the use of account *name* as it counts at *now_s*, running jobs included, in GPU-seconds."""
        account = self.accounts.get(name)
        if account is None:
            return 0.0
        used = account.past * self._decay(now_s - account.at_s) if account.past else 0.0
        if account.jobs and self._base_s is not None:
            running = account.held - account.starts * self._ahead(now_s)
            used += self._gain * max(running, 0.0)
        return used

    def _ahead(self, now_s: float) -> float:
        """Return `2 ** ((base - now) / half_life)`, the same for all accounts at one moment."""
        if self._ahead_of[0] != (self._base_s, now_s):
            assert self._base_s is not None
            ahead = min((self._base_s - now_s) / self._half_life_s, 1_000.0)  # a clock far behind must not overflow
            self._ahead_of = (self._base_s, now_s), 2.0**ahead
        return self._ahead_of[1]

    def past(self, now_s: float) -> tuple[Used, ...]:
        """Return the use of ended jobs by owner, as it counts at *now_s*: what must outlive a view."""
        found = []
        for owner, path in sorted(self._paths.items()):
            account = self.accounts[path[-1]]
            if account.past:
                found.append(Used(*owner, account.past * self._decay(now_s - account.at_s)))
        return tuple(found)

    def load(self, past: Iterable[Used], at_s: float) -> None:
        """Take over what `past(at_s)` returned, here or in a ledger with another tree."""
        for used in past:
            for name in self.path((used.team, used.user)):
                self._add_past(name, used.gpu_s, at_s)

    def _decay(self, age_s: float) -> float:
        return math.exp2(-max(age_s, 0.0) / self._half_life_s)

    def _change(self, owner: Owner, gpus: float, start_s: float, jobs: int) -> None:
        if self._base_s is None:
            self._base_s = start_s
        elif (start_s - self._base_s) / self._half_life_s > _REBASE_HALF_LIVES:
            self._rebase(start_s)
        factor = gpus * 2.0 ** ((start_s - self._base_s) / self._half_life_s)
        for name in self.path(owner):
            account = self.accounts[name]
            account.jobs += jobs
            # Sums of floats keep a rest after the last job left; the count does not.
            account.held = account.held + gpus if account.jobs else 0.0
            account.starts = account.starts + factor if account.jobs else 0.0

    def _rebase(self, base_s: float) -> None:
        assert self._base_s is not None
        factor = 2.0 ** ((self._base_s - base_s) / self._half_life_s)
        for account in self.accounts.values():
            account.starts *= factor
        self._base_s = base_s
