"""Screening and report only read, and never what is secret: by source, by the SDK's models, by the guard."""

import ast
from pathlib import Path

import botocore.session
import pytest
from botocore import xform_name
from pydantic import SecretStr

from fairlead.support import monthly
from fairlead.support.collect import READS, Access, NotARead, is_allowed, open_account
from fairlead.support.screenings import builtin
from tests.support import small_aws

FILES = [path for package in (builtin, monthly) for path in Path(package.__path__[0]).glob("*.py")]
SESSION = botocore.session.get_session()
READERS = ("call", "pages", "fact", "all_of")


def operations_in(source: str) -> set[tuple[str, str]]:
    """(service, operation) of every read that a module writes down."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        texts = [
            arg.value for arg in node.args if isinstance(arg, ast.Constant) and isinstance(arg.value, str)
        ]
        if isinstance(node.func, ast.Attribute) and node.func.attr in READERS and len(texts) > 1:
            found.add((texts[0], texts[1]))
        elif isinstance(node.func, ast.Name) and node.func.id == "fact":  # the short form within s3.py
            found.add(("s3", texts[0]))
    return found


def api_name(service: str, operation: str) -> str:
    """The operation "describe_volumes" as the service writes it: "DescribeVolumes"."""
    names = {xform_name(name): name for name in SESSION.get_service_model(service).operation_names}
    return str(names[operation])


USED = sorted(set().union(*(operations_in(path.read_text("utf-8")) for path in FILES)))


def test_every_read_of_the_source_is_seen() -> None:
    written = sum(path.read_text("utf-8").count(f"reads.{reader}(") for path in FILES for reader in READERS)
    assert len(USED) >= 55
    assert written >= 55
    assert {"sts", "ec2", "iam", "s3", "secretsmanager"} - {service for service, _ in USED} == {"sts"}


@pytest.mark.parametrize(("service", "operation"), USED, ids=lambda value: value)
def test_every_operation_used_is_a_read_by_the_sdks_own_model(service: str, operation: str) -> None:
    name = api_name(service, operation)
    assert name.startswith(("Get", "List", "Describe", "Head", "Lookup"))
    assert is_allowed(service, name)
    model = SESSION.get_service_model(service)
    if model.metadata["protocol"].startswith("rest"):
        assert model.operation_model(name).http["method"] in ("GET", "HEAD")


@pytest.mark.parametrize(
    "operation",
    [
        "secretsmanager:GetSecretValue",
        "secretsmanager:BatchGetSecretValue",
        "ssm:GetParameter",
        "ssm:GetParameters",
        "ssm:GetParametersByPath",
        "s3:GetObject",
        "kms:Decrypt",
        "lambda:GetFunction",
        "ec2:GetPasswordData",
        "sts:GetSessionToken",
        "sts:AssumeRole",
        "logs:GetLogEvents",
        "logs:StartQuery",
        "s3:PutBucketAcl",
        "ec2:CreateVolume",
        "iam:GenerateCredentialReport",
        "dynamodb:Scan",
        "dynamodb:GetItem",
        "kinesis:GetRecords",
        "sso:GetRoleCredentials",
        "ec2:DescribeLaunchTemplateVersions",
        "no-such-service:GetThing",
        "sqs:ReceiveMessage",
    ],
)
def test_secrets_contents_and_changes_are_not_allowed(operation: str) -> None:
    assert not is_allowed(*operation.split(":"))


def test_what_may_leave_is_what_screening_and_report_use_and_nothing_else() -> None:
    used = {f"{service}:{api_name(service, operation)}" for service, operation in USED}
    assert used | {"sts:GetCallerIdentity"} == READS


def test_nothing_that_may_leave_is_known_to_answer_with_secrets_or_contents() -> None:
    words = (
        "SecretValue",
        "GetSecret",
        "Password",
        "Credential",
        "Token",
        "Object",
        "Item",
        "Record",
        "Events",
    )
    # CloudTrail records management calls, from which AWS leaves out secrets; the report keeps a few fields.
    harmless = {"iam:GetAccountPasswordPolicy", "cloudtrail:LookupEvents"}
    assert {name for name in READS if any(word in name for word in words)} == harmless


async def test_the_guard_stops_a_call_before_it_leaves() -> None:
    with small_aws.small_aws() as aws:
        access = Access(
            access_key_id="AKIATEST",
            secret_access_key=SecretStr("x"),
            region="us-east-1",
            endpoint_url=aws.url,
        )
        async with open_account(access) as account, account.region("us-east-1") as reads:
            for service, operation, arguments in (
                ("secretsmanager", "get_secret_value", {"SecretId": "s"}),
                ("s3", "get_object", {"Bucket": "bucket", "Key": "k"}),
                ("ec2", "delete_volume", {"VolumeId": "vol-1"}),
                ("sts", "get_session_token", {}),
            ):
                with pytest.raises(NotARead):
                    await reads.call(service, operation, **arguments)
        assert dict(aws.asked) == {"GetCallerIdentity": 1}
