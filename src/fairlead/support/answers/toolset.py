"""The tools of one answer, as the agent loop sees them: ours by name, of one account, audited, recorded.

The account is fixed before any text is read; no argument of any tool can name another.
"""

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from pydantic_ai.tools import RunContext, ToolDefinition
from pydantic_ai.toolsets import AbstractToolset
from pydantic_ai.toolsets.abstract import ToolsetTool
from pydantic_core import SchemaValidator, core_schema

from fairlead.kernel import telemetry
from fairlead.kernel.errors import FairleadError
from fairlead.support.answers.pool import ToolFailed
from fairlead.support.answers.tools import (
    TOOLS,
    Cause,
    Failure,
    Result,
    failure_of,
    noted,
    prepared,
    read,
    summary,
)

_ANY = SchemaValidator(core_schema.dict_schema(keys_schema=core_schema.str_schema()))
UNANSWERED = Result(failure=Failure(cause=Cause.UNREACHABLE, code="support.tool_unanswered"))
MODEL_CHARACTERS = 30_000  # of one answer that a model reads


class Servers(Protocol):
    """The servers of one account; `pool.Group` is them."""

    async def call(self, server: str, tool: str, arguments: Mapping[str, Any]) -> Any:
        """What the tool answers. Raises ToolFailed, and other errors of the pool."""


Announce = Callable[[str, str, str], Awaitable[None]]  # name, summary, the same to keep; before the call


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A call that was made, and what came of it."""

    name: str
    arguments: Mapping[str, Any]
    result: Result


class AccountTools(AbstractToolset[None]):
    """The tools of one answer about one account."""

    def __init__(self, servers: Servers, announce: Announce) -> None:
        """`servers` are those of the account; `announce` is awaited before each call, and may stop it."""
        self.made: dict[str, Made] = {}  # by id of the call, in the order of asking
        self._servers, self._announce = servers, announce

    @property
    def id(self) -> str | None:
        """One answer has one of these."""
        return "account"

    async def get_tools(self, ctx: RunContext[None]) -> dict[str, ToolsetTool[None]]:
        """Definitions of ours; no server is asked what it offers."""
        del ctx
        return {name: self._offered(name) for name in TOOLS}

    def _offered(self, name: str) -> ToolsetTool[None]:
        tool = TOOLS[name]
        definition = ToolDefinition(
            name=name,
            description=tool.description,
            parameters_json_schema=tool.arguments.model_json_schema(),
        )
        return ToolsetTool(toolset=self, tool_def=definition, max_retries=1, args_validator=_ANY)

    async def call_tool(
        self, name: str, tool_args: dict[str, Any], ctx: RunContext[None], tool: ToolsetTool[None]
    ) -> Any:
        """What the tool says, for the model; the whole of it is in `made`."""
        del tool
        number = ctx.tool_call_id or str(len(self.made))
        self.made[number] = Made(name=name, arguments=tool_args, result=UNANSWERED)
        result = await self._called(name, tool_args)
        self.made[number] = Made(name=name, arguments=tool_args, result=result)
        outcome = result.failure.cause.value if result.failure else "ok"
        telemetry.count("fairlead_support_tool_calls_total", labels={"tool": name, "outcome": outcome})
        return _shortened(result.document())

    async def _called(self, name: str, given: dict[str, Any]) -> Result:
        try:
            tool, sent = prepared(name, given)
        except FairleadError as error:
            return Result(failure=Failure(cause=Cause.REFUSED, code=error.code, call=error.message[:300]))
        await self._announce(name, summary(name, given), noted(name, given))
        try:
            answer = await self._servers.call(tool.server, name, sent)
        except ToolFailed as error:
            return Result(failure=failure_of(error.message))
        except FairleadError as error:  # its server does not start, or died: the answer says so
            return Result(failure=Failure(cause=Cause.UNREACHABLE, code=error.code, call=name))
        return read(name, given, answer)


def _shortened(document: dict[str, Any]) -> Any:
    """`document` as a model reads it: counts first, cut where it is too long."""
    text = json.dumps(document, ensure_ascii=False, default=str)
    if len(text) <= MODEL_CHARACTERS:
        return document
    kept = {name: document[name] for name in ("count", "more") if name in document}
    return {**kept, "cut": True, "beginning": text[:MODEL_CHARACTERS]}
