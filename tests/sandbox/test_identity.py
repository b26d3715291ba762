"""Identity with `enforce_iam`: who may assume what, for how long, and what is left of it."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from tests.sandbox.clients import Aws
from tests.sandbox_service import SandboxProcess, start_sandbox

OWN, OTHER, THIRD = "111122223333", "444455556666", "777788889999"
ROLE = f"arn:aws:iam::{OTHER}:role/read"
EVERYTHING = "arn:aws:iam::aws:policy/AdministratorAccess"
EXTERNAL_ID = "shared-0123456789"


def document(**members: Any) -> str:
    """A policy of one statement."""
    return json.dumps({"Version": "2012-10-17", "Statement": [members]})


def trust(principal: str, *actions: str) -> str:
    """A trust policy that demands the ExternalId."""
    return document(
        Effect="Allow",
        Principal={"AWS": principal},
        Action=["sts:AssumeRole", *actions],
        Condition={"StringEquals": {"sts:ExternalId": EXTERNAL_ID}},
    )


def acting(sandbox: SandboxProcess, keys: dict[str, Any], service: str) -> Any:
    """A client with keys that IAM or STS gave."""
    return boto3.client(
        service,
        endpoint_url=sandbox.endpoint_url,
        region_name="us-east-1",
        aws_access_key_id=keys["AccessKeyId"],
        aws_secret_access_key=keys["SecretAccessKey"],
        aws_session_token=keys.get("SessionToken"),
    )


def user(sandbox: SandboxProcess, name: str, *actions: str) -> dict[str, Any]:
    """Keys of a new user of OWN that may do `actions`."""
    iam = Aws(sandbox.aws(OWN)).client("iam")
    iam.create_user(UserName=name)
    if actions:
        allowed = document(Effect="Allow", Action=actions, Resource="*")
        iam.put_user_policy(UserName=name, PolicyName="may", PolicyDocument=allowed)
    key: dict[str, Any] = iam.create_access_key(UserName=name)["AccessKey"]
    return key


def build(sandbox: SandboxProcess) -> dict[str, Any]:
    """The roles of OTHER; gives keys of a user of OWN whom they trust."""
    iam = Aws(sandbox.aws(OTHER)).client("iam")
    ours = f"arn:aws:iam::{OWN}:root"
    roles = {
        "read": trust(ours),
        "tagged": trust(ours, "sts:TagSession", "sts:SetSourceIdentity"),
        "not-ours": trust(f"arn:aws:iam::{THIRD}:root"),
    }
    for name, trusted in roles.items():
        iam.create_role(RoleName=name, AssumeRolePolicyDocument=trusted)
        iam.attach_role_policy(RoleName=name, PolicyArn=EVERYTHING)
    return user(sandbox, "trusted", "sts:*")


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxProcess]:
    with start_sandbox(tmp_path_factory.mktemp("strict"), enforce_iam=True) as running:
        yield running


@pytest.fixture(scope="module")
def assume(strict: SandboxProcess) -> Callable[..., dict[str, Any]]:
    """Credentials of a role; parameters of AssumeRole where they differ from what is right."""
    trusted = build(strict)
    untrusted = user(strict, "may-nothing")

    def assumed(**parameters: Any) -> dict[str, Any]:
        keys = untrusted if parameters.pop("by_nobody", False) else trusted
        via = parameters.pop("via", keys)
        right = {"RoleArn": ROLE, "RoleSessionName": "audit", "ExternalId": EXTERNAL_ID}
        asked = {name: value for name, value in {**right, **parameters}.items() if value is not None}
        given: dict[str, Any] = acting(strict, via, "sts").assume_role(**asked)["Credentials"]
        return given

    return assumed


@pytest.mark.parametrize(
    ("parameters", "code"),
    [
        ({"ExternalId": None}, "AccessDenied"),
        ({"ExternalId": "guessed-0123456789"}, "AccessDenied"),
        ({"RoleArn": f"arn:aws:iam::{OTHER}:role/not-ours"}, "AccessDenied"),
        ({"RoleArn": f"arn:aws:iam::{OTHER}:role/nobody"}, "AccessDenied"),
        ({"RoleArn": f"arn:aws:iam::{THIRD}:role/read"}, "AccessDenied"),
        ({"by_nobody": True}, "AccessDenied"),
        ({"Tags": [{"Key": "ticket", "Value": "1"}]}, "AccessDenied"),
        ({"SourceIdentity": "somebody"}, "AccessDenied"),
        ({"DurationSeconds": 3601}, "ValidationError"),
        ({"RoleSessionName": "with spaces"}, "ValidationError"),
        ({"ExternalId": "with spaces"}, "ValidationError"),
        ({"PolicyArns": [{"arn": "arn:aws:iam::aws:policy/NoSuchPolicyAtAll"}]}, "ValidationError"),
        ({"Policy": "{"}, "MalformedPolicyDocument"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_a_role_is_assumed_by_its_terms_only(
    assume: Callable[..., Any], parameters: dict[str, Any], code: str
) -> None:
    with pytest.raises(ClientError) as refusal:
        assume(**parameters)
    assert refusal.value.response["Error"]["Code"] == code


def test_a_session_acts_in_the_account_of_its_role_as_far_as_its_policy_goes(
    strict: SandboxProcess, assume: Callable[..., Any]
) -> None:
    Aws(strict.aws(OTHER)).client("secretsmanager").create_secret(Name="deep", SecretString="x")
    Aws(strict.aws(THIRD)).client("secretsmanager").create_secret(Name="foreign", SecretString="x")
    denied = document(Effect="Deny", Action="secretsmanager:GetSecretValue", Resource="*")
    keys = assume(PolicyArns=[{"arn": "arn:aws:iam::aws:policy/SecurityAudit"}], Policy=denied)
    assert acting(strict, keys, "sts").get_caller_identity()["Account"] == OTHER
    secrets = acting(strict, keys, "secretsmanager")
    assert [secret["Name"] for secret in secrets.list_secrets()["SecretList"]] == ["deep"]
    refused: tuple[Callable[[], Any], ...] = (
        lambda: secrets.get_secret_value(SecretId="deep"),
        lambda: secrets.create_secret(Name="new", SecretString="x"),
    )
    for attempt in refused:
        with pytest.raises(ClientError) as refusal:
            attempt()
        assert refusal.value.response["Error"]["Code"] == "AccessDeniedException"


def test_a_role_that_another_role_assumed_lives_for_an_hour_at_most(
    strict: SandboxProcess, assume: Callable[..., Any]
) -> None:
    iam = Aws(strict.aws(OTHER)).client("iam")
    iam.update_role(RoleName="tagged", MaxSessionDuration=7200)
    long = f"arn:aws:iam::{OTHER}:role/tagged"
    tags = {"SourceIdentity": "somebody", "Tags": [{"Key": "ticket", "Value": "1"}]}
    assert assume(RoleArn=long, DurationSeconds=7200, **tags)["AccessKeyId"]
    hub = Aws(strict.aws(OWN)).client("iam")
    hub.create_role(RoleName="hub", AssumeRolePolicyDocument=trust(f"arn:aws:iam::{OWN}:root"))
    hub.attach_role_policy(RoleName="hub", PolicyArn=EVERYTHING)
    via = assume(RoleArn=f"arn:aws:iam::{OWN}:role/hub")
    assert assume(RoleArn=long, via=via, DurationSeconds=3600)["AccessKeyId"]
    with pytest.raises(ClientError, match="role chaining"):
        assume(RoleArn=long, via=via, DurationSeconds=3601)


@pytest.mark.parametrize("enforced", [True, False], ids=["enforced", "open"])
def test_sessions_and_keys_still_work_in_their_account_after_kill_9(tmp_path: Path, enforced: bool) -> None:
    with start_sandbox(tmp_path, enforce_iam=enforced) as sandbox:
        trusted = build(sandbox)
        asked = {"RoleArn": ROLE, "RoleSessionName": "audit", "ExternalId": EXTERNAL_ID}
        session = acting(sandbox, trusted, "sts").assume_role(**asked)["Credentials"]
        sandbox.kill()
        sandbox.restart()
        for keys, account in ((trusted, OWN), (session, OTHER)):
            assert acting(sandbox, keys, "sts").get_caller_identity()["Account"] == account
