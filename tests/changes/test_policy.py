"""Rules that approve without a person, and who may approve what."""

from typing import Any

import pytest

from fairlead.changes.model import Plan, RiskLevel
from fairlead.changes.policy import PolicyInvalid, auto_approves, objections, refuses_approver, rules_of
from tests.changes.plan_factory import desired, plan, recorded


def one(**rule: Any) -> Any:
    return rules_of([{"name": "r", **rule}])[0]


def update() -> Plan:
    return plan([desired("Q", "SQS::Queue", DelaySeconds=6)], [recorded("Q", "SQS::Queue", DelaySeconds=5)])


def alarm() -> Plan:
    return plan([desired("A", "CloudWatch::Alarm", Period=60)], [])


def deletion() -> Plan:
    return plan([], [recorded("A", "CloudWatch::Alarm")])


def data_loss() -> Plan:
    return plan([], [recorded("T", "DynamoDB::Table")])


def drifted() -> Plan:
    known = recorded("Q", "SQS::Queue", DelaySeconds=5)
    return plan([desired("Q", "SQS::Queue", DelaySeconds=5)], [known], {"Q": {"DelaySeconds": 9}})


@pytest.mark.parametrize(
    ("made", "rule", "approved"),
    [
        pytest.param(alarm(), {}, True, id="LOW by default"),
        pytest.param(deletion(), {}, False, id="MEDIUM is more than LOW"),
        pytest.param(deletion(), {"max_risk": "MEDIUM"}, True, id="MEDIUM where allowed"),
        pytest.param(data_loss(), {"max_risk": "MEDIUM"}, False, id="HIGH never"),
        pytest.param(alarm(), {"actions": ["create"]}, True, id="an allowed action"),
        pytest.param(alarm(), {"actions": ["update"]}, False, id="another action"),
        pytest.param(alarm(), {"actions": []}, False, id="no action at all"),
        pytest.param(alarm(), {"types": ["AWS::CloudWatch::*"]}, True, id="an allowed type"),
        pytest.param(alarm(), {"types": ["AWS::SNS::*"]}, False, id="another type"),
        pytest.param(alarm(), {"types": ["aws::cloudwatch::*"]}, False, id="types are case-sensitive"),
        pytest.param(alarm(), {"max_changes": 1}, True, id="as many changes as allowed"),
        pytest.param(alarm(), {"max_changes": 0}, False, id="more changes than allowed"),
        pytest.param(alarm(), {"max_monthly_usd": 0.1}, True, id="as dear as allowed"),
        pytest.param(alarm(), {"max_monthly_usd": 0.09}, False, id="dearer"),
        pytest.param(update(), {"max_monthly_usd": 1000}, False, id="an unknown price is not cheap"),
        pytest.param(update(), {}, True, id="an unknown price where cost is not asked about"),
        pytest.param(alarm(), {"environments": ["dev"]}, True, id="an allowed environment"),
        pytest.param(alarm(), {"environments": ["test"]}, False, id="another environment"),
        pytest.param(drifted(), {"max_risk": "MEDIUM"}, False, id="drift is somebody's work"),
        pytest.param(drifted(), {"max_risk": "MEDIUM", "drift": True}, True, id="drift where allowed"),
        pytest.param(plan([], []), {}, False, id="nothing to approve"),
    ],
)
def test_a_rule_approves_only_when_all_of_it_holds(made: Plan, rule: dict[str, Any], approved: bool) -> None:
    reason = auto_approves(made, [one(**rule)], "dev")
    assert reason == ('rule "r"' if approved else None)


def test_the_first_rule_that_fits_is_named() -> None:
    rules = rules_of([{"name": "no", "actions": []}, {"name": "yes"}, {"name": "too"}])
    assert auto_approves(alarm(), rules) == 'rule "yes"'


def test_without_rules_a_person_decides() -> None:
    assert auto_approves(alarm(), ()) is None


def test_objections_name_what_does_not_hold() -> None:
    assert objections(data_loss(), one(actions=["create"], environments=["dev"]), None) == (
        "T: delete is not among the rule's actions",
        "risk is HIGH",
        "environment is not stated",
    )


@pytest.mark.parametrize(
    ("rule", "place"),
    [
        pytest.param({}, "auto_approval_rules.0", id="no name"),
        pytest.param({"name": " "}, "auto_approval_rules.0.name", id="an empty name"),
        pytest.param({"name": "r", "max_risk": "HIGH"}, "auto_approval_rules.0.max_risk", id="HIGH"),
        pytest.param({"name": "r", "max_risk": "low"}, "auto_approval_rules.0", id="no such level"),
        pytest.param({"name": "r", "actions": ["destroy"]}, "auto_approval_rules.0", id="no such action"),
        pytest.param({"name": "r", "max_cost": 5}, "auto_approval_rules.0", id="no such field"),
        pytest.param({"name": "r", "max_monthly_usd": "5"}, "auto_approval_rules.0", id="text for a number"),
    ],
)
def test_a_rule_that_cannot_be_understood_is_refused_with_its_place(rule: dict[str, Any], place: str) -> None:
    with pytest.raises(PolicyInvalid) as caught:
        rules_of([rule])
    assert caught.value.details["path"] == place
    assert (caught.value.code, caught.value.status, caught.value.retryable) == (
        "changes.policy_invalid",
        422,
        False,
    )
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("level", "author", "approver", "refused"),
    [
        (RiskLevel.HIGH, "ann", "ann", True),
        (RiskLevel.HIGH, "ann", "bob", False),
        (RiskLevel.MEDIUM, "ann", "ann", False),
        (RiskLevel.LOW, "ann", "ann", False),
    ],
)
def test_the_author_may_not_approve_high(level: RiskLevel, author: str, approver: str, refused: bool) -> None:
    assert (refuses_approver(level, author_id=author, approver_id=approver) is not None) == refused
