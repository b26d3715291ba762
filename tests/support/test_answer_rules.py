"""What decides about answers without any process: which commands may leave, what is planned, how it is told."""
# Rows of tables stay on one line.
# ruff: noqa: E501

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from fairlead.support import general
from fairlead.support.answers import commands, inventory, plans, rendering, tools
from fairlead.support.answers.commands import CommandRefused
from fairlead.support.answers.model import Question
from fairlead.support.answers.plans import Call, Done, Plan, Topic
from fairlead.support.answers.tools import Cause, Failure, Result
from fairlead.support.language import language_of
from fairlead.support.model import Intent
from fairlead.support.understanding import understand

NOW = datetime(2026, 11, 20, 1, tzinfo=UTC)  # 10:00 in Seoul
ACCOUNT = "111122223333"
DOCS = Path(__file__).parents[2] / "docs" / "how-to"


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        pytest.param("aws ec2 describe-instances --region ap-northeast-2", ("ec2", "describe-instances", "ap-northeast-2"), id="read"),
        pytest.param("aws iam list-users", ("iam", "list-users", None), id="no region"),
        pytest.param("aws ec2 describe-vpcs --region=us-east-1 --filters Name=tag:a,Values=b", ("ec2", "describe-vpcs", "us-east-1"), id="with filters"),
        pytest.param("aws ec2 describe-instances --query \"Reservations[*].Instances[?State.Name=='running'].{id: InstanceId, n: length(Tags)}\"", ("ec2", "describe-instances", None), id="with a query"),
        pytest.param("aws s3api get-bucket-policy --bucket acme", ("s3api", "get-bucket-policy", None), id="a policy"),
    ],
)  # fmt: skip
def test_reads_may_leave(command: str, expected: tuple[str, str, str | None]) -> None:
    assert commands.checked(command) == expected


@pytest.mark.parametrize(
    "command",
    [
        "aws ec2 run-instances --image-id ami-1",
        "aws iam create-user --user-name x",
        "aws secretsmanager get-secret-value --secret-id x",
        "aws secretsmanager batch-get-secret-value --secret-id-list x",
        "aws ssm get-parameter --name x --with-decryption",
        "aws ssm get-parameters-by-path --path /",
        "aws s3 cp s3://a/b .",
        "aws s3 ls",
        "aws s3api get-object --bucket a --key b /tmp/c",
        "aws lambda get-function --function-name x",
        "aws lambda invoke --function-name x /tmp/y",
        "aws sts assume-role --role-arn arn:aws:iam::1:role/x --role-session-name y",
        "aws sts get-session-token",
        "aws ec2 get-password-data --instance-id i-1",
        "aws ec2 get-console-output --instance-id i-1",
        "aws ec2 describe-instance-attribute --instance-id i-1 --attribute userData",
        "aws ec2 describe-launch-template-versions --launch-template-id lt-1",
        "aws ec2 describe-vpn-connections",
        "aws ecr get-login-password",
        "aws kms decrypt --ciphertext-blob x",
        "aws rds generate-db-auth-token --hostname h --port 1 --username u",
        "aws dynamodb scan --table-name x",
        "aws logs filter-log-events --log-group-name x",
        "aws logs start-query --query-string x",
        "aws s3control get-data-access --account-id 1 --target s3://x --permission READ",
        "aws ec2 describe-instances --profile other",
        "aws ec2 describe-instances --prof other",
        "aws ec2 describe-instances --endpoint-url http://evil.example",
        "aws ec2 describe-instances --cli-input-json file:///etc/passwd",
        "aws ec2 describe-instances --filters file:///etc/passwd",
        "aws ec2 describe-instances --filters=fileb:///etc/passwd",
        "aws ec2 describe-instances --filters http://169.254.169.254/latest",
        "aws ec2 describe-instances --region *",
        "aws ec2 describe-instances --region ../../x",
        "aws ec2 describe-instances --reg evil.example",
        "aws lambda list-functions --query Functions[].Environment.Variables",
        "aws lambda list-functions --query=Functions[].Environment",
        "aws lambda list-functions --que Functions[].Environment",
        "aws lambda list-functions --query 'Functions[].{x: environment.variables}'",
        "aws lambda list-functions --query 'Functions[].\"Environment\"'",
        "aws lambda list-functions --query 'Functions[].\"Envir\\u006fnment\"'",
        "aws lambda list-functions --query 'Functions[].*.*'",
        "aws lambda list-functions --query 'Functions[].[*.DB_URL]'",
        "aws lambda list-functions --query 'to_string(Functions)'",
        "aws lambda list-functions --query 'map(&values(@), Functions)'",
        "aws lambda list-functions --query \"'a\\'' || Functions[].Environment || '\\''\"",
        "aws apigateway get-stages --rest-api-id x --query item[].variables.key",
        "aws ec2 describe-instances ; rm -rf /",
        "aws ec2 describe-instances\naws iam list-users",
        "aws ec2 describe-instances extra",
        "aws ec2 describe-instances --filters 'unclosed",
        "bash -c 'aws ec2 describe-instances'",
        "aws --region us-east-1 ec2 describe-instances",
        "aws ec2 describe-instancesX",
        "aws ec2 describe-instances " + "-" * 3000,
        "aws",
        "",
    ],
)
def test_everything_else_is_refused_before_it_leaves(command: str) -> None:
    with pytest.raises(CommandRefused):
        commands.checked(command)
    result = tools.TOOLS["call_aws"].arguments
    with pytest.raises(ValueError, match="command"):
        result.model_validate({"command": command})


