"""What service-screener says and writes: findings, gaps, and how far it is. Pure.

It writes one file of results for each service that it has ended with, failures and passes alike; the words
for them lie in its folder of that service. Its complete result is made of the same files at the very end,
holds failures only, and is not written at all where one service ends with an error: so these files are read.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from fairlead.support.model import Finding, Resource, Severity, Status, Unread
from fairlead.support.screenings.pace import EVERYWHERE, Course, Part
from fairlead.support.screenings.port import Gap, Plan

GLOBAL = frozenset(("iam", "cloudfront"))
_SEVERITY = {"H": Severity.HIGH, "M": Severity.MEDIUM, "L": Severity.LOW, "I": Severity.INFORMATIONAL}
_STATUS = {-1: Status.FAIL, 0: Status.MANUAL, 1: Status.PASS}  # 0: to be looked at
_PILLARS = {
    "S": "security",
    "R": "reliability",
    "O": "operational_excellence",
    "P": "performance_efficiency",
    "C": "cost_optimization",
}
_COLOURS = re.compile(rb"\x1b\[[0-9;]*[A-Za-z]")
_STAGE = re.compile(r"^(PREPARING|COMPLETED) -- ([A-Z0-9]+)::([a-z0-9-]+)")
_ACCOUNT = re.compile(r"^Processing the following account id: (\d{12})\s*$")
# A service that it could not list at all it leaves empty, and says so in between.
_UNLISTED = re.compile(r"^Screener\.py error: ([\w.-]{1,80}),|Not showstopper: Service <\w+> (not available)")
_ERROR = re.compile(
    r"ClientError: An error occurred \(([\w.-]{1,80})\) when calling the (\w{1,80}) operation"
)
_LINK = re.compile(r"<(https://[^>\s]+)>")
_TAG = re.compile(r"<[^>]*>")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One check, in service-screener's words."""

    title: str
    why: str  # {$COUNT}: how many
    severity: Severity
    pillars: tuple[str, ...]
    links: tuple[str, ...]


@dataclass(slots=True)
class Reading:
    """One run, as far as it has been read."""

    plan: Plan
    course: Course
    rules: Mapping[str, Mapping[str, Rule]]  # service → check → rule
    seen_at: datetime
    account: str | None = None
    begun: set[str] = field(default_factory=set)  # services
    _running: dict[tuple[str, str], Part] = field(default_factory=dict)
    _unlisted: dict[tuple[str, str], str] = field(
        default_factory=dict
    )  # where an error came meanwhile: its code
    _errors: dict[str, set[str]] = field(default_factory=dict)  # service → what AWS refused meanwhile

    @staticmethod
    def part(service: str, region: str) -> Part:
        """Where `service` is counted: some are read once."""
        return Part(service, EVERYWHERE if service in GLOBAL else region, 2)

    @staticmethod
    def parts(services: tuple[str, ...], regions: tuple[str, ...]) -> tuple[Part, ...]:
        """All of a screening, each once."""
        return tuple(
            dict.fromkeys(Reading.part(service, region) for service in services for region in regions)
        )

    def hear(self, line: bytes | None) -> bool:
        """What a line of its output tells; whether anything moved. Most lines are chatter."""
        text = _COLOURS.sub(b"", line or b"").decode(errors="replace")
        if found := _ACCOUNT.match(text):
            self.account = found[1]
        elif found := _STAGE.match(text):
            return self._stage(found[1] == "PREPARING", found[2].lower(), found[3])
        elif found := _UNLISTED.search(text):
            self._unlisted.update(dict.fromkeys(self._running, found[1] or found[2]))
        elif found := _ERROR.search(text):
            for service, _ in self._running:
                self._errors.setdefault(service, set()).add(f"{found[2]} ({found[1]})")
        return False

    def _stage(self, begins: bool, service: str, region: str) -> bool:
        part = self.part(service, region)
        key = (part.service, part.region)
        if key not in self.course.open:
            return False
        if begins:
            self.begun.add(service)
            self._running[key] = part
            self.course.begin(part)
        elif key in self._running:
            # Half behind: its results are written with the last of its regions.
            self._running.pop(key)
            self.course.inside(part, 1)
        return True

    def gaps(self, service: str, results: Mapping[str, Any], stat: Mapping[str, Any]) -> Iterator[Gap]:
        """What of `service` was not read, as far as it tells."""
        for (name, region), code in self._unlisted.items():
            if name == service and not results.get("GLOBAL" if region == EVERYWHERE else region):
                yield self._gap(service, region, f"It may not have been read: {code}.")
        errors = stat.get("exceptions", 0)
        if isinstance(errors, int) and errors > 0:
            meanwhile = sorted(self._errors.get(service, ()))[:3]
            refused = f"; refused meanwhile: {', '.join(meanwhile)}" if meanwhile else ""
            yield self._gap(service, EVERYWHERE, f"{errors} checks ended with an error{refused}.")

    def end(self, service: str, resources: int) -> None:
        """`service` is behind in all regions."""
        self.course.resources += resources
        for key, part in list(self.course.open.items()):
            if part.service == service:
                self._running.pop(key, None)
                self.course.end(part)

    def not_understood(self, service: str) -> Gap:
        """For results that have not their form."""
        return self._gap(service, EVERYWHERE, "The results of service-screener were not understood.")

    def _gap(self, service: str, region: str, reason: str) -> Gap:
        self.course.failed.add(service)
        return Gap(Unread(service=service, region=region, reason=reason))


