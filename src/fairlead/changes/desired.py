"""What a plan wants: a template's text, and everything that gives it its values."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fairlead.changes.model import Fault
from fairlead.changes.registry import Registry
from fairlead.changes.template import Bound, Place, TemplateInvalid, bind_all, load_all
from fairlead.changes.validation import validate
from fairlead.kernel.errors import FairleadError


class TemplateTooLarge(FairleadError):
    """The template is larger than this server takes."""

    code, status, retryable = "template.too_large", 413, False


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A template and the place and parameter values that it is bound with."""

    data: bytes
    parameters: Mapping[str, Any]
    region: str
    account_id: str
    stack_name: str
    environment: str | None = None  # what the project says of itself: "production"
    exports: Mapping[str, str] | None = None  # None: not known here
    zones: Mapping[str, Sequence[str]] | None = None

    @property
    def place(self) -> Place:
        """What the pseudo parameters stand for."""
        return Place(
            region=self.region,
            account_id=self.account_id,
            stack_name=self.stack_name,
            exports=self.exports,
            zones=self.zones,
        )


# What makes a comparison meaningless; a missing or odd value does not.
_UNREADABLE = frozenset(
    {"template.unknown_type", "template.unknown_property", "template.unknown_attribute", "template.cycle"}
)


def bound(target: Target, registry: Registry, *, max_bytes: int, comparable: bool = False) -> Bound:
    """The template with its values, checked against the schemas. Raises TemplateInvalid with every fault.

    `comparable` is enough to compare two templates: required and well-formed values are not asked for.
    """
    faults: list[Fault] = []
    template = load_all(target.data, faults, max_bytes=max_bytes, registry=registry)
    if template is None or faults:
        raise TemplateInvalid(faults)
    result = bind_all(template, target.parameters, target.place, faults, registry=registry)
    found = validate(result, registry)
    faults += [fault for fault in found if not comparable or fault.code in _UNREADABLE]
    if faults:
        raise TemplateInvalid(faults)
    return result


def asks_for_exports(data: bytes) -> bool:
    """Whether the template may import another stack's values."""
    return b"ImportValue" in data


def asks_for_zones(data: bytes) -> bool:
    """Whether the template may ask for availability zones."""
    return b"GetAZs" in data
