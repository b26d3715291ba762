"""How DBOS is set up and everything that touches its private parts: what an upgrade can break.

DBOS pickles by default, and a row says itself how it is to be read: configuring another
serializer alone would leave the door open. Importing this module closes it, both ways.
"""

import json
import logging
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, NoReturn

import sqlalchemy as sa
from dbos import DBOS, DBOSClient, DBOSConfig, Serializer, StepReservation
from dbos._logger import dbos_logger
from dbos._serialization import DefaultSerializer

from fairlead.kernel.db import Database
from fairlead.kernel.errors import FairleadError
from fairlead.kernel.settings import RunSettings

# Runs begun by one release are finished by the next: change what a workflow does, in which
# order, only behind `patched("name")`.
APPLICATION_VERSION = "1"
APPLICATION_NAME = "fairlead"
WORKFLOW = "fairlead.run"
OPEN_QUEUE = "fairlead-open"  # unlimited: runs that wait for people cost nothing and block nobody
EXCLUSIVE_QUEUE = "fairlead-exclusive"  # one at a time per partition, on all workers together
THREADS = 64
SERIALIZER = "fairlead_json"


class PickleRefused(FairleadError):
    """A stored record claims to be a pickle; pickles run code and are never read."""

    code, status, retryable = "run.pickle_refused", 500, False


def _refuse(_self: Any, _data: Any) -> NoReturn:
    raise PickleRefused


DefaultSerializer.serialize = _refuse  # type: ignore[assignment,method-assign]
DefaultSerializer.deserialize = _refuse  # type: ignore[assignment,method-assign]


class RecordedError(Exception):
    """An exception as it was recorded: its class name, never its message."""


class JsonSerializer(Serializer):
    """Records as JSON. Exceptions keep their class name only; ours travel inside results."""

    def name(self) -> str:
        """What rows written by this serializer say."""
        return SERIALIZER

    def serialize(self, data: Any) -> str:
        """JSON text. Raises TypeError or ValueError where JSON cannot hold it."""
        if isinstance(data, BaseException):
            return json.dumps({"fairlead_error": type(data).__name__})
        return json.dumps(data, allow_nan=False, separators=(",", ":"))

    def deserialize(self, serialized_data: str) -> Any:
        """The value."""
        value = json.loads(serialized_data)
        if isinstance(value, dict) and value.keys() == {"fairlead_error"}:
            return RecordedError(str(value["fairlead_error"]))
        return value


def url_of(database: Database) -> str:
    """The URL as DBOS takes it, password included."""
    name = "sqlite" if database.is_sqlite else "postgresql"
    return database.url.set(drivername=name).render_as_string(hide_password=False)


def prepare(database: Database) -> None:
    """Create or upgrade the engine's own tables; safe from several processes at once."""
    quieten()
    DBOS.migrate(url_of(database))


def open_client(database: Database) -> DBOSClient:
    """What puts runs and messages into the engine's tables, from any process, on our connections."""
    return DBOSClient(
        system_database_engine=database.engine,
        serializer=JsonSerializer(),
        application_name=APPLICATION_NAME,
        lazy=True,
        retry_connection_errors=False,
    )


def configuration(database: Database, settings: RunSettings, executor_id: str) -> DBOSConfig:
    """How a worker's engine is set up. Nothing that needs or contacts the vendor is ever set."""
    return {
        "name": APPLICATION_NAME,
        "system_database_url": url_of(database),
        "executor_id": executor_id,
        "application_version": APPLICATION_VERSION,
        "serializer": JsonSerializer(),
        "notification_listener_polling_interval_sec": settings.poll_s,
        "max_executor_threads": THREADS,
        "log_level": "WARNING",
        "enable_otlp": False,
        "run_migrations": False,  # `prepare` did
    }


