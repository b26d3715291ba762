"""Faults on demand: what goes wrong, where, and how many times."""

import fnmatch
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

KINDS = {
    "latency": "the answer of a matching call comes `seconds` later",
    "handler_latency": "a matching request stays IN_PROGRESS `seconds` longer",
    "throttle": "a matching call is answered ThrottlingException",
    "fail": "a matching request ends FAILED with `error_code`, without any effect",
    "fail_after_effect": "a matching request ends FAILED with `error_code`, although it took effect",
    "lost_answer": "a matching call is carried out, then its connection is dropped",
}
_MEMBERS = {"kind", "operation", "type", "identifier", "count", "seconds", "error_code", "message"}


class FaultInvalid(ValueError):
    """The description of a fault does not have its form."""


@dataclass(slots=True)
class Fault:
    """One fault. `operation` and `type` are patterns (`*`, `AWS::S3::*`); count 0 means always."""

    kind: str
    operation: str = "*"
    type: str = "*"
    identifier: str = "*"
    count: int = 1
    seconds: float = 0.0
    error_code: str = "ServiceInternalError"
    message: str = "Injected by the sandbox"
    hits: int = 0

    def out(self) -> dict[str, Any]:
        """As JSON."""
        return {name: getattr(self, name) for name in (*sorted(_MEMBERS), "hits")}


@dataclass
class Faults:
    """The faults in force, in the order they were given."""

    active: list[Fault] = field(default_factory=list)

    def replace(self, body: Any) -> None:
        """Put the faults of `{"faults": [...]}` in force. Raises FaultInvalid; then nothing changes."""
        items = body.get("faults") if isinstance(body, Mapping) else None
        if not isinstance(items, list):
            raise FaultInvalid('The body is {"faults": [{"kind": …}, …]}')
        self.active = [_fault(item) for item in items]

    def take(
        self, kind: str, operations: tuple[str, ...], *, type_name: str = "", identifier: str = ""
    ) -> Fault | None:
        """The first fault of `kind` that matches one of the names, counted; None where there is none."""
        for fault in self.active:
            matches = (
                fault.kind == kind
                and any(fnmatch.fnmatchcase(name.upper(), fault.operation.upper()) for name in operations)
                and fnmatch.fnmatchcase(type_name, fault.type)
                and fnmatch.fnmatchcase(identifier, fault.identifier)
            )
            if matches and (fault.count == 0 or fault.hits < fault.count):
                fault.hits += 1
                return fault
        return None


def _fault(item: Any) -> Fault:
    if not isinstance(item, Mapping) or item.get("kind") not in KINDS:
        raise FaultInvalid(f"kind is one of {', '.join(KINDS)}")
    if unknown := sorted(set(item) - _MEMBERS):
        raise FaultInvalid(f"Unknown members: {', '.join(unknown)}")
    try:
        fault = Fault(
            **{**item, "count": int(item.get("count", 1)), "seconds": float(item.get("seconds", 0))}
        )
    except (TypeError, ValueError) as error:
        raise FaultInvalid(str(error)) from error
    if fault.count < 0 or fault.seconds < 0:
        raise FaultInvalid("count and seconds are not negative")
    return fault
