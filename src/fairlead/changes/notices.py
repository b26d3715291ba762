"""Who is told what about a plan: which moves are announced, in which words, by a run of their own.

The run is submitted in the transaction that moves the plan, so a move is announced exactly where it is made,
and a receiver that is slow or away delays nothing else. It is posted at least once, under one delivery id.
"""

import asyncio
from typing import Any, Final

import sqlalchemy as sa

from fairlead.changes import store, webhook
from fairlead.changes.model import Action, PlanRecord, PlanStatus
from fairlead.changes.parts import ChangesParts, plan_of
from fairlead.kernel.clock import iso
from fairlead.kernel.errors import InvalidInput
from fairlead.kernel.projects import store as projects
from fairlead.kernel.projects.model import Notifications, Project
from fairlead.kernel.runs import RunContext, Runs

NOTIFY: Final = "changes.notify"
_SAID: Final = {
    PlanStatus.NO_CHANGES: "finds nothing to change",
    PlanStatus.PENDING: "waits for approval",
    PlanStatus.APPROVED: "was approved",
    PlanStatus.REJECTED: "was rejected",
    PlanStatus.EXPIRED: "expired: nobody approved it in time",
    PlanStatus.CANCELLED: "was cancelled",
    PlanStatus.APPLYING: "is being applied",
    PlanStatus.APPLIED: "was applied",
    PlanStatus.PARTIAL: "was applied only in part",
    PlanStatus.STALE: "is stale: the world has moved since it was made",
    PlanStatus.FAILED: "failed",
}
EVENTS: Final = {f"plan.{status.value}": said for status, said in _SAID.items()}
"""Every event that a project can be told of, with what the text says of it."""


class NotificationUnknown(InvalidInput):
    """There is no event of this name to be told of."""

    code = "changes.notification_unknown"


def check(settings: Notifications) -> None:
    """Raise NotificationUnknown or WebhookAddress where these settings can never work."""
    unknown = sorted(set(settings.events) - set(EVENTS))
    if unknown:
        raise NotificationUnknown(
            f"settings.notifications.events: there is no event '{unknown[0]}'.",
            remedy=f"Choose among {', '.join(EVENTS)}, or give none for all.",
            unknown=unknown,
        )
    if settings.webhook_url is not None:
        webhook.check_address(settings.webhook_url)


def announce(runs: Runs, conn: sa.Connection, project_id: str, number: int) -> None:
    """Submit the run that tells of where the plan has just moved, if the project wants to know."""
    plan, project = store.get_plan(conn, project_id, number), projects.find(conn, project_id)
    wanted, event = project.settings.notifications, f"plan.{plan.status.value}"
    if wanted.webhook_url is None or event not in EVENTS or (wanted.events and event not in wanted.events):
        return
    runs.submit(
        conn,
        NOTIFY,
        {"number": number, "event": event},
        project_id=project_id,
        actor="fairlead",
        title=f"Tell that plan {number} {EVENTS[event]}"[:200],
        idempotency_key=f"{project.uid}#{number}:{event}",
    )


async def notify(parts: ChangesParts, ctx: RunContext, number: int, event: str) -> dict[str, Any]:
    """Post what happened to where the project's settings say now."""
    plan, project = await plan_of(parts, ctx, number)
    address = project.settings.notifications.webhook_url
    if address is None:
        return {"posted": False, "reason": "the project names no webhook any more"}
    body = await asyncio.to_thread(body_of, ctx.run_id, event, plan, project)
    status = await webhook.post(address, body, delivery=ctx.run_id)
    return {"posted": True, "event": event, "host": webhook.host_of(address), "answered": status}


def body_of(delivery: str, event: str, plan: PlanRecord, project: Project) -> dict[str, Any]:
    """What is posted: counts and names, never a value of a property or a parameter."""
    changes = (plan.document or {}).get("changes", ())
    found = {action.value: sum(change["action"] == action for change in changes) for action in Action}
    counts = {action: count for action, count in found.items() if count}
    return {
        "id": delivery,
        "event": event,
        "text": _text(event, plan, project, counts),
        "project": {"id": project.id, "name": project.name},
        "plan": {
            "number": plan.number,
            "status": plan.status.value,
            "author": plan.author,
            "description": plan.description,
            "risk": plan.risk.value if plan.risk else None,
            "digest": plan.digest,
            "changes": counts,
            "deadline_at": iso(plan.deadline_at),
            "decided_by": plan.decided_by,
            "comment": plan.comment,
            "state_version": plan.state_version,
            "problem": plan.problem["code"] if plan.problem else None,
        },
    }


def _text(event: str, plan: PlanRecord, project: Project, counts: dict[str, int]) -> str:
    """One line for people: `Shop: plan 7 of ann waits for approval (2 create; risk LOW): new queue`."""
    facts = [", ".join(f"{count} {action}" for action, count in counts.items())]
    facts.append(f"risk {plan.risk.value}" if plan.risk and counts else "")
    about = "; ".join(filter(None, facts))
    line = f"{project.name}: plan {plan.number} of {plan.author} {EVENTS[event]}"
    line += f" ({about})" if about else ""
    line += f": {plan.description}" if plan.description else ""
    # Chat services take <…> for mentions and links: what people write must not call everybody.
    return line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
