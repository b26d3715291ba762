"""Screenings as data for tests: a month's findings of a made-up customer, and hostile ones."""
# Rows of tables and JavaScript stay on one line; texts are what users type.

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

from fairlead.support.model import (
    Finding,
    Resource,
    Screening,
    Severity,
    Status,
    Suppression,
    Unread,
)

ACCOUNT = "123456789012"
WHEN = datetime(2026, 11, 20, 1, 0, tzinfo=UTC)
DAY = date(2026, 11, 20)
HOSTILE = "<img src=x onerror=alert(1)>\"'&</style><script>alert(2)</script>"


def finding(
    check: str = "s3.bucket_public_access", uid: str = "arn:aws:s3:::web", **changes: object
) -> Finding:
    """One failed finding; `changes` are fields of Finding, `region` and `type` of its resource."""
    region = str(changes.pop("region", "ap-northeast-2"))
    kind = str(changes.pop("type", "AWS::S3::Bucket"))
    made = Finding(
        check=check,
        title="Bucket can be read by everyone",
        severity=Severity.HIGH,
        status=Status.FAIL,
        account=ACCOUNT,
        resource=Resource(uid=uid, type=kind, region=region),
        detail="BlockPublicAcls is off",
        rationale="Anyone on the internet can list and read the objects.",
        remediation="Turn on Block Public Access for the bucket and the account.",
        references=(
            "https://docs.aws.amazon.com/AmazonS3/latest/userguide/access-control-block-public-access.html",
        ),
        compliance={"CIS-3.0": ("2.1.4",), "KISA-ISMS-P": ("2.6.1", "2.10.2")},
        pillars=("security",),
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def screening(*findings: Finding, **changes: object) -> Screening:
    """A complete screening of Seoul and Virginia."""
    made = Screening(
        account=ACCOUNT,
        engine="builtin",
        started_at=WHEN - timedelta(minutes=4),
        finished_at=WHEN,
        regions=("ap-northeast-2", "us-east-1"),
        findings=findings,
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def customer() -> tuple[Screening, Screening, tuple[Suppression, ...]]:
    """(October's, November's, suppressions): something new, fixed, unchanged, accepted, lapsed and unread."""
    checks = (
        (
            "iam.root_mfa",
            "루트 사용자에 MFA가 없습니다 / Root user has no MFA",
            Severity.CRITICAL,
            "global",
            1,
        ),
        ("ec2.open_ssh", "Security group opens port 22 to the world", Severity.HIGH, "ap-northeast-2", 4),
        ("s3.public", "Bucket can be read by everyone", Severity.HIGH, "ap-northeast-2", 2),
        ("ec2.imdsv2", "Instance does not require IMDSv2", Severity.MEDIUM, "ap-northeast-2", 7),
        ("ebs.encryption", "Volume is not encrypted", Severity.MEDIUM, "us-east-1", 5),
        ("rds.backup", "Database keeps backups for less than 7 days", Severity.MEDIUM, "ap-northeast-2", 2),
        ("lambda.runtime", "Function runs on a runtime without support", Severity.LOW, "us-east-1", 3),
        ("kms.rotation", "Key is not rotated", Severity.LOW, "ap-northeast-2", 2),
        ("cloudtrail.enabled", "Trail does not log all regions", Severity.HIGH, "us-east-1", 1),
    )
    fails = [
        finding(check, f"arn:aws:{check.split('.')[0]}:{region}:{ACCOUNT}:thing/{number}", title=title,
                severity=severity, region=region, type="AWS::Thing")
        for check, title, severity, region, count in checks
        for number in range(count)
    ]  # fmt: skip
    passes = [
        finding("s3.versioning", f"arn:aws:s3:::b{n}", status=Status.PASS, title="Versioning is on")
        for n in range(40)
    ]
    unread = finding(
        "rds.public",
        "db-1",
        status=Status.UNREAD,
        title="Database is public",
        detail="AccessDenied: rds:DescribeDBInstances",
    )
    before = screening(
        *fails[:14],
        *fails[20:],
        finding("s3.public", "arn:aws:s3:::old-logs"),
        finding("sns.open", "topic", region="eu-west-1"),
        *passes[:30],
    )
    now = screening(
        *fails,
        *passes,
        unread,
        unread=(Unread(service="guardduty", region="us-east-1", reason="region is switched off"),),
    )
    accepted = (
        Suppression(
            check="kms.rotation",
            reason="Key of the archive; rotated by hand each January",
            author="kim@acme.kr",
            expires=date(2027, 1, 31),
        ),
        Suppression(
            check="ec2.open_ssh",
            reason="Bastion until the migration",
            author="lee@acme.kr",
            expires=date(2026, 10, 31),
        ),
    )
    return before, now, accepted
