"""Write the state diagram in docs/architecture.md from the table of legal transitions.

python scripts/state_diagram.py           # rewrite it
python scripts/state_diagram.py --check   # exit 1 if it is stale
"""

from __future__ import annotations

import sys
from pathlib import Path

from shunter.domain.event import event_tag
from shunter.domain.phase import HOLDS_GPUS, Ended, Queued, phase_tag
from shunter.domain.transition import targets

PAGE = Path(__file__).parent.parent / "docs" / "architecture.md"
BEGIN, END = "<!-- state diagram: begin (made by scripts/state_diagram.py) -->", "<!-- state diagram: end -->"


def diagram() -> str:
    """Return the table as a Mermaid state diagram; pairs with the same phases share an arrow."""
    arrows: dict[tuple[str, str], list[str]] = {}
    for (phase, event), target in targets().items():
        arrows.setdefault((phase_tag(phase), phase_tag(target)), []).append(event_tag(event))
    lines = ["```mermaid", "stateDiagram-v2", f"    [*] --> {phase_tag(Queued)}: submitted"]
    lines += [f"    {source} --> {target}: {', '.join(events)}" for (source, target), events in arrows.items()]
    lines.append(f"    {phase_tag(Ended)} --> [*]")
    holding = ", ".join(phase_tag(phase) for phase in HOLDS_GPUS)
    about = f"Phases that hold GPUs: {holding}. All phases survive any crash: they are in Redis."
    return "\n".join([*lines, "```", "", about])


def with_diagram(page: str) -> str:
    """Return *page* with the diagram between its marks."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{diagram()}\n{END}{after}"


def main() -> int:
    page = PAGE.read_text()
    fresh = with_diagram(page)
    if "--check" in sys.argv:
        return int(page != fresh)
    PAGE.write_text(fresh)
    return 0


if __name__ == "__main__":
    sys.exit(main())
