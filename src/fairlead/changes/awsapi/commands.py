"""AWS CLI command lines as aws-api-mcp-server reads them: quoted, bounded, free of its traps."""

import re
import shlex
from typing import Any

import msgspec

from fairlead.changes.awsapi.answers import InvalidRequest
from fairlead.kernel.errors import FairleadError

# Cloud Control's own limit for a desired state and for a patch. The way there (MCP over a pipe,
# the CLI's parser) carries this much; it is the service that refuses more.
MAX_DOCUMENT_CHARS = 262_144
BATCH = 20  # commands in one call, the server's own limit

# The server runs a command once per region of the account where these words stand anywhere in it,
# even inside a quoted document.
_EVERY_REGION = re.compile(r"(--region\s+)\*")
_FILE_PREFIXES = ("file://", "fileb://")


class DocumentTooLarge(FairleadError):
    """The properties of one resource are larger than AWS takes."""

    code, status, retryable = "aws.document_too_large", 413, False


def command(service: str, operation: str, **options: str | list[str] | None) -> str:
    """`aws service operation --option=value …`; None is left out, a list becomes several words.

    Values are data: quoted, never read as a file, an option or a pattern. Raises InvalidRequest
    for a value that the server would not take as it stands.
    """
    words = ["aws", service, operation]
    for name, value in options.items():
        flag = f"--{name.replace('_', '-')}"
        if isinstance(value, list):
            words += [flag, *(_plain(flag, item) for item in value)]
        elif value is not None:
            # In one word: a value that starts with a dash is no option.
            words.append(f"{flag}={_plain(flag, value)}")
    return shlex.join(words)


def document(value: Any, *, limit: int = MAX_DOCUMENT_CHARS, what: str = "The properties") -> str:
    """`value` as compact JSON for an option. Raises DocumentTooLarge beyond `limit` characters."""
    text = msgspec.json.encode(value).decode()
    if len(text) > limit:
        raise DocumentTooLarge(
            f"{what} take {len(text):,} characters as JSON; AWS accepts at most {limit:,}.",
            remedy="Move large values (code, scripts, policies) to S3 or Parameter Store and refer to them.",
            size=len(text),
            limit=limit,
        )
    # "*" stands only inside strings there, where this spelling means the same.
    return _EVERY_REGION.sub(r"\1\\u002a", text)


def _plain(flag: str, value: str) -> str:
    if value.startswith(_FILE_PREFIXES) or _EVERY_REGION.search(value) or "\0" in value:
        raise InvalidRequest(
            f"The value of {flag} has a meaning of its own to the AWS command line.",
            remedy="Correct the identifier or name.",
            option=flag,
        )
    return value
