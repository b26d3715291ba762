"""Resources of templates and states for the plan engine's tests, on the real type schemas."""

from collections.abc import Mapping
from functools import cache
from typing import Any

from fairlead.changes import diff
from fairlead.changes.intrinsics import nodes_in, references
from fairlead.changes.model import Change, Desired, Plan, Properties, Recorded, Via
from fairlead.changes.registry import Registry


@cache
def registry() -> Registry:
    """The schemas that Fairlead ships with."""
    return Registry()


def desired(
    logical_id: str,
    type_name: str,
    *,
    depends_on: tuple[str, ...] = (),
    policy: str = "Delete",
    on_replace: str = "Delete",
    **properties: Any,
) -> Desired:
    """One resource of a bound template; `type_name` without `AWS::`."""
    needs = {reference.logical_id for reference in references(properties)} | set(depends_on)
    return Desired(
        logical_id=logical_id,
        type=f"AWS::{type_name}",
        properties=properties,
        dynamic=any(True for _ in nodes_in(properties)),
        depends_on=tuple(sorted(needs)),
        deletion_policy=policy,
        update_replace_policy=on_replace,
    )


def recorded(
    logical_id: str,
    type_name: str,
    *,
    identifier: str | None = None,
    observed: Properties | None = None,
    depends_on: tuple[str, ...] = (),
    policy: str = "Delete",
    on_replace: str = "Delete",
    via: Via = Via.CLOUD_CONTROL,
    **properties: Any,
) -> Recorded:
    """One resource as the state keeps it; by default AWS answered what was asked for."""
    return Recorded(
        logical_id=logical_id,
        type=f"AWS::{type_name}",
        identifier=identifier or f"{logical_id.lower()}-1",
        properties=properties,
        observed=dict(properties) if observed is None else {**properties, **observed},
        depends_on=depends_on,
        deletion_policy=policy,
        update_replace_policy=on_replace,
        via=via,
    )


def plan(
    wanted: list[Desired],
    known: list[Recorded],
    live: Mapping[str, Properties | None] | None = None,
    **options: Any,
) -> Plan:
    """The plan; what is not in `live` stands as recorded."""
    return diff.plan(
        {item.logical_id: item for item in wanted},
        {item.logical_id: item for item in known},
        live or {},
        registry(),
        base_version=options.pop("base_version", 1),
        **options,
    )


def only(made: Plan) -> Change:
    """The one change of the plan."""
    assert len(made.changes) == 1, [(c.logical_id, c.action.value) for c in made.changes]
    return made.changes[0]
