"""Submit, watch, answer and cancel runs: what API processes use. Executes nothing."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from dbos import DBOSClient, EnqueueOptions

from fairlead.kernel.clock import utc_now
from fairlead.kernel.db import Database
from fairlead.kernel.runs import binding, store
from fairlead.kernel.runs.errors import RunFinished
from fairlead.kernel.runs.model import Event, Run, RunStatus

CANCEL_MESSAGE = {"fairlead": "cancel"}


@dataclass(frozen=True, slots=True)
class Runs:
    """Runs of one database. Whatever takes a connection is part of the caller's transaction."""

    database: Database
    client: DBOSClient

    def submit(
        self,
        connection: sa.Connection,
        operation: str,
        params: Mapping[str, Any],
        *,
        project_id: str | None,
        actor: str,
        title: str = "",
        partition: str | None = None,
        run_id: str | None = None,
        idempotency_key: str | None = None,
    ) -> Run:
        """A new run of `operation`, queued when the caller's transaction commits, gone if it rolls back.

        Runs with the same `partition` execute one after the other (pass the project's id for
        operations that change a project); without, at once. Submitting again with the same
        `idempotency_key` (within project and operation) or `run_id` gives the first run back.
        Raises RunConflict where the first one had other parameters.
        """
        now = utc_now()
        run = Run(
            id=run_id or store.new_run_id(now),
            kind=operation,
            project_id=project_id,
            actor=actor,
            title=title,
            params=store.plain(dict(params)),
            status=RunStatus.QUEUED,
            created_at=now,
            started_at=None,
            finished_at=None,
            cancel_requested_at=None,
            partition=partition,
            waiting_for=None,
            result=None,
            error=None,
        )
        key = None
        if idempotency_key is not None:
            scoped = f"{project_id}\n{operation}\n{idempotency_key}"
            key = hashlib.sha256(scoped.encode()).hexdigest()
        run, new = store.insert(connection, run, key)
        if new:
            options: EnqueueOptions = {
                "workflow_name": binding.WORKFLOW,
                "queue_name": binding.OPEN_QUEUE,
                "workflow_id": run.id,
            }
            if partition is not None:
                options |= {"queue_name": binding.EXCLUSIVE_QUEUE, "queue_partition_key": partition}
            self.client.enqueue_in_transaction(connection, options, run.id)
        return run

    def decide(
        self,
        connection: sa.Connection,
        run_id: str,
        topic: str,
        message: Mapping[str, Any],
        *,
        idempotency_key: str,
    ) -> None:
        """Send `message` to a run that waits, or will wait, for `topic`; once per `idempotency_key`.

        Delivered when the caller's transaction commits, however long no worker lives.
        Raises RunNotFound, RunFinished.
        """
        run = store.get(connection, run_id, lock=True)
        if run.status.final:
            raise RunFinished(f"Run {run_id} has already ended: {run.status}.")
        self.client.send_in_transaction(connection, run_id, dict(message), topic, idempotency_key)

    def request_cancel(self, connection: sa.Connection, run_id: str, actor: str) -> Run:
        """Ask the run to stop: at once where it is queued or waits, else at its next step that looks.

        Asking twice is one request. Raises RunNotFound, RunFinished.
        """
        run = store.request_cancel(connection, run_id, actor)
        if run.status is RunStatus.WAITING and run.waiting_for is not None:
            self.client.send_in_transaction(connection, run_id, CANCEL_MESSAGE, run.waiting_for)
        return run

    def wait(self, connection: sa.Connection, run_id: str, topic: str, deadline: datetime, key: str) -> None:
        """Record that the run waits for `topic`, and wake it at once where it was asked to stop.

        A message rather than an exception: the wait itself is then in the record, and a replay
        takes the same path.
        """
        if store.wait(connection, run_id, topic, deadline, f"{key}:begin").cancel_requested:
            self.client.send_in_transaction(connection, run_id, CANCEL_MESSAGE, topic, f"{key}:cancel")

    def append_event(
        self,
        connection: sa.Connection,
        run_id: str,
        type_: str,
        data: Mapping[str, Any],
        key: str | None = None,
    ) -> Event:
        """Add an event to the run's stream; the earlier one with the same `key` is given back instead."""
        return store.append(connection, run_id, type_, data, key)

    def get(self, run_id: str) -> Run:
        """The run. Raises RunNotFound."""
        with self.database.reading() as connection:
            return store.get(connection, run_id)

    def list(
        self,
        *,
        project_id: str | None = None,
        status: RunStatus | None = None,
        kind: str | None = None,
        before: str | None = None,
        limit: int = 50,
    ) -> tuple[Run, ...]:
        """At most `limit` (500) runs, newest first; the next page begins `before` the last one's id."""
        with self.database.reading() as connection:
            return store.page(
                connection, project_id=project_id, status=status, kind=kind, before=before, limit=limit
            )

    def events(self, run_id: str, after: int = 0, limit: int = store.PAGE) -> tuple[Event, ...]:
        """At most `limit` (500) events with numbers above `after`, in order. Raises RunNotFound."""
        with self.database.reading() as connection:
            store.get(connection, run_id)
            return store.events(connection, run_id, after, limit)

    def prune(self, finished_before: datetime, limit: int = 200) -> int:
        """Drop events and checkpoints of at most `limit` runs that ended earlier; how many it were."""
        with self.database.reading() as connection:
            run_ids = store.finished_before(connection, finished_before, limit)
        if run_ids:
            self.client.delete_workflows([*run_ids])
            with self.database.transaction() as connection:
                store.prune(connection, run_ids)
        return len(run_ids)

    def close(self) -> None:
        """Give the engine's client back; the database stays open."""
        self.client.destroy()


def open_runs(database: Database) -> Runs:
    """Runs of `database`, whose own tables are migrated; the engine's are migrated here."""
    binding.prepare(database)
    return Runs(database, binding.open_client(database))
