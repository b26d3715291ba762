"""Why a customer's account is not opened, in words to act on; AWS's own may hold an ExternalId."""

from botocore.exceptions import ClientError, CredentialRetrievalError, NoCredentialsError

from fairlead.kernel.errors import FairleadError, Unavailable
from fairlead.kernel.resilience import Throttled

_THROTTLED = {"Throttling", "ThrottlingException", "RequestLimitExceeded", "TooManyRequestsException"}
_NOT_VALID = {
    "InvalidClientTokenId",
    "UnrecognizedClientException",
    "SignatureDoesNotMatch",
    "AuthFailure",
    "ExpiredToken",
    "ExpiredTokenException",
    "InvalidAccessKeyId",
    "IncompleteSignature",
    "MissingAuthenticationToken",
}
_DENIED = {"AccessDenied", "AccessDeniedException"}
_PASSING = {"InternalFailure", "InternalError", "ServiceUnavailable"}


class AccessRefused(FairleadError):
    """The customer's account was not opened."""

    code, status, retryable = "support.access_refused", 502, False


class OwnCredentialsMissing(AccessRefused):
    """The server has no AWS credentials of its own that work."""

    code, status = "support.access_own_credentials", 500


class StoredKeysUnreadable(AccessRefused):
    """The keys that open customers' accounts cannot be read from Parameter Store."""

    code, status = "support.access_keys_unreadable", 500


class StoredKeysInvalid(AccessRefused):
    """AWS does not accept the keys from Parameter Store."""

    code, status = "support.access_keys_invalid", 500


class HubRefused(AccessRefused):
    """The hub role cannot be assumed."""

    code, status = "support.access_hub_refused", 500


class RoleRefused(AccessRefused):
    """AWS does not let us assume the customer's role."""

    code, status = "support.access_role_refused", 403


class ExternalIdMissing(AccessRefused):
    """Another account is opened with an ExternalId or not at all."""

    code, status = "support.access_external_id_missing", 409


class WrongAccount(AccessRefused):
    """The credentials turned out to be another account's and were thrown away."""

    code, status = "support.access_wrong_account", 502


class SessionInvalid(AccessRefused):
    """AWS does not take the session as it was asked for."""

    code, status = "support.access_session_invalid", 500


class RegionOff(AccessRefused):
    """The region that was asked for credentials is switched off."""

    code, status = "support.access_region_off", 409


class AccessThrottled(AccessRefused, Throttled):
    """AWS asks for fewer calls; the account can be opened a moment later."""

    code, status, retryable = "support.access_throttled", 429, True


class AccessUnavailable(AccessRefused, Unavailable):
    """AWS did not answer when it was asked for credentials."""

    code, status, retryable = "support.access_unavailable", 503, True


def code_of(error: Exception) -> str:
    """AWS's code or the SDK's class; its words may hold an ExternalId."""
    if isinstance(error, ClientError):
        return str(error.response.get("Error", {}).get("Code", "unknown"))
    return type(error).__name__


def of_own(error: Exception) -> AccessRefused:
    """Of a call with the server's own credentials."""
    if code_of(error) in _NOT_VALID or isinstance(error, NoCredentialsError | CredentialRetrievalError):
        return OwnCredentialsMissing(
            f"The server's own AWS credentials are missing or do not work ({code_of(error)}).",
            remedy="Give the server a role (an EC2 instance profile), or set aws.profile or keys.",
        )
    return _of_any(error, None)


def of_new(error: Exception) -> AccessRefused:
    """Of a call with credentials that were just granted."""
    return _of_any(error, None)


def of_parameters(why: str) -> StoredKeysUnreadable:
    """Of reading the keys from Parameter Store."""
    return StoredKeysUnreadable(
        f"The keys that open customers' accounts are not to be had from Parameter Store. {why}",
        remedy="Create both parameters; allow the server ssm:GetParameters, and kms:Decrypt on their key.",
    )


def of_hub(error: Exception, role: str, own: str) -> AccessRefused:
    """Of assuming the hub `role` by the identity `own`."""
    if code_of(error) in _DENIED:
        return HubRefused(
            f"AWS does not let {own} assume the hub role {role} ({code_of(error)}).",
            remedy="Check that the hub role exists and trusts the server, and its ExternalId "
            "(support.access.hub_external_id); allow the server sts:AssumeRole on it.",
            role=role,
        )
    return of_own(error)


def of_role(error: Exception, role: str, account: str, who: str, *, stored: bool) -> AccessRefused:
    """Of assuming the customer's `role` by `who`, with keys from Parameter Store where `stored`."""
    code = code_of(error)
    if code in _NOT_VALID:
        kind, remedy = (
            (StoredKeysInvalid, "Put keys of a user that exists and is active into the parameters.")
            if stored
            else (OwnCredentialsMissing, "Renew them, and try again.")
        )
        return kind(f"AWS does not accept the credentials of {who} ({code}).", remedy=remedy)
    if code not in _DENIED:
        return _of_any(error, account)
    words = str(error.response["Error"].get("Message", "")) if isinstance(error, ClientError) else ""
    why, remedy = _side(words, who)
    return RoleRefused(f"AWS does not let us assume {role}. {why}", remedy=remedy, account=account, role=role)


def _side(words: str, who: str) -> tuple[str, str]:
    """Why, and what to do. AWS's words tell whose side says no, and never whether the role is there."""
    if "sts:TagSession" in words or "sts:SetSourceIdentity" in words:
        return (
            "Its trust policy does not allow sts:TagSession and sts:SetSourceIdentity.",
            "Allow both there, or turn support.access.tag_sessions off.",
        )
    if "no identity-based policy" in words:
        return f"Our side does not allow {who} to.", "Allow it sts:AssumeRole on the roles of customers."
    return (
        f"It does not exist, does not trust {who}, or demands another ExternalId: AWS does not say which.",
        "Check the role's name and, in its trust policy, Principal and sts:ExternalId.",
    )


def _of_any(error: Exception, account: str | None) -> AccessRefused:
    code, of = code_of(error), f" for account {account}" if account else ""
    details = {"account": account} if account else {}
    if code in _THROTTLED:
        return AccessThrottled(f"AWS throttles the calls for credentials{of} ({code}).", **details)
    if code == "RegionDisabledException":
        return RegionOff(
            f"STS is switched off{of} in the region that the server works in.",
            remedy="Switch the region on in the account, or set aws.region to one that is.",
            **details,
        )
    if isinstance(error, ClientError) and code not in _PASSING:
        return SessionInvalid(
            f"AWS does not take the session as it was asked for{of} ({code}).",
            remedy="Check support.access: session_s (at most the role's own), policy_arns and role_name.",
            **details,
        )
    return AccessUnavailable(f"AWS gave no credentials{of} ({code}).", **details)
