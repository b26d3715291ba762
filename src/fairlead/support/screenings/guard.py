"""Lets through reads alone, and none that answers with secrets, contents or code.

Loaded by its path inside other programs' environments, so it imports nothing of ours: see the drivers.
"""

import re
from typing import Any

WITHHELD = "WithheldByFairlead"  # code of the answer to a call that is kept back
_READ = re.compile(
    r"(Get|List|Describe|Head|Lookup|Search|BatchGet)[A-Z]|Generate(CredentialReport|ServiceLastAccessed)"
)
_TELLING = frozenset(
    {
        "codecommit.GetBlob",
        "codecommit.GetFile",
        "dynamodb.BatchGetItem",
        "dynamodb.GetItem",
        "ec2.DescribeInstanceAttribute",  # user data
        "ec2.GetConsoleOutput",
        "ec2.GetConsoleScreenshot",
        "ec2.GetPasswordData",
        "ecr.BatchGetImage",
        "ecr.GetAuthorizationToken",
        "ecr.GetDownloadUrlForLayer",
        "lambda.GetFunction",
        "lambda.GetLayerVersion",
        "lambda.GetLayerVersionByArn",
        "logs.GetLogEvents",
        "s3.GetObject",
        "s3control.GetDataAccess",
        "secretsmanager.BatchGetSecretValue",
        "secretsmanager.GetSecretValue",
        "ssm.GetDocument",
        "ssm.GetParameter",
        "ssm.GetParameters",
        "ssm.GetParametersByPath",
        "sts.GetFederationToken",
        "sts.GetSessionToken",
    }
)


def allowed(service: str, operation: str) -> bool:
    """Whether "DescribeVolumes" of "ec2" is a read that tells no secret."""
    return bool(_READ.match(operation)) and f"{service}.{operation}" not in _TELLING


def guard(session: Any) -> None:
    """Watch the calls of all clients that `session` of boto3 makes from now on."""
    from botocore.awsrequest import AWSResponse

    def watch(model: Any, **_: Any) -> tuple[Any, dict[str, Any]] | None:
        if allowed(model.service_model.service_name, model.name):
            return None
        error = {"Code": WITHHELD, "Message": "This call is not let through."}
        return AWSResponse("", 403, {}, None), {"Error": error, "ResponseMetadata": {"HTTPStatusCode": 403}}

    session.events.register("before-call.*", watch)
