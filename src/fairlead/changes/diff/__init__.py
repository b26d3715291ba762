"""What changes, and in which order: pure functions from templates, state and AWS to a plan."""

from fairlead.changes.diff.digest import fingerprint, moved, plan_digest
from fairlead.changes.diff.document import property_json, readable, to_json
from fairlead.changes.diff.planning import diff_templates, plan
from fairlead.changes.diff.properties import changed_properties

__all__ = [
    "changed_properties",
    "diff_templates",
    "fingerprint",
    "moved",
    "plan",
    "plan_digest",
    "property_json",
    "readable",
    "to_json",
]
