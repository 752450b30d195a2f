"""The token's file: whole from the first moment on, and the same for all who start at once."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from shunter.errors import SetupError
from shunter.gateway.auth import load_or_make_token


def test_a_token_is_made_once_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "new" / "token"
    token = load_or_make_token(path)
    assert len(token) > 40
    assert load_or_make_token(path) == token
    assert path.stat().st_mode & 0o777 == 0o600
    assert [one.name for one in path.parent.iterdir()] == ["token"]


def test_the_file_is_never_there_without_its_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, seen = tmp_path / "token", []
    real = os.open

    def watched(*args: Any, **kwargs: Any) -> int:
        descriptor = real(*args, **kwargs)
        seen.append(path.exists() and not path.read_text())
        return descriptor

    monkeypatch.setattr(os, "open", watched)
    load_or_make_token(path)
    assert seen
    assert not any(seen)


def test_many_that_start_at_once_have_the_same_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both found none: the one that is later takes what the first has made."""
    both, real = threading.Barrier(2), os.link
    numbers = iter((1, 2))
    monkeypatch.setattr(os, "getpid", lambda: next(numbers))

    def together(*args: Any) -> None:
        both.wait(10)
        real(*args)

    monkeypatch.setattr(os, "link", together)
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(load_or_make_token, [tmp_path / "token"] * 2)
    assert first == second


def test_without_links_it_is_moved_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(*_: Any) -> None:
        raise PermissionError(1, "no links here")

    monkeypatch.setattr(os, "link", refuses)
    token = load_or_make_token(tmp_path / "token")
    assert load_or_make_token(tmp_path / "token") == token


@pytest.mark.parametrize(("text", "mode", "says"), [("t", 0o644, "others may read"), ("", 0o600, "is empty")])
def test_what_is_wrong_with_the_file_is_said(tmp_path: Path, text: str, mode: int, says: str) -> None:
    path = tmp_path / "token"
    path.write_text(text)
    path.chmod(mode)
    with pytest.raises(SetupError, match=says):
        load_or_make_token(path)
