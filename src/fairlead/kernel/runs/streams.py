"""A run's events as they happen, from any number on, and their form as server-sent events."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass

from fairlead.kernel.clock import iso
from fairlead.kernel.db import Database
from fairlead.kernel.runs import store
from fairlead.kernel.runs.model import FINAL_EVENTS, Event

POLL_S = 0.15
HEARTBEAT_S = 15.0  # proxies close streams that are silent for longer


async def follow(
    database: Database, run_id: str, after: int = 0, *, poll_s: float = POLL_S
) -> AsyncIterator[Event]:
    """Every event above `after`, in order, without gaps; ends after the run's last one.

    Raises RunNotFound. A run whose events were pruned ends at once.
    """
    while True:
        events, final = await asyncio.to_thread(_read, database, run_id, after)
        for event in events:
            yield event
            after = event.seq
            if event.type in FINAL_EVENTS:
                return
        if final and not events:
            return
        if not events:
            await asyncio.sleep(poll_s)


def _read(database: Database, run_id: str, after: int) -> tuple[tuple[Event, ...], bool]:
    with database.reading() as connection:
        final = store.get(connection, run_id).status.final
        # Read after the status: a final run's events are all there.
        return store.events(connection, run_id, after, store.PAGE), final


@dataclass(frozen=True, slots=True)
class News:
    """What several runs have to tell: `events` by run, in order; `ended` runs will tell no more."""

    events: tuple[Event, ...]
    ended: frozenset[str]


def news(database: Database, after: Mapping[str, int], limit: int = 4 * store.PAGE) -> News:
    """At most `limit` events of many runs at once, each above the run's number in `after`.

    One query while nothing happened, however many runs are followed. A run that is not there, or whose
    events were pruned, has ended.
    """
    with database.reading() as connection:
        heads = store.heads(connection, after.keys())
        behind = {run_id: after[run_id] for run_id, head in heads.items() if head.last_seq > after[run_id]}
        events = store.events_of(connection, behind, limit) if behind else ()
    reached = dict(after) | {event.run_id: event.seq for event in events}
    ended = {run_id for run_id in after if run_id not in heads}
    ended |= {run_id for run_id, head in heads.items() if head.final and reached[run_id] >= head.last_seq}
    return News(events, frozenset(ended))


def sse(event: Event) -> str:
    """One server-sent event; its id is the number that a reconnecting client names."""
    data = {
        "run_id": event.run_id,
        "seq": event.seq,
        "at": iso(event.at),
        "type": event.type,
        "data": event.data,
    }
    text = json.dumps(data, separators=(",", ":"), ensure_ascii=False)
    return f"id: {event.seq}\nevent: {event.type}\ndata: {text}\n\n"


async def sse_stream(
    database: Database,
    run_id: str,
    after: int = 0,
    *,
    poll_s: float = POLL_S,
    heartbeat_s: float = HEARTBEAT_S,
) -> AsyncIterator[str]:
    """`follow` as server-sent events, with a comment whenever nothing happened for `heartbeat_s`."""
    events = follow(database, run_id, after, poll_s=poll_s)
    upcoming = asyncio.ensure_future(anext(events, None))
    try:
        while True:
            done, _ = await asyncio.wait({upcoming}, timeout=heartbeat_s)
            if not done:
                yield ": nothing new\n\n"
                continue
            event = upcoming.result()
            if event is None:
                return
            yield sse(event)
            upcoming = asyncio.ensure_future(anext(events, None))
    finally:
        upcoming.cancel()
        await asyncio.gather(upcoming, return_exceptions=True)
