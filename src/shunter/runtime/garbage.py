"""When Python looks for garbage: seldom, in a process that holds a large state and must answer each event at once."""

from __future__ import annotations

import gc
from typing import Final

YOUNG: Final = 50_000
"""New containers before Python looks through them: by default 700, and with a large state every tenth such look then
takes longer than most passes of the scheduler."""


def look_seldom() -> None:
    """Leave out of all later looks what is there now, and have them come seldom.

    What no cycle holds is freed at once as ever. Source: the `gc` module's documentation, `freeze` and `set_threshold`.
    """
    gc.unfreeze()
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG, 10, 10)
