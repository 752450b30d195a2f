"""`shunter rejoin`: an operator gives a lost data set up."""

from __future__ import annotations

from pathlib import Path

import pytest

from shunter.store.identity import Identity, home_record, node_record, records
from shunter.store.keys import Keys
from tests.unit.cli.conftest import Cli


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for path in (home_record(tmp_path, "main"), node_record(tmp_path / "nodes" / "n1")):
        Identity(Keys("main"), path).note("0123456789abcdef")
    (tmp_path / "nodes" / "n1" / "identity").write_text("the host's")
    return tmp_path


def test_it_forgets_to_which_data_set_the_roles_and_nodes_of_the_home_belong(cli: Cli, folder: Path) -> None:
    ran = cli("rejoin", "--home", str(folder), "--yes")
    assert ran.code == 0
    assert "cluster-identity.main: 0123456789abcdef" in ran.out
    assert "nodes/n1/cluster-identity: 0123456789abcdef" in ran.out
    assert records(folder) == []
    assert (folder / "nodes" / "n1" / "identity").read_text() == "the host's"
    assert Identity(Keys("main"), home_record(folder, "main")).known == ""


def test_without_yes_it_asks_and_nothing_is_lost_by_no(cli: Cli, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("click.confirm", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
    assert cli("rejoin", "--home", str(folder)).code == 130
    assert len(records(folder)) == 2


def test_a_home_that_belongs_to_nothing_is_told_so(cli: Cli, tmp_path: Path) -> None:
    ran = cli("rejoin", "--home", str(tmp_path), "--yes")
    assert ran.code == 4
    assert f"rejoin: nothing in {tmp_path} belongs to a data set" in ran.err
