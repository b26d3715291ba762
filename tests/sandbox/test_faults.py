"""Faults on demand: each kind, where it is asked for, as often as it is asked for."""

import time
from typing import Any

import pytest
from botocore.exceptions import ClientError, ConnectionClosedError

from tests.sandbox.clients import Aws, replace

QUEUE = "AWS::SQS::Queue"


def test_throttling_hits_the_named_call_as_often_as_asked(aws: Aws) -> None:
    aws.faults({"kind": "throttle", "operation": "CREATE", "type": "AWS::SQS::*", "count": 2})
    for _ in range(2):
        with pytest.raises(ClientError) as refusal:
            aws.ask_create(QUEUE, {"QueueName": "slow-down"})
        assert refusal.value.response["Error"]["Code"] == "ThrottlingException"
    assert aws.identifiers(QUEUE) == []
    assert aws.create(QUEUE, {"QueueName": "slow-down"})


def test_throttling_of_a_native_call_speaks_its_protocol(aws: Aws) -> None:
    aws.faults({"kind": "throttle", "operation": "DescribeVpcs"})
    with pytest.raises(ClientError) as refusal:
        aws.client("ec2").describe_vpcs()
    assert refusal.value.response["Error"]["Code"] == "Throttling"
    assert aws.client("ec2").describe_vpcs()["Vpcs"]


def test_a_failing_handler_leaves_nothing(aws: Aws) -> None:
    aws.faults({"kind": "fail", "type": QUEUE, "error_code": "ServiceInternalError", "message": "power cut"})
    event = aws.failed_create(QUEUE, {"QueueName": "never"})
    assert (event["ErrorCode"], event["StatusMessage"]) == ("ServiceInternalError", "power cut")
    assert aws.identifiers(QUEUE) == []
    (request,) = aws.requests()
    assert (request["attempts"], request["effects"]) == (1, 0)


def test_a_failure_after_the_effect_leaves_the_effect(aws: Aws) -> None:
    aws.faults({"kind": "fail_after_effect", "type": QUEUE, "error_code": "NetworkFailure"})
    event = aws.failed_create(QUEUE, {"QueueName": "half"})
    assert event["ErrorCode"] == "NetworkFailure"
    (identifier,) = aws.identifiers(QUEUE)
    aws.faults({"kind": "fail_after_effect", "operation": "UPDATE", "identifier": identifier})
    assert aws.update(QUEUE, identifier, replace("/VisibilityTimeout", 99))["OperationStatus"] == "FAILED"
    assert aws.get(QUEUE, identifier)["VisibilityTimeout"] == 99


def test_a_lost_answer_is_found_again_by_its_client_token(aws: Aws) -> None:
    aws.faults({"kind": "lost_answer", "operation": "CreateResource"})
    with pytest.raises(ConnectionClosedError):
        aws.ask_create(QUEUE, {"QueueName": "lost"}, ClientToken="lost-1")
    found = aws.wait(aws.ask_create(QUEUE, {"QueueName": "lost"}, ClientToken="lost-1"))
    assert found["OperationStatus"] == "SUCCESS"
    (request,) = aws.requests()
    assert (request["accepted"], request["effects"]) == (2, 1)


def test_latency_delays_the_answer_and_handler_latency_the_outcome(aws: Aws) -> None:
    aws.faults(
        {"kind": "latency", "operation": "LIST", "seconds": 0.3},
        {"kind": "handler_latency", "type": QUEUE, "seconds": 0.3},
    )
    started = time.monotonic()
    aws.identifiers(QUEUE)
    assert time.monotonic() - started >= 0.3
    started = time.monotonic()
    aws.create(QUEUE, {"QueueName": "slow"})
    assert time.monotonic() - started >= 0.3


@pytest.mark.parametrize(
    "body",
    [
        None,
        {"faults": "all"},
        {"faults": [{"kind": "earthquake"}]},
        {"faults": [{"kind": "fail", "when": "now"}]},
        {"faults": [{"kind": "latency", "seconds": -1}]},
        {"faults": [{"kind": "fail", "count": "many"}]},
    ],
    ids=["nothing", "not-a-list", "unknown-kind", "unknown-member", "negative", "not-a-number"],
)
def test_a_fault_without_its_form_is_refused_and_the_others_stay(aws: Aws, body: Any) -> None:
    aws.faults({"kind": "fail", "type": "AWS::Never::Asked"})
    assert aws.admin("PUT", "/_fairlead/faults", body)[0] == 422
    assert [fault["type"] for fault in aws.admin("GET", "/_fairlead/faults")[1]["faults"]] == [
        "AWS::Never::Asked"
    ]
    assert aws.admin("DELETE", "/_fairlead/faults")[1] == {"faults": []}


def test_health_says_what_is_in_progress(aws: Aws) -> None:
    status, health = aws.admin("GET", "/_fairlead/health")
    assert (status, health["status"], health["unsaved"]) == (200, "ok", {})
    assert aws.admin("GET", "/_fairlead/nothing")[0] == 404


def test_requests_are_shown_without_what_they_asked_for(aws: Aws) -> None:
    aws.create("AWS::SecretsManager::Secret", {"Name": "quiet", "SecretString": "do-not-tell"})
    assert "do-not-tell" not in str(aws.admin("GET", "/_fairlead/requests")[1])
