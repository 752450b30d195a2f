"""`Client.policy()`."""

from __future__ import annotations

from shunter.runtime.policy_file import load_policy
from shunter.runtime.policy_report import PolicyInForce
from tests.unit.sdk.fake import FakeGateway, ok


def test_the_policy_in_force_is_read_as_a_structure(gateway: FakeGateway) -> None:
    default = load_policy("default")
    in_force = PolicyInForce(default.policy, default.text, "/etc/policy.yaml", 5.0, "box-7", 3, "why not")
    gateway.plan("GET /v1/policy", ok(in_force))
    assert gateway.client().policy() == in_force