@pytest.mark.parametrize("kind", sorted(inventory.KINDS))
def test_the_commands_of_the_table_are_reads_that_may_leave(kind: str) -> None:
    command = inventory.command(inventory.KINDS[kind], "ap-northeast-2", None)
    assert commands.checked(command)[2] == "ap-northeast-2"
    assert tools.prepared("call_aws", {"command": command})[1]["cli_command"] == command


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        pytest.param("delete_bucket", {}, id="no such tool"),
        pytest.param("lake_query", {"sql": "SELECT 1"}, id="a tool of the server that costs"),
        pytest.param("execute_log_insights_query", {}, id="another"),
        pytest.param("get_active_alarms", {"region": "ap-northeast-2", "profile_name": "x"}, id="another profile"),
        pytest.param("get_active_alarms", {"region": "x; rm"}, id="no region"),
        pytest.param("get_active_alarms", {"region": "us-east-1", "max_items": 10_000}, id="too many"),
        pytest.param("lookup_events", {"region": "us-east-1", "start_time": "yesterday", "end_time": "now"}, id="no time"),
    ],
)  # fmt: skip
def test_tools_and_arguments_that_are_not_ours_are_refused(name: str, arguments: dict[str, Any]) -> None:
    with pytest.raises((tools.ToolUnknown, tools.ToolArgumentsInvalid)):
        tools.prepared(name, arguments)


@pytest.mark.parametrize(
    ("name", "arguments", "kept"),
    [
        ("lookup_events", {"attribute_key": "EventName", "attribute_value": "DeleteBucket", "region": "us-east-1"}, "lookup_events DeleteBucket (us-east-1)"),
        ("lookup_events", {"attribute_key": "Username", "attribute_value": "minji.kim", "region": "us-east-1"}, "lookup_events Username (us-east-1)"),
        ("lookup_events", {"attribute_key": "ResourceName", "attribute_value": "kim-files", "region": "us-east-1"}, "lookup_events ResourceName (us-east-1)"),
        ("lookup_events", {"attribute_key": "EventSource", "attribute_value": "a word of the question", "region": "us-east-1"}, "lookup_events EventSource (us-east-1)"),
        ("lookup_events", {"region": "us-east-1"}, "lookup_events (us-east-1)"),
        ("get_alarm_history", {"alarm_name": "kim's alarm", "region": "us-east-1"}, "get_alarm_history (us-east-1)"),
        ("call_aws", {"command": "aws iam get-user --user-name minji.kim"}, "iam get-user"),
    ],
)  # fmt: skip
def test_the_audit_record_keeps_calls_without_names_of_people_and_things(
    name: str, arguments: dict[str, Any], kept: str
) -> None:
    assert tools.noted(name, arguments) == kept


