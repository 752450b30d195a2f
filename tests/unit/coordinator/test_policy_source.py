"""The policy file while a coordinator runs: followed once it is written, and never to something that is not valid."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest
from structlog.testing import capture_logs

from shunter.coordinator.policy_source import PolicySource
from shunter.errors import InvalidInput
from shunter.runtime.policy_file import read_policy
from shunter.runtime.policy_report import PolicyInForce


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "policy.yaml"
    path.write_text("seed: 1\n")
    return path


def looks(source: PolicySource) -> list[bool]:
    """Look as often as it takes to see a change, and once more."""
    return [source.look() for _ in range(3)]


CHANGED = [False, True, False]
SAME = [False, False, False]


# which file


def test_without_a_file_the_shipped_default_is_in_force_and_a_file_counts_once_it_is_there(tmp_path: Path) -> None:
    source = PolicySource(None, tmp_path)
    assert source.policy == read_policy("default")
    assert source.in_force(None, "c", 1).source == "default (shipped)"
    assert looks(source) == SAME
    (tmp_path / "policy.yaml").write_text("seed: 1")
    assert looks(source) == CHANGED
    assert source.policy.seed == 1
    assert source.in_force(None, "c", 1).source == str(tmp_path / "policy.yaml")


def test_what_is_given_goes_before_the_home(tmp_path: Path, file: Path) -> None:
    other = tmp_path / "other.yaml"
    other.write_text("seed: 2")
    assert PolicySource(None, tmp_path).policy.seed == 1
    assert PolicySource(str(other), tmp_path).policy.seed == 2
    assert PolicySource("easy", tmp_path).policy == read_policy("easy")


def test_a_path_is_meant_as_it_was_at_the_start(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(file.parent)
    source = PolicySource("policy.yaml", file.parent)
    monkeypatch.chdir("/")
    assert looks(source) == SAME
    assert source.error == ""


@pytest.mark.parametrize("text", ["sed: 1", "[", "\x00"])
def test_a_file_that_is_not_valid_at_the_start_stops_it(file: Path, text: str) -> None:
    file.write_text(text)
    with pytest.raises(InvalidInput, match=str(file)):
        PolicySource(None, file.parent)


def test_a_pipe_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "policy.yaml")
    with pytest.raises(InvalidInput, match="expected a file"):
        PolicySource(None, tmp_path)


def test_a_home_that_may_not_be_looked_into_has_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = PolicySource(None, tmp_path)

    allowed = Path.stat

    def forbidden(path: Path, **_: object) -> os.stat_result:
        if path.is_relative_to(tmp_path):
            raise PermissionError(13, "Permission denied", str(path))
        return allowed(path)

    with monkeypatch.context() as closed:
        closed.setattr(Path, "stat", forbidden)
        assert looks(source) == SAME
    assert (source.policy, source.error) == (read_policy("default"), "")


# following


def test_a_change_is_taken_when_it_has_been_there_for_two_looks(file: Path) -> None:
    source = PolicySource(None, file.parent)
    with capture_logs() as logged:
        file.write_text("")  # as an editor does, before it writes the rest
        assert not source.look()
        file.write_text("seed: 2\nstrict: true\n")
        assert not source.look()
        assert source.policy.seed == 1
        assert source.look()
        assert source.policy.seed == 2
        assert not source.look()
    assert logged == [
        {
            "event": "policy changed",
            "log_level": "info",
            "source": str(file),
            "changes": ["strict: false -> true", "seed: 1 -> 2"],
        }
    ]


def test_a_file_put_in_its_place_with_the_same_size_and_time_is_a_change(file: Path) -> None:
    source = PolicySource(None, file.parent)
    before = file.stat()
    new = file.with_name("new")
    new.write_text("seed: 2\n")
    os.utime(new, ns=(before.st_atime_ns, before.st_mtime_ns))
    new.replace(file)
    assert looks(source) == CHANGED
    assert source.policy.seed == 2


def test_what_is_not_valid_is_told_once_and_changes_nothing(file: Path) -> None:
    source = PolicySource(None, file.parent)
    before = source.policy
    with capture_logs() as logged:
        file.write_text("seed: 2\nsed: 1\n")
        assert looks(source) == CHANGED
        os.utime(file, ns=(1, 1))  # touched, and as wrong as before
        assert looks(source) == SAME
    assert source.policy is before
    assert source.error == f"{file}:2:1: sed: no such key; did you mean seed?"
    assert [(line["event"], line["error"]) for line in logged] == [
        ("policy refused, the one before stays in force", source.error)
    ]
    file.write_text("seed: 3\n")
    assert looks(source) == CHANGED
    assert (source.policy.seed, source.error) == (3, "")


def test_a_mistake_taken_back_clears_the_error_without_a_new_policy(file: Path) -> None:
    source = PolicySource(None, file.parent)
    file.write_text("sed: 1")
    assert looks(source) == CHANGED
    file.write_text("seed: 1\n")
    assert looks(source) == CHANGED
    assert source.error == ""


@pytest.mark.parametrize("replacement", ["nothing", "a folder", "a pipe"])
def test_a_file_that_vanishes_changes_nothing_not_even_to_the_default(file: Path, replacement: str) -> None:
    source = PolicySource(None, file.parent)
    file.unlink()
    if replacement == "a folder":
        file.mkdir()
    elif replacement == "a pipe":
        os.mkfifo(file)
    assert looks(source) == CHANGED
    assert source.policy.seed == 1
    assert str(file) in source.error


def test_a_new_comment_is_published_and_is_no_new_policy(file: Path) -> None:
    source = PolicySource(None, file.parent)
    before = source.in_force(None, "c", 1)
    with capture_logs() as logged:
        file.write_text("# why\nseed: 1\n")
        assert looks(source) == CHANGED
    after = source.in_force(msgspec.json.encode(before), "c", 1)
    assert (after.policy, after.since_s) == (before.policy, before.since_s)
    assert (after.text, logged) == ("# why\nseed: 1\n", [])


# what is published


def test_since_when_a_policy_is_in_force_outlives_the_leader(file: Path) -> None:
    source = PolicySource(None, file.parent)
    first = PolicyInForce(source.policy, "seed: 1", "/elsewhere", 5.0, "a", 1)
    taken_over = source.in_force(msgspec.json.encode(first), "b", 2)
    assert (taken_over.since_s, taken_over.leader, taken_over.epoch) == (5.0, "b", 2)
    assert (taken_over.text, taken_over.source) == ("seed: 1\n", str(file))
    other = msgspec.structs.replace(first, policy=read_policy("easy"))
    assert source.in_force(msgspec.json.encode(other), "b", 2).since_s > 5.0


@pytest.mark.parametrize("published", [b"", b"{}", b'{"policy":{"new":1}}', b"\xff"])
def test_what_another_version_published_is_no_obstacle(file: Path, published: bytes) -> None:
    assert PolicySource(None, file.parent).in_force(published, "b", 2).since_s > 5.0


def test_whatever_reading_it_raises_the_policy_before_stays_in_force(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = PolicySource(None, file.parent)
    file.write_text("seed: 2\n")
    with monkeypatch.context() as broken, capture_logs() as logs:
        broken.setattr("shunter.coordinator.policy_source.load_policy", lambda _: 1 / 0)
        assert looks(source) == CHANGED
    assert source.policy.seed == 1
    assert source.error == f"policy: {file}: cannot be read: ZeroDivisionError: division by zero"
    assert [isinstance(entry["exc_info"], ZeroDivisionError) for entry in logs] == [True]
    file.write_text("seed: 3\n")
    assert looks(source) == CHANGED
    assert (source.policy.seed, source.error) == (3, "")
