"""The language of the MCP server: judging its answers, writing its commands, its environment. All pure."""

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead.changes.awsapi import answers, servers, stacks
from fairlead.changes.awsapi.commands import MAX_DOCUMENT_CHARS, DocumentTooLarge, command, document
from fairlead.changes.intrinsics import Secret
from fairlead.kernel.errors import FairleadError
from fairlead.kernel.settings import AwsSettings
from tests.changes.aws_gateway import aws_settings


def response(**fields: Any) -> dict[str, Any]:
    return {"response": {"error": None, "status_code": 200, "error_code": None, "as_json": None, **fields}}


# Judging answers: pure tables.


@pytest.mark.parametrize(
    ("entry", "code"),
    [
        (response(error="x", error_code="ThrottlingException", status_code=400), "aws.throttled"),
        (response(error="x", error_code="RequestLimitExceeded", status_code=503), "aws.throttled"),
        (response(error="x", error_code="AccessDeniedException", status_code=400), "aws.access_denied"),
        (response(error="x", error_code="UnauthorizedOperation", status_code=403), "aws.access_denied"),
        (response(error="x", error_code="ExpiredToken", status_code=403), "aws.credentials_invalid"),
        (response(error="x", error_code="ResourceNotFoundException", status_code=400), "aws.not_found"),
        (response(error="x", error_code="InvalidVpcID.NotFound", status_code=400), "aws.not_found"),
        (response(error="x", error_code="AlreadyExistsException", status_code=400), "aws.already_exists"),
        (response(error="x", error_code="ConcurrentOperationException", status_code=400), "aws.conflict"),
        (response(error="x", error_code="ClientTokenConflictException"), "aws.token_conflict"),
        (response(error="x", error_code="RequestTokenNotFoundException"), "aws.request_unknown"),
        (response(error="x", error_code="NotUpdatable"), "aws.not_updatable"),
        (response(error="x", error_code="UnsupportedActionException"), "aws.unsupported_action"),
        (response(error="x", error_code="TypeNotFoundException"), "aws.type_not_found"),
        (response(error="x", error_code="ValidationException"), "aws.invalid_request"),
        (response(error="x", error_code="ServiceLimitExceeded"), "aws.limit_exceeded"),
        (response(error="x", error_code="HandlerInternalFailureException"), "aws.handler_failed"),
        (response(error="x", error_code="NotStabilized"), "aws.handler_failed"),
        (response(error="x", error_code="ServiceInternalErrorException"), "aws.service_failed"),
        (response(error="x", error_code="Novel", status_code=503), "aws.service_failed"),
        (response(error="x", error_code="NovelException", status_code=400), "aws.error"),
        (response(error="x"), "aws.error"),
        (response(status_code=404), "aws.error"),
        (response(as_json="{broken"), "mcp.bad_answer"),
        (response(as_json="[1]"), "mcp.bad_answer"),
        (response(), "mcp.bad_answer"),
        ({}, "mcp.bad_answer"),
        ({"response": None, "validation_failures": [{"reason": "bad type"}]}, "aws.invalid_request"),
        ({"error": "Execution of this operation is denied by security policy."}, "mcp.read_only"),
        ({"error": 'Could not connect to the endpoint URL: "http://127.0.0.1:1/"'}, "aws.unreachable"),
        ({"error": 'Read timeout on endpoint URL: "x"'}, "aws.no_answer"),
        ({"error": "Connection was closed before we received a valid response"}, "aws.no_answer"),
        (
            {"error": "Error while executing the command: No AWS credentials found."},
            "aws.credentials_invalid",
        ),
        ({"error": "Error while validating the command: {}"}, "aws.invalid_request"),
        ({"error": "something new"}, "mcp.tool_failed"),
    ],
    ids=lambda value: value if isinstance(value, str) else json.dumps(value)[:60],
)
def test_an_answer_is_judged_by_its_payload(entry: dict[str, Any], code: str) -> None:
    with pytest.raises(FairleadError) as judged:
        answers.judge(entry)
    assert judged.value.code == code


def test_an_unknown_code_is_carried_with_its_message_and_without_botos_noise() -> None:
    error = answers.error_of_code(
        "Novel",
        "An error occurred (Novel) when calling the GetResource operation (reached max retries: 0): Why not",
    )
    assert error.message == "AWS: Why not (Novel)"
    assert error.details == {"aws_code": "Novel"}


def test_a_good_answer_is_its_json_without_transport_details() -> None:
    entry = response(as_json='{"A": 1, "ResponseMetadata": {"RequestId": "x"}}')
    assert answers.judge(entry) == {"A": 1}


@pytest.mark.parametrize(
    ("structured", "texts", "is_error", "code"),
    [
        (None, ["not json"], False, "mcp.bad_answer"),
        (None, [], False, "mcp.bad_answer"),
        ({"result": [{}, {}]}, [], False, "mcp.bad_answer"),
        (None, ["Number of batch commands exceeds the maximum limit of 20."], True, "aws.invalid_request"),
    ],
    ids=["prose", "nothing", "another number of entries", "is_error"],
)
def test_a_result_that_does_not_hold_one_entry_for_each_command_is_refused(
    structured: Any, texts: list[str], is_error: bool, code: str
) -> None:
    with pytest.raises(FairleadError) as refused:
        answers.entries(structured, texts, is_error, expected=1)
    assert refused.value.code == code


