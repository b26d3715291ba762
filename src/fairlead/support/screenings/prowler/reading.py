"""What the driver's lines mean: events for the stream, and how far the checks are. Pure.

A line that is not understood costs the service that is being read its place among those that were read.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from fairlead.support.model import Finding, Resource, Severity, Status, Unread
from fairlead.support.screenings.pace import EVERYWHERE, Course, Part
from fairlead.support.screenings.port import Event, Found, Gap, Plan

# Where Prowler names the region that it happened to ask, which changes with what is screened.
GLOBAL = frozenset(
    (
        "account",
        "cloudfront",
        "fms",
        "globalaccelerator",
        "iam",
        "organizations",
        "route53",
        "shield",
        "trustedadvisor",
    )
)
_STATUS = {"FAIL": Status.FAIL, "PASS": Status.PASS, "MANUAL": Status.MANUAL}
_FRAMEWORKS = {
    "AWS-Foundational-Security-Best-Practices": "AWS-FSBP",
    "CIS-3.0": "CIS-3.0",
    "CIS-7.0": "CIS-7.0",
    "ISO27001-2022": "ISO27001-2022",
    "KISA-ISMS-P-2023": "KISA-ISMS-P",
}
_RELIABILITY = "AWS-Well-Architected-Framework-Reliability-Pillar"
_SECURITY = "AWS-Well-Architected-Framework-Security-Pillar"
_DENIED = re.compile(r"AccessDenied|Unauthorized|AuthorizationError|NotAuthorized|AllAccessDisabled")
_THROTTLED = re.compile(r"Throttl|TooManyRequests|RequestLimitExceeded|SlowDown")


@dataclass(slots=True)
class Reading:
    """One run of the driver, as far as it has been read."""

    plan: Plan
    course: Course
    checks: Mapping[str, str]  # id → service, of everything that was planned
    seen_at: datetime
    began: bool = False
    ended: bool = False
    account: str | None = None  # another one than planned
    error: str | None = None  # why nothing could be begun
    _left: dict[str, set[str]] = field(default_factory=dict)  # service → checks ahead
    _resources: set[str] = field(default_factory=set)
    _told: set[tuple[str, ...]] = field(default_factory=set)

    def __post_init__(self) -> None:
        """Nothing is read yet."""
        for check, service in self.checks.items():
            self._left.setdefault(service, set()).add(check)

    @staticmethod
    def parts(checks: Mapping[str, str]) -> tuple[Part, ...]:
        """Prowler reads all regions of a service together; checks are what it counts."""
        count: dict[str, int] = {}
        for service in checks.values():
            count[service] = count.get(service, 0) + 1
        return tuple(Part(service, EVERYWHERE, number) for service, number in count.items())

    def feed(self, line: bytes | None) -> list[Event]:
        """What `line` tells."""
        try:
            told = json.loads(line or b"")
            act = {
                "began": self._begin,
                "check": self._check,
                "gap": self._gap,
                "skipped": self._skipped,
                "account": self._other,
                "failed": self._failed,
                "end": self._end,
            }[told["kind"]]
            return act(told)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return self._missing(self._now(), EVERYWHERE, "A line of the engine was not understood.")

    def _now(self) -> str:
        """The service that is being read: Prowler goes through the checks in their order."""
        ahead = min((min(checks) for checks in self._left.values() if checks), default=None)
        return self.checks[ahead] if ahead else "all"

    def _begin(self, told: Mapping[str, Any]) -> list[Event]:  # noqa: ARG002 - all of them take what was told
        self.began = True
        self._step()
        return []

    def _check(self, told: Mapping[str, Any]) -> list[Event]:
        service = self.checks[told["id"]]
        findings = tuple(_finding(self.plan, service, told, one, self.seen_at) for one in told["findings"])
        self._resources.update(finding.resource.uid for finding in findings)
        self.course.resources = len(self._resources)
        if told["last"]:
            self._behind(told["id"])
        return [Found(findings)] if findings else []

    def _gap(self, told: Mapping[str, Any]) -> list[Event]:
        # A check may ask a service that is not screened itself; then the one it belongs to has the gap.
        service = told["service"] if told["service"] in self._left else self._now()
        return self._missing(service, str(told["region"]), _why(told))

    def _skipped(self, told: Mapping[str, Any]) -> list[Event]:
        service = self.checks[told["check"]]
        self._behind(told["check"])
        return self._missing(service, EVERYWHERE, f"{told['check']} did not run.")

    def _other(self, told: Mapping[str, Any]) -> list[Event]:
        self.account = str(told["account"])
        return []

    def _failed(self, told: Mapping[str, Any]) -> list[Event]:
        self.error = str(told["error"])[:80]
        return []

    def _end(self, told: Mapping[str, Any]) -> list[Event]:  # noqa: ARG002
        lost = [check for checks in self._left.values() for check in checks]
        events: list[Event] = []
        for check in sorted(lost):  # told in a line that was not understood
            events += self._skipped({"check": check})
        self.ended = True
        return events

    def _behind(self, check: str) -> None:
        service = self.checks[check]
        self._left[service].discard(check)
        total = sum(1 for other in self.checks.values() if other == service)
        part = Part(service, EVERYWHERE, total)
        self.course.inside(part, total - len(self._left[service]))
        if not self._left[service]:
            self.course.end(part)
        self._step()

    def _step(self) -> None:
        if (service := self._now()) != "all":
            self.course.begin(Part(service, EVERYWHERE))

    def _missing(self, service: str, region: str, reason: str) -> list[Event]:
        """One gap, told once; it takes the service from those that were read."""
        self.course.failed.add(service)
        if (service, region, reason) in self._told:
            return []
        self._told.add((service, region, reason))
        return [Gap(Unread(service=service, region=region, reason=reason))]


def _why(told: Mapping[str, Any]) -> str:
    code, call = str(told["code"])[:80], str(told["call"])[:80]
    if not code:
        return f"Prowler could not read something here ({str(told['error'])[:80]})."
    if _DENIED.search(code):
        return f"{call} was denied ({code})."
    if _THROTTLED.search(code):
        return f"{call} was throttled until the attempts were used up ({code})."
    return f"{call} failed ({code})."


def _finding(
    plan: Plan, service: str, check: Mapping[str, Any], one: Mapping[str, Any], seen_at: datetime
) -> Finding:
    region = EVERYWHERE if service in GLOBAL else str(one["region"]) or EVERYWHERE
    return Finding(
        check=str(check["id"]),
        title=str(check["title"]),
        severity=Severity(str(check["severity"]).lower()),
        status=_STATUS.get(one["status"], Status.PASS),  # muted: somebody accepted it in Prowler's own way
        account=plan.account,
        resource=Resource(
            uid=str(one["uid"]) or f"{service}:{one['name']}",
            type=str(check["type"]) or service,
            region=region,
            name=str(one["name"] or ""),
            tags={str(key): str(value) for key, value in dict(one["tags"] or {}).items()},
        ),
        detail=str(one["detail"]),
        rationale=_plain(check["risk"]) or str(check["title"]),
        remediation=_plain(check["fix"]) or f"See {check['id']} in Prowler's documentation.",
        references=_links(check["links"]),
        compliance={
            _FRAMEWORKS[name]: tuple(dict.fromkeys(map(str, ids)))
            for name, ids in check["compliance"].items()
            if name in _FRAMEWORKS
        },
        pillars=_pillars(check),
        seen_at=seen_at,
    )


def _pillars(check: Mapping[str, Any]) -> tuple[str, ...]:
    """Prowler looks at security, and at reliability where its frameworks or categories say so."""
    reliability = _RELIABILITY in check["compliance"] or "resilience" in check["categories"]
    if reliability and _SECURITY not in check["compliance"]:
        return ("reliability",)
    return ("security", "reliability") if reliability else ("security",)


def _plain(text: Any) -> str:
    """Prowler's Markdown without its marks."""
    return re.sub(r"\*\*|`", "", str(text or "")).strip()


def _links(found: Iterable[Any]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(link for link in map(str, found) if link.startswith("https://")))[:5]
