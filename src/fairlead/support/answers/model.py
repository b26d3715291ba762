"""What a question is, and what comes back: frozen data that knows no SDK.

`document()` gives what stands in a job's events: docs/reference/zendesk-app.md, "Messages".
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, Protocol

from fairlead.support.model import Language, Period


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What somebody asks. The text is data: it chooses neither account nor tools nor permissions."""

    text: str
    language: Language  # of the answer
    now: datetime  # aware
    ticket: str | None = None
    timezone: str = "Asia/Seoul"  # IANA; the customer's
    customer: str = ""  # name of the customer, to show
    regions: tuple[str, ...] = ()  # the customer's; the first is where to look unless the question names one


class Access(Protocol):
    """The account that a question is about; `support.access.AccountAccess` is one."""

    @property
    def account(self) -> str:
        """Twelve digits."""

    def environment(self) -> dict[str, str]:
        """A child program's environment: it leads to this account's credentials, and to no others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What an answer stands on."""

    account: str | None = None
    region: str | None = None  # several: "ap-northeast-2, us-east-1"
    period: Period | None = None
    count: int | None = None  # of what was found
    truncated: bool = False  # there is more than was read or shown
    calls: tuple[str, ...] = ()  # made to the account, arguments summed up without secrets
    unread: tuple[str, ...] = ()  # what could not be read, and why
    sources: tuple[str, ...] = ()  # https addresses, of general answers

    def document(self) -> dict[str, Any]:
        """As JSON; what is unknown is left out."""
        listed = {"calls": self.calls, "unread": self.unread, "sources": self.sources}
        found: dict[str, Any] = {name: list(value) for name, value in listed.items() if value}
        plain = {"account": self.account, "region": self.region, "count": self.count}
        found |= {name: value for name, value in plain.items() if value is not None}
        if self.period:
            found["period"] = self.period.document()
        return {**found, "truncated": self.truncated}


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The whole text, and what it stands on."""

    text: str
    evidence: Evidence
    model: str  # "embedded", "bedrock:NAME" or "openai:NAME"
    suggests: Literal["screen", "report"] | None = None  # the job that does what was asked
    month: str | None = None  # "2026-10", with suggests == "report"

    def document(self) -> dict[str, Any]:
        """As JSON."""
        found: dict[str, Any] = {"text": self.text, "evidence": self.evidence.document(), "model": self.model}
        if self.suggests:
            found["suggests"] = {"job": self.suggests, **({"month": self.month} if self.month else {})}
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Clarify:
    """A question back, where guessing would be worse."""

    question: str
    choices: tuple[str, ...] = ()  # whole questions that can be asked instead

    def document(self) -> dict[str, Any]:
        """As JSON."""
        return {"question": self.question, **({"choices": list(self.choices)} if self.choices else {})}


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far the answer is; percentages never run backwards."""

    percent: int
    stage: Literal["preparing", "collecting", "rendering", "done"]
    note: str = ""  # in the language of the answer


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCalled:
    """A tool is called now."""

    name: str
    summary: str  # of its arguments, without secrets


@dataclass(frozen=True, slots=True, kw_only=True)
class Delta:
    """The next piece of the answer's text; all of them together are the text."""

    text: str


Piece = Progress | ToolCalled | Delta
Say = Callable[[Piece], Awaitable[None]]
OnToolCall = Callable[[str, str], Awaitable[None]]  # name, `tools.noted`; before the call is made
