"""GPUs of the hosts: what there is, who may use it next, and leases that cannot leak.

A lease belongs to a *holder*, the name of one job, so whoever repeats that job finds its lease again. It is
renewed while somebody looks after the job. One that is not renewed any more expires, but its GPU is free
only once the host itself says that the job is not running: `expired` lists such leases, `release` frees them.

    with database.transaction() as connection:
        now = gpus.clock(connection)                                   # the database's: workers' differ
        gpus.enqueue(connection, request, now)
        lease = gpus.claim(connection, request.holder, slots, now)     # None: ask again later
"""

import re
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

import sqlalchemy as sa

from fairlead.cases.jobs import Host
from fairlead.kernel import telemetry
from fairlead.kernel.clock import utc_now
from fairlead.kernel.db import UtcDateTime, metadata

LEASE_S = 120.0  # renewed at least three times as often
WAITER_S = 60.0  # a waiter that has not asked for so long is passed over
AGEING_S = 600.0  # of waiting weigh as much as one step of priority
SHARE_WEIGHT = 1.0  # steps of priority that every GPU its project already holds costs a request
RESERVE_AFTER_S = 300.0  # of waiting, from when on smaller requests do not overtake on one host

_FIELDS = (
    "index",
    "uuid",
    "name",
    "memory.total",
    "memory.used",
    "temperature.gpu",
    "utilization.gpu",
    "mig.mode.current",
)
QUERY = f"""
command -v nvidia-smi >/dev/null 2>&1 || exit 0
nvidia-smi --query-gpu={",".join(_FIELDS)} --format=csv,noheader,nounits || exit 0
echo ---
nvidia-smi --query-compute-apps=gpu_uuid,pid --format=csv,noheader,nounits
echo ---
nvidia-smi -L
:
"""
_MIG = re.compile(
    r"^\s+MIG\s+(?P<name>\S+)\s+Device\s+\d+:\s+\(UUID:\s+(?P<uuid>MIG-[^)\s]+)\)", re.MULTILINE
)
_OF_GPU = re.compile(r"^GPU \d+: .*\(UUID: (?P<uuid>GPU-[^)\s]+)\)", re.MULTILINE)


# What there is -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """One GPU, or one MIG instance of it; None where the driver does not say."""

    uuid: str  # what CUDA_VISIBLE_DEVICES takes
    index: int
    name: str
    memory_total_mb: int | None = None
    memory_used_mb: int | None = None
    temperature_c: int | None = None
    utilisation_percent: int | None = None
    processes: int = 0  # that compute on it now, whoever started them


def _number(text: str) -> int | None:
    """An integer; None for "[N/A]", "[Not Supported]", "ERR!" and whatever else drivers write."""
    match = re.fullmatch(r"\s*(\d+)(?:\.\d+)?\s*", text)
    return int(match[1]) if match else None


def _rows(text: str) -> list[list[str]]:
    """Fields of nvidia-smi's CSV, which quotes nothing."""
    return [[field.strip() for field in line.split(",")] for line in text.splitlines()]


def parse(output: str) -> tuple[Gpu, ...]:
    """The GPUs in what `QUERY` printed; a GPU cut into MIG instances is replaced by these."""
    cards, apps, listing = (*output.split("---\n"), "", "")[:3]
    processes: dict[str, int] = defaultdict(int)
    for row in _rows(apps):
        processes[row[0]] += 1
    found: list[Gpu] = []
    for row in _rows(cards):
        index = _number(row[0])
        if index is None or len(row) < len(_FIELDS) or not row[1].startswith("GPU-"):
            continue  # a complaint of the driver's, not a GPU
        gpu = Gpu(
            uuid=row[1],
            index=index,
            name=row[2],
            memory_total_mb=_number(row[3]),
            memory_used_mb=_number(row[4]),
            temperature_c=_number(row[5]),
            utilisation_percent=_number(row[6]),
            processes=processes[row[1]],
        )
        if row[7] == "Enabled":
            found += _instances(gpu, listing, processes)
        else:
            found.append(gpu)
    return tuple(found)


