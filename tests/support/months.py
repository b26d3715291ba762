"""Months as data for tests and pictures: of a made-up customer, of an empty account, unread, hostile, huge."""
# Rows of tables stay on one line.
# ruff: noqa: E501

from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from zlib import crc32

from fairlead.support.monthly.model import (
    AdvisorCheck,
    Alarm,
    Bucket,
    Cause,
    Database,
    Event,
    Function,
    Gap,
    Instance,
    Key,
    MonthlyData,
    OpenRule,
    Part,
    Risk,
    Root,
    User,
    Volume,
)
from fairlead.support.monthly.month import Month
from tests.support.screenings import ACCOUNT, HOSTILE

SEOUL, VIRGINIA = "ap-northeast-2", "us-east-1"
NOW = datetime(2026, 11, 3, 0, 12, tzinfo=UTC)
OCTOBER = Month(2026, 10)
WORLDWIDE = (Part.BUCKETS, Part.ROOT, Part.USERS, Part.TRUSTED_ADVISOR)
RTL = "\u202egnp.exe\u202c مرحبا"


def month(of: Month = OCTOBER, now: datetime = NOW, **changes: Any) -> MonthlyData:
    """A month of an account in which everything was read and nothing was found."""
    regions: tuple[str, ...] = changes.get("regions", (SEOUL, VIRGINIA))
    span = of.span(now)
    made = MonthlyData(
        account=ACCOUNT, month=str(of), timezone=span.timezone, start=span.start, end=span.end, running=span.running,
        started_at=now - timedelta(seconds=94), finished_at=now, regions=regions,
        read={part: ("global",) if part in WORLDWIDE else regions for part in Part},
        calls={"ec2:DescribeInstances": 2, "cloudtrail:LookupEvents": 20, "iam:ListUsers": 1, "s3:GetBucketEncryption": 6},
        versions={"fairlead": "0.2.0", "botocore": "1.44.5"},
    )  # fmt: skip
    return replace(made, **changes)


def instance(name: str = "web-1", **changes: Any) -> Instance:
    made = Instance(
        uid=f"i-{crc32(name.encode()):017x}", name=name, region=SEOUL, type="t3.medium", state="running", public_ip=None,
        imdsv2=True, monitoring=False, delete_on_termination=True,
    )  # fmt: skip
    return replace(made, **changes)


def bucket(name: str = "acme-web", **changes: Any) -> Bucket:
    made = Bucket(
        uid=f"arn:aws:s3:::{name}",
        name=name,
        region=SEOUL,
        encryption="AES256",
        versioning="enabled",
        blocks_public=True,
    )
    return replace(made, **changes)


def database(name: str = "orders", **changes: Any) -> Database:
    made = Database(
        uid=f"arn:aws:rds:{SEOUL}:{ACCOUNT}:db:{name}", name=name, region=SEOUL, engine="postgres 17.4", instance_class="db.r7g.large",
        multi_az=True, encrypted=True, backup_days=14, deletion_protection=True, public=False,
    )  # fmt: skip
    return replace(made, **changes)


def function(name: str = "resize", **changes: Any) -> Function:
    made = Function(
        uid=f"arn:aws:lambda:{SEOUL}:{ACCOUNT}:function:{name}", name=name, region=SEOUL, runtime="python3.13", memory_mb=512, timeout_s=30,
        vpc=None, customer_key=False,
    )  # fmt: skip
    return replace(made, **changes)


def volume(uid: str = "vol-0a1b2c3d4e5f60718", **changes: Any) -> Volume:
    made = Volume(
        uid=uid,
        name=uid,
        region=SEOUL,
        size_gib=100,
        type="gp3",
        encrypted=True,
        attached_to="i-0123456789abcdef0",
    )
    return replace(made, **changes)


def key(age_days: int, *, active: bool = True, end: str = "7QXA") -> Key:
    return Key(id=f"…{end}", active=active, created=NOW - timedelta(days=age_days))


def user(name: str = "kim", **changes: Any) -> User:
    made = User(
        uid=f"arn:aws:iam::{ACCOUNT}:user/{name}",
        name=name,
        region="global",
        password=True,
        mfa=True,
        keys=(),
    )
    return replace(made, **changes)


def root(**changes: Any) -> Root:
    return replace(
        Root(uid=f"arn:aws:iam::{ACCOUNT}:root", name="root", region="global", mfa=True, keys=False),
        **changes,
    )


