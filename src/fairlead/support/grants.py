"""What a session in a customer's account is: for whom, by which name, and what it may do at most."""

import hashlib
import json
import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from pydantic import SecretStr

from fairlead.support.collect import Keys

# Nothing that answers with a secret, with contents or with code, and no way on to another role, whatever the
# customer's role allows.
SECRET_READS = (
    "secretsmanager:GetSecretValue",
    "secretsmanager:BatchGetSecretValue",
    "ssm:GetParameter*",
    "s3:GetObject",
    "s3:GetObjectVersion",
    "s3:GetObjectTorrent",
    "lambda:GetFunction",
    "lambda:GetLayerVersion",
    "ec2:GetPasswordData",
    "ec2:GetConsole*",
    "kms:Decrypt",
    "kms:ReEncrypt*",
    "kms:GenerateDataKey*",
    "dynamodb:GetItem",
    "dynamodb:BatchGetItem",
    "dynamodb:Query",
    "dynamodb:Scan",
    "dynamodb:PartiQL*",
    "sqs:ReceiveMessage",
    "kinesis:GetRecords",
    "glue:GetConnection*",
    "rds:DownloadDBLogFilePortion",
    "rds-data:*",
    "redshift:GetClusterCredentials*",
    "ecr:GetAuthorizationToken",
    "codecommit:GitPull",
    "sts:AssumeRole*",
    "sts:GetFederationToken",
    "sts:GetSessionToken",
)
# What questions about events, metrics and logs read, and reports of Trusted Advisor, besides SecurityAudit.
MORE_READS = (
    "cloudtrail:LookupEvents",
    "cloudwatch:Describe*",
    "cloudwatch:GetMetric*",
    "cloudwatch:ListMetrics",
    "logs:Describe*",
    "logs:FilterLogEvents",
    "logs:GetLogEvents",
    "logs:GetQueryResults",
    "logs:StartQuery",
    "logs:StopQuery",
    "support:DescribeTrustedAdvisor*",
)
_NAME_CHARACTERS = re.compile(r"[^A-Za-z0-9_+=,.@-]")  # that may not stand in a session's name
_TAG_CHARACTERS = re.compile(r"[^\w .:/=+@-]")


class AccessPath(StrEnum):
    """How an account was opened."""

    STORED_KEYS = "parameter_store"
    ROLE_CHAIN = "role_chain"
    OWN = "own"


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Whose account is to be opened, and for whom."""

    account: str
    role_name: str
    external_id: SecretStr | None  # None: the server's own account
    agent: str
    ticket: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """Credentials that were checked to be the account's."""

    keys: Keys
    path: AccessPath
    session: str | None  # its name, as the customer's CloudTrail shows it; None: the server's own credentials
    role: str | None = None  # ARN
    hub: str | None = None  # ARN


def session_name(agent: str, ticket: str | None) -> str:
    """`zd-<ticket>-<agent>` in the characters and the length that STS takes; the agent without "zendesk:"."""
    wanted = f"zd-{ticket or 'no-ticket'}-{agent.removeprefix('zendesk:')}".replace(":", "-")
    name = _NAME_CHARACTERS.sub("-", wanted)
    if name == wanted and len(name) <= 64:
        return name
    return f"{name[:55]}-{hashlib.sha256(wanted.encode()).hexdigest()[:8]}"  # so that two stay two


def session_policy(policy_arns: tuple[str, ...]) -> str:
    """What a session may do beside `policy_arns` (without those: all that its role may), and never may."""
    more = MORE_READS if policy_arns else ("*",)
    statements = [
        {"Sid": "More", "Effect": "Allow", "Action": more, "Resource": "*"},
        {"Sid": "NoSecrets", "Effect": "Deny", "Action": SECRET_READS, "Resource": "*"},
    ]
    return json.dumps({"Version": "2012-10-17", "Statement": statements}, separators=(",", ":"))


def session_tags(agent: str, ticket: str | None) -> dict[str, Any]:
    """Parameters of AssumeRole that name agent and ticket to the customer's policies and CloudTrail."""
    tags = {"agent": agent, "ticket": ticket}
    return {
        "SourceIdentity": _NAME_CHARACTERS.sub("-", agent)[:64].ljust(2, "-"),
        "Tags": [
            {"Key": name, "Value": _TAG_CHARACTERS.sub("-", value)[:256]}
            for name, value in tags.items()
            if value
        ],
    }


def still_good(keys: Keys, now: datetime, life_s: float) -> bool:
    """Whether a quarter of `life_s`, and no more than 15 minutes, is left of `keys`."""
    return keys.expires_at is None or keys.expires_at - now > timedelta(seconds=min(900.0, life_s / 4))