def quieten(level: int = logging.WARNING) -> None:
    """Send the engine's log through ours, from `level` upwards."""
    dbos_logger.handlers[:] = [logging.NullHandler()]  # else it adds a console of its own
    dbos_logger.propagate = True
    dbos_logger.setLevel(level)


def launch(
    database: Database,
    settings: RunSettings,
    executor_id: str,
    execute: Callable[[str], Coroutine[Any, Any, None]],
) -> None:
    """Start the engine; `execute(run_id)` is its only workflow and runs on the caller's event loop."""
    quieten()
    DBOS(config=configuration(database, settings, executor_id))
    # Recovery counts as an attempt, and a run may wait through any number of restarts.
    DBOS.workflow(name=WORKFLOW, max_recovery_attempts=None)(execute)
    DBOS.launch()


def shut_down() -> None:
    """Stop the engine; not on the event loop, which its threads may be waiting for."""
    quieten(logging.ERROR)  # it warns of every workflow that is put down
    DBOS.destroy(destroy_registry=True)


def register_queues(client: DBOSClient, settings: RunSettings) -> None:
    """Declare both queues; before launch, so that a worker listens to them from its first moment."""
    client.register_queue(OPEN_QUEUE, polling_interval_sec=settings.poll_s)
    client.register_queue(EXCLUSIVE_QUEUE, partition_concurrency=1, polling_interval_sec=settings.poll_s)


def reserve_step() -> StepReservation:
    """The next step's place in the run's record, to be filled later."""
    return DBOS.reserve_step()


async def recorded_step(name: str, body: Callable[[], Awaitable[Any]]) -> Any:
    """What `body` returned the first time; it is not called again once recorded."""

    async def call() -> Any:  # DBOS looks whether this is a coroutine function; `body` may be a lambda
        return await body()

    return await DBOS.run_step_async({"name": name}, call)


async def receive(topic: str, timeout_s: float) -> Any:
    """The next message on `topic`, or None; the deadline is fixed when first asked, restarts included."""
    return await DBOS.recv_async(topic, timeout_seconds=timeout_s)


async def patched(name: str) -> bool:
    """Whether this run began after the change `name`: new way if so, old way if not."""
    return await DBOS.patch_async(name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """An executor that holds runs in progress."""

    executor_id: str
    application_version: str
    runs: int


def _workflows(database: Database) -> str:
    return "workflow_status" if database.is_sqlite else "dbos.workflow_status"


def owners(database: Database) -> tuple[Owner, ...]:
    """Who holds runs in progress, dead or alive."""
    statement = sa.text(
        "SELECT executor_id, application_version, count(*) AS held"  # noqa: S608
        f" FROM {_workflows(database)} WHERE status = 'PENDING' GROUP BY 1, 2"
    )
    with database.reading() as connection:
        return tuple(
            Owner(executor_id=row.executor_id, application_version=row.application_version, runs=row.held)
            for row in connection.execute(statement)
        )


def abandoned(database: Database) -> tuple[str, ...]:
    """Ids of runs that go on in our tables only: the engine ended, lost or cannot read them."""
    statement = sa.text(
        f"SELECT r.id FROM runs r LEFT JOIN {_workflows(database)} w ON w.workflow_uuid = r.id"  # noqa: S608
        " WHERE r.status IN ('queued', 'running', 'waiting')"
        " AND (w.workflow_uuid IS NULL OR w.serialization <> :ours"
        " OR w.status NOT IN ('PENDING', 'ENQUEUED', 'DELAYED'))"
    )
    with database.reading() as connection:
        return tuple(connection.execute(statement, {"ours": SERIALIZER}).scalars())


def give_up(run_id: str) -> None:
    """Take the run out of the engine's hands, its place in the queue included."""
    DBOS.cancel_workflow(run_id)


def take_over(executor_id: str) -> None:
    """Queue again what the dead executor held, where it was queued before; repeating it does no harm.

    Private in the library, yet the only way without its proprietary control plane.
    """
    DBOS._recover_pending_workflows([executor_id])
