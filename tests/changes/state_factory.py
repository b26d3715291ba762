"""Resources and snapshots that tests record."""

from datetime import UTC, datetime
from typing import Any

from fairlead.changes.state import ResourceStatus, Snapshot, StateResource

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def resource(logical_id: str, /, **changes: Any) -> StateResource:
    """An instance named `logical_id`."""
    fields: dict[str, Any] = {
        "id": f"i-{logical_id.lower()}",
        "logical_id": logical_id,
        "type": "AWS::EC2::Instance",
        "name": logical_id,
        "region": "eu-central-1",
        "properties": {"ImageId": "ami-1", "Tags": [{"Key": "Name", "Value": logical_id}]},
        "observed": {"InstanceId": f"i-{logical_id.lower()}", "PrivateIp": "10.0.0.1"},
        "tags": {"Name": logical_id},
        "status": ResourceStatus.ACTIVE,
        "created_at": NOW,
        "updated_at": NOW,
    }
    return StateResource(**{**fields, **changes})


def snapshot(*resources: StateResource, **changes: Any) -> Snapshot:
    """What a commit of `resources` says."""
    fields: dict[str, Any] = {"actor": "ann", "description": "a change", "timestamp": NOW}
    return Snapshot(resources=resources, **{**fields, **changes})
