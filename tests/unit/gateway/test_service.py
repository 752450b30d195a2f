"""Large scripts go to storage, and storage that is broken is told as such."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest

from shunter.domain.job import INLINE_SCRIPT_BYTES, JobSpec
from shunter.errors import Unavailable
from shunter.gateway import service as service_module
from shunter.gateway.service import Service
from shunter.gateway.submission import build
from shunter.runtime.config import Settings
from shunter.store.redis import AsyncStore

LARGE = build(JobSpec(script="#" * (INLINE_SCRIPT_BYTES + 1)), default_user="ada", at_s=1.0)


def service(storage: Path) -> Service:
    url = "redis://127.0.0.1:1/0"
    return Service(AsyncStore(url), Settings("main", url, storage, storage), "ada")


def test_a_large_script_is_stored_once_under_its_digest(tmp_path: Path) -> None:
    first, again = (asyncio.run(service(tmp_path)._stash(LARGE)) for _ in range(2))
    assert first == again
    assert first.launch.script is None
    assert first.launch.script_ref is not None
    assert Path(first.launch.script_ref).read_text() == LARGE.launch.script
    assert len(list((tmp_path / "scripts").iterdir())) == 1


def test_broken_storage_is_unavailable_with_path_and_fix(tmp_path: Path) -> None:
    (tmp_path / "scripts").write_text("in the way")
    with pytest.raises(Unavailable) as caught:
        asyncio.run(service(tmp_path)._stash(LARGE))
    assert str(tmp_path / "scripts") in caught.value.message
    assert caught.value.field == "script"
    assert caught.value.fix is not None
    assert "storage" in caught.value.fix


def test_slow_storage_holds_up_nobody_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()

    def slow(path: str, text: bytes) -> None:
        assert release.wait(10)

    monkeypatch.setattr(service_module, "_put", slow)

    async def story() -> None:
        storing = asyncio.create_task(service(tmp_path)._stash(LARGE))
        await asyncio.sleep(0.01)
        assert not storing.done()
        release.set()
        await storing

    asyncio.run(story())