def test_what_holds_secrets_by_name_is_never_shown() -> None:
    functions = [
        {"FunctionName": "f", "Environment": {"Variables": {"KEY": "hunter2"}}, "UserData": "hunter2"}
    ]
    body = json.dumps({"Functions": functions, "ResponseMetadata": {}})
    answer = [{"response": {"error": None, "as_json": body}, "error": None}]
    result = tools.read("call_aws", {"command": "aws lambda list-functions"}, answer)
    assert result.count == 1
    assert "hunter2" not in json.dumps(result.document())
    assert result.data["rows"]["Functions"][0]["Environment"] == tools.REMOVED


@pytest.mark.parametrize(
    ("text", "cause", "code"),
    [
        pytest.param("An error occurred (AccessDeniedException) when calling the LookupEvents operation: User: arn:aws:sts::1:x", Cause.DENIED, "AccessDeniedException", id="denied"),
        pytest.param("An error occurred (ThrottlingException) when calling the LookupEvents operation (reached max retries: 3): Rate", Cause.THROTTLED, "ThrottlingException", id="throttled"),
        pytest.param("An error occurred (UnrecognizedClientException) when calling the ListKeys operation: token", Cause.REGION_OFF, "UnrecognizedClientException", id="region off"),
        pytest.param("An error occurred (AuthFailure) when calling the DescribeInstances operation", Cause.REGION_OFF, "AuthFailure", id="region off in EC2"),
        pytest.param('Could not connect to the endpoint URL: "https://ec2.us-west-9.amazonaws.com/"', Cause.REGION_OFF, "EndpointConnectionError", id="no endpoint"),
        pytest.param("An error occurred (ExpiredToken) when calling the ListUsers operation", Cause.EXPIRED, "ExpiredToken", id="expired"),
        pytest.param("Error while executing the command: No AWS credentials found.", Cause.EXPIRED, "NoCredentials", id="no credentials"),
        pytest.param("An error occurred (InvalidInstanceID.NotFound) when calling the DescribeInstances operation", Cause.MISSING, "InvalidInstanceID.NotFound", id="no such thing"),
        pytest.param("Execution of this operation is denied by security policy.", Cause.DENIED, "AccessDenied", id="by the server's own policy"),
        pytest.param("something else", Cause.FAILED, "", id="anything"),
    ],
)  # fmt: skip
def test_failures_are_told_apart_by_their_codes(text: str, cause: Cause, code: str) -> None:
    failure = tools.failure_of(text)
    assert (failure.cause, failure.code) == (cause, code)


def _question(text: str, **facts: Any) -> Question:
    return Question(text=text, language=language_of(text), now=NOW, regions=facts.pop("regions", ()), **facts)


