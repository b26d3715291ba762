"""What a check is: a pure judgement of one resource's facts, and the words that go with it."""

from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from fairlead.support.collect import Reads, Unreadable
from fairlead.support.model import Resource, Severity

GLOBAL = "global"
CIS = "CIS-3.0"  # CIS AWS Foundations Benchmark 3.0.0


class NotAssessed(Exception):
    """What a judgement needs was not read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One resource and what was read about it: the service's own words, or `Unreadable`."""

    resource: Resource
    facts: Mapping[str, Any]
    seen_at: datetime

    def __getitem__(self, name: str) -> Any:
        """The fact `name`; None where there is none of it. Raises NotAssessed where it was not read."""
        if name not in self.facts:
            raise NotAssessed(f"The answer says nothing about {name}.")
        value = self.facts[name]
        if isinstance(value, Unreadable):
            raise NotAssessed(value.reason)
        return value

    def optional(self, name: str, default: Any = None) -> Any:
        """The fact `name`, or `default` where the service leaves it out and that has a meaning."""
        return self[name] if name in self.facts else default

    def days_since(self, moment: datetime) -> int:
        """Whole days from `moment` until this was read."""
        return (self.seen_at - moment).days


@dataclass(frozen=True, slots=True)
class Passed:
    """The resource is as it should be."""


@dataclass(frozen=True, slots=True)
class Failed:
    """The resource is not as it should be; `detail` is what was seen."""

    detail: str


Verdict = Passed | Failed | None  # None: the check is not about such a resource
PASSED = Passed()


def unless(fault: bool, detail: str) -> Verdict:
    """Failed with `detail` where there is a `fault`, else passed."""
    return Failed(detail) if fault else PASSED


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One question asked of every resource of a kind."""

    id: str
    title: str
    severity: Severity
    judge: Callable[[Item], Verdict]
    why: str
    fix: str
    cis: tuple[str, ...] = ()  # sections of CIS AWS Foundations 3.0.0
    pillars: tuple[str, ...] = ("security",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One kind of resource: how it is read and what is asked of it."""

    kind: str  # "AWS::EC2::Volume"
    collect: Callable[[Reads], AsyncIterator[Item]]
    checks: tuple[Check, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """What is read of one service."""

    name: str
    sources: tuple[Source, ...]
    reference: str  # where AWS writes about it
    regional: bool = True  # false: read once for the account


def item(
    reads: Reads,
    kind: str,
    uid: str,
    facts: Mapping[str, Any],
    *,
    name: str = "",
    region: str | None = None,
    tags: Mapping[str, str] | None = None,
) -> Item:
    """A resource of `kind` seen now, in the reads' region unless another is named."""
    if reads.seen_at is None:
        raise ValueError("facts need the time at which they were read")
    resource = Resource(uid=uid, type=kind, region=region or reads.region, name=name, tags=tags or {})
    return Item(resource=resource, facts=facts, seen_at=reads.seen_at)


@dataclass(frozen=True, slots=True)
class Words:
    """A check in another language."""

    title: str
    why: str
    fix: str
