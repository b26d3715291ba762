"""The state log of a project: append-only versions in the object store, each bound to the one before."""

from fairlead.changes.state.compare import Difference, ResourceDifference, StateDifference, compare
from fairlead.changes.state.log import StateLog
from fairlead.changes.state.model import (
    HistoryEntry,
    ResourceStatus,
    Skipped,
    Snapshot,
    State,
    StateBusy,
    StateCorrupted,
    StateFault,
    StateInvalid,
    StateMoved,
    StateResource,
    StateUnrecoverable,
    StateUnsupported,
    StateVersion,
    StateVersionMissing,
    Verification,
    state_resource,
)
from fairlead.changes.state.sealing import Sealing, is_sealed, seal, seal_paths

__all__ = [
    "Difference",
    "HistoryEntry",
    "ResourceDifference",
    "ResourceStatus",
    "Sealing",
    "Skipped",
    "Snapshot",
    "State",
    "StateBusy",
    "StateCorrupted",
    "StateDifference",
    "StateFault",
    "StateInvalid",
    "StateLog",
    "StateMoved",
    "StateResource",
    "StateUnrecoverable",
    "StateUnsupported",
    "StateVersion",
    "StateVersionMissing",
    "Verification",
    "compare",
    "is_sealed",
    "seal",
    "seal_paths",
    "state_resource",
]
