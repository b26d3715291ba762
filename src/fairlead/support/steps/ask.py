"""The one step of `support.ask`: an answer, or a question back."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from fairlead.kernel.errors import FairleadError
from fairlead.support.model import Customer, Intent
from fairlead.support.steps.port import Job, loaded
from fairlead.support.telling import Teller, telling

if TYPE_CHECKING:
    from fairlead.support.access import AccountAccess
    from fairlead.support.answers.model import Answer, Clarify, Piece

ABOUT_ACCOUNTS = frozenset({Intent.API_ACTIVITY, Intent.MONITORING, Intent.INVENTORY})
CALL_CHARACTERS = 500  # of a call's summary in the audit record


class AskDeadline(FairleadError):
    """The question was not answered in time."""

    code, status, retryable = "support.ask_deadline", 504, True


async def answered(job: Job) -> dict[str, Any]:
    """`{"kind": "answer" | "clarify", "data": …}` as it is told. Raises AskDeadline, RunCancelled."""
    deadline_s = job.parts.settings.ask_deadline_s
    late = AskDeadline(
        f"There was no answer within {deadline_s:g} s.", remedy="Ask about fewer regions or a shorter period."
    )
    async with telling(job.ctx, job.language) as tell:
        tell.progress(2, "preparing")
        return await job.in_time(_answer(job, tell), deadline_s, late)


async def _answer(job: Job, tell: Teller) -> dict[str, Any]:
    from fairlead.support.answers.model import Clarify

    customer = await job.customer()
    access = await _entered(job, customer)
    tell.progress(8, "preparing")
    found = await _asked(job, customer, access, tell)
    return {"kind": "clarify" if isinstance(found, Clarify) else "answer", "data": found.document()}


async def _asked(
    job: Job, customer: Customer, access: "AccountAccess | None", tell: Teller
) -> "Answer | Clarify":
    from fairlead.support.answers.model import Delta, Progress, Question, ToolCalled

    async def say(piece: "Piece") -> None:
        match piece:
            case Progress():
                tell.progress(piece.percent, piece.stage, note=piece.note or None)
            case Delta():
                tell.text(piece.text)
            case ToolCalled():  # its progress says so in words
                pass

    async def called(name: str, summary: str) -> None:
        await job.note("support.tool_called", tool=name, call=summary[:CALL_CHARACTERS])

    question = Question(
        text=str(job.details["text"]),
        language=job.language,
        now=job.ctx.run.created_at,  # "yesterday" counts from when it was asked
        ticket=job.ticket,
        timezone=customer.timezone,
        customer=customer.name,
        regions=customer.regions,
    )
    answer = await asyncio.to_thread(loaded, _answers)
    toolsets = await job.parts.toolsets()
    return await answer(question, access, toolsets, job.parts.settings, say=say, on_tool_call=called)


def _answers() -> "Callable[..., Awaitable[Answer | Clarify]]":
    """The loop; its libraries take seconds to import, which a worker's start need not wait for."""
    from fairlead.support.answers.loop import answer

    return answer


async def _entered(job: Job, customer: Customer) -> "AccountAccess | None":
    """The account; None where the question needs none, or is a general one and we are not let in."""
    from fairlead.support.understanding import understand

    # The rules' reading is what the embedded model goes by; another model may read the question otherwise.
    intent = understand(str(job.details["text"]), job.ctx.run.created_at).intent
    if job.parts.settings.model.provider == "embedded" and intent not in ABOUT_ACCOUNTS:
        return None
    try:
        return await job.open_account(customer)
    except FairleadError:
        if intent is Intent.GENERAL:
            return None
        raise
