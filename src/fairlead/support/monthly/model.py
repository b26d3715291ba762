"""What a monthly report is made of. A fact that could not be read is None and named in its row's `unread`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

FORMAT = "fairlead.monthly/1"


class Part(StrEnum):
    """What is read; the names of the rows in MonthlyData, in the order of the report."""

    INSTANCES = "instances"
    BUCKETS = "buckets"
    DATABASES = "databases"
    FUNCTIONS = "functions"
    VOLUMES = "volumes"
    ROOT = "root"
    USERS = "users"
    OPEN_RULES = "open_rules"
    TRUSTED_ADVISOR = "trusted_advisor"
    EVENTS = "events"
    ALARMS = "alarms"


class Cause(StrEnum):
    """Why something was not read."""

    DENIED = "denied"
    FAILED = "failed"  # no answer, throttled to the end, expired credentials …
    NOT_UNDERSTOOD = "not_understood"
    REGION_OFF = "region_off"
    OUT_OF_TIME = "out_of_time"
    CANCELLED = "cancelled"
    HISTORY_ENDS = "history_ends"  # CloudTrail keeps 90 days
    SUPPORT_PLAN = "support_plan"  # Trusted Advisor needs Business or Enterprise support


class State(StrEnum):
    """How much of a part was read."""

    READ = "read"
    PARTLY = "partly"
    UNREAD = "unread"
    UNAVAILABLE = "unavailable"  # the account does not have it


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """Something that was not read."""

    part: Part
    region: str  # "global" where it has none
    cause: Cause
    detail: str = ""  # in English, such as "ec2:DescribeVolumes was denied (UnauthorizedOperation)."


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What every resource has."""

    uid: str  # the service's own id or name
    name: str
    region: str  # "global" where it has none
    unread: Mapping[str, str] = field(default_factory=dict)  # name of a field → why it is None


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance(Row):
    """An EC2 instance that is not gone."""

    type: str
    state: str  # "running", "stopped", …
    public_ip: str | None  # None: it has none
    imdsv2: bool | None  # tokens are required, or the metadata service is off
    monitoring: bool | None  # detailed, each minute
    delete_on_termination: bool | None  # of the root volume; None also where it is no EBS volume


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket(Row):
    """An S3 bucket."""

    encryption: str | None  # "AES256", "aws:kms", "none"
    versioning: str | None  # "enabled", "suspended", "off"
    blocks_public: bool | None  # all four switches, each on the bucket or on the account


@dataclass(frozen=True, slots=True, kw_only=True)
class Database(Row):
    """An RDS database instance."""

    engine: str  # with its version
    instance_class: str
    multi_az: bool | None
    encrypted: bool | None
    backup_days: int | None
    deletion_protection: bool | None
    public: bool | None
    in_cluster: bool = False  # its cluster keeps copies in other zones, not the instance


@dataclass(frozen=True, slots=True, kw_only=True)
class Function(Row):
    """A Lambda function."""

    runtime: str  # "" for an image
    memory_mb: int
    timeout_s: int
    vpc: str | None  # None: it has none
    customer_key: bool  # its environment is encrypted with a key of the customer's


@dataclass(frozen=True, slots=True, kw_only=True)
class Volume(Row):
    """An EBS volume."""

    size_gib: int
    type: str
    encrypted: bool | None
    attached_to: str | None  # instance; None: to none


@dataclass(frozen=True, slots=True, kw_only=True)
class Root(Row):
    """The account's root user."""

    mfa: bool | None
    keys: bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """An access key; its id is cut, because reports are passed on."""

    id: str  # "…ABCD"
    active: bool
    created: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class User(Row):
    """An IAM user."""

    password: bool | None  # may sign in to the console
    mfa: bool | None
    keys: tuple[Key, ...] | None
    created: datetime | None = None


class Risk(StrEnum):
    """What an open rule opens."""

    EVERYTHING = "everything"  # all protocols, or all ports
    SENSITIVE = "sensitive"  # a port of administration or a database is among them
    OTHER = "other"
    WEB = "web"  # 80 or 443 alone, as a public site has to


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenRule(Row):
    """An inbound rule of a security group that lets in the whole internet; `uid` is the group's id."""

    vpc: str
    protocol: str  # "tcp", "udp", "icmp", "all"
    first_port: int  # 0 to 65535 where the protocol has no ports
    last_port: int
    source: str  # 0.0.0.0/0, ::/0, or a half of them
    risk: Risk
    description: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdvisorCheck(Row):
    """A check of Trusted Advisor."""

    category: str  # "security", "cost_optimizing", "performance", "fault_tolerance", "service_limits", …
    status: str  # "ok", "warning", "error", "not_available"
    flagged: int
    name_ko: str = ""


