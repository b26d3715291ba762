"""What the app and the server say to each other: every message as a model, both ways.

docs/reference/realtime.md is made from these models. What comes in is validated here and nowhere else; what
is wrong becomes an `input.invalid` that names the field and never repeats its value.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from fairlead.kernel.errors import InvalidInput
from fairlead.kernel.runs import Event
from fairlead.support.model import AgentRole, JobKind, Language

NAMESPACE = "/support"
PATH = "/socket.io"
TEXT_MAX_CHARS = 4000
MESSAGE_MAX_BYTES = 128 * 1024
SINCE_MAX_JOBS = 1000
RESUME_MAX_JOBS = 100
M = TypeVar("M", bound=BaseModel)


def _plain(text: str) -> str:
    if any((character < " " and character not in "\n\t\r") or character == "\x7f" for character in text):
        raise ValueError("must not hold control characters")
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise ValueError("must not hold surrogates")
    return text


def _not_blank(text: str) -> str:
    if not text.strip():
        raise ValueError("must not be blank")
    return text


def _digits(value: Any) -> Any:
    # Zendesk's SDK gives ids as numbers.
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


TicketId = Annotated[
    str, BeforeValidator(_digits), Field(pattern=r"^[1-9][0-9]{0,19}$", description="Id of the ticket")
]
JobId = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$", description="A job")]
Seq = Annotated[int, Field(ge=0, le=2**31 - 1, strict=True)]
Question = Annotated[
    str, Field(min_length=1, max_length=TEXT_MAX_CHARS), AfterValidator(_plain), AfterValidator(_not_blank)
]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)


# --- from the app --------------------------------------------------------------------------------


class Auth(_Model):
    """Who connects, for which ticket, and what it has seen already."""

    token: str = Field(min_length=1, max_length=8192, description="Session")
    ticket: TicketId
    locale: Language = Language.ENGLISH
    since: dict[JobId, Seq] = Field(
        default={}, max_length=SINCE_MAX_JOBS, description="Job → last `seq` seen; empty at first"
    )


class _Request(_Model):
    id: str = Field(
        pattern=r"^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$",
        description="UUID of the request; the same when it is sent again",
    )
    ticket: TicketId


class Ask(_Request):
    """A question."""

    text: Question
    language: Language


class Screen(_Request):
    """A screening of the ticket's account."""

    language: Language


class ReportWanted(_Request):
    """The monthly report of the ticket's account."""

    month: str = Field(pattern=r"^20[0-9]{2}-(0[1-9]|1[0-2])$", description="`2026-10`")
    language: Language


class Cancel(_Request):
    """Stop a job of this ticket; the answer names the same job."""

    job: JobId


class Inserted(_Request):
    """Something was put into the ticket's editor: for the audit."""

    model_config = ConfigDict(populate_by_name=True)

    job: JobId | None = Field(description="Where it came from")
    into: Literal["internal_note", "reply"] = Field(alias="as", description="What it was put in as")


class Resume(_Model):
    """Events after these numbers are missing."""

    jobs: dict[JobId, Seq] = Field(
        min_length=1, max_length=RESUME_MAX_JOBS, description="Job → last `seq` seen"
    )


class Renewed(_Model):
    """A renewed session for the open connection."""

    token: str = Field(min_length=1, max_length=8192)


REQUESTS: Mapping[str, type[_Model]] = {
    "ask": Ask,
    "screen": Screen,
    "report": ReportWanted,
    "cancel": Cancel,
    "inserted": Inserted,
    "resume": Resume,
    "session": Renewed,
}


def parsed(model: type[M], payload: Any) -> M:
    """`payload` as `model`. Raises InvalidInput that names each wrong field and repeats no value."""
    try:
        return model.model_validate(payload)
    except ValidationError as error:
        faults = [
            {
                "field": ".".join(str(part)[:100] for part in item["loc"]) or "payload",
                "message": str(item["msg"]).removeprefix("Value error, "),
            }
            for item in error.errors(include_input=False, include_url=False)[:20]
        ]
    places = "; ".join(f"{fault['field']}: {fault['message']}" for fault in faults[:3])
    raise InvalidInput(places, remedy="Correct the fields named in details.faults.", faults=faults)


# --- to the app ----------------------------------------------------------------------------------


class Problem(_Model):
    """What went wrong and what to do, as everywhere in this server."""

    type: str
    title: str
    status: int
    code: str
    detail: str
    retryable: bool
    remedy: str | None = None
    details: dict[str, Any] | None = None


