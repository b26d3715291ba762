"""Group deliveries into fractions, persisted; a fraction that lacks deliveries waits for them."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from fairlead.cases import deliveries, store
from fairlead.cases.model import Fraction, FractionState
from fairlead.cases.steps.port import Step, Work
from fairlead.cases.steps.validate import SOURCE
from fairlead.kernel.clock import utc_now


def decide(
    found: Sequence[Fraction], known: dict[str, datetime], now: datetime, wait: timedelta
) -> tuple[list[dict[str, Any]], datetime | None]:
    """Rows to store, and until when to wait (None: go on).

    A fraction that lacks beams is pending until `wait` after we first saw it (`known`: by first delivery):
    the treatment room's clock decides what belongs together, ours how long we wait, so that a wrong clock
    there neither closes a fraction early nor keeps it open for ever. A complete one makes waiting needless.
    """
    rows: list[dict[str, Any]] = []
    deadlines = []
    for fraction in found:
        members = [*fraction.reference, *fraction.duplicates]
        first = min(members, key=lambda one: (one.delivered_at, one.folder)).label
        opened = known.get(first, now)
        state = fraction.state
        if state is FractionState.PARTIAL and now < opened + wait:
            state = FractionState.PENDING
            deadlines.append(opened + wait)
        rows.append(
            {
                "state": state.value,
                "opened_at": opened,
                "deliveries": [
                    {"folder": d.label, "beam": d.beam_number, "reference": d in fraction.reference}
                    for d in sorted(members, key=lambda one: (one.delivered_at, one.folder))
                ],
                "missing": list(fraction.missing_beams),
            }
        )
    if any(row["state"] == FractionState.COMPLETE for row in rows):
        return rows, None
    return rows, max(deadlines, default=None)


async def run(work: Work) -> dict[str, Any]:
    """Fractions into the database; whether to go on, or until when to wait."""
    examined = await work.calculate(work.parts.readings.examined, work.folder / SOURCE, work.parts.machine)
    beams = [beam.number for beam in examined.plan.beams] if examined.plan else []
    found = deliveries.group(examined.deliveries, beams)
    wait = timedelta(seconds=work.parts.settings.fraction_wait_s)

    def act(conn: sa.Connection) -> datetime | None:
        known = {
            one.deliveries[0]["folder"]: one.opened_at
            for one in store.fractions_of(conn, work.case_id)
            if one.deliveries
        }
        now = utc_now()
        rows, until = decide(found, known, now, wait)
        store.write_fractions(conn, work.case_id, rows)
        status = store.CaseStatus.WAITING if until else store.CaseStatus.RUNNING
        store.update_case(conn, work.case_id, now, status=status)
        return until

    case = await work.case()
    data = {"fractions": len(found), "deliveries": len(examined.deliveries)}
    until = await work.change("case.grouped", data, key=f"grouped:{case.content}", act=act)
    return {"wait_until": until.isoformat() if until else None}


GROUP = Step(
    name="group",
    run=run,
    deadline_s=600,
    until=0.08,
    reattach="groups again; the time at which a fraction was first seen stays",
)
