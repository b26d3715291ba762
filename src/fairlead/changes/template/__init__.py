"""Templates: what should be. `load` reads one, `bind` gives it values; a template is never half understood.

The form is CloudFormation's (YAML with short tags, or JSON), or Fairlead's short form. What a
template asks for and Fairlead does not do is a fault that names it and its line.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from fairlead.changes import intrinsics
from fairlead.changes.model import Fault
from fairlead.changes.registry import Registry
from fairlead.changes.template import parameters as template_parameters
from fairlead.changes.template.binding import bound
from fairlead.changes.template.bound import Bound, Output, Place, Template
from fairlead.changes.template.document import Object
from fairlead.changes.template.grammar import Grammar
from fairlead.changes.template.reading import read
from fairlead.changes.template.seedform import SeedForm, is_seed_form
from fairlead.kernel.errors import FairleadError

__all__ = [
    "MAX_SHOWN",
    "Bound",
    "Output",
    "Place",
    "Template",
    "TemplateInvalid",
    "bind",
    "bind_all",
    "evaluate",
    "load",
    "load_all",
    "load_parameters",
    "mask",
    "references",
]

evaluate = intrinsics.evaluate
references = intrinsics.references
mask = intrinsics.mask


MAX_SHOWN: Final = 1000  # faults that an error or a report lists


class TemplateInvalid(FairleadError):
    """The template cannot be used as it stands."""

    code, status, retryable = "template.invalid", 422, False

    def __init__(self, faults: Sequence[Fault], subject: str = "template") -> None:
        """`faults` are all that were found, in the order of their lines."""
        self.faults = tuple(sorted(faults, key=lambda fault: (fault.line or 0, fault.path)))
        first = self.faults[0]
        place = f"line {first.line}, " if first.line else ""
        place += f"{first.path}: " if first.path else ""
        count = f" ({len(self.faults)} faults)" if len(self.faults) > 1 else ""
        super().__init__(
            f"The {subject} has a fault: {place}{first.message}{count}",
            remedy="Correct what `faults` lists; `fairlead changes validate` shows the same list offline.",
            faults=[fault_json(fault) for fault in self.faults[:MAX_SHOWN]],
        )


def fault_json(fault: Fault) -> dict[str, Any]:
    """`{"path", "line", "code", "message"}`."""
    return {"path": fault.path, "line": fault.line, "code": fault.code, "message": fault.message}


def load(data: bytes, *, max_bytes: int, registry: Registry | None = None) -> Template:
    """The template in `data`, understood in full. Raises TemplateInvalid with every fault."""
    faults: list[Fault] = []
    template = load_all(data, faults, max_bytes=max_bytes, registry=registry)
    if faults or template is None:
        raise TemplateInvalid(faults)
    return template


def load_all(
    data: bytes, faults: list[Fault], *, max_bytes: int, registry: Registry | None = None
) -> Template | None:
    """As `load`, but what is wrong goes to `faults`; None where there is nothing to go on with."""
    tree = read(data, max_bytes=max_bytes, faults=faults)
    regions: Mapping[str, tuple[str, int]] = {}
    if is_seed_form(tree):
        form = SeedForm(tree, registry or Registry(), faults)
        tree, regions = form.convert(), form.regions
    if not isinstance(tree, Object):
        if tree is not None or not faults:
            message = "A template is a map with Resources."
            faults.append(Fault(path="", line=1, code="template.structure", message=message))
        return None
    grammar = Grammar(tree, faults)
    grammar.check()
    declared = template_parameters.declared(tree.get("Parameters"), faults)
    return Template(
        document=tree,
        parameters=declared,
        regions=regions,
        condition_order=tuple(grammar.calls.condition_order),
        bad=frozenset(grammar.calls.bad),
    )


def bind(
    template: Template,
    parameters: Mapping[str, Any],
    *,
    region: str,
    account_id: str,
    stack_name: str,
    exports: Mapping[str, str] | None,
    zones: Mapping[str, Sequence[str]] | None = None,
    registry: Registry | None = None,
) -> Bound:
    """`template` with these parameter values at this place. Raises TemplateInvalid with every fault.

    `exports` None means that they are not known (offline): imported values stay unknown.
    """
    place = Place(region=region, account_id=account_id, stack_name=stack_name, exports=exports, zones=zones)
    faults: list[Fault] = []
    result = bind_all(template, parameters, place, faults, registry=registry)
    if faults:
        raise TemplateInvalid(faults)
    return result


def bind_all(
    template: Template,
    parameters: Mapping[str, Any],
    place: Place,
    faults: list[Fault],
    *,
    registry: Registry | None = None,
) -> Bound:
    """As `bind`, but what is wrong goes to `faults`, and what it touches counts as any value."""
    section = template.document.get("Parameters")
    names = section if isinstance(section, Object) else ()
    template_parameters.check_names(names, parameters, faults)
    values = template_parameters.given(template.parameters, parameters, faults)
    return bound(template, values, place, registry or Registry(), faults)


def load_parameters(data: bytes) -> dict[str, Any]:
    """Values of a parameters file; its three forms stand in `parameters.parse`. Raises TemplateInvalid."""
    faults: list[Fault] = []
    values = template_parameters.parse(data, faults)
    if faults:
        raise TemplateInvalid(faults, "parameters file")
    return values
