"""What an MCP server's answer says, judged by its payload: `is_error` is false for most failures.

Pure: a tool's result goes in; decoded JSON, or an error with a stable code, comes out.
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from fairlead.changes.model import Json
from fairlead.kernel.errors import FairleadError, Unavailable
from fairlead.kernel.resilience import OutcomeUnknown, Throttled

_MESSAGE_CHARS = 1_000
_BOTO_PREFIX = re.compile(
    r"^An error occurred \(\S+\) when calling the \w+ operation(?: \(reached max retries: \d+\))?: "
)


class AwsError(FairleadError):
    """AWS refused or failed in a way that Fairlead has no name for; its own code is in the details."""

    code, status, retryable = "aws.error", 502, False


class AwsThrottled(Throttled):
    """AWS asks for fewer calls; nothing was done."""

    code, status, retryable = "aws.throttled", 429, True


class AccessDenied(AwsError):
    """AWS does not allow these credentials to do this."""

    code, status, retryable = "aws.access_denied", 403, False


class CredentialsInvalid(AwsError):
    """AWS does not accept the credentials."""

    code, status, retryable = "aws.credentials_invalid", 502, False


class ResourceNotFound(AwsError):
    """AWS knows no such resource."""

    code, status, retryable = "aws.not_found", 404, False


class AlreadyExists(AwsError):
    """A resource of this type with this identifier exists already."""

    code, status, retryable = "aws.already_exists", 409, False


class ResourceConflict(AwsError):
    """Another operation on the resource is under way, or something else uses it."""

    code, status, retryable = "aws.conflict", 409, True


class TokenConflict(AwsError):
    """The client token was used before for a different request."""

    code, status, retryable = "aws.token_conflict", 409, False


class RequestUnknown(AwsError):
    """AWS no longer knows this request; look at the resource itself."""

    code, status, retryable = "aws.request_unknown", 404, False


class NotUpdatable(AwsError):
    """A property was changed that AWS cannot change in place."""

    code, status, retryable = "aws.not_updatable", 422, False


class UnsupportedAction(AwsError):
    """Cloud Control cannot do this with resources of this type."""

    code, status, retryable = "aws.unsupported_action", 422, False


class TypeNotFound(AwsError):
    """AWS knows no resource type of this name in this region."""

    code, status, retryable = "aws.type_not_found", 422, False


class InvalidRequest(AwsError):
    """AWS, or the MCP server in front of it, rejects the request as malformed."""

    code, status, retryable = "aws.invalid_request", 422, False


class LimitExceeded(AwsError):
    """A quota of the AWS account is used up."""

    code, status, retryable = "aws.limit_exceeded", 409, False


class HandlerFailed(AwsError):
    """AWS's handler for this type of resource failed, or the resource did not come up."""

    code, status, retryable = "aws.handler_failed", 502, False


class ServiceFailed(Unavailable):
    """AWS failed inside; the same request may work later."""

    code, status, retryable = "aws.service_failed", 502, True


class Unreachable(Unavailable):
    """The AWS endpoint cannot be reached; nothing was done."""

    code, status, retryable = "aws.unreachable", 503, True


class NoAnswer(OutcomeUnknown):
    """The connection to AWS broke before the answer came: it may or may not have acted."""

    code, status, retryable = "aws.no_answer", 503, False


class ReadOnlyRefused(AwsError):
    """The read-only MCP server refused an operation that writes."""

    code, status, retryable = "mcp.read_only", 403, False


class ToolFailed(AwsError):
    """The MCP server's tool failed in a way that Fairlead has no name for."""

    code, status, retryable = "mcp.tool_failed", 502, False


class BadAnswer(OutcomeUnknown):
    """The MCP server answered something that is not a tool's result: it may or may not have acted."""

    code, status, retryable = "mcp.bad_answer", 502, False


# Codes as AWS spells them, without the suffix "Exception": of services and of handlers alike.
_KINDS: dict[type[FairleadError], str] = {
    AwsThrottled: "Throttling Throttled RequestLimitExceeded TooManyRequests SlowDown RequestThrottled "
    "PriorRequestNotComplete ProvisionedThroughputExceeded EC2ThrottledException",
    AccessDenied: "AccessDenied UnauthorizedOperation UnauthorizedTaggingOperation AuthorizationError "
    "OptInRequired",
    CredentialsInvalid: "InvalidClientTokenId UnrecognizedClient ExpiredToken InvalidCredentials "
    "SignatureDoesNotMatch AuthFailure RequestExpired InvalidAccessKeyId MissingAuthenticationToken "
    "IncompleteSignature",
    ResourceNotFound: "ResourceNotFound NotFound",
    AlreadyExists: "AlreadyExists",
    ResourceConflict: "ResourceConflict ConcurrentModification ConcurrentOperation OperationInProgress",
    TokenConflict: "ClientTokenConflict TokenAlreadyExists",
    RequestUnknown: "RequestTokenNotFound",
    NotUpdatable: "NotUpdatable",
    UnsupportedAction: "UnsupportedAction UnsupportedOperation PrivateType",
    TypeNotFound: "TypeNotFound",
    InvalidRequest: "InvalidRequest ValidationError Validation InvalidParameterValue MalformedQueryString",
    LimitExceeded: "ServiceLimitExceeded LimitExceeded InsufficientCapabilities",
    HandlerFailed: "HandlerFailure HandlerInternalFailure NotStabilized GeneralService InternalFailure "
    "ServiceTimeout",
    ServiceFailed: "ServiceInternalError InternalError InternalServerError InternalService "
    "ServiceUnavailable NetworkFailure RequestTimeout",
}
_KIND_OF = {code: kind for kind, codes in _KINDS.items() for code in codes.split()}

