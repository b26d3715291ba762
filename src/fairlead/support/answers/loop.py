"""One agent loop for every model: question → tools → answer, with limits, evidence and a piece at a time."""

from collections.abc import Sequence
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Literal

from pydantic_ai import Agent
from pydantic_ai.exceptions import AgentRunError, ModelAPIError, UsageLimitExceeded, UserError
from pydantic_ai.messages import PartDeltaEvent, PartStartEvent, TextPart, TextPartDelta
from pydantic_ai.models import Model
from pydantic_ai.usage import UsageLimits

from fairlead.kernel import telemetry
from fairlead.kernel.errors import FairleadError, Unavailable
from fairlead.kernel.settings import SupportSettings
from fairlead.support import general
from fairlead.support.answers import embedded, phrases, plans, remote
from fairlead.support.answers.evidence import of_calls
from fairlead.support.answers.model import (
    Access,
    Answer,
    Clarify,
    Delta,
    Evidence,
    OnToolCall,
    Progress,
    Question,
    Say,
    ToolCalled,
)
from fairlead.support.answers.phrases import say as words
from fairlead.support.answers.pool import Toolsets
from fairlead.support.answers.toolset import AccountTools
from fairlead.support.model import Intent, Period, Understanding
from fairlead.support.understanding import understand

# Of one answer. The embedded model needs five requests at most: four pages, and the text.
EMBEDDED_LIMITS = UsageLimits(request_limit=8, tool_calls_limit=40)
REMOTE_LIMITS = UsageLimits(
    request_limit=10, tool_calls_limit=16, input_tokens_limit=200_000, output_tokens_limit=8_000
)


class ModelUnavailable(Unavailable):
    """The language model did not answer."""

    code, status, retryable = "support.model_unavailable", 503, True


class AnswerLimitReached(FairleadError):
    """The language model used up what one answer may cost without coming to an end."""

    code, status, retryable = "support.answer_limit", 502, False


async def answer(
    question: Question,
    account: Access | None,
    tools: Toolsets,
    settings: SupportSettings,
    *,
    say: Say,
    on_tool_call: OnToolCall | None = None,
) -> Answer | Clarify:
    """What AWS says about `question` in `account` (None: only general questions can be answered).

    `say` gets progress, tool calls and the text piece by piece; `on_tool_call` is awaited before each call,
    and a call whose hook raises is not made. Raises QuestionTooLong, QuestionUnreadable, ToolServersBusy,
    ModelUnavailable, AnswerLimitReached, SettingsInvalid, and what `account` raises once closed.
    """
    told = _Told(question, say, on_tool_call)
    understood = understand(question.text, plans.local_now(question))
    await told.progress(10, "preparing", words("understanding", question.language))
    is_remote = settings.model.provider != "embedded"
    if back := _question_back(question, understood, is_remote=is_remote):
        return back
    if job := _job(question, understood):
        return await _said(told, job)
    if is_remote:
        return await _remote(question, account, tools, settings, understood, told)
    if understood.intent is Intent.GENERAL:
        return await _said(told, _general(question))
    if account is None:
        text = words("no_account", question.language)
        return await _said(told, Answer(text=text, evidence=Evidence(), model=embedded.NAME))
    return await _embedded(question, account, tools, understood, told)


# Without tools ------------------------------------------------------------------------------------


def _question_back(question: Question, understood: Understanding, *, is_remote: bool) -> Clarify | None:
    region = understood.slots.region
    if region and region not in plans.KNOWN_REGIONS:
        choices = tuple(question.regions) or plans.DEFAULT_REGIONS
        return Clarify(question=words("which_region", question.language, what=region), choices=choices)
    # A language model asks for itself what it needs, except where a job is to be started.
    if understood.clarify and not (is_remote and understood.intent not in _JOBS):
        return Clarify(
            question=understood.clarify,
            choices=phrases.example_questions(question.language) if understood.confidence < 0.35 else (),
        )
    return None


_JOBS: dict[Intent, Literal["screen", "report"]] = {
    Intent.SCREENING: "screen",
    Intent.MONTHLY_REPORT: "report",
}


def _job(question: Question, understood: Understanding) -> Answer | None:
    """The answer to what is a job of its own: which one to start."""
    job = _JOBS.get(understood.intent)
    if job is None:
        return None
    month = _month(question, understood.slots.period) if job == "report" else None
    return Answer(
        text=words(job, question.language, what=month),
        evidence=Evidence(period=understood.slots.period),
        model=embedded.NAME,
        suggests=job,
        month=month,
    )


def _month(question: Question, period: Period | None) -> str:
    """The month that is asked for; the last whole one where none is."""
    if period is not None:
        return f"{period.start:%Y-%m}"
    return f"{plans.local_now(question).replace(day=1) - timedelta(days=1):%Y-%m}"


def _general(question: Question) -> Answer:
    found = general.answer(question.text)
    if found.text is None or found.entry is None:
        return Answer(text=found.reason or "", evidence=Evidence(), model=embedded.NAME)
    source = words("source", question.language, what=found.entry.source)
    text = f"{found.text}\n\n{source}\n{words('general', question.language)}"
    return Answer(text=text, evidence=Evidence(sources=(found.entry.source,)), model=embedded.NAME)