def _plan(text: str, **facts: Any) -> Plan:
    question = _question(text, **facts)
    found = plans.plan(question, understand(text, plans.local_now(question)))
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("text", "tool", "regions", "attribute"),
    [
        pytest.param("어제 누가 RDS를 삭제했나요?", "lookup_events", ("ap-northeast-2", "us-east-1"), ("EventName", "DeleteDBInstance"), id="event"),
        pytest.param("who deleted the lambda function orders-api last week?", "lookup_events", ("ap-northeast-2", "us-east-1"), ("EventName", "DeleteFunction20150331"), id="Lambda's dated names"),
        pytest.param("who attached AdministratorAccess to a user?", "lookup_events", ("us-east-1",), ("EventName", "AttachUserPolicy"), id="IAM lies in us-east-1"),
        pytest.param("도쿄 리전에서 누가 로그인했어?", "lookup_events", ("ap-northeast-1",), ("EventName", "ConsoleLogin"), id="the named region"),
        pytest.param("누가 i-0123456789abcdef0 를 건드렸어?", "lookup_events", ("ap-northeast-2", "us-east-1"), ("ResourceName", "i-0123456789abcdef0"), id="a thing"),
        pytest.param("Show API activity for IAM", "lookup_events", ("us-east-1",), ("EventSource", "iam.amazonaws.com"), id="a service"),
        pytest.param("최근 변경 이력 보여줘", "lookup_events", ("ap-northeast-2", "us-east-1"), ("ReadOnly", "false"), id="anything that changed"),
    ],
)  # fmt: skip
def test_activity_is_looked_up_where_its_events_lie(
    text: str, tool: str, regions: tuple[str, ...], attribute: tuple[str, str]
) -> None:
    plan = _plan(text)
    assert plan.topic is Topic.EVENTS
    assert plan.regions == regions
    for call in plan.first:
        assert call.tool == tool
        assert (call.arguments["attribute_key"], call.arguments["attribute_value"]) == attribute
        tools.prepared(call.tool, call.arguments)


def test_names_keep_the_case_in_which_they_were_written() -> None:
    assert _plan("what did Jihoon.Lee do yesterday?").user == "Jihoon.Lee"
    assert _plan("Cpu-High 알람 이력").resource == "Cpu-High"


def test_more_regions_than_one_answer_takes_are_named_as_left_out() -> None:
    regions = ("ap-northeast-2", "us-east-1", "eu-west-1", "us-west-2", "eu-central-1", "sa-east-1")
    plan = _plan("EC2 목록", regions=regions)
    assert plan.regions == regions[:4]
    assert plan.left_out == regions[4:]


def _event(number: int) -> dict[str, Any]:
    at = f"2026-11-19T0{number % 10}:00:00Z"
    return {
        "EventId": str(number),
        "EventName": "DeleteBucket",
        "EventTime": at,
        "Username": f"user-{number}",
    }


def test_pages_of_events_are_followed_to_their_limit_and_then_told_as_truncated() -> None:
    text = "어제 서울에서 누가 버킷을 지웠어?"
    question, plan = _question(text), _plan(text)
    done: list[Done] = []
    upcoming = plan.first
    while upcoming:
        for call in upcoming:
            events = [_event(len(done) * 50 + number) for number in range(50)]
            result = Result(data={"events": events, "next_token": f"t{len(done)}"}, count=50, more=True)
            done.append(Done(call=call, result=result))
        upcoming = plans.following(plan, done, understand(text, NOW).slots)
    assert [one.call.arguments.get("next_token") for one in done] == [None, "t0", "t1", "t2"]
    answer, evidence = rendering.rendered(question, ACCOUNT, plan, done, understand(text, NOW).slots)
    assert evidence.count == 200
    assert evidence.truncated
    assert "… 그 밖에 180건" in answer
    assert "더 있을 수 있습니다" in answer
    assert evidence.calls == (
        "lookup_events DeleteBucket (ap-northeast-2)",
        "lookup_events DeleteBucket (ap-northeast-2) (next page) x3",
    )