def rule(name: str = "bastion", **changes: Any) -> OpenRule:
    made = OpenRule(
        uid="sg-0123456789abcdef0", name=name, region=SEOUL, vpc="vpc-0a1b2c3d", protocol="tcp", first_port=22, last_port=22,
        source="0.0.0.0/0", risk=Risk.SENSITIVE, description="ssh for everyone",
    )  # fmt: skip
    return replace(made, **changes)


def check(name: str = "Security Groups - Specific Ports Unrestricted", **changes: Any) -> AdvisorCheck:
    made = AdvisorCheck(
        uid="HCP4007jGY",
        name=name,
        name_ko="보안 그룹 - 제한 없는 특정 포트",
        region="global",
        category="security",
        status="error",
        flagged=3,
    )
    return replace(made, **changes)


def event(name: str = "DeleteBucket", day: int = 12, **changes: Any) -> Event:
    made = Event(
        uid=f"e-{name}-{day}", name=name, region=SEOUL, at=datetime(2026, 10, day, 5, 2, tzinfo=UTC), critical=name.startswith(("Delete", "Terminate")),
        source="s3.amazonaws.com", user="Admin/kim.minji", address="203.0.113.7", resources=("acme-old-logs",),
    )  # fmt: skip
    return replace(made, **changes)


def alarm(name: str = "orders-cpu-high", **changes: Any) -> Alarm:
    made = Alarm(
        uid=f"arn:aws:cloudwatch:{SEOUL}:{ACCOUNT}:alarm:{name}", name=name, region=SEOUL, state="OK", watches="AWS/RDS CPUUtilization",
        since=NOW - timedelta(hours=7), has_action=True,
    )  # fmt: skip
    return replace(made, **changes)