class Taken(_Model):
    """The request was taken."""

    ok: Literal[True] = True
    job: str | None = Field(default=None, description="Its job, where it has one")


class Refused(_Model):
    """The request was not taken."""

    ok: Literal[False] = False
    problem: Problem


class Hello(_Model):
    """After connecting, and again after the session was renewed."""

    account: str | None = Field(description="Twelve digits; null where none is bound")
    organization: str | None = Field(description="Zendesk's id of it")
    role: AgentRole


class JobEvent(_Model):
    """One thing that happened to a job; `data` depends on `kind`."""

    job: JobId
    seq: int = Field(ge=1, description="1, 2, 3 … in each job, without gaps")
    kind: str
    data: dict[str, Any]


class Accepted(_Model):
    """The job is queued. Says what was asked, for those who did not ask."""

    what: JobKind
    request: str | None = Field(
        default=None, description="`id` of the request, where it came through a socket"
    )
    text: str | None = Field(default=None, description="The question")
    month: str | None = Field(default=None, description="Of a monthly report")


class Progress(_Model):
    """How far it is; never runs backwards."""

    percent: float = Field(ge=0, le=100)
    stage: Literal["queued", "preparing", "collecting", "checking", "rendering", "storing", "done"]
    done: int | None = None
    total: int | None = None
    eta_s: float | None = Field(default=None, description="Seconds left, as estimated")
    note: str | None = None


class Delta(_Model):
    """The next piece of the answer."""

    text: str


class Span(_Model):
    """Half open, ISO 8601."""

    start: str
    end: str
    timezone: str


class Evidence(_Model):
    """What an answer rests on."""

    account: str | None = None
    region: str | None = None
    period: Span | None = None
    count: int | None = None
    truncated: bool | None = Field(default=None, description="There is more than was read")
    calls: list[str] | None = Field(default=None, description="Of AWS's API")
    unread: list[str] | None = Field(default=None, description="What could not be read, and why")
    sources: list[str] | None = Field(default=None, description="Pages, of a general answer")


class Suggestion(_Model):
    """The job that does what was asked."""

    job: Literal["screen", "report"]
    month: str | None = None


class Answer(_Model):
    """The whole answer."""

    text: str
    evidence: Evidence | None = None
    model: str | None = Field(default=None, description="What answered: `embedded`, `bedrock:…`, `openai:…`")
    suggests: Suggestion | None = None


class Clarify(_Model):
    """A question back."""

    question: str
    choices: list[str] | None = None


class Counts(_Model):
    """Findings, compared with the screening before."""

    new: int | None = None
    fixed: int | None = None
    unchanged: int | None = None


class Report(_Model):
    """A report is ready."""

    kind: Literal["screening", "monthly_report"]
    record: str | None = None
    url: str = Field(description="Where it is; `POST /support/zendesk/links` gives a link that opens it")
    expires_at: datetime = Field(description="When it is removed")
    subtitle: str | None = None
    summary: str | None = None
    counts: Counts | None = None
    complete: bool | None = None


class Failed(_Model):
    """The job failed."""

    problem: Problem


class Cancelled(_Model):
    """Somebody stopped it."""


KINDS: Mapping[str, type[_Model]] = {
    "accepted": Accepted,
    "progress": Progress,
    "delta": Delta,
    "answer": Answer,
    "clarify": Clarify,
    "report": Report,
    "failed": Failed,
    "cancelled": Cancelled,
}
ENDS = frozenset({"answer", "clarify", "report", "failed", "cancelled"})

_OURS = "support."
_OF_RUNS = {"run.queued": "accepted", "run.failed": "failed", "run.cancelled": "cancelled"}


def job_event(event: Event, asked: Mapping[str, Any]) -> dict[str, Any]:
    """A run's event as the app gets it, number by number; `asked`: the data of the job's `accepted`."""
    kind, data = event.type, event.data
    if kind.startswith(_OURS):
        kind = kind.removeprefix(_OURS)
    else:
        kind = _OF_RUNS.get(kind, kind)
        # What else runs tell (their result, who cancelled) is not for the app.
        data = dict(asked) if kind == "accepted" else {"problem": data["problem"]} if kind == "failed" else {}
    return {"job": event.run_id, "seq": event.seq, "kind": kind, "data": data}


def asked(params: Mapping[str, Any], what: JobKind) -> dict[str, Any]:
    """The data of `accepted`, from a job's parameters."""
    found = {name: params.get(name) for name in ("request", "text", "month")}
    return {"what": what.value, **{name: value for name, value in found.items() if value is not None}}
