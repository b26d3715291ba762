"""What happened on a ticket, read from the database: for who comes, comes back, or missed something."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from fairlead.kernel.db import Database
from fairlead.kernel.errors import NotFound
from fairlead.kernel.runs import Event, News, news
from fairlead.kernel.runs import store as run_store
from fairlead.support import jobs
from fairlead.support.jobs import Job
from fairlead.support.messages import asked
from fairlead.support.model import Agent

JOBS_MAX = 20  # of a ticket's history
EVENTS_MAX = 2000  # of it; the newest job and those at work are told whole, however long


class JobNotFound(NotFound):
    """This ticket has no such job."""

    code = "support.job_not_found"


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """One job of a ticket, and which of its events somebody lacks."""

    job: str
    after: int  # the last number that was seen; never above `last_seq`
    last_seq: int


def stories(
    connection: sa.Connection,
    agent: Agent,
    ticket: str,
    since: Mapping[str, int],
    hidden: Collection[str] = (),
) -> tuple[Story, ...]:
    """The ticket's newest jobs and those in `since` that are its own, oldest first.

    A job of another ticket or installation, or a `hidden` one, is left out, as if there were none.
    """
    newest = jobs.of_ticket(connection, agent.project_id, agent.installation, ticket, limit=JOBS_MAX)
    listed = {job.run_id: job for job in newest}
    for job in jobs.find_all(connection, [run_id for run_id in since if run_id not in listed]):
        if belongs(job, agent, ticket):
            listed[job.run_id] = job
    heads = run_store.heads(connection, listed.keys() - set(hidden))
    found: list[Story] = []
    left = EVENTS_MAX
    for run_id in sorted(heads, key=lambda run_id: (listed[run_id].created_at, run_id), reverse=True):
        last_seq = heads[run_id].last_seq
        after = min(since.get(run_id, 0), last_seq)
        left -= last_seq - after
        if left >= 0 or run_id in since or not heads[run_id].final or not found:
            found.append(Story(job=run_id, after=after, last_seq=last_seq))
    return tuple(reversed(found))


def hidden(
    connection: sa.Connection, agent: Agent, ticket: str, shown: Collection[str] | None, seen: Collection[str]
) -> frozenset[str]:
    """Jobs of the ticket that are about another account than those it may show: it was about that once.

    `shown` None: nobody could say whose ticket it is; then all but those that were `seen`.
    """
    others = jobs.of_other_accounts(
        connection, agent.project_id, agent.installation, ticket, () if shown is None else shown
    )
    return others.difference(seen) if shown is None else others


def belongs(job: Job | None, agent: Agent, ticket: str) -> bool:
    """Whether `job` is one of the agent's ticket."""
    mine = (agent.project_id, agent.installation, ticket)
    return job is not None and (job.project_id, job.installation, job.ticket) == mine


def job_of(
    connection: sa.Connection, agent: Agent, ticket: str, run_id: str, hidden: Collection[str] = ()
) -> Job:
    """A job of the agent's ticket. Raises JobNotFound, the same for one of somebody else's."""
    job = jobs.find(connection, run_id)
    if job is None or run_id in hidden or not belongs(job, agent, ticket):
        raise JobNotFound(remedy="Reload the ticket to see its jobs.")
    return job


@dataclass(frozen=True, slots=True)
class Tidings:
    """News of several jobs, and what was asked in those that begin among them."""

    news: News
    asked: Mapping[str, Mapping[str, Any]]


def tidings(database: Database, after: Mapping[str, int]) -> Tidings:
    """What happened in these jobs above their numbers."""
    found = news(database, after)
    begun = {event.run_id for event in found.events if event.seq == 1}
    if not begun:
        return Tidings(found, {})
    with database.reading() as connection:
        return Tidings(found, _openings(connection, begun))


@dataclass(frozen=True, slots=True)
class Page:
    """Events of one job, in order; `asked` where its first is among them."""

    events: tuple[Event, ...]
    asked: Mapping[str, Any]


def events_after(database: Database, job: str, after: int, limit: int) -> Page:
    """At most `limit` events of one job above `after`."""
    with database.reading() as connection:
        events = run_store.events(connection, job, after, limit)
        return Page(events, _openings(connection, [job])[job] if events and events[0].seq == 1 else {})


def _openings(connection: sa.Connection, run_ids: Collection[str]) -> dict[str, Mapping[str, Any]]:
    kinds = {job.run_id: job.kind for job in jobs.find_all(connection, run_ids)}
    table = run_store.runs
    query = sa.select(table.c.id, table.c.params).where(table.c.id.in_(list(run_ids)))
    return {run_id: asked(params, kinds[run_id]) for run_id, params in connection.execute(query)}
