"""What all calls of one apply share, and what a reference between resources stands for in it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fairlead.changes.model import Action, Change, Desired, Properties, Recorded, Reference, Unknown
from fairlead.changes.nodes import Node
from fairlead.changes.registry import Registry
from fairlead.changes.state import State, is_sealed
from fairlead.changes.template import Output
from fairlead.changes.types.arns import Arns
from fairlead.changes.types.references import MISSING, attribute, ref
from fairlead.changes.types.traits import SNAPSHOT_TYPES
from fairlead.kernel.errors import Conflict

Results = Mapping[str, Any]  # what the nodes that a node depends on gave back, by node name


class ValueUnknown(Conflict):
    """AWS has not told a value that another resource needs."""

    code = "changes.value_unknown"


class SecretReference(Conflict):
    """A resource refers to a secret of another one, which Fairlead does not keep."""

    code = "changes.secret_reference"


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What all nodes of one apply share. None of it changes while the apply runs."""

    changes: tuple[Change, ...]
    graph: Mapping[str, Node]
    desired: Mapping[str, Desired]
    recorded: Mapping[str, Recorded]
    base: State | None
    live: Mapping[str, Properties]  # of unchanged resources that changed ones refer to
    outputs: Mapping[str, Output]
    dependencies: Mapping[str, tuple[str, ...]]  # of every resource that the template wants
    referred_to: frozenset[str]  # logical ids whose values other resources of this plan need
    arns: Arns
    description: str
    number: int
    digest: str


def wants_snapshot(work: Work, change: Change) -> bool:
    """Whether the policy that removes the old resource of `change` asks for a last snapshot of it."""
    known = work.recorded[change.logical_id]
    policy = known.deletion_policy
    if change.action is Action.REPLACE:
        policy = work.desired[change.logical_id].update_replace_policy
    # A logical id that stood for another type: the new type's policy cannot be kept for that one.
    return policy == "Snapshot" and known.type in SNAPSHOT_TYPES


def value_of(work: Work, registry: Registry, reference: Reference, results: Results) -> Any:
    """What a reference stands for now. Raises ValueUnknown and SecretReference."""
    logical_id = reference.logical_id
    made = results.get(f"create:{logical_id}") or results.get(f"update:{logical_id}")
    if made is not None:
        type_name, identifier = work.desired[logical_id].type, made["identifier"]
        model = {**made["properties"], **made["observed"]}
    else:
        known = work.recorded[logical_id]
        type_name, identifier = known.type, known.identifier
        model = {**known.properties, **work.live.get(logical_id, known.observed)}
    if reference.attribute is None:
        found = ref(type_name, registry.find(type_name), identifier, model)
    else:
        found = attribute(model, reference.attribute)
    shown = logical_id if reference.attribute is None else f"{logical_id}.{reference.attribute}"
    if found is MISSING or isinstance(found, Unknown):
        raise ValueUnknown(
            f"AWS has not told {shown}.", remedy="Refer to an attribute that the type returns."
        )
    if is_sealed(found):
        raise SecretReference(f"{shown} is a secret.", remedy="Pass the value as a NoEcho parameter instead.")
    return found
