"""What is known while a plan is made, in dependency order: recorded, live, and decided so far."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fairlead.changes.model import Properties, Recorded, Reference, Unknown
from fairlead.changes.types.references import MISSING, attribute, ref

if TYPE_CHECKING:
    from fairlead.changes.registry import Registry

Seal = Callable[[str, str, Properties], Properties]
"""`(logical id, type, properties) -> properties` with secrets as the state log keeps them."""


@dataclass(slots=True)
class World:
    """What is known while the plan is made, in dependency order."""

    recorded: Mapping[str, Recorded]
    live: Mapping[str, Properties | None]
    registry: Registry
    seal: Seal | None
    symbolic: bool  # no AWS behind it: attributes of what exists are names, not values
    fresh: set[str] = field(default_factory=set)  # ids that this plan creates or replaces
    updated: dict[str, tuple[Properties, frozenset[str]]] = field(default_factory=dict)
    known: dict[tuple[str, str | None], Any] = field(default_factory=dict)  # answers of `lookup`
    untold: bool = False  # whether AWS has not told an attribute that somebody reads

    def lookup(self, reference: Reference) -> Any:
        """What the reference stands for once this plan is applied; its resource is decided already."""
        key = (reference.logical_id, reference.attribute)
        found = self.known.get(key, MISSING)
        if found is MISSING:
            found = self.known[key] = self._find(reference)
        return found

    def _find(self, reference: Reference) -> Any:
        name = reference.logical_id
        if name in self.fresh:
            return Unknown(_expression(reference), fresh=True)
        known = self.recorded[name]
        if reference.attribute is None:
            model = known.observed if self.symbolic else self.live.get(name) or known.observed
            found = (
                MISSING
                if self.symbolic
                else ref(known.type, self.registry.find(known.type), known.identifier, model)
            )
        else:
            found = self._attribute(known, reference.attribute)
        if found is MISSING:
            self.untold = not self.symbolic
            return Unknown(_expression(reference), fresh=False)
        return found

    def _attribute(self, known: Recorded, name: str) -> Any:
        if known.logical_id in self.updated:
            wanted, changed = self.updated[known.logical_id]
            if name.partition(".")[0] in changed:
                return attribute(wanted, name)
        if self.symbolic:
            return attribute(known.properties, name)
        return attribute(self.live.get(known.logical_id) or known.observed, name)


def _expression(reference: Reference) -> str:
    return (
        reference.logical_id
        if reference.attribute is None
        else f"{reference.logical_id}.{reference.attribute}"
    )
