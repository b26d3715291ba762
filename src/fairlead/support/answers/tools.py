"""The tools that a model may call: a closed list by name, their arguments, and what their answers say.

What the servers call themselves and say about themselves is not used: names, descriptions and arguments are
ours, so no server and no text can add a tool, a profile or another account.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from fairlead.kernel.errors import FairleadError
from fairlead.support.answers import commands

MOST_BYTES = 4_000_000  # of one answer of a server
Json = dict[str, Any]


class ToolUnknown(FairleadError):
    """There is no such tool."""

    code, status, retryable = "support.tool_unknown", 404, False


class ToolArgumentsInvalid(FairleadError):
    """The arguments of a tool call do not have the form that it takes."""

    code, status, retryable = "support.tool_arguments_invalid", 422, False


class _Arguments(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Regional(_Arguments):
    region: str = Field(max_length=32, description="Region code, such as ap-northeast-2")

    @field_validator("region")
    @classmethod
    def _region(cls, value: str) -> str:
        if not commands.REGION.fullmatch(value):
            raise ValueError("not a region code")
        return value


class _Timed(_Regional):
    start_time: datetime = Field(description="ISO 8601 with offset")
    end_time: datetime = Field(description="ISO 8601 with offset")


class LookupEvents(_Timed):
    """Management events of CloudTrail in one region, newest first; 90 days back at most.

    Events of global services (IAM, CloudFront, Route 53, console sign-ins) lie in us-east-1.
    """

    attribute_key: (
        Literal["EventId", "EventName", "ReadOnly", "Username", "ResourceType", "ResourceName", "EventSource"]
        | None
    ) = None
    attribute_value: str | None = Field(None, max_length=512)
    max_results: int = Field(50, ge=1, le=50)
    next_token: str | None = Field(None, max_length=4_096, description="Of the page before, else nothing")


class GetActiveAlarms(_Regional):
    """CloudWatch alarms that are in ALARM now."""

    max_items: int = Field(50, ge=1, le=100)


class GetAlarmHistory(_Timed):
    """Changes of state of one CloudWatch alarm."""

    alarm_name: str = Field(min_length=1, max_length=255)
    max_items: int = Field(50, ge=1, le=100)


class Dimension(_Arguments):
    """One dimension of a metric."""

    name: str = Field(max_length=255)
    value: str = Field(max_length=1024)


class MetricStat(_Arguments):
    """One metric of one resource."""

    namespace: str = Field(max_length=255)
    metric_name: str = Field(max_length=255)
    dimensions: tuple[Dimension, ...] = Field((), max_length=30)
    statistic: str = Field("Average", pattern=r"^(Average|Sum|Maximum|Minimum|SampleCount|p\d{1,2}(\.\d+)?)$")


class MetricQuery(_Arguments):
    """A metric under a name."""

    id: str = Field(pattern=r"^[a-z][a-zA-Z0-9_]{0,60}$")
    metric_stat: MetricStat
    label: str | None = Field(None, max_length=255)


class GetMetricData(_Timed):
    """Points of up to 40 metrics."""

    queries: tuple[MetricQuery, ...] = Field(min_length=1, max_length=40)
    target_datapoints: int = Field(60, ge=1, le=300)


class CallAws(_Arguments):
    """One read of AWS as a command of its CLI: aws SERVICE describe-… or list-… --region R --query JMESPATH.

    Only reads that answer with no secret and no contents are allowed. Always give --region.
    """

    command: str = Field(max_length=commands.MAX_CHARACTERS)
    max_results: int = Field(200, ge=1, le=2_000)

    @field_validator("command")
    @classmethod
    def _command(cls, value: str) -> str:
        try:
            commands.checked(value)
        except commands.CommandRefused as error:
            raise ValueError(error.message) from None
        return value


@dataclass(frozen=True, slots=True)
class Tool:
    """One tool of one server."""

    name: str
    server: str
    arguments: type[_Arguments]

    @property
    def description(self) -> str:
        """What a model is told."""
        return (self.arguments.__doc__ or "").strip()


SERVERS = CLOUDTRAIL, CLOUDWATCH, AWS_API = (
    "cloudtrail-mcp-server",
    "cloudwatch-mcp-server",
    "aws-api-mcp-server",
)
TOOLS = {
    tool.name: tool
    for tool in (
        Tool("lookup_events", CLOUDTRAIL, LookupEvents),
        Tool("get_active_alarms", CLOUDWATCH, GetActiveAlarms),
        Tool("get_alarm_history", CLOUDWATCH, GetAlarmHistory),
        Tool("get_metric_data", CLOUDWATCH, GetMetricData),
        Tool("call_aws", AWS_API, CallAws),
    )
}


def prepared(name: str, given: Mapping[str, Any]) -> tuple[Tool, Json]:
    """The tool `name`, its arguments as its server takes them. Raises ToolUnknown, ToolArgumentsInvalid."""
    tool = TOOLS.get(name)
    if tool is None:
        raise ToolUnknown(f"There is no tool {name[:60]!r}.", remedy=f"Use one of: {', '.join(TOOLS)}.")
    try:
        arguments = tool.arguments.model_validate(dict(given))
    except ValidationError as error:
        faults = "; ".join(
            f"{'.'.join(str(part) for part in fault['loc'])}: {fault['msg']}"
            for fault in error.errors(include_input=False, include_url=False)
        )
        raise ToolArgumentsInvalid(f"{name}: {faults}.", remedy="Correct these arguments.") from None
    sent = arguments.model_dump(mode="json", exclude_none=True)
    if isinstance(arguments, CallAws):
        sent = {"cli_command": arguments.command, "max_results": arguments.max_results}
    return tool, sent


def summary(name: str, given: Mapping[str, Any]) -> str:
    """A call in one line, for evidence and audit: what was asked where, without tokens or free text."""
    if name == "call_aws":
        try:
            service, operation, region = commands.checked(str(given.get("command", "")))
        except commands.CommandRefused:
            return "aws (refused)"
        return f"{service} {operation}{f' ({region})' if region else ''}"
    parts = [str(given[key])[:80] for key in ("attribute_value", "alarm_name") if given.get(key)]
    if queries := given.get("queries"):
        parts += sorted({str(query["metric_stat"]["metric_name"])[:80] for query in queries})
    where = f" ({given['region']})" if isinstance(given.get("region"), str) else ""
    more = " (next page)" if given.get("next_token") else ""
    return f"{name} {', '.join(parts)}".strip()[:200] + where + more


_CLOSED = re.compile(r"[A-Za-z0-9.:_-]{1,80}")  # names of events, types and services: of AWS, not of people


def noted(name: str, given: Mapping[str, Any]) -> str:
    """The same for the audit record, which keeps no name of a person or thing and no word of a question."""
    if name == "call_aws":
        return summary(name, given)
    kept = {key: value for key, value in given.items() if key != "alarm_name"}
    key, value = given.get("attribute_key"), str(given.get("attribute_value") or "")
    if key in ("Username", "ResourceName", "EventId") or not _CLOSED.fullmatch(value):
        kept["attribute_value"] = key
    return summary(name, kept)


# Answers ------------------------------------------------------------------------------------------


class Cause(StrEnum):
    """Why something could not be read."""

    DENIED = "denied"
    THROTTLED = "throttled"
    REGION_OFF = "region_off"
    EXPIRED = "expired"
    UNREACHABLE = "unreachable"  # the server of the tool died, or AWS did not answer
    REFUSED = "refused"  # by us, before it left
    MISSING = "missing"  # AWS knows no such thing
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why a call has no answer. Codes only: what AWS says in words may hold anything."""

    cause: Cause
    code: str = ""
    call: str = ""  # "LookupEvents"

    def document(self) -> Json:
        """As a model reads it."""
        return {"error": {"cause": self.cause.value, "code": self.code, "call": self.call}}


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What a call said."""

    data: Json = field(default_factory=dict)
    failure: Failure | None = None
    count: int = 0  # of what it lists
    more: bool = False  # there is another page

    def document(self) -> Json:
        """As a model reads it."""
        return (
            self.failure.document() if self.failure else {**self.data, "count": self.count, "more": self.more}
        )


_CAUSES = {
    Cause.DENIED: "AccessDenied AccessDeniedException AuthorizationError UnauthorizedOperation"
    " Client.UnauthorizedOperation UnauthorizedAccess AllAccessDisabled Forbidden 403",
    Cause.THROTTLED: "Throttling ThrottlingException ThrottledException RequestThrottled"
    " RequestLimitExceeded TooManyRequestsException SlowDown LimitExceededException",
    Cause.REGION_OFF: "OptInRequired SubscriptionRequiredException InvalidClientTokenId AuthFailure"
    " UnrecognizedClientException EndpointConnectionError InvalidRegion",
    Cause.EXPIRED: "ExpiredToken ExpiredTokenException RequestExpired NoCredentials CredentialRetrievalError",
    Cause.UNREACHABLE: "ConnectTimeoutError ReadTimeoutError ServerDied Timeout",
}
_CAUSE_OF = {code: cause for cause, codes in _CAUSES.items() for code in codes.split()}
_AWS_ERROR = re.compile(
    r"An error occurred \(([A-Za-z0-9_.:-]{1,80})\)(?: when calling the (\w{1,80}) operation)?"
)
_SDK_ERRORS = (
    (re.compile(r"Could not connect to the endpoint", re.IGNORECASE), "EndpointConnectionError"),
    (re.compile(r"Unable to locate credentials|No AWS credentials", re.IGNORECASE), "NoCredentials"),
    (re.compile(r"Error when retrieving credentials", re.IGNORECASE), "CredentialRetrievalError"),
    (re.compile(r"timed? ?out", re.IGNORECASE), "ReadTimeoutError"),
    (re.compile(r"denied by security policy", re.IGNORECASE), "AccessDenied"),
)


def failure_of(text: str, code: str = "", call: str = "") -> Failure:
    """The failure that the words of a server stand for; its words go no further."""
    if found := _AWS_ERROR.search(text):
        code, call = code or found[1], found[2] or call
    if not code:
        code = next((known for pattern, known in _SDK_ERRORS if pattern.search(text)), "")
    bare = code.rpartition("#")[2]
    if bare in _CAUSE_OF:
        return Failure(cause=_CAUSE_OF[bare], code=bare, call=call)
    missing = re.search(r"NotFound|NoSuch|DoesNotExist", bare) is not None
    return Failure(cause=Cause.MISSING if missing else Cause.FAILED, code=bare, call=call)


REMOVED = "[removed]"


def without_secrets(value: Any) -> Any:
    """`value` with everything under the names of secrets replaced."""
    if isinstance(value, dict):
        return {
            key: REMOVED if commands.SECRET_NAME.fullmatch(str(key)) else without_secrets(item)
            for key, item in value.items()
        }
    return [without_secrets(item) for item in value] if isinstance(value, list) else value


def read(name: str, given: Mapping[str, Any], answer: Any) -> Result:
    """What the answer of tool `name` says; `given` are its arguments."""
    if name == "call_aws":
        return _read_aws(str(given.get("command", "")), answer)
    if not isinstance(answer, dict):
        return Result(failure=failure_of(str(answer)[:2_000]))
    data = without_secrets(answer)
    if name == "lookup_events":
        events = list(data.get("events") or ())
        token = data.get("next_token")
        return Result(data={"events": events, "next_token": token}, count=len(events), more=token is not None)
    if name == "get_metric_data":
        return Result(data=data, count=len(data.get("metricDataResults") or ()))
    lists = [value for value in data.values() if isinstance(value, list)]
    counted = (
        data.get("history_items", ()) if name == "get_alarm_history" else [x for one in lists for x in one]
    )
    return Result(data=data, count=len(counted), more=bool(data.get("has_more_results")))


def _read_aws(command: str, answer: Any) -> Result:
    entries = answer.get("result") if isinstance(answer, dict) and "result" in answer else answer
    entry = entries[0] if isinstance(entries, list) and entries else entries
    if not isinstance(entry, dict):
        return Result(failure=failure_of(str(answer)[:2_000]))
    operation = "".join(part.capitalize() for part in command.split()[2].split("-"))
    response = entry.get("response") or {}
    error = entry.get("error") or response.get("error")
    if error:
        return Result(failure=failure_of(str(error), str(response.get("error_code") or ""), operation))
    try:
        body = json.loads(response.get("as_json") or "{}")
    except ValueError:
        return Result(failure=Failure(cause=Cause.FAILED, code="Unreadable", call=operation))
    found = without_secrets(body.get("Result", body) if isinstance(body, dict) else body)
    if isinstance(found, dict):
        found.pop("ResponseMetadata", None)
    rows = found if isinstance(found, list) else None
    if rows is None and isinstance(found, dict):
        rows = next((value for value in found.values() if isinstance(value, list)), None)
    more = bool(response.get("pagination_token") or (isinstance(body, dict) and body.get("pagination_token")))
    return Result(data={"rows": found if found is not None else []}, count=len(rows or ()), more=more)