def test_a_region_that_is_off_is_told_beside_what_the_other_one_holds() -> None:
    text = "list EC2 instances"
    question, plan = _question(text), _plan(text)
    row = {"id": "i-1", "state": "running", "type": "t3.micro"}
    results = (
        Result(data={"rows": [row]}, count=1),
        Result(failure=Failure(cause=Cause.REGION_OFF, code="AuthFailure", call="DescribeInstances")),
    )
    done = [Done(call=call, result=result) for call, result in zip(plan.first, results, strict=True)]
    answer, evidence = rendering.rendered(question, ACCOUNT, plan, done, understand(text, NOW).slots)
    assert "EC2 instances: 1. Something could not be read, so this is not complete." in answer
    assert "the region is switched off in this account" in answer
    assert len(evidence.unread) == 1


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("a\nb\tc", "a b c"),
        ("safe\u202egnp.exe", "safegnp.exe"),
        ("zero\u200bwidth", "zerowidth"),
        ("<script>alert(1)</script>", "<script>alert(1)</script>"),
        ("x" * 500, "x" * 119 + "…"),
        ("{0} {account} %s", "{0} {account} %s"),
        ("\x00\x1b[31mred", "[31mred"),
    ],
)
def test_what_others_wrote_is_one_short_line_of_text(value: str, shown: str) -> None:
    assert rendering.clean(value) == shown


@pytest.mark.parametrize(
    ("text", "metric", "namespace"),
    [
        ("EC2 CPU 사용률", "CPUUtilization", "AWS/EC2"),
        ("RDS CPU 사용률", "CPUUtilization", "AWS/RDS"),
        ("how much free storage does the database have", "FreeStorageSpace", "AWS/RDS"),
        ("lambda errors of the last day", "Errors", "AWS/Lambda"),
        ("EC2 메모리 사용률", "mem_used_percent", "CWAgent"),
    ],
)
def test_metrics_are_read_from_the_namespace_of_the_service(text: str, metric: str, namespace: str) -> None:
    understood = understand(text, NOW)
    assert understood.intent is Intent.MONITORING
    found = plans.metric_of(understood.slots)
    assert (found.name, found.namespace) == (metric, namespace)
    plan = _plan(text)
    assert f"--namespace {namespace} --metric-name {metric}" in plan.first[0].arguments["command"]
    for call in plan.first:
        tools.prepared(call.tool, call.arguments)


def test_a_name_that_would_need_quotes_never_reaches_a_command() -> None:
    plan = _plan("CPU of instance 'i-0123456789abcdef0 --profile x'")
    for call in plan.first:
        commands.checked(call.arguments["command"])
    command = inventory.command(inventory.KINDS["ec2"], "us-east-1", "i-0123456789abcdef0 --profile x")
    assert "--profile" not in command
    assert isinstance(Call(tool="call_aws", arguments={"command": command}, region="us-east-1"), Call)


def _examples(page: str) -> list[tuple[str, str]]:
    """(section, question) of what a page says that agents can ask."""
    found, section, quoted = [], "", ""
    for line in [*(DOCS / page).read_text(encoding="utf-8").splitlines(), ""]:
        if line.startswith(">"):
            quoted += f" {line[1:].strip()}"
            continue
        found += [(section, text.strip()) for text in quoted.split("·") if text.strip()]
        quoted, section = "", line[3:] if line.startswith("## ") else section
    return found


@pytest.mark.parametrize("page", ["support-questions.md", "support-questions.ko.md"])
def test_the_questions_that_the_documentation_shows_are_understood(page: str) -> None:
    examples = _examples(page)
    assert len(examples) > 15
    sections = list(dict.fromkeys(section for section, _ in examples))
    topics = dict(zip(sections, ("activity", "monitoring", "inventory", "job", "general"), strict=True))
    for section, text in examples:
        understood = understand(text, plans.local_now(_question(text)))
        assert understood.clarify is None, text
        intents = {
            "activity": {Intent.API_ACTIVITY},
            "monitoring": {Intent.MONITORING},
            "inventory": {Intent.INVENTORY},
            "job": {Intent.SCREENING, Intent.MONTHLY_REPORT},
            "general": {Intent.GENERAL},
        }[topics[section]]
        assert understood.intent in intents, text
        if topics[section] in ("activity", "monitoring", "inventory"):
            assert _plan(text).first, text
        elif topics[section] == "general":
            assert general.answer(text).text, text