async def _said(told: "_Told", ready: Answer) -> Answer:
    """`ready`, told through the same loop as everything else."""
    agent = Agent(embedded.fixed(ready.text), output_type=str)
    await _run(agent, "", EMBEDDED_LIMITS, told)
    return ready


# With tools ---------------------------------------------------------------------------------------


async def _embedded(
    question: Question, account: Access, tools: Toolsets, understood: Understanding, told: "_Told"
) -> Answer | Clarify:
    made = plans.plan(question, understood)
    if made is None:
        return Clarify(
            question=words("which_things", question.language),
            choices=phrases.example_things(question.language),
        )
    async with tools.of(account) as servers:
        toolset = AccountTools(servers, told.call)
        rules = embedded.Rules(question, account.account, made, understood.slots, toolset.made)
        agent = Agent(rules.model(), output_type=str, toolsets=[toolset])
        text = await _run(agent, question.text, EMBEDDED_LIMITS, told)
    return Answer(text=text, evidence=rules.evidence, model=embedded.NAME)


async def _remote(
    question: Question,
    account: Access | None,
    tools: Toolsets,
    settings: SupportSettings,
    understood: Understanding,
    told: "_Told",
) -> Answer:
    name, model = remote.model_of(settings.model)
    whose = account.account if account else None
    asked = remote.prompt(question, whose, understood)
    async with AsyncExitStack() as stack:
        offered = []
        if account:
            servers = await stack.enter_async_context(tools.of(account))
            offered.append(AccountTools(servers, told.call))
        text = await _run(_agent(model, question, offered), asked, REMOTE_LIMITS, told)
    made = [call for toolset in offered for call in toolset.made.values()]
    evidence = of_calls(whose, made, understood.slots.period, question)
    return Answer(text=text, evidence=evidence, model=name)


def _agent(model: Model, question: Question, toolsets: Sequence[AccountTools]) -> Agent[None, str]:
    return Agent(
        model,
        output_type=str,
        instructions=remote.instructions(question),
        toolsets=list(toolsets),
        model_settings=remote.SETTINGS,
        retries=1,
    )


async def _run(agent: Agent[None, str], prompt: str, limits: UsageLimits, told: "_Told") -> str:
    """The text, after it was told piece by piece. Raises ModelUnavailable, AnswerLimitReached."""
    said: list[str] = []
    try:
        async with agent.run_stream_events(prompt, usage_limits=limits) as events:
            async for event in events:
                if isinstance(event, PartStartEvent) and isinstance(event.part, TextPart):
                    # What a model says before it calls a tool belongs to the text as well.
                    said += await told.text(("\n\n" if said else "") + event.part.content)
                elif isinstance(event, PartDeltaEvent) and isinstance(event.delta, TextPartDelta):
                    said += await told.text(event.delta.content_delta)
    except UsageLimitExceeded as error:
        raise AnswerLimitReached(
            f"The answer was stopped: {error}", remedy="Ask for less at a time, or set another model."
        ) from error
    except ModelAPIError as error:
        telemetry.log.warning("support.model_failed", error=type(error).__name__)
        raise ModelUnavailable(
            f"The language model did not answer ({type(error).__name__}).",
            remedy="Try again; see support.model.* in the settings if this stays.",
        ) from error
    except (AgentRunError, UserError) as error:
        telemetry.log.warning("support.model_failed", error=type(error).__name__)
        raise ModelUnavailable(
            f"The language model's answer cannot be used ({type(error).__name__}).",
            remedy="Try again, or set another model.",
        ) from error
    return "".join(said)


class _Told:
    """What was told so far: percentages that never run backwards, and pieces in their order."""

    def __init__(self, question: Question, say: Say, on_tool_call: OnToolCall | None) -> None:
        self._question, self._say, self._hook = question, say, on_tool_call
        self._percent = self._calls = 0
        self._writing = False

    async def progress(
        self, percent: int, stage: Literal["preparing", "collecting", "rendering"], note: str
    ) -> None:
        self._percent = max(self._percent, percent)
        await self._say(Progress(percent=self._percent, stage=stage, note=note))

    async def call(self, name: str, summary: str, noted: str) -> None:
        """Before a tool is called."""
        if self._hook:
            await self._hook(name, noted)
        self._calls += 1
        await self._say(ToolCalled(name=name, summary=summary))
        # Nobody knows how many calls a model will make: each takes a part of what is left.
        percent = round(85 - 70 * 0.8**self._calls)
        await self.progress(percent, "collecting", words("reading", self._question.language, what=summary))

    async def text(self, piece: str) -> list[str]:
        """The next piece, told and given back."""
        if not piece:
            return []
        if not self._writing:
            self._writing = True
            await self.progress(90, "rendering", words("writing", self._question.language))
        await self._say(Delta(text=piece))
        return [piece]
