"""All state of a cluster in a file, and back."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from shunter.cli.main import main
from shunter.domain.lease import Lost
from shunter.errors import Conflict, InvalidInput, NotFound
from shunter.store import backup, commands
from shunter.store.keys import Keys
from tests.contract.cluster import Cluster


def numbers(cluster: Cluster) -> tuple[int, int]:
    return cluster.submit()[0], int(cluster.run(commands.next_incarnation(cluster.keys)))


def test_what_was_backed_up_is_there_again_and_numbers_have_jumped(cluster: Cluster, tmp_path: Path) -> None:
    leadership, node, other = cluster.lead(), cluster.join("n1"), cluster.join("n2")
    running, waits = cluster.running(leadership, node, other), cluster.queued()
    keyed = cluster.submit(key=("key", "digest"))
    before, state = cluster.snapshot(), {job: cluster.record(job) for job in (running, waits)}
    job, incarnation = numbers(cluster)
    taken = replace(backup.take(cluster.plain, cluster.keys), at_s=1.0)
    backup.write(taken, tmp_path / "file")
    assert (tmp_path / "file").stat().st_mode & 0o077 == 0
    assert backup.read(tmp_path / "file") == taken
    late = cluster.join("n3")

    cluster.redis.delete(*cluster.snapshot())
    backup.restore(cluster.plain, cluster.keys, backup.read(tmp_path / "file"), replace=False)
    assert {job: cluster.record(job) for job in state} == state
    assert set(before) - {cluster.keys.ready_run} <= set(cluster.snapshot())
    assert cluster.submit(key=("key", "digest")) == keyed
    assert numbers(cluster) == (job + 1 + backup.JUMP, incarnation + 1 + backup.JUMP)
    assert cluster.renew(node).held
    assert cluster.renew(late).answer == Lost(), "it joined after the backup, and joins anew"
    again = cluster.run(commands.lead(cluster.keys, "c", "another", 1000))
    assert again.leading and again.epoch > leadership.epoch + 1, "who led then does not any more"


def test_data_that_is_there_is_not_overwritten_unless_that_is_asked_for(cluster: Cluster) -> None:
    cluster.queued()
    cluster.lead()
    taken = backup.take(cluster.plain, cluster.keys)
    later = cluster.queued()
    before = cluster.snapshot()
    with pytest.raises(Conflict, match="this Redis has"):
        backup.restore(cluster.plain, cluster.keys, taken, replace=False)
    assert cluster.snapshot() == before
    backup.restore(cluster.plain, cluster.keys, taken, replace=True)
    assert cluster.run(commands.records(cluster.keys, [later])) == [None]


def test_what_is_no_backup_or_of_another_cluster_is_refused(cluster: Cluster, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="nothing of it is in this Redis"):
        backup.take(cluster.plain, cluster.keys)
    cluster.queued()
    taken, path = backup.take(cluster.plain, cluster.keys), tmp_path / "file"
    with pytest.raises(InvalidInput, match="the backup is of"):
        backup.restore(cluster.plain, Keys("eu"), taken, replace=True)
    backup.write(replace(taken, format=99), path)
    with pytest.raises(InvalidInput, match="format 99, written by Shunter"):
        backup.read(path)
    for content in (b"", b"text", path.read_bytes()[:40]):
        path.write_bytes(content)
        with pytest.raises(InvalidInput, match="is no backup of Shunter"):
            backup.read(path)


def test_the_commands_do_both(cluster: Cluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    job, path = cluster.queued(), tmp_path / "file"
    cluster.lead()
    where = ["--redis", cluster.server, "--cluster", cluster.keys.cluster]
    assert main(["backup", str(path), *where]) == 0
    assert main(["restore", str(path), *where]) == 6
    assert main(["restore", str(path), "--redis", cluster.server, "--replace"]) == 0
    printed = capsys.readouterr()
    assert "keys of it; stop all coordinators and gateways" in printed.err
    assert f"restored cluster {cluster.keys.cluster} as it was at" in printed.out
    assert cluster.record(job)