# Command lines: nothing in a value is ever more than data.


@settings(max_examples=60, deadline=None)
@given(
    st.recursive(st.none() | st.integers() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x))
)
def test_any_document_comes_out_of_the_command_line_as_it_went_in(value: Any) -> None:
    words = shlex.split(command("cloudcontrol", "create-resource", desired_state=document({"V": value})))
    assert words[:3] == ["aws", "cloudcontrol", "create-resource"]
    assert json.loads(words[3].removeprefix("--desired-state=")) == {"V": value}


@pytest.mark.parametrize(
    "text", ["aws ec2 describe-instances --region * --x", "--region \u2003*", "a\n--region  *"], ids=repr
)
def test_a_script_that_names_every_region_is_not_run_in_every_region(text: str) -> None:
    line = command("cloudcontrol", "create-resource", desired_state=document({"UserData": text}))
    assert not re.search(r"--region\s+\*", line)
    assert json.loads(shlex.split(line)[3].partition("=")[2]) == {"UserData": text}


@pytest.mark.parametrize(
    "identifier", ["file:///etc/passwd", "fileb://x", "a --region * b", "a\0b"], ids=repr
)
def test_an_identifier_that_the_command_line_would_interpret_is_refused(identifier: str) -> None:
    with pytest.raises(answers.InvalidRequest):
        command("cloudcontrol", "get-resource", type_name="AWS::S3::Bucket", identifier=identifier)


def test_a_document_beyond_awss_limit_is_refused_with_both_sizes() -> None:
    with pytest.raises(DocumentTooLarge) as refused:
        document({"A": "x" * MAX_DOCUMENT_CHARS})
    assert refused.value.status == 413
    assert refused.value.details == {"size": MAX_DOCUMENT_CHARS + 8, "limit": MAX_DOCUMENT_CHARS}


# The server's environment.


def test_a_server_gets_its_keys_by_environment_and_nothing_else_of_ours() -> None:
    inherited = {"HOME": "/home/u", "AWS_PROFILE": "prod", "SECRET_OF_OURS": "x", "HTTPS_PROXY": "http://p"}
    variables = servers.variables(
        aws_settings("http://127.0.0.1:1"), Path("/data/mcp/reader"), read_only=True, inherited=inherited
    )
    assert variables["AWS_SECRET_ACCESS_KEY"] == "sandbox-secret"
    assert variables["AWS_ENDPOINT_URL"] == "http://127.0.0.1:1"
    assert variables["READ_OPERATIONS_ONLY"] == "true"
    assert variables["HOME"] == variables["AWS_API_MCP_WORKING_DIR"] == "/data/mcp/reader"
    assert variables["AWS_API_MCP_TELEMETRY"] == "false"
    assert variables["HTTPS_PROXY"] == "http://p"
    assert variables["no_proxy"] == variables["NO_PROXY"] == "127.0.0.1,localhost,::1"
    assert not {"AWS_PROFILE", "SECRET_OF_OURS"} & set(variables)


@pytest.mark.parametrize(
    ("aws", "expected"),
    [
        (AwsSettings(profile="prod"), {"AWS_PROFILE": "prod", "AWS_CONFIG_FILE": "/home/u/.aws/config"}),
        (AwsSettings(), {"AWS_WEB_IDENTITY_TOKEN_FILE": "/t", "AWS_CONFIG_FILE": "/home/u/.aws/config"}),
    ],
    ids=["a profile", "AWS's own chain"],
)
def test_without_keys_a_server_finds_credentials_where_aws_tools_do(
    aws: AwsSettings, expected: dict[str, str]
) -> None:
    inherited = {"HOME": "/home/u", "AWS_WEB_IDENTITY_TOKEN_FILE": "/t"}
    variables = servers.variables(aws, Path("/data"), read_only=False, inherited=inherited)
    assert expected.items() <= variables.items()
    assert variables["READ_OPERATIONS_ONLY"] == "false"
    assert "AWS_ENDPOINT_URL" not in variables


# One-resource stacks.


