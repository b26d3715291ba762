"""The shapes at the door of jobs: what may be asked for, and how records and accepted findings are shown."""

from datetime import date
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from fairlead.kernel.clock import iso
from fairlead.kernel.http import PlainText
from fairlead.kernel.runs import Run
from fairlead.support.links import path_of
from fairlead.support.model import Finding, Language
from fairlead.support.records import FILES, Accepted, Record, kept_until

ACCOUNT = r"^[0-9]{12}$"
ZENDESK_ID = r"^[1-9][0-9]{0,19}$"
RECORD_ID = r"^[0-9a-f]{1,64}$"
CHECK_ID = r"^[A-Za-z0-9][A-Za-z0-9._:/-]{0,199}$"
_Name = Annotated[str, Field(pattern=r"^[a-z0-9-]{1,40}$")]
RESOURCES_MAX = 200  # of one check, to choose from
File = Literal["report.html", "report.json", "report.csv"]


def _digits(value: Any) -> Any:
    # Zendesk's SDK gives ids as numbers.
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


TicketId = Annotated[str, BeforeValidator(_digits), Field(pattern=ZENDESK_ID)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class JobIn(_Body):
    """Which account, and how. Exactly one of `account` and `ticket`."""

    account: str | None = Field(default=None, pattern=ACCOUNT, description="One of the project's customers")
    ticket: TicketId | None = Field(default=None, description="Its account, as it is bound")
    installation: TicketId | None = Field(
        default=None, description="Of the ticket; default: the project's only one"
    )
    language: Language | None = Field(
        default=None, description="default: a question's own, else the customer's"
    )
    request_id: str | None = Field(
        default=None, pattern=r"^[A-Za-z0-9-]{1,64}$", description="The same again gives the first job back"
    )

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if (self.account is None) == (self.ticket is None):
            raise ValueError("exactly one of account and ticket must be given")
        return self


class AskIn(JobIn):
    """A question."""

    text: PlainText = Field(min_length=1, max_length=4000, pattern=r"\S")


class ScreenIn(JobIn):
    """A screening; without `regions` and `services`, of all that customer and engine have."""

    engine: Literal["builtin", "prowler", "service-screener"] | None = Field(
        default=None, description="default: that of the settings"
    )
    regions: tuple[_Name, ...] = Field(default=(), max_length=50)
    services: tuple[_Name, ...] = Field(default=(), max_length=100)


class ReportIn(JobIn):
    """A monthly report."""

    month: str | None = Field(
        default=None,
        max_length=7,
        description="2026-10; default: the last that is over in the customer's zone",
    )


class AcceptIn(_Body):
    """A finding to accept, why and until when."""

    check: str = Field(pattern=CHECK_ID, description="Id of the check, as a report's CSV has it")
    resource: PlainText | None = Field(default=None, max_length=2048, description="Its uid; null: every one")
    reason: PlainText = Field(min_length=1, max_length=2000)
    expires: date = Field(description="The last day on which it is accepted")


class SuppressionIn(AcceptIn):
    """A finding to accept in one of the project's accounts, or in all."""

    account: str | None = Field(
        default=None, pattern=ACCOUNT, description="null: every account of the project"
    )


class TicketAcceptIn(AcceptIn):
    """A finding to accept in a ticket's account."""

    ticket: TicketId


class LinkIn(_Body):
    """Which file of a record."""

    file: File = "report.html"


class TicketLinkIn(_Body):
    """Which report of the ticket: the path that the event `report` named."""

    ticket: TicketId
    url: str = Field(
        max_length=4096, pattern=r"^/support/reports/[0-9a-f]{1,64}/report\.(html|json|csv)(\?.*)?$"
    )


def job_out(run: Run) -> dict[str, Any]:
    """A job that was taken; its run's events say what comes of it."""
    names = ("account", "ticket", "installation", "language", "month", "engine")
    asked = {name: run.params.get(name) for name in names if run.params.get(name) is not None}
    return {"job": run.id, "kind": run.kind, "status": run.status.value, **asked}


def record_out(record: Record, retention_days: int) -> dict[str, Any]:
    """One screening or report, without its contents."""
    return {
        "id": record.id,
        "kind": record.kind,
        "account": record.account,
        "ticket": record.ticket,
        "installation": record.installation,
        "engine": record.engine,
        "month": record.month,
        "complete": record.complete,
        "summary": dict(record.summary),
        "files": [] if record.deleted_at else [path_of(record.id, name) for name in FILES],
        "created_at": iso(record.created_at),
        "kept_until": iso(kept_until(record.created_at, retention_days)),
        "deleted_at": iso(record.deleted_at) if record.deleted_at else None,
    }


def accepted_out(kept: Accepted, today: date) -> dict[str, Any]:
    """One accepted finding."""
    about = kept.suppression
    return {
        "id": kept.id,
        "account": about.account,
        "check": about.check,
        "resource": about.resource,
        "reason": about.reason,
        "author": about.author,
        "expires": about.expires.isoformat(),
        "lapsed": about.expires < today,
        "created_at": iso(kept.created_at),
    }


def failing_out(one: Finding, theirs: tuple[Finding, ...]) -> dict[str, Any]:
    """One check that failed, and on what; of very many things the first."""
    return {
        "check": one.check,
        "title": one.title,
        "severity": one.severity.value,
        "count": len(theirs),
        "resources": [
            {"uid": each.resource.uid, "name": each.resource.name, "region": each.resource.region}
            for each in theirs[:RESOURCES_MAX]
        ],
    }