def customer() -> tuple[MonthlyData, MonthlyData]:
    """(September's, October's) of a customer with a bit of everything."""
    instances = (
        instance("web-1", public_ip="198.51.100.24", imdsv2=False),
        instance("web-2", public_ip="198.51.100.25"),
        instance("배치-서버", type="c7i.2xlarge", monitoring=True),
        instance(
            "bastion", type="t3.nano", public_ip="198.51.100.9", imdsv2=False, delete_on_termination=False
        ),
        instance("analytics", region=VIRGINIA, type="r7i.xlarge", state="stopped"),
        instance(
            "ci-runner",
            region=VIRGINIA,
            type="m7i.large",
            unread={"imdsv2": "The answer says nothing about it."},
            imdsv2=None,
        ),
    )
    buckets = (
        bucket("acme-web", blocks_public=False, versioning="off"),
        bucket("acme-orders-archive", encryption="aws:kms"),
        bucket("acme-logs", versioning="suspended"),
        bucket("acme-backup", region=VIRGINIA),
        bucket(
            "acme-legacy",
            encryption=None,
            unread={"encryption": "s3:GetBucketEncryption was denied (AccessDenied)."},
        ),
        bucket("acme-data-lake", encryption="aws:kms"),
    )
    databases = (
        database("orders"),
        database(
            "reporting",
            multi_az=False,
            backup_days=3,
            deletion_protection=False,
            engine="mysql 8.4.3",
            instance_class="db.t4g.medium",
        ),
        database(
            "legacy",
            encrypted=False,
            public=True,
            backup_days=0,
            deletion_protection=False,
            multi_az=False,
            engine="postgres 13.18",
        ),
        database(
            "events-1",
            engine="aurora-postgresql 16.6",
            in_cluster=True,
            multi_az=False,
            deletion_protection=False,
        ),
    )
    functions = (
        function("resize-images"),
        function("nightly-export", runtime="python3.8", timeout_s=900, memory_mb=2048, vpc="vpc-0a1b2c3d"),
        function("webhook", runtime="nodejs22.x", customer_key=True),
        function("ocr", runtime="", memory_mb=4096, region=VIRGINIA),
    )
    volumes = (
        *(volume(f"vol-{n:017x}") for n in range(9)),
        volume("vol-0deadbeef00000001", name="legacy-data", encrypted=False, size_gib=500, type="gp2"),
        volume("vol-0deadbeef00000002", encrypted=False, attached_to=None, region=VIRGINIA),
    )
    users = (
        user("kim.minji", keys=(key(31),)),
        user("lee.junho", mfa=False, keys=(key(214, end="M2PD"), key(400, active=False, end="ZZ91"))),
        user("deploy-bot", password=False, mfa=False, keys=(key(122, end="QW0K"),)),
        user("audit", keys=()),
        user("park", mfa=None, unread={"mfa": "iam:ListMFADevices was denied (AccessDenied)."}),
    )
    rules = (
        rule("bastion"),
        rule("legacy-db", first_port=5432, last_port=5432, source="::/0", description=""),
        rule(
            "default-open",
            protocol="all",
            first_port=0,
            last_port=65535,
            risk=Risk.EVERYTHING,
            description="temporary!",
        ),
        rule(
            "game",
            protocol="udp",
            first_port=7000,
            last_port=7999,
            risk=Risk.OTHER,
            region=VIRGINIA,
            description="game servers",
        ),
        rule("alb", first_port=443, last_port=443, risk=Risk.WEB),
        rule("alb", first_port=80, last_port=80, risk=Risk.WEB),
    )
    checks = (
        check(),
        check("MFA on Root Account", name_ko="루트 계정의 MFA", status="ok", flagged=0),
        check("Amazon S3 Bucket Permissions", name_ko="Amazon S3 버킷 권한", status="warning", flagged=2),
        check(
            "Low Utilization Amazon EC2 Instances",
            name_ko="사용률이 낮은 Amazon EC2 인스턴스",
            category="cost_optimizing",
            status="warning",
            flagged=2,
        ),
        check(
            "Amazon RDS Backups",
            name_ko="Amazon RDS 백업",
            category="fault_tolerance",
            status="error",
            flagged=1,
        ),
        check("VPC", name_ko="VPC", category="service_limits", status="ok", flagged=0),
        check(
            "CloudFront Content Delivery Optimization",
            name_ko="",
            category="performance",
            status="not_available",
            flagged=0,
        ),
    )
    events = (
        event("DeleteBucket", 12),
        event(
            "TerminateInstances",
            12,
            source="ec2.amazonaws.com",
            user="deploy-bot",
            resources=("i-0aa11bb22cc33dd44", "i-0ff11bb22cc33dd55"),
        ),
        event(
            "AuthorizeSecurityGroupIngress",
            5,
            source="ec2.amazonaws.com",
            resources=("sg-0123456789abcdef0",),
        ),
        event(
            "AuthorizeSecurityGroupIngress",
            27,
            source="ec2.amazonaws.com",
            user="root",
            resources=("sg-0123456789abcdef0",),
        ),
        event("CreateAccessKey", 3, source="iam.amazonaws.com", region=VIRGINIA, resources=("deploy-bot",)),
        event(
            "DeleteUser",
            30,
            source="iam.amazonaws.com",
            region=VIRGINIA,
            user="lee.junho",
            resources=("temp-contractor",),
            error="AccessDenied",
        ),
        event("PutBucketPolicy", 12, user="Admin/kim.minji", resources=("acme-web",)),
    )
    alarms = (
        alarm("orders-cpu-high", state="ALARM"),
        alarm("web-5xx", watches="AWS/ApplicationELB HTTPCode_Target_5XX_Count"),
        alarm("queue-age", state="INSUFFICIENT_DATA", watches="AWS/SQS ApproximateAgeOfOldestMessage", has_action=False),
        *(alarm(f"disk-{n}", watches="CWAgent disk_used_percent") for n in range(6)),
        alarm("service-down", state="ALARM", watches="", region=VIRGINIA, has_action=False),
    )  # fmt: skip
    october = month(
        instances=instances, buckets=buckets, databases=databases, functions=functions, volumes=volumes, root=(root(mfa=False),),
        users=users, open_rules=rules, trusted_advisor=checks, events=events, alarms=alarms, regions_off=("af-south-1", "me-south-1"),
    )  # fmt: skip
    september = month(
        Month(2026, 9), NOW - timedelta(days=31),
        instances=instances[:4], buckets=tuple(replace(b, unread={}, encryption="AES256") for b in buckets), databases=databases[:3],
        functions=functions[:3], volumes=volumes, root=(root(mfa=False),), users=(users[0], users[1], user("intern", mfa=False), *users[2:4]),
        open_rules=rules[:2], trusted_advisor=checks[1:], events=tuple(replace(e, at=e.at - timedelta(days=30)) for e in events[:3]), alarms=alarms[1:],
    )  # fmt: skip
    return september, october


