"""Which services' saved state an answer depends on: only those are saved before it, the others soon after."""

import re

from ministack import app

# Services that resources of a family live in; a family that is not here concerns them all.
_OF_FAMILY = {
    "CloudWatch": ("cloudwatch",),
    "DynamoDB": ("dynamodb",),
    "EC2": ("ec2",),
    "ECR": ("ecr",),
    "ECS": ("ecs",),
    "EFS": ("efs", "ec2"),
    "EKS": ("eks",),
    "ElastiCache": ("elasticache",),
    "ElasticLoadBalancingV2": ("alb",),
    "Events": ("eventbridge",),
    "IAM": ("iam",),
    "Kinesis": ("kinesis",),
    "KMS": ("kms",),
    "Lambda": ("lambda", "cloudwatch_logs"),
    "Logs": ("cloudwatch_logs",),
    "RDS": ("rds", "secretsmanager"),
    "S3": ("s3",),
    "SNS": ("sns",),
    "SQS": ("sqs",),
    "SSM": ("ssm",),
    "SecretsManager": ("secretsmanager",),
    "StepFunctions": ("stepfunctions",),
    "WAFv2": ("waf",),
}
_SCOPE = re.compile(r"Credential=[^/]+/\d+/[^/]+/([^/]+)/aws4_request")
# Calls to these reach into other services.
_WIDE = {"cloudformation", "tagging", "resource-groups", "lambda"}
REQUESTS: frozenset[str] = frozenset()  # Cloud Control's own requests and nothing else


def of_type(type_name: str) -> frozenset[str] | None:
    """State keys that a resource of `type_name` lives in; None for all."""
    found = _OF_FAMILY.get(type_name.split("::")[1])
    return frozenset(found) if found else None


def of_call(headers: dict[str, str]) -> frozenset[str] | None:
    """State keys that a signed call can change; None for all."""
    match = _SCOPE.search(headers.get("authorization", ""))
    name = app.SERVICE_NAME_ALIASES.get(match[1], match[1]) if match else ""
    if name.startswith("cloudcontrol"):
        return REQUESTS  # its effects come later, and are saved with their outcome
    config = app.SERVICE_REGISTRY.get(name)
    if config is None or name in _WIDE:
        return None
    return frozenset({config.get("state_key", config["module"]), *config.get("sub_modules", ())})
