"""GET /v1/policy: what the leader published, and what is answered where that is nothing, or another version's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import httpx
import msgspec
import pytest
from litestar.testing import TestClient

from shunter.domain.report import ErrorBody
from shunter.gateway.app import make_app
from shunter.gateway.hub import Hub
from shunter.gateway.service import Service
from shunter.runtime.config import Settings
from shunter.runtime.policy_file import load_policy
from shunter.runtime.policy_report import PolicyInForce
from shunter.store.command import Command
from shunter.store.keys import Keys
from shunter.store.redis import AsyncStore

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

DEFAULT: Final = load_policy("default")
IN_FORCE: Final = PolicyInForce(DEFAULT.policy, DEFAULT.text, "/etc/policy.yaml", 5.0, "box-7", 3, "why not")


class OneKey(AsyncStore):
    """Holds only the published policy."""

    def __init__(self) -> None:
        self.value: bytes | None = None

    async def run(self, command: Command[Any]) -> Any:
        assert command.parts == ("GET", Keys("main").policy)
        return command.parse(self.value)

    async def close(self) -> None:
        pass


@pytest.fixture
def store() -> OneKey:
    return OneKey()


@pytest.fixture
def http(store: OneKey, tmp_path: Path) -> Iterator[httpx.Client]:
    service = Service(store, Settings("main", "redis://nowhere", tmp_path, tmp_path), "ada")
    with TestClient(make_app(service, Hub(store, Keys("main")), "secret")) as client:
        client.headers["authorization"] = "Bearer secret"
        yield client


def test_the_policy_in_force_is_answered_as_a_structure_and_as_text(http: httpx.Client, store: OneKey) -> None:
    store.value = msgspec.json.encode(IN_FORCE)
    response = http.get("/v1/policy")
    assert response.status_code == 200
    assert msgspec.json.decode(response.content, type=PolicyInForce) == IN_FORCE
    assert response.json()["policy"]["classes"]["high"]["home"] == "dedicated"
    assert (response.json()["text"], response.json()["error"]) == (DEFAULT.text, "why not")


@pytest.mark.parametrize(
    ("value", "status", "code"), [(None, 404, "not_found"), (b'{"policy": {"newer": 1}}', 409, "conflict")]
)
def test_what_cannot_be_answered_is_refused_with_what_to_do(
    http: httpx.Client, store: OneKey, value: bytes | None, status: int, code: str
) -> None:
    store.value = value
    response = http.get("/v1/policy")
    body = msgspec.json.decode(response.content, type=ErrorBody)
    assert (response.status_code, body.code) == (status, code)
    assert body.message.startswith("policy: ")
    assert body.fix


def test_it_needs_the_token(http: httpx.Client) -> None:
    assert http.get("/v1/policy", headers={"authorization": ""}).status_code == 401


def test_openapi_describes_it(http: httpx.Client) -> None:
    document = http.get("/openapi.json").json()
    operation = document["paths"]["/v1/policy"]["get"]
    assert operation["description"].startswith("The policy that the leader goes by")
    schema = operation["responses"]["200"]["content"]["application/json"]["schema"]
    described = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    assert set(described["properties"]) == set(PolicyInForce.__struct_fields__)
    assert "/v1/policy" in http.get("/docs").text
