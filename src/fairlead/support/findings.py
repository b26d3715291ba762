"""Findings of screenings: reading them, comparing two screenings, and what somebody chose to accept."""

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import date
from typing import Any

import msgspec

from fairlead.kernel.errors import FairleadError
from fairlead.support.model import (
    Difference,
    Finding,
    Screening,
    Severity,
    Status,
    Suppressed,
    Suppression,
)

MAX_BYTES = 256 * 1024 * 1024
NO_REGION = ("global", "")
SEVERITIES = tuple(Severity)  # most severe first


class FindingsUnreadable(FairleadError):
    """The findings do not have the form of a screening."""

    code, status, retryable = "support.findings_unreadable", 422, False


class SuppressionsUnreadable(FairleadError):
    """The suppressions do not have their form: check, reason, author, expires."""

    code, status, retryable = "support.suppressions_unreadable", 422, False


class AccountsDiffer(FairleadError):
    """Two screenings of different accounts cannot be compared."""

    code, status, retryable = "support.accounts_differ", 422, False


class EnginesDiffer(FairleadError):
    """Two screenings by different engines cannot be compared: their checks are not the same."""

    code, status, retryable = "support.engines_differ", 422, False


def read_screening(data: bytes, *, name: str = "the findings") -> Screening:
    """A screening from JSON in UTF-8. Raises FindingsUnreadable, naming the place."""
    if len(data) > MAX_BYTES:
        raise FindingsUnreadable(
            f"{name} has {len(data):,} bytes; {MAX_BYTES:,} are taken.",
            remedy="Screen fewer regions or services at a time.",
        )
    try:
        found = msgspec.json.decode(data, type=Screening)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise FindingsUnreadable(
            f"{name}: {error}.",
            remedy="See docs/how-to/support-offline.md for the form of a findings file.",
        ) from error
    if found.started_at.tzinfo is None or found.finished_at.tzinfo is None:
        raise FindingsUnreadable(
            f"{name}: started_at and finished_at need a time zone.", remedy="Write 2026-11-20T10:00:00+09:00."
        )
    if found.finished_at < found.started_at:
        raise FindingsUnreadable(f"{name}: finished_at is before started_at.", remedy="Correct the times.")
    strangers = sorted({f.account for f in found.findings if f.account != found.account})
    if strangers:
        raise FindingsUnreadable(
            f"{name}: it is of account {found.account} and has findings of {', '.join(strangers[:3])}.",
            remedy="Keep one file for each account: findings of two customers never go into one report.",
            accounts=strangers[:10],
        )
    return found


def read_suppressions(data: bytes, *, name: str = "the suppressions") -> tuple[Suppression, ...]:
    """Suppressions from a JSON list in UTF-8. Raises SuppressionsUnreadable."""
    try:
        found = msgspec.json.decode(data, type=tuple[Suppression, ...])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise SuppressionsUnreadable(
            f"{name}: {error}.", remedy='Write [{"check", "reason", "author", "expires": "2026-12-31"}].'
        ) from error
    for number, suppression in enumerate(found):
        if not suppression.reason.strip() or not suppression.author.strip():
            raise SuppressionsUnreadable(
                f"{name}: number {number + 1} ({suppression.check}) has no reason or no author.",
                remedy="Say why it is accepted and by whom.",
            )
    return found


def document(value: Any) -> Any:
    """A screening, difference or finding as JSON values."""
    return msgspec.to_builtins(value)


# ── comparing ─────────────────────────────────────────────────────────────────────────────────────


def failures(screening: Screening) -> dict[tuple[str, str, str, str], Finding]:
    """The failed findings by identity; of doubles the most severe."""
    found: dict[tuple[str, str, str, str], Finding] = {}
    for finding in screening.findings:
        if finding.status is not Status.FAIL:
            continue
        other = found.get(finding.identity)
        if other is None or SEVERITIES.index(finding.severity) < SEVERITIES.index(other.severity):
            found[finding.identity] = finding
    return found


def service_of(finding: Finding) -> str:
    """The service of a check: what stands before its first dot or underscore."""
    return finding.check.replace("_", ".").split(".", 1)[0].lower()


def _by_severity(found: Iterable[Finding]) -> tuple[Finding, ...]:
    return tuple(sorted(found, key=lambda f: (SEVERITIES.index(f.severity), f.check, f.identity)))


