"""Bring the requests of a case to a host: resumed where it broke off, checked against a manifest."""

from typing import Any

import sqlalchemy as sa

from fairlead.cases import store, transfer
from fairlead.cases.gpus import HostState
from fairlead.cases.places import Place
from fairlead.cases.steps.interpret import INPUT
from fairlead.cases.steps.port import Step, Work
from fairlead.kernel.clock import utc_now
from fairlead.kernel.errors import Unavailable


class NoHost(Unavailable):
    """Every host that could calculate doses is paused."""

    code = "cases.no_host"


def remote_folder(place: Place, work: Work) -> str:
    """The round's folder on the host."""
    return f"{place.host.root.rstrip('/')}/cases/{work.name}"


async def place_of(work: Work) -> Place:
    """The host that the case was given to. Raises NoHost where the settings no longer name it."""
    name = (await work.case()).host
    found = work.parts.places.get(name or "")
    if found is None:
        raise NoHost(f"The settings name no host {name!r}.", remedy="Add it again, or retry the case.")
    return found


async def run(work: Work) -> dict[str, Any]:
    """Choose the host, once, and upload the case's requests."""
    name = (await work.case()).host
    if name not in work.parts.places:
        name = await work.reading(lambda conn: choose(conn, work))
        chosen = name
        await work.change(
            "case.placed",
            {"host": chosen},
            key=f"placed:{chosen}",
            act=lambda conn: store.update_case(conn, work.case_id, utc_now(), host=chosen),
        )
    place = await place_of(work)
    sent = await transfer.push(place.host, work.folder / INPUT, remote_folder(place, work), owner=work.name)
    data = {"host": place.host.name, "files": len(sent.files), "bytes": sent.size_bytes}
    await work.change("case.transferred", data, key="transferred", act=lambda _: None)
    return data


def choose(conn: sa.Connection, work: Work) -> str:
    """The host that takes work and has the smallest share of its places taken. Raises NoHost."""
    load, shares = store.cases_by_host(conn), {}
    for name, place in work.parts.places.items():
        known = store.host(conn, name)
        if known is None or known.state is HostState.ACTIVE:
            size = max(len(known.gpus), 1) if known and place.leases_gpus else place.about.slots
            shares[name] = load.get(name, 0) / size
    if not shares:
        raise NoHost(remedy="Resume a host with `fairlead cases hosts --resume NAME`.")
    return min(shares, key=lambda name: (shares[name], name))


TRANSFER = Step(
    name="transfer",
    run=run,
    deadline_s=3600,
    until=0.25,
    reattach="files that lie there whole are not sent again; a part of one is continued",
)
