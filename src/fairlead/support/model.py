"""What a question means and what a screening found: frozen data that knows no SDK, no HTTP, no SQL."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from enum import StrEnum
from typing import Any


class Language(StrEnum):
    """Languages that are understood and answered in."""

    KOREAN = "ko"
    ENGLISH = "en"


class Intent(StrEnum):
    """What somebody wants to be done."""

    SCREENING = "screening"
    MONTHLY_REPORT = "monthly_report"
    API_ACTIVITY = "api_activity"  # CloudTrail: who did what, when
    MONITORING = "monitoring"  # CloudWatch: metrics, alarms, logs
    INVENTORY = "inventory"  # what there is, and how it is set up
    GENERAL = "general"  # AWS itself, or nothing that concerns an account


@dataclass(frozen=True, slots=True, kw_only=True)
class Period:
    """Half open, [start, end); both aware, in `timezone`. `end` is always after `start`."""

    start: datetime
    end: datetime
    timezone: str  # IANA name, or "UTC+05:30" where only an offset is known

    def document(self) -> dict[str, str]:
        """As JSON: ISO 8601 with offset."""
        return {"start": self.start.isoformat(), "end": self.end.isoformat(), "timezone": self.timezone}


@dataclass(frozen=True, slots=True, kw_only=True)
class Slots:
    """What the question says, `None` where it says nothing. A mention is no permission: see `account`."""

    account: str | None = None  # 12 digits, or a name; which account is used is decided by the ticket
    region: str | None = None  # "ap-northeast-2"
    period: Period | None = None
    resource: str | None = None  # an id or ARN where one is given, else a service: "s3", "security_group"
    event: str | None = None  # a CloudTrail event name
    metric: str | None = None  # a CloudWatch metric name

    def document(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "account": self.account,
            "region": self.region,
            "period": self.period.document() if self.period else None,
            "resource": self.resource,
            "event": self.event,
            "metric": self.metric,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Understanding:
    """What the embedded rules made of a question."""

    intent: Intent
    confidence: float  # 0..1, two decimals: how far the best reading is ahead of the others
    slots: Slots
    clarify: str | None  # one question back, in the language of the question

    def document(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "intent": self.intent.value,
            "confidence": self.confidence,
            "slots": self.slots.document(),
            "clarify": self.clarify,
        }


class Severity(StrEnum):
    """How bad a finding is: OCSF's words, most severe first."""

    CRITICAL = "critical"
    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"
    INFORMATIONAL = "informational"


class Status(StrEnum):
    """What a check found about one resource."""

    FAIL = "fail"
    PASS = "pass"  # noqa: S105
    MANUAL = "manual"  # a person has to look
    UNREAD = "unread"  # could not be read: never counted as passed


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """What a finding is about."""

    uid: str  # ARN where it has one, else its id
    type: str  # "AWS::S3::Bucket", or the engine's own word
    region: str  # "global" where it has none
    name: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)  # written by the customer: never trusted


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One check's result about one resource; close to OCSF's Compliance Finding (class 2003)."""

    check: str  # "s3.bucket_public_access"
    title: str
    severity: Severity
    status: Status
    account: str
    resource: Resource
    detail: str = ""  # what was seen
    rationale: str = ""  # why it matters
    remediation: str = ""
    references: tuple[str, ...] = ()  # https addresses
    compliance: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # {"CIS-3.0": ("2.1.4",)}
    pillars: tuple[str, ...] = ()  # Well-Architected pillars: "security", "reliability", …
    seen_at: datetime | None = None

    @property
    def identity(self) -> tuple[str, str, str, str]:
        """What makes it the same finding in the next screening: (account, check, region, resource)."""
        return (self.account, self.check, self.resource.region, self.resource.uid)


@dataclass(frozen=True, slots=True, kw_only=True)
class Unread:
    """Something that a screening could not read, and why."""

    service: str
    region: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Screening:
    """The result of one screening of one account."""

    account: str
    engine: str
    started_at: datetime
    finished_at: datetime
    regions: tuple[str, ...]
    findings: tuple[Finding, ...]
    unread: tuple[Unread, ...] = ()
    services: tuple[str, ...] = ()  # that were read, also where they hold nothing; empty: not recorded
    complete: bool = True  # false: stopped by its deadline or cancelled; findings are what was reached


@dataclass(frozen=True, slots=True, kw_only=True)
class Suppression:
    """A finding that somebody accepted: why, who, and until when (the day after `expires`, it is back)."""

    check: str
    reason: str
    author: str
    expires: date
    account: str | None = None  # None: any
    resource: str | None = None  # a uid; None: any


@dataclass(frozen=True, slots=True, kw_only=True)
class Suppressed:
    """A failed finding and the suppression that covers it."""

    finding: Finding
    suppression: Suppression


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """How the failures of a screening differ from those of the one before."""

    new: tuple[Finding, ...]
    fixed: tuple[Finding, ...]  # failed before, looked at again, fails no more or is gone
    unchanged: tuple[Finding, ...]
    unknown: tuple[Finding, ...]  # failed before, and was not looked at this time
    suppressed: tuple[Suppressed, ...]
    lapsed: tuple[Suppression, ...]  # suppressions whose day has passed and that would have covered something


class AgentRole(StrEnum):
    """What somebody in Zendesk may do here; each may do all that the one before may."""

    AGENT = "agent"  # ask, screen and report on the account of a ticket
    LEAD = "lead"  # and bind a ticket to another account of its organization; accept findings
    ADMINISTRATOR = "administrator"  # and keep the list of customers


@dataclass(frozen=True, slots=True, kw_only=True)
class Agent:
    """Somebody whom Zendesk vouched for, in one installation of the app."""

    installation: str
    user: str  # Zendesk's id of the user
    project_id: str
    role: AgentRole

    @property
    def actor(self) -> str:
        """The name under which runs and audit entries know the agent."""
        return f"zendesk:{self.installation}:{self.user}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Customer:
    """One customer's AWS account that a project may look into."""

    project_id: str
    account: str  # twelve digits
    name: str
    role_name: str | None  # to assume there; None: the one of the settings
    external_id: str | None  # per customer; None: this account is read with the server's own credentials
    regions: tuple[str, ...] = ()  # empty: every region that is switched on
    language: Language = Language.KOREAN
    timezone: str = "Asia/Seoul"


class JobKind(StrEnum):
    """What an agent can ask for; each is a durable run of the operation `support.<kind>`."""

    ASK = "ask"
    SCREEN = "screen"
    REPORT = "report"

    @property
    def operation(self) -> str:
        """The name of its operation."""
        return f"support.{self.value}"