def _unanswered(screening: Screening) -> set[tuple[str, str, str, str]]:
    return {f.identity for f in screening.findings if f.status in (Status.UNREAD, Status.MANUAL)}


def _looked_at(finding: Finding, current: Screening, services: frozenset[str]) -> bool:
    """Whether `current` would have found `finding` again, were it still there."""
    region, service = finding.resource.region, service_of(finding)
    if not current.complete or service not in services:
        return False
    if region not in NO_REGION and region not in current.regions:
        return False
    return not any(
        gap.service.lower() == service and gap.region in (region, *NO_REGION) for gap in current.unread
    )


def covers(suppression: Suppression, finding: Finding) -> bool:
    """Whether `suppression` is about `finding`, whatever its day."""
    return (
        suppression.check == finding.check
        and suppression.account in (None, finding.account)
        and suppression.resource in (None, finding.resource.uid)
    )


def same_engine(previous: Screening, engine: str) -> None:
    """Refuse what a screening by `engine` could not be compared with. Raises EnginesDiffer."""
    if previous.engine != engine:
        raise EnginesDiffer(
            f"The previous screening is by {previous.engine}, this one by {engine}.",
            remedy=f"Give the previous screening by {engine}.",
        )


def difference(
    previous: Screening | None,
    current: Screening,
    suppressions: Iterable[Suppression] = (),
    *,
    on: date,
) -> Difference:
    """How the failures changed from `previous` to `current`; suppressions count until and on their day.

    Without a previous screening every failure is new. A failure that this screening could not see again
    (its region, service or check was not read) is unknown, never fixed. Raises AccountsDiffer, EnginesDiffer.
    """
    if previous and previous.account != current.account:
        raise AccountsDiffer(
            f"The previous screening is of account {previous.account}, this one of {current.account}.",
            remedy="Give the previous screening of the same account.",
        )
    if previous:
        same_engine(previous, current.engine)
    given = tuple(suppressions)
    before = failures(previous) if previous else {}
    now = failures(current)
    active = [s for s in given if s.expires >= on]
    hidden = {
        identity: suppression
        for identity, finding in now.items()
        for suppression in active
        if covers(suppression, finding)
    }
    present = {f.identity for f in current.findings}
    gone = [finding for identity, finding in before.items() if identity not in now]
    services = frozenset(current.services) or frozenset(service_of(f) for f in current.findings)
    unanswered = _unanswered(current)
    seen = {
        f.identity
        for f in gone
        if f.identity not in unanswered and (f.identity in present or _looked_at(f, current, services))
    }
    return Difference(
        new=_by_severity(f for i, f in now.items() if i not in before and i not in hidden),
        unchanged=_by_severity(f for i, f in now.items() if i in before and i not in hidden),
        fixed=_by_severity(f for f in gone if f.identity in seen),
        unknown=_by_severity(f for f in gone if f.identity not in seen),
        suppressed=tuple(
            Suppressed(finding=f, suppression=hidden[f.identity])
            for f in _by_severity(f for i, f in now.items() if i in hidden)
        ),
        lapsed=tuple(s for s in given if s.expires < on and any(covers(s, f) for f in now.values())),
    )


# ── counting ──────────────────────────────────────────────────────────────────────────────────────


def count_by_severity(found: Iterable[Finding]) -> dict[Severity, int]:
    """How many of each severity, most severe first, zeros included."""
    counted = Counter(finding.severity for finding in found)
    return {severity: counted[severity] for severity in SEVERITIES}


def count_by_service(found: Iterable[Finding]) -> dict[str, Mapping[Severity, int]]:
    """How many of each severity for each service, services with the most first."""
    grouped: dict[str, list[Finding]] = {}
    for finding in found:
        grouped.setdefault(service_of(finding), []).append(finding)
    ordered = sorted(grouped, key=lambda service: (-len(grouped[service]), service))
    return {service: count_by_severity(grouped[service]) for service in ordered}


def by_check(found: Iterable[Finding]) -> list[tuple[Finding, tuple[Finding, ...]]]:
    """Findings grouped by check, most severe first: (an example that names it, all of them)."""
    grouped: dict[str, list[Finding]] = {}
    for finding in found:
        grouped.setdefault(finding.check, []).append(finding)
    groups = [(_by_severity(group)[0], _by_severity(group)) for group in grouped.values()]
    return sorted(groups, key=lambda g: (SEVERITIES.index(g[0].severity), -len(g[1]), g[0].check))