def _instances(gpu: Gpu, listing: str, processes: Mapping[str, int]) -> list[Gpu]:
    """The MIG instances of `gpu` in the output of `nvidia-smi -L`; it cannot be used as a whole."""
    starts = [*_OF_GPU.finditer(listing)]
    for number, start in enumerate(starts):
        if start["uuid"] == gpu.uuid:
            end = starts[number + 1].start() if number + 1 < len(starts) else len(listing)
            return [
                Gpu(
                    uuid=match["uuid"],
                    index=gpu.index,
                    name=f"{gpu.name} MIG {match['name']}",
                    processes=processes.get(match["uuid"], 0),
                )
                for match in _MIG.finditer(listing, start.end(), end)
            ]
    return []


async def discover(host: Host) -> tuple[Gpu, ...]:
    """The GPUs of a host now; none where it has no driver. Raises Host… errors."""
    answer = await host.sh(QUERY, deadline_s=20.0)
    found = parse(answer.stdout.decode("utf-8", "replace"))
    telemetry.log.debug("gpus.discovered", host=host.name, gpus=len(found))
    return found


# Who is next ---------------------------------------------------------------------------------------------


class HostState(StrEnum):
    """Whether a host takes new work."""

    ACTIVE = "active"
    PAUSED = "paused"  # nothing new begins; what runs goes on
    DRAINING = "draining"  # the same, and it is to be taken away: drained once it holds no lease


