"""The embedded model: deterministic rules behind the interface of any language model. It writes no prose.

Which calls it makes and what it says follow from the plan and from what the tools answered, and no more.
"""

import json
from collections.abc import AsyncIterator, Callable, Mapping

from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, FunctionModel

from fairlead.support.answers.model import Evidence, Question
from fairlead.support.answers.plans import Call, Done, Plan, following
from fairlead.support.answers.rendering import rendered
from fairlead.support.answers.toolset import UNANSWERED, Made
from fairlead.support.model import Slots

NAME = "embedded"


class Rules:
    """One answer on its way."""

    def __init__(
        self, question: Question, account: str, plan: Plan, slots: Slots, made: Mapping[str, Made]
    ) -> None:
        """`made` is filled by whoever makes the calls."""
        self.evidence = Evidence(account=account)
        self._question, self._account, self._plan, self._slots = question, account, plan, slots
        self._made = made
        self._asked: dict[str, Call] = {}

    def model(self) -> FunctionModel:
        """The model of this one answer."""
        return FunctionModel(self._at_once, stream_function=self._streamed, model_name=NAME)

    def _next(self) -> tuple[dict[str, Call], str]:
        """The calls that come next, else the text."""
        done = [
            Done(call=call, result=self._made[number].result if number in self._made else UNANSWERED)
            for number, call in self._asked.items()
        ]
        upcoming = following(self._plan, done, self._slots) if done else self._plan.first
        if upcoming:
            calls = {f"call-{len(self._asked) + number}": call for number, call in enumerate(upcoming, 1)}
            self._asked |= calls
            return calls, ""
        text, self.evidence = rendered(self._question, self._account, self._plan, done, self._slots)
        return {}, text

    async def _streamed(
        self, messages: list[ModelMessage], info: AgentInfo
    ) -> AsyncIterator[str | dict[int, DeltaToolCall]]:
        del messages, info
        calls, text = self._next()
        for index, (number, call) in enumerate(calls.items()):
            yield {
                index: DeltaToolCall(
                    name=call.tool, json_args=json.dumps(call.arguments), tool_call_id=number
                )
            }
        for line in text.splitlines(keepends=True):
            yield line

    async def _at_once(self, messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        del messages, info
        calls, text = self._next()
        parts: list[ToolCallPart | TextPart] = [
            ToolCallPart(call.tool, call.arguments, tool_call_id=number) for number, call in calls.items()
        ]
        return ModelResponse(parts=parts or [TextPart(text)])


def fixed(text: str) -> FunctionModel:
    """A model that says `text`, line by line."""

    async def streamed(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[str]:
        del messages, info
        for line in text.splitlines(keepends=True):
            yield line

    stream: Callable[[list[ModelMessage], AgentInfo], AsyncIterator[str]] = streamed
    return FunctionModel(stream_function=stream, model_name=NAME)