@dataclass(frozen=True, slots=True)
class Watched:
    """An event that the report looks for."""

    name: str
    source: str  # other services have events of the same name: Cognito's DeleteUser is none of these
    critical: bool
    everywhere: bool = True  # false: AWS records it in one region for the whole world


WATCHED = (
    Watched("DeleteBucket", "s3.amazonaws.com", critical=True),
    Watched("DeleteDBInstance", "rds.amazonaws.com", critical=True),
    Watched("TerminateInstances", "ec2.amazonaws.com", critical=True),
    Watched("DeleteUser", "iam.amazonaws.com", critical=True, everywhere=False),
    Watched("DeleteAccessKey", "iam.amazonaws.com", critical=True, everywhere=False),
    Watched("PutBucketPolicy", "s3.amazonaws.com", critical=False),
    Watched("AuthorizeSecurityGroupIngress", "ec2.amazonaws.com", critical=False),
    Watched("CreateAccessKey", "iam.amazonaws.com", critical=False, everywhere=False),
    Watched("PutUserPolicy", "iam.amazonaws.com", critical=False, everywhere=False),
    Watched("AttachUserPolicy", "iam.amazonaws.com", critical=False, everywhere=False),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Event(Row):
    """One of the ten events that matter, as CloudTrail recorded it; `name` is the event's."""

    at: datetime
    critical: bool  # else high
    source: str  # "s3.amazonaws.com"
    user: str
    address: str = ""
    resources: tuple[str, ...] = ()
    error: str = ""  # "AccessDenied": it was tried and refused


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarm(Row):
    """A CloudWatch alarm."""

    state: str  # "OK", "ALARM", "INSUFFICIENT_DATA"
    watches: str  # "AWS/EC2 CPUUtilization"; "" for one made of other alarms
    since: datetime | None
    has_action: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class MonthlyData:
    """Everything of one account's month. Configuration is as of `finished_at`, events are the month's."""

    account: str
    month: str  # "2026-10"
    timezone: str
    start: datetime  # [start, end)
    end: datetime
    running: bool  # the month goes on: `end` is when reading began
    started_at: datetime
    finished_at: datetime
    regions: tuple[str, ...]
    regions_off: tuple[str, ...] = ()
    complete: bool = True  # false: stopped by its deadline or by somebody
    instances: tuple[Instance, ...] = ()
    buckets: tuple[Bucket, ...] = ()
    databases: tuple[Database, ...] = ()
    functions: tuple[Function, ...] = ()
    volumes: tuple[Volume, ...] = ()
    root: tuple[Root, ...] = ()
    users: tuple[User, ...] = ()
    open_rules: tuple[OpenRule, ...] = ()
    trusted_advisor: tuple[AdvisorCheck, ...] = ()
    events: tuple[Event, ...] = ()
    alarms: tuple[Alarm, ...] = ()
    read: Mapping[Part, tuple[str, ...]] = field(default_factory=dict)  # regions read to their end
    gaps: tuple[Gap, ...] = ()
    calls: Mapping[str, int] = field(default_factory=dict)  # "ec2:DescribeVolumes" → answers
    versions: Mapping[str, str] = field(default_factory=dict)  # "fairlead" → "0.2.0"

    def rows(self, part: Part) -> tuple[Row, ...]:
        """The rows of `part`."""
        found: tuple[Row, ...] = getattr(self, part.value)
        return found

    def state(self, part: Part) -> State:
        """How much of `part` was read. What nobody tried to read is unread."""
        gaps = [gap for gap in self.gaps if gap.part is part]
        read = bool(self.read.get(part))
        if gaps and all(gap.cause is Cause.SUPPORT_PLAN for gap in gaps):
            return State.UNAVAILABLE
        if read and not gaps:
            return State.READ
        return State.PARTLY if read or self.rows(part) else State.UNREAD