@dataclass(frozen=True, slots=True, kw_only=True)
class Slots:
    """What a host can hold at once."""

    host: str
    gpus: tuple[str, ...] = ()  # ids for CUDA_VISIBLE_DEVICES
    cpu_jobs: int = 0  # jobs without a GPU
    state: HostState = HostState.ACTIVE

    def names(self, *, gpu: bool) -> tuple[str, ...]:
        """All slots of one kind."""
        return self.gpus if gpu else tuple(f"cpu-{number}" for number in range(self.cpu_jobs))


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A job that waits for a place. `gpus` 0: a slot without a GPU."""

    holder: str
    project_id: str
    gpus: int
    priority: int  # larger is sooner
    since: datetime
    hosts: tuple[str, ...] = ()  # only there; empty: anywhere

    def score(self, now: datetime, held: int) -> float:
        """Priority, raised by waiting, lowered by what the project already holds."""
        waited_s = max(0.0, (now - self.since).total_seconds())
        return self.priority + waited_s / AGEING_S - SHARE_WEIGHT * held


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """The slots that a holder has on one host."""

    holder: str
    project_id: str
    host: str
    slots: tuple[str, ...]
    expires_at: datetime

    @property
    def gpu_ids(self) -> tuple[str, ...]:
        """For `Resources.gpu_ids`; empty for a slot without a GPU."""
        return tuple(slot for slot in self.slots if not slot.startswith("cpu-"))


@dataclass(frozen=True, slots=True)
class Grant:
    """A request and where it goes."""

    request: Request
    host: str
    slots: tuple[str, ...]


def schedule(
    requests: Sequence[Request], hosts: Sequence[Slots], leases: Sequence[Lease], now: datetime
) -> list[Grant]:
    """Who gets which slots now, best score first, the older one where equal.

    A request goes to the active host that fits it with the fewest slots left over. One that has waited
    for RESERVE_AFTER_S and fits nowhere keeps the host where most is free to itself, so that smaller
    requests cannot starve it.
    """
    free = _free(hosts, leases)
    held: dict[str, int] = defaultdict(int)
    for lease in leases:
        held[lease.project_id] += len(lease.slots)
    open_hosts = {slots.host: slots for slots in hosts if slots.state is HostState.ACTIVE}
    waiting, grants = list(requests), []
    reserved: set[str] = set()
    while waiting:
        best = min(waiting, key=lambda r: (-r.score(now, held[r.project_id]), r.since, r.holder))
        waiting.remove(best)
        allowed = [slots for slots in open_hosts.values() if not best.hosts or slots.host in best.hosts]
        host = _place(best, [slots for slots in allowed if slots.host not in reserved], free)
        if host is not None:
            taken = [name for name in host.names(gpu=best.gpus > 0) if name in free[host.host]]
            grant = Grant(best, host.host, tuple(taken[: max(1, best.gpus)]))
            free[host.host] -= set(grant.slots)
            held[best.project_id] += len(grant.slots)
            grants.append(grant)
        elif (now - best.since).total_seconds() >= RESERVE_AFTER_S:
            reserved |= _to_keep(best, allowed, free)
    return grants


def _free(hosts: Sequence[Slots], leases: Sequence[Lease]) -> dict[str, set[str]]:
    taken = {(lease.host, slot) for lease in leases for slot in lease.slots}
    return {
        slots.host: {
            name
            for name in (*slots.names(gpu=True), *slots.names(gpu=False))
            if (slots.host, name) not in taken
        }
        for slots in hosts
    }


def _count(slots: Slots, free: Mapping[str, Collection[str]], *, gpu: bool) -> int:
    return sum(1 for name in slots.names(gpu=gpu) if name in free[slots.host])


def _place(request: Request, allowed: Sequence[Slots], free: Mapping[str, Collection[str]]) -> Slots | None:
    gpu = request.gpus > 0
    fitting = [slots for slots in allowed if _count(slots, free, gpu=gpu) >= max(1, request.gpus)]
    return min(fitting, key=lambda s: (_count(s, free, gpu=gpu), s.host)) if fitting else None


def _to_keep(request: Request, allowed: Sequence[Slots], free: Mapping[str, Collection[str]]) -> set[str]:
    able = [slots for slots in allowed if can_ever_fit(request, [slots])]
    gpu = request.gpus > 0
    return {max(able, key=lambda s: (_count(s, free, gpu=gpu), s.host)).host} if able else set()


def can_ever_fit(request: Request, hosts: Sequence[Slots]) -> bool:
    """Whether some host is large enough, however busy or paused it is now."""
    return any(
        len(slots.names(gpu=request.gpus > 0)) >= max(1, request.gpus)
        for slots in hosts
        if not request.hosts or slots.host in request.hosts
    )


# What is recorded ----------------------------------------------------------------------------------------

leases_table = sa.Table(
    "cases_gpu_leases",
    metadata,
    sa.Column("host", sa.String(120), primary_key=True),
    sa.Column("slot", sa.String(120), primary_key=True),  # the key: nobody else can have it too
    sa.Column("holder", sa.String(120), nullable=False, index=True),
    sa.Column("project_id", sa.String(64), nullable=False),
    sa.Column("expires_at", UtcDateTime, nullable=False, index=True),
)
queue_table = sa.Table(
    "cases_gpu_queue",
    metadata,
    sa.Column("holder", sa.String(120), primary_key=True),
    sa.Column("project_id", sa.String(64), nullable=False),
    sa.Column("gpus", sa.Integer, nullable=False),
    sa.Column("priority", sa.Integer, nullable=False),
    sa.Column("hosts", sa.JSON, nullable=False),
    sa.Column("since", UtcDateTime, nullable=False),
    sa.Column("seen_at", UtcDateTime, nullable=False),
)
TABLES = (leases_table, queue_table)


def clock(connection: sa.Connection) -> datetime:
    """The time that leases are measured in: the database's, because the clocks of workers may differ.

    SQLite has none of its own: whoever opens its file is on one machine.
    """
    if connection.dialect.name != "postgresql":
        return utc_now()
    now: datetime = connection.execute(sa.select(sa.func.clock_timestamp())).scalar_one()
    return now.astimezone(UTC)


def _lock(connection: sa.Connection) -> None:
    """One claim at a time; on SQLite the transaction itself sees to that."""
    if connection.dialect.name == "postgresql":
        connection.execute(sa.text("LOCK TABLE cases_gpu_leases IN SHARE ROW EXCLUSIVE MODE"))


def leases(connection: sa.Connection, holder: str | None = None) -> tuple[Lease, ...]:
    """All leases, or the one of `holder`."""
    query = sa.select(leases_table).order_by(leases_table.c.holder, leases_table.c.host, leases_table.c.slot)
    if holder is not None:
        query = query.where(leases_table.c.holder == holder)
    rows: dict[str, list[sa.Row[tuple[str, str, str, str, datetime]]]] = defaultdict(list)
    for row in connection.execute(query):
        rows[row.holder].append(row)
    return tuple(
        Lease(
            holder=name,
            project_id=found[0].project_id,
            host=found[0].host,
            slots=tuple(row.slot for row in found),
            expires_at=min(row.expires_at for row in found),
        )
        for name, found in rows.items()
    )


def enqueue(connection: sa.Connection, request: Request, now: datetime) -> None:
    """Let a request wait; nothing where it waits already or has its lease."""
    if leases(connection, request.holder):
        return
    waits = sa.select(queue_table.c.holder).where(queue_table.c.holder == request.holder)
    if connection.execute(waits).first() is None:
        connection.execute(
            queue_table.insert().values(
                holder=request.holder,
                project_id=request.project_id,
                gpus=request.gpus,
                priority=request.priority,
                hosts=list(request.hosts),
                since=request.since,
                seen_at=now,
            )
        )


def waiting(connection: sa.Connection, seen_since: datetime | None = None) -> tuple[Request, ...]:
    """The requests that wait; with `seen_since` only those whose waiter asked since then."""
    query = sa.select(queue_table).order_by(queue_table.c.since, queue_table.c.holder)
    if seen_since is not None:
        query = query.where(queue_table.c.seen_at >= seen_since)
    return tuple(
        Request(
            holder=row.holder,
            project_id=row.project_id,
            gpus=row.gpus,
            priority=row.priority,
            since=row.since,
            hosts=tuple(row.hosts),
        )
        for row in connection.execute(query)
    )


def claim(connection: sa.Connection, holder: str, hosts: Sequence[Slots], now: datetime) -> Lease | None:
    """The lease of `holder`, if it is its turn; everybody else whose turn it is gets theirs at once too."""
    _lock(connection)
    connection.execute(queue_table.update().where(queue_table.c.holder == holder).values(seen_at=now))
    alive = waiting(connection, now - timedelta(seconds=WAITER_S))
    expires_at = now + timedelta(seconds=LEASE_S)
    for grant in schedule(alive, hosts, leases(connection), now):
        rows = [
            {
                "host": grant.host,
                "slot": slot,
                "holder": grant.request.holder,
                "project_id": grant.request.project_id,
                "expires_at": expires_at,
            }
            for slot in grant.slots
        ]
        connection.execute(leases_table.insert(), rows)
        connection.execute(queue_table.delete().where(queue_table.c.holder == grant.request.holder))
    renew(connection, holder, now)
    return next(iter(leases(connection, holder)), None)


def renew(connection: sa.Connection, holder: str, now: datetime) -> bool:
    """Keep the lease for another LEASE_S; False where `holder` has none (any more)."""
    changed = connection.execute(
        leases_table.update()
        .where(leases_table.c.holder == holder)
        .values(expires_at=now + timedelta(seconds=LEASE_S))
    )
    return changed.rowcount > 0


def release(connection: sa.Connection, holder: str) -> None:
    """Give up the lease, or the place in the queue. May be repeated."""
    connection.execute(leases_table.delete().where(leases_table.c.holder == holder))
    connection.execute(queue_table.delete().where(queue_table.c.holder == holder))


def expired(connection: sa.Connection, now: datetime) -> tuple[Lease, ...]:
    """Leases that nobody renews. Ask the host about the job of that name before `release`: it may run on."""
    return tuple(lease for lease in leases(connection) if lease.expires_at <= now)


def prioritise(connection: sa.Connection, holder: str, priority: int) -> bool:
    """Change the priority of a waiting request; False where it does not wait."""
    changed = connection.execute(
        queue_table.update().where(queue_table.c.holder == holder).values(priority=priority)
    )
    return changed.rowcount > 0
