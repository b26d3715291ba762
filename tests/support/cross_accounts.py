"""Accounts that trust each other as a provider and its customers do, in a sandbox that enforces it."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
from pydantic import SecretStr

from fairlead.kernel.settings import AwsSettings, Settings, SupportAccessSettings, SupportSettings
from fairlead.support.model import Customer
from tests.sandbox_service import SandboxProcess, start_sandbox

HOME, ACME, GLOBEX = "111122223333", "444455556666", "777788889999"
CUSTOMERS = (ACME, GLOBEX)
REGION = "ap-northeast-2"
HUB, HUB_EXTERNAL_ID = f"arn:aws:iam::{HOME}:role/SupportHub", "hub-5f0c2a9d7e1b4c86"
SERVER, STORED = f"arn:aws:iam::{HOME}:user/server", f"arn:aws:iam::{HOME}:user/stored"
ACCESS_KEY, SECRET_KEY = "/support/access-key", "/support/secret-key"
ROLE = "FairleadReadOnly"
WIDE = "arn:aws:iam::aws:policy/AdministratorAccess"  # so that what is denied is denied by the session


def external_id(account: str) -> str:
    """What the trust policies of `account` ask for."""
    return f"customer-{account}-9b1d4e7f2a60"


def trust(*principals: str, demanded: str | None, actions: tuple[str, ...] = ("sts:AssumeRole",)) -> str:
    """A trust policy; `demanded` is the ExternalId."""
    condition = {"Condition": {"StringEquals": {"sts:ExternalId": demanded}}} if demanded else {}
    allowed = {"Effect": "Allow", "Principal": {"AWS": list(principals)}, "Action": list(actions)}
    return json.dumps({"Version": "2012-10-17", "Statement": [{**allowed, **condition}]})


def policy(*actions: str, resource: str = "*") -> str:
    """An identity policy that allows."""
    allowed = {"Effect": "Allow", "Action": list(actions), "Resource": resource}
    return json.dumps({"Version": "2012-10-17", "Statement": [allowed]})


@dataclass(frozen=True)
class World:
    """The provider's account and two customers'."""

    sandbox: SandboxProcess
    own: dict[str, str]  # keys of the server's own user
    stored: dict[str, str]  # of the user whose keys are in Parameter Store

    def client(self, service: str, account: str, region: str = REGION) -> Any:
        """As the root of `account`."""
        return boto3.client(
            service,
            endpoint_url=self.sandbox.endpoint_url,
            region_name=region,
            aws_access_key_id=account,
            aws_secret_access_key="test",
        )

    def settings(self, folder: Path, *, stored: bool = False, hub: bool = True, **access: Any) -> Settings:
        """Of a server: with keys in Parameter Store or without, with the hub role or straight."""
        given: dict[str, Any] = {"parameter_region": REGION, **access}
        if stored:
            given = {"access_key_parameter": ACCESS_KEY, "secret_key_parameter": SECRET_KEY, **given}
        if hub:
            given = {"hub_role_arn": HUB, "hub_external_id": SecretStr(HUB_EXTERNAL_ID), **given}
        aws = AwsSettings(
            region=REGION,
            endpoint_url=self.sandbox.endpoint_url,
            access_key_id=self.own["AccessKeyId"],
            secret_access_key=SecretStr(self.own["SecretAccessKey"]),
        )
        return Settings(
            data_dir=folder, aws=aws, support=SupportSettings(access=SupportAccessSettings(**given))
        )

    def secrets(self) -> tuple[str, ...]:
        """What must stand nowhere."""
        keys = [self.own["SecretAccessKey"], self.stored["SecretAccessKey"]]
        return (*keys, HUB_EXTERNAL_ID, *map(external_id, CUSTOMERS))


def customer(account: str = ACME, **changes: Any) -> Customer:
    """A customer as the table holds it."""
    values: dict[str, Any] = {"external_id": external_id(account), "role_name": None, **changes}
    return Customer(project_id="web", account=account, name=f"customer {account}", **values)


@contextmanager
def start_world(folder: Path) -> Iterator[World]:
    """A sandbox in which trust and identity policies hold, with these accounts."""
    with start_sandbox(folder, enforce_iam=True) as sandbox:
        bare = World(sandbox, {}, {})
        world = World(sandbox, *_provider(bare))
        for account in CUSTOMERS:
            _customer(world, account)
        yield world


def _provider(world: World) -> tuple[dict[str, str], dict[str, str]]:
    iam, ssm = world.client("iam", HOME), world.client("ssm", HOME)
    keys = {}
    for name in ("server", "stored", "weak"):
        iam.create_user(UserName=name)
        keys[name] = iam.create_access_key(UserName=name)["AccessKey"]
    iam.create_role(RoleName="SupportHub", AssumeRolePolicyDocument=trust(SERVER, demanded=HUB_EXTERNAL_ID))
    roles = "arn:aws:iam::*:role/*"
    iam.put_role_policy(
        RoleName="SupportHub", PolicyName="go-on", PolicyDocument=policy("sts:AssumeRole", resource=roles)
    )
    for name, actions in {"server": ("sts:*", "ssm:GetParameters"), "stored": ("sts:*",)}.items():
        iam.put_user_policy(UserName=name, PolicyName="support", PolicyDocument=policy(*actions))
    parameters = {
        ACCESS_KEY: keys["stored"]["AccessKeyId"],
        SECRET_KEY: keys["stored"]["SecretAccessKey"],
        "/support/weak-access-key": keys["weak"]["AccessKeyId"],
        "/support/weak-secret-key": keys["weak"]["SecretAccessKey"],
        "/support/bad-access-key": "AKIAIOSFODNN7EXAMPLE",
    }
    for name, value in parameters.items():
        ssm.put_parameter(Name=name, Value=value, Type="SecureString")
    ssm.put_parameter(Name="/support/plain", Value="in the open", Type="String")
    return keys["server"], keys["stored"]


def _customer(world: World, account: str) -> None:
    iam, demanded = world.client("iam", account), external_id(account)
    ours = (HUB, STORED, SERVER)
    roles = {
        ROLE: trust(*ours, f"arn:aws:iam::{HOME}:user/weak", demanded=demanded),
        "Untrusting": trust("arn:aws:iam::999999999999:root", demanded=demanded),
        "Tagged": trust(
            *ours, demanded=demanded, actions=("sts:AssumeRole", "sts:TagSession", "sts:SetSourceIdentity")
        ),
    }
    for name, document in roles.items():
        iam.create_role(RoleName=name, AssumeRolePolicyDocument=document)
        iam.attach_role_policy(RoleName=name, PolicyArn=WIDE)
    s3 = world.client("s3", account, "us-east-1")
    s3.create_bucket(Bucket=f"bucket-of-{account}")
    s3.put_object(Bucket=f"bucket-of-{account}", Key="report.txt", Body=b"contents")
    world.client("secretsmanager", account).create_secret(Name="password", SecretString="hunter2")
