"""Every service and check of the builtin screening, in the order in which services are read."""

from fairlead.support.screenings.builtin import (
    cloudtrail,
    cloudwatch,
    dynamodb,
    ebs,
    ec2,
    ecr,
    efs,
    eks,
    elasticache,
    elbv2,
    functions,
    iam,
    kms,
    logs,
    rds,
    s3,
    secretsmanager,
    sns,
    sqs,
    vpc,
)
from fairlead.support.screenings.builtin.checks import Check, Service

SERVICES: tuple[Service, ...] = (
    iam.SERVICE,
    s3.SERVICE,
    cloudtrail.SERVICE,
    ec2.SERVICE,
    ebs.SERVICE,
    vpc.SERVICE,
    rds.SERVICE,
    functions.SERVICE,
    dynamodb.SERVICE,
    sqs.SERVICE,
    sns.SERVICE,
    kms.SERVICE,
    cloudwatch.SERVICE,
    logs.SERVICE,
    secretsmanager.SERVICE,
    elbv2.SERVICE,
    eks.SERVICE,
    ecr.SERVICE,
    elasticache.SERVICE,
    efs.SERVICE,
)


def checks(service: Service) -> tuple[Check, ...]:
    """All checks of `service`."""
    return tuple(check for source in service.sources for check in source.checks)


def reference() -> str:
    """The table of all checks, as docs/reference/screening-checks.md has it."""
    total = sum(len(checks(service)) for service in SERVICES)
    lines = [
        "# Checks of the builtin screening",
        "",
        f"{total} checks over {len(SERVICES)} services.",
        "CIS: section of the CIS AWS Foundations Benchmark 3.0.0, where it has one.",
        "What could not be read is *not assessed* and says why; it never counts as passed.",
        "",
        "Generated from the code by `builtin.catalogue.reference()`; a test compares.",
    ]
    for service in SERVICES:
        where = "in every region" if service.regional else "once for the account"
        lines += ["", f"## {service.name}", "", f"Read {where}. More: <{service.reference}>", ""]
        lines += ["| check | severity | what fails | why | what to do | CIS | Well-Architected |"]
        lines += ["|---|---|---|---|---|---|---|"]
        lines += [_row(check) for check in checks(service)]
    return "\n".join(lines) + "\n"


def _row(check: Check) -> str:
    cells = (
        f"`{check.id}`",
        check.severity.value,
        check.title,
        check.why,
        check.fix,
        ", ".join(check.cis) or "-",
        ", ".join(check.pillars),
    )
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
