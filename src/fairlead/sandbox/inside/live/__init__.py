"""How each type looks right now, read from the services themselves: never what was once asked for."""

from fairlead.sandbox.inside.live import (
    compute,
    containers,
    data,
    identity,
    messaging,
    network,
    observe,
    storage,
)
from fairlead.sandbox.inside.live.kind import Kind

KINDS: dict[str, Kind] = {
    kind.type_name: kind
    for kinds in (
        compute.KINDS,
        containers.KINDS,
        data.KINDS,
        identity.KINDS,
        messaging.KINDS,
        network.KINDS,
        observe.KINDS,
        storage.KINDS,
    )
    for kind in kinds
}