@pytest.mark.parametrize(
    ("operation", "status", "outcome"),
    [
        ("CREATE", "CREATE_IN_PROGRESS", "IN_PROGRESS"),
        ("CREATE", "CREATE_COMPLETE", "SUCCESS"),
        ("CREATE", "ROLLBACK_IN_PROGRESS", "IN_PROGRESS"),
        ("CREATE", "ROLLBACK_COMPLETE", "FAILED"),
        ("CREATE", "CREATE_FAILED", "FAILED"),
        ("CREATE", "DELETE_COMPLETE", "FAILED"),
        ("CREATE", None, "FAILED"),
        ("UPDATE", "UPDATE_IN_PROGRESS", "IN_PROGRESS"),
        ("UPDATE", "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS", "SUCCESS"),
        ("UPDATE", "UPDATE_COMPLETE", "SUCCESS"),
        ("UPDATE", "UPDATE_ROLLBACK_IN_PROGRESS", "IN_PROGRESS"),
        ("UPDATE", "UPDATE_ROLLBACK_COMPLETE", "FAILED"),
        ("UPDATE", None, "FAILED"),
        ("DELETE", "DELETE_IN_PROGRESS", "IN_PROGRESS"),
        ("DELETE", "CREATE_COMPLETE", "IN_PROGRESS"),
        ("DELETE", "DELETE_FAILED", "FAILED"),
        ("DELETE", "DELETE_COMPLETE", "SUCCESS"),
        ("DELETE", None, "SUCCESS"),
    ],
)
def test_a_stacks_status_says_how_it_goes(operation: str, status: str | None, outcome: str) -> None:
    assert stacks.outcome(operation, status) == outcome


@pytest.mark.parametrize(
    ("patch", "after"),
    [
        ([{"op": "add", "path": "/b", "value": 2}], {"a": [1, 2], "b": 2}),
        ([{"op": "replace", "path": "/a/0", "value": 9}], {"a": [9, 2]}),
        ([{"op": "add", "path": "/a/0", "value": 0}], {"a": [0, 1, 2]}),
        ([{"op": "add", "path": "/a/-", "value": 3}], {"a": [1, 2, 3]}),
        ([{"op": "remove", "path": "/a/1"}], {"a": [1]}),
        ([{"op": "remove", "path": "/a"}], {}),
        ([{"op": "add", "path": "/x~1y", "value": 1}], {"a": [1, 2], "x/y": 1}),
        ([{"op": "replace", "path": "", "value": {"c": 1}}], {"c": 1}),
    ],
    ids=lambda value: json.dumps(value)[:50],
)
def test_a_patch_changes_a_copy(patch: list[dict[str, Any]], after: dict[str, Any]) -> None:
    before = {"a": [1, 2]}
    assert stacks.patched(before, patch) == after
    assert before == {"a": [1, 2]}


@pytest.mark.parametrize("path", ["/b", "/a/7", "/a/x", "/a/0/deep"])
def test_a_patch_that_does_not_fit_names_the_place(path: str) -> None:
    with pytest.raises(answers.InvalidRequest, match=path):
        stacks.patched({"a": [1, 2]}, [{"op": "remove", "path": path}])


def test_a_stack_is_named_after_its_token_and_carries_it() -> None:
    given = stacks.template("AWS::SNS::Topic", {"TopicName": "t"}, "token")
    body = given.body
    assert "Parameters" not in body
    assert given.parameters == []
    assert stacks.stack_name("token") == stacks.stack_name("token") != stacks.stack_name("other")
    assert stacks.token_of(body) == "token"
    assert stacks.properties_of(stacks.template_of({"TemplateBody": json.dumps(body)})) == {"TopicName": "t"}


SECRETS = {"Name": "n", "Users": [{"Password": Secret("p-1"), "Port": 5}, {"Password": Secret("p-2")}]}


def test_secrets_are_parameters_of_the_stack_and_stand_nowhere_in_its_template() -> None:
    given = stacks.template("AWS::AmazonMQ::Broker", SECRETS, "token")
    assert not {"p-1", "p-2"} & set(re.findall(r"p-\d", json.dumps(given.body)))
    assert sorted(item["ParameterValue"] for item in given.parameters) == ["p-1", "p-2"]
    declared = given.body["Parameters"]
    assert sorted(declared) == [item["ParameterKey"] for item in given.parameters]
    assert all(item == {"Type": "String", "NoEcho": True} for item in declared.values())
    assert stacks.shown_of(given.body) == {
        "Name": "n",
        "Users": [{"Password": "****", "Port": 5}, {"Password": "****"}],
    }


def test_a_secret_that_a_patch_leaves_alone_keeps_the_value_that_the_stack_has() -> None:
    first = stacks.template("T::T::T", {"Key": Secret("k-1"), **SECRETS}, "one")
    patch = [{"op": "add", "path": "/Users", "value": [{"Password": Secret("p-3")}]}]
    second = stacks.template("T::T::T", stacks.patched(stacks.properties_of(first.body), patch), "two")
    given = {item["ParameterKey"]: item for item in second.parameters}
    key, user = (second.body["Resources"]["Resource"]["Properties"][name] for name in ("Key", "Users"))
    assert given.pop(key["Ref"]) == {"ParameterKey": key["Ref"], "UsePreviousValue": True}
    assert [given.pop(item["Password"]["Ref"])["ParameterValue"] for item in user] == ["p-3"]
    assert given == {}


def test_a_secret_that_no_parameter_holds_is_refused_without_telling_it() -> None:
    with pytest.raises(answers.InvalidRequest, match=r"Data\.Key") as caught:
        stacks.template("T::T::T", {"Data": {"Key": Secret("s" * 4097)}}, "token")
    assert "sss" not in str(caught.value.problem())
