"""Which server, and which token."""

from __future__ import annotations

from pathlib import Path

import pytest

from shunter.errors import InvalidInput, SetupError
from shunter.sdk.home import Server, TokenFileWarning, find_server, is_loopback

LOCAL = "http://127.0.0.1:8470"


def write_home(home: Path, *, url: str = LOCAL, token: str = "of-the-file") -> None:
    (home / "endpoint.json").write_text(f'{{"url": "{url}", "pid": 7}}')
    (home / "token").touch(0o600)
    (home / "token").write_text(token + "\n")


def test_arguments_win_over_environment_and_home(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_home(home)
    monkeypatch.setenv("SHUNTER_URL", "http://env")
    monkeypatch.setenv("SHUNTER_TOKEN", "of-env")
    assert find_server("http://given/", "given") == Server("http://given", "given")


def test_environment_wins_over_home(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_home(home)
    monkeypatch.setenv("SHUNTER_URL", "http://env")
    monkeypatch.setenv("SHUNTER_TOKEN", "of-env")
    assert find_server() == Server("http://env", "of-env")


def test_without_arguments_the_server_of_this_machine_is_used(home: Path) -> None:
    write_home(home)
    assert find_server() == Server(LOCAL, "of-the-file")


def test_token_of_this_machine_is_not_sent_to_another_server(home: Path) -> None:
    write_home(home)
    assert find_server("http://elsewhere") == Server("http://elsewhere", None)
    assert find_server(LOCAL + "/") == Server(LOCAL, "of-the-file")


def test_no_server_known_says_how_to_get_one() -> None:
    with pytest.raises(SetupError) as caught:
        find_server()
    assert str(caught.value) == "no Shunter is running here; run `shunter up`, or set SHUNTER_URL and SHUNTER_TOKEN"


@pytest.mark.parametrize(
    "url", ["gateway:8470", "ftp://gateway", "http://", "http://a:99999", "http://a\n.b", "http://a?b=c", "http://[::1"]
)
def test_url_that_is_no_http_url_is_refused(url: str) -> None:
    with pytest.raises(InvalidInput, match="url: expected http://HOST:PORT"):
        find_server(url)


@pytest.mark.parametrize("token", ["with space", "nön-ascii", "line\nbreak"])
def test_token_that_no_header_can_carry_is_refused_without_showing_it(token: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        find_server(LOCAL, token)
    assert token not in str(caught.value)


@pytest.mark.parametrize("content", ["", "{}", "[1]", '{"url": 3}', "\udcff"])
def test_endpoint_file_that_cannot_be_read_is_named(home: Path, content: str) -> None:
    (home / "endpoint.json").write_text(content, errors="surrogateescape")
    with pytest.raises(SetupError, match=r"endpoint\.json"):
        find_server()


def test_token_file_that_others_can_read_gives_a_warning(home: Path) -> None:
    write_home(home)
    (home / "token").chmod(0o644)
    with pytest.warns(TokenFileWarning, match="chmod 600"):
        assert find_server().token == "of-the-file"


def test_token_is_not_in_the_repr() -> None:
    assert "secret" not in repr(find_server(LOCAL, "secret"))


def test_only_this_machine_is_loopback() -> None:
    assert is_loopback("http://127.0.0.1:1") and is_loopback("http://localhost") and is_loopback("http://[::1]:2")
    assert not is_loopback("http://127.example.org") and not is_loopback("http://10.0.0.1")
