"""The documents say what is true now, as far as a program can tell."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PAGES = sorted(page for folder in (ROOT, ROOT / "docs", ROOT / "docs/decisions") for page in folder.glob("*.md"))


def test_the_state_diagram_is_made_from_the_table() -> None:
    script = ROOT / "scripts/state_diagram.py"
    done = subprocess.run([sys.executable, script, "--check"], check=False)
    assert done.returncode == 0, "run: python scripts/state_diagram.py"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_between_documents_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", page.read_text())
    local = [link for link in links if "://" not in link]
    missing = [link for link in local if not (page.parent / link).exists()]
    assert missing == []


def test_the_readme_names_only_commands_that_exist() -> None:
    from shunter.cli.main import shunter

    named = set(re.findall(r"^shunter +([a-z]+)", (ROOT / "README.md").read_text(), flags=re.MULTILINE))
    known = set(shunter.list_commands(None))  # type: ignore[arg-type]
    assert named
    assert named <= known
