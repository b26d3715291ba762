"""Expected failures: each has a stable code, an HTTP status and an honest `retryable`.

A class docstring is the error's default message. Codes never change once shipped;
`docs/reference/errors.md` lists them all and a test compares the two.
"""

from typing import Any, ClassVar


class FairleadError(Exception):
    """Something that can go wrong and that the reader can act on."""

    code: ClassVar[str] = "fairlead.error"
    status: ClassVar[int] = 500
    retryable: ClassVar[bool] = False

    def __init__(self, message: str | None = None, /, *, remedy: str | None = None, **details: Any) -> None:
        """`message` defaults to the class docstring's first line; `remedy` says what to do next.

        `details` are JSON values for machines (paths, lines, names); never a secret.
        """
        self.message = message or (type(self).__doc__ or self.code).strip().splitlines()[0]
        self.remedy = remedy
        self.details = details
        super().__init__(self.message)

    def problem(self) -> dict[str, Any]:
        """The error as an RFC 9457 problem document."""
        body: dict[str, Any] = {
            "type": f"urn:fairlead:error:{self.code}",
            "title": (type(self).__doc__ or self.code).strip().splitlines()[0],
            "status": self.status,
            "code": self.code,
            "detail": self.message,
            "retryable": self.retryable,
        }
        if self.remedy:
            body["remedy"] = self.remedy
        if self.details:
            body["details"] = self.details
        return body


class InvalidInput(FairleadError):
    """The request does not have the form that this operation takes."""

    code, status, retryable = "input.invalid", 422, False


class NotFound(FairleadError):
    """There is no such thing, or you may not see it."""

    code, status, retryable = "not_found", 404, False


class Conflict(FairleadError):
    """The thing is in a state that does not allow this."""

    code, status, retryable = "conflict", 409, False


class Unauthenticated(FairleadError):
    """Who is calling could not be established."""

    code, status, retryable = "auth.unauthenticated", 401, False


class Forbidden(FairleadError):
    """The caller may not do this here."""

    code, status, retryable = "auth.forbidden", 403, False


class SettingsInvalid(FairleadError):
    """The configuration cannot be used as it stands."""

    code, status, retryable = "settings.invalid", 500, False


class Unavailable(FairleadError):
    """A part that this needs does not answer at the moment."""

    code, status, retryable = "unavailable", 503, True