def rules(reporter: Mapping[str, Any]) -> dict[str, Rule]:
    """The checks of one service, from its reporter file."""
    return {
        str(check): _rule(str(check), about) for check, about in reporter.items() if isinstance(about, dict)
    }


def _rule(check: str, about: Mapping[str, Any]) -> Rule:
    title = str(about.get("shortDesc") or check)
    categories = str(about.get("category") or "")
    return Rule(
        title=title,
        why=_TAG.sub("", str(about.get("^description") or title)).strip(),
        severity=_SEVERITY.get(str(about.get("criticality")), Severity.INFORMATIONAL),
        pillars=tuple(dict.fromkeys(_PILLARS[mark] for mark in categories if mark in _PILLARS))
        or ("operational_excellence",),
        links=tuple(dict.fromkeys(_LINK.findall(" ".join(map(str, about.get("ref") or ())))))[:5],
    )


def findings(
    plan: Plan, service: str, results: Mapping[str, Any], known: Mapping[str, Rule], seen_at: datetime
) -> list[Finding]:
    """Results of one service: region → "Bucket::name" → check → [verdict, what was seen].

    Raises ValueError, TypeError, AttributeError or IndexError where they have another form.
    """
    told = [
        (
            str(region),
            str(identifier),
            str(check),
            _STATUS.get(verdict[0], Status.UNREAD),
            verdict[1] if len(verdict) > 1 else None,
        )
        for region, resources in results.items()
        for identifier, checks in resources.items()
        for check, verdict in checks.items()
    ]
    failed: dict[str, int] = {}
    for *_, check, status, _ in told:
        failed[check] = failed.get(check, 0) + (status is Status.FAIL)
    return [
        _finding(
            plan,
            f"{service}.{check}",
            place,
            status,
            seen,
            known.get(check) or _rule(check, {}),
            failed[check],
            seen_at,
        )
        for region, identifier, check, status, seen in told
        for place in (_resource(service, region, identifier),)
    ]


def _finding(
    plan: Plan,
    check: str,
    place: Resource,
    status: Status,
    seen: Any,
    rule: Rule,
    failed: int,
    seen_at: datetime,
) -> Finding:
    return Finding(
        check=check,
        title=rule.title,
        severity=rule.severity,
        status=status,
        account=plan.account,
        resource=place,
        detail=_TAG.sub("", "" if seen is None else str(seen)).strip()[:2000],
        rationale=rule.why.replace("{$COUNT}", str(max(failed, 1))),
        remediation=rule.title,
        references=rule.links,
        pillars=rule.pillars,
        seen_at=seen_at,
    )


def _resource(service: str, region: str, identifier: str) -> Resource:
    name = _TAG.sub("", identifier)
    kind, _, rest = name.partition("::")
    return Resource(
        uid=name,
        type=f"{service}:{kind}",
        region=EVERYWHERE if region == "GLOBAL" else region,
        name=rest or kind,
    )