def unread() -> MonthlyData:
    """An account of which little could be read: denied, throttled, cut off, without a support plan."""
    _, whole = customer()
    denied = "{} was denied (AccessDenied)."
    gaps = (
        Gap(
            part=Part.INSTANCES,
            region=VIRGINIA,
            cause=Cause.FAILED,
            detail="ec2:DescribeInstances was throttled until the attempts were used up (Throttling).",
        ),
        Gap(part=Part.USERS, region="global", cause=Cause.DENIED, detail=denied.format("iam:ListUsers")),
        Gap(
            part=Part.ROOT, region="global", cause=Cause.DENIED, detail=denied.format("iam:GetAccountSummary")
        ),
        Gap(
            part=Part.DATABASES,
            region=SEOUL,
            cause=Cause.DENIED,
            detail=denied.format("rds:DescribeDBInstances"),
        ),
        Gap(part=Part.DATABASES, region=VIRGINIA, cause=Cause.OUT_OF_TIME),
        Gap(part=Part.OPEN_RULES, region=VIRGINIA, cause=Cause.OUT_OF_TIME),
        Gap(
            part=Part.EVENTS,
            region="all",
            cause=Cause.HISTORY_ENDS,
            detail="CloudTrail keeps events for 90 days.",
        ),
        Gap(
            part=Part.TRUSTED_ADVISOR,
            region="global",
            cause=Cause.SUPPORT_PLAN,
            detail="support:DescribeTrustedAdvisorChecks (SubscriptionRequiredException).",
        ),
    )
    read: dict[Part, tuple[str, ...]] = dict.fromkeys((Part.INSTANCES, Part.OPEN_RULES), (SEOUL,))
    read |= dict.fromkeys((Part.VOLUMES, Part.FUNCTIONS, Part.ALARMS), (SEOUL, VIRGINIA)) | {
        Part.BUCKETS: ("global",)
    }
    return replace(
        whole, instances=whole.instances[:3], users=(), root=(), databases=(), open_rules=(), events=(), trusted_advisor=(),
        gaps=gaps, read=read, complete=False, alarms=(),
    )  # fmt: skip


def empty() -> MonthlyData:
    """A new account with nothing in it."""
    return month(root=(root(),))


def hostile(text: str = HOSTILE) -> MonthlyData:
    """Everything that somebody else writes is `text`."""
    other = {"name": text, "region": text, "uid": text}
    return month(
        regions=(text,),
        instances=(instance(**other, type=text, state=text, public_ip=text), instance(**other, imdsv2=None, unread={"imdsv2": text, text: text})),
        buckets=(bucket(**other, encryption=text, versioning=text), bucket(**other, blocks_public=False, unread={"account_block": text})),
        databases=(database(**other, engine=text, instance_class=text),),
        functions=(function(**other, runtime=text, vpc=text),),
        volumes=(volume(**other, encrypted=False, type=text, attached_to=text),),
        root=(root(name=text),),
        users=(user(**other, keys=(Key(id=text, active=True, created=NOW),)),),
        open_rules=(rule(**other, protocol=text, source=text, description=text, vpc=text),),
        trusted_advisor=(check(**other, name_ko=text, category=text, status=text), check(**other, category=text, status="error")),
        events=(event(text, uid=text, region=text, user=text, address=text, resources=(text, text), error=text, source=text),),
        alarms=(alarm(**other, state=text, watches=text), alarm(**other, state="ALARM", watches=text)),
        gaps=(Gap(part=Part.FUNCTIONS, region=text, cause=Cause.FAILED, detail=text),),
        calls={text: 1}, versions={text: text},
    )  # fmt: skip


def huge(count: int) -> MonthlyData:
    """`count` resources of nine kinds, a third of them with issues."""
    each = count // 9

    def many(make: Callable[..., Any], **fault: Any) -> tuple[Any, ...]:
        numbers: Iterable[int] = range(each)
        return tuple(make(name=f"{make.__name__}-{n}", **(fault if n % 3 == 0 else {})) for n in numbers)

    return month(
        instances=many(instance, imdsv2=False), buckets=many(bucket, blocks_public=False), databases=many(database, public=True),
        functions=many(function, runtime="python3.8"), users=many(user, mfa=False, keys=(key(300),)),
        open_rules=many(rule, risk=Risk.EVERYTHING), alarms=many(alarm, state="ALARM"),
        volumes=tuple(volume(f"vol-{n}", encrypted=n % 3 != 0) for n in range(each)),
        events=tuple(event("DeleteBucket", 1 + n % 31, uid=f"e-{n}") for n in range(count - 8 * each)),
        root=(root(),),
    )  # fmt: skip