_REMEDIES: dict[type[FairleadError], str] = {
    AwsThrottled: "Wait a moment, or lower aws.mcp.calls_per_second.",
    AccessDenied: "Grant the permission that the message names to Fairlead's credentials.",
    CredentialsInvalid: "Renew the credentials (settings aws.*), then try again.",
    AlreadyExists: "Remove it, choose another name, or import it.",
    ResourceConflict: "Wait until the other operation has ended, then try again.",
    TokenConflict: "Plan again.",
    NotUpdatable: "Plan again: the change needs a replacement.",
    UnsupportedAction: "Use the CloudFormation fallback, which the plan offers for such types.",
    TypeNotFound: "Correct the type's name, or choose a region that has it.",
    LimitExceeded: "Ask AWS for a higher quota, or remove something.",
    Unreachable: "Check the network and aws.endpoint_url; is the sandbox running?",
    ReadOnlyRefused: "Report this as a bug.",
}

# The server wraps what botocore raises before any answer of AWS came; botocore has only words.
_WORDS: tuple[tuple[str, type[FairleadError]], ...] = (
    (r"denied by security policy|denied because the security policy", ReadOnlyRefused),
    (r"Could not connect to the endpoint|Connect timeout on|Failed to connect to proxy", Unreachable),
    (r"Read timeout on endpoint|Connection was closed before|Connection broken", NoAnswer),
    (r"Unable to parse response|HTTP Client raised an unhandled|IncompleteRead", NoAnswer),
    (r"SSL validation failed", Unreachable),
    (r"No AWS credentials|config profile .* could not be found|credentials|Error when retrieving token",
     CredentialsInvalid),
    (r"Error while validating the command|maximum limit of", InvalidRequest),
)  # fmt: skip


def error_of_code(aws_code: str, message: str, *, http_status: int | None = None) -> FairleadError:
    """The error that AWS's own `aws_code` stands for, from an exception or a failed request."""
    kind = _KIND_OF.get(aws_code) or _KIND_OF.get(aws_code.removesuffix("Exception"))
    if kind is None:
        # Service codes such as InvalidVpcID.NotFound; and any 5xx is the service's own failure.
        by_status = ServiceFailed if http_status is not None and http_status >= 500 else AwsError
        kind = ResourceNotFound if aws_code.endswith(".NotFound") else by_status
    return _made(kind, f"AWS: {_BOTO_PREFIX.sub('', message)} ({aws_code})", aws_code=aws_code)


def error_of_words(words: str) -> FairleadError:
    """The error that the MCP server's own sentence stands for: no answer of AWS is behind it."""
    for pattern, kind in _WORDS:
        if re.search(pattern, words):
            return _made(kind, f"MCP server: {_reasons(words)}")
    return _made(ToolFailed, f"MCP server: {_reasons(words)}")


def entries(
    structured: Any, texts: Sequence[str], is_error: bool, *, expected: int
) -> list[Mapping[str, Any]]:
    """The entries of a tool's result, one for each command. Raises where it holds none, or too few."""
    if is_error:
        raise error_of_words(" ".join(texts))
    found = structured.get("result", structured) if isinstance(structured, Mapping) else structured
    if found is None and texts:
        try:
            found = json.loads(texts[0])
        except ValueError:
            raise BadAnswer(
                "The MCP server's answer is not JSON.", remedy="Check aws.mcp.tool and the server's version."
            ) from None
    if isinstance(found, Mapping):
        found = [found]
    if not isinstance(found, list) or len(found) != expected:
        raise BadAnswer(
            f"The MCP server's answer does not have {expected} entries.",
            remedy="Check aws.mcp.tool and the server's version.",
        )
    return [entry if isinstance(entry, Mapping) else {} for entry in found]


def judge(entry: Mapping[str, Any]) -> Json:
    """The JSON that AWS answered one command with. Raises the error that the entry holds."""
    if failure := entry.get("error"):
        raise error_of_words(str(failure))
    response = entry.get("response")
    if not isinstance(response, Mapping):
        raise _refused(entry)
    aws_code, message = response.get("error_code"), response.get("error")
    http_status = response.get("status_code")
    if aws_code or message or (isinstance(http_status, int) and http_status >= 400):
        raise error_of_code(
            str(aws_code or http_status or "Unknown"), str(message or "no message"), http_status=http_status
        )
    text = response.get("as_json") or response.get("json")
    try:
        answer = json.loads(text) if isinstance(text, str) else text
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        raise BadAnswer("AWS's answer is not a JSON object.", remedy="Look at what stands before repeating.")
    answer.pop("ResponseMetadata", None)
    return answer


def _refused(entry: Mapping[str, Any]) -> FairleadError:
    for key in ("validation_failures", "missing_context_failures", "failed_constraints"):
        if faults := entry.get(key):
            return _made(InvalidRequest, f"MCP server: {_reasons(json.dumps({key: faults}))}")
    return BadAnswer("The MCP server's answer holds no response.", remedy="Check aws.mcp.tool.")


def _reasons(words: str) -> str:
    """The server's sentence, or the reasons inside the JSON that it sometimes carries."""
    reasons = re.findall(r'"reason":\s*"((?:[^"\\]|\\.)*)"', words)
    return " ".join(json.loads(f'"{reason}"') for reason in reasons) or words


def _made(kind: type[FairleadError], message: str, **details: str) -> FairleadError:
    return kind(message[:_MESSAGE_CHARS], remedy=_REMEDIES.get(kind), **details)
