"""Who is calling from Zendesk: signed URLs prove an agent, proxy tokens an installation, and our own
short sessions carry what a signed URL proved.

A signed URL (RS256) is verified with the key that the settings pin for its installation and with nothing
that the token itself offers, and it opens one session only. A proxy token (HS256) is signed with the
installation's secret, but its claims come from the browser: it never says who somebody is.
"""

import hashlib
import hmac
import math
import re
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import jwt
import sqlalchemy as sa
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from jwt.types import Options
from pydantic import SecretStr

from fairlead.kernel import telemetry
from fairlead.kernel.errors import InvalidInput, SettingsInvalid, Unauthenticated
from fairlead.kernel.projects.accounts import insert_into
from fairlead.kernel.projects.tokens import SigningKey
from fairlead.kernel.settings import ZendeskInstallationSettings
from fairlead.support.model import Agent, AgentRole
from fairlead.support.tables import used_tokens

LEEWAY_S = 30  # clocks differ
MAX_AGE_S = 5 * 60  # of a signed URL, and the longest that a proxy token may live
SESSION_GRACE_S = 5 * 60  # an expired session can still be renewed for so long
SESSION_LIFETIME_S = 12 * 3600  # then the app has to be opened again, however often it was renewed
TOKEN_MAX_CHARS = 8 * 1024
SESSION_PREFIX = "fls_"
PRODUCTS = frozenset({"support"})
LOCATIONS = frozenset({"ticket_sidebar"})  # those of the manifest
_KEY_BITS = 2048
_SECRET_BYTES = 32
_ISSUER, _AUDIENCE = "fairlead", "fairlead:support"
_ID = re.compile(r"[1-9][0-9]{0,19}")
_KEPT_BEYOND_END = timedelta(hours=1)  # signatures that were used: servers' clocks differ


_SESSION_CLAIMS = (
    "iss", "aud", "sub", "installation", "project", "role", "jti", "iat", "auth_time", "exp",
)  # fmt: skip


class InstallationInvalid(SettingsInvalid):
    """An installation of the Zendesk app is not set up rightly."""

    code = "support.installation_invalid"


class InstallationUnknown(Unauthenticated):
    """This installation of the Zendesk app is not, or no longer, known to this server."""

    code = "auth.installation_unknown"


class ZendeskTokenInvalid(Unauthenticated):
    """The token is not one that Zendesk made for this server."""

    code = "auth.zendesk_token_invalid"


class ZendeskTokenExpired(Unauthenticated):
    """The token of Zendesk is too old."""

    code = "auth.zendesk_token_expired"


class ZendeskTokenReplayed(Unauthenticated):
    """The token of Zendesk was used before."""

    code = "auth.zendesk_token_replayed"


class AgentSessionInvalid(Unauthenticated):
    """The session is not one that this server opened."""

    code = "auth.agent_session_invalid"


class AgentSessionExpired(Unauthenticated):
    """The agent's session has expired."""

    code = "auth.agent_session_expired"


class ZendeskIdInvalid(InvalidInput):
    """This is no id of a ticket, user or organization in Zendesk."""

    code = "support.zendesk_id_invalid"


# --- installations -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Installation:
    """One installation of the app in one Zendesk, its key read and checked."""

    id: str
    project_id: str
    subdomain: str
    public_key: RSAPublicKey = field(repr=False)
    shared_secret: SecretStr
    app_origin: str | None = None  # where the app's page comes from, if not from this server
    api_url: str
    api_email: str | None = None
    api_token: SecretStr | None = None

    @property
    def origin(self) -> str:
        """The origin of the Zendesk around the app: "https://acme.zendesk.com"."""
        return f"https://{self.subdomain}.zendesk.com"

    @property
    def audience(self) -> str:
        """Whom Zendesk makes this installation's tokens for."""
        return f"{self.origin}/api/v2/apps/installations/{self.id}.json"

    @property
    def issuers(self) -> tuple[str, str]:
        """What Zendesk calls itself in them."""
        return f"{self.subdomain}.zendesk.com", self.origin

    @property
    def has_api(self) -> bool:
        """Whether tickets and users can be looked up."""
        return self.api_email is not None and self.api_token is not None


@dataclass(frozen=True, slots=True)
class Installations:
    """All installations of the settings, by id."""

    by_id: Mapping[str, Installation]

    def of(self, agent: Agent) -> Installation:
        """The agent's installation, as the settings are now. Raises InstallationUnknown."""
        found = self.by_id.get(agent.installation)
        if found is None or found.project_id != agent.project_id:
            raise InstallationUnknown(
                remedy="Reload the ticket; if that does not help, ask an administrator."
            )
        return found

    def in_project(self, project_id: str) -> tuple[Installation, ...]:
        """Those whose agents work for the project."""
        return tuple(one for one in self.by_id.values() if one.project_id == project_id)


def read_installations(given: Iterable[ZendeskInstallationSettings]) -> Installations:
    """The installations of the settings, their keys read. Raises InstallationInvalid."""
    found: dict[str, Installation] = {}
    for one in given:
        installation = _installation(one)
        for other in found.values():
            _check_apart(installation, other)
        found[installation.id] = installation
    return Installations(found)


def _installation(given: ZendeskInstallationSettings) -> Installation:
    if len(given.shared_secret.get_secret_value().encode()) < _SECRET_BYTES:
        raise _invalid(
            given.id, f"shared_secret is shorter than {_SECRET_BYTES} bytes", "openssl rand -hex 32"
        )
    if (given.api_email is None) != (given.api_token is None):
        raise _invalid(given.id, "api_email and api_token belong together", "set both or none")
    return Installation(
        id=given.id,
        project_id=given.project,
        subdomain=given.subdomain,
        public_key=_public_key(given.id, given.public_key_file),
        shared_secret=given.shared_secret,
        app_origin=given.app_origin,
        api_url=_api_url(given),
        api_email=given.api_email,
        api_token=given.api_token,
    )


def _public_key(installation: str, path: Path) -> RSAPublicKey:
    try:
        key = load_pem_public_key(path.read_bytes())
    except OSError as error:
        raise _invalid(
            installation, f"{path} cannot be read: {error.strerror}", "check the path and its permissions"
        ) from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise _invalid(
            installation, f"{path} holds no public key in PEM form", "download it again"
        ) from error
    if not isinstance(key, RSAPublicKey) or key.key_size < _KEY_BITS:
        raise _invalid(
            installation, f"{path} holds no RSA key of {_KEY_BITS} bits or more", "download it again"
        )
    return key


def _api_url(given: ZendeskInstallationSettings) -> str:
    url = given.api_url or f"https://{given.subdomain}.zendesk.com"
    parts = urlsplit(url)
    loopback = parts.scheme == "http" and parts.hostname in ("127.0.0.1", "::1", "localhost")
    plain = not (parts.path.strip("/") or parts.query or parts.fragment or parts.username)
    if not parts.hostname or not plain or not (parts.scheme == "https" or loopback):
        raise _invalid(
            given.id, "api_url is not https with a host name and nothing behind it", "leave it out"
        )
    return f"{parts.scheme}://{parts.netloc}"


def _check_apart(one: Installation, other: Installation) -> None:
    if one.id == other.id:
        raise _invalid(one.id, "it is listed twice", "remove one")
    if one.shared_secret == other.shared_secret:
        raise _invalid(one.id, f"its shared_secret is that of {other.id}", "give each its own")
    if one.project_id == other.project_id and one.subdomain != other.subdomain:
        # Tickets are numbered from 1 in each Zendesk: bindings of one would count in the other.
        raise _invalid(
            one.id,
            f"project {one.project_id!r} belongs to {other.subdomain}.zendesk.com already",
            "give each Zendesk a project of its own",
        )


def _invalid(installation: str, what: str, remedy: str) -> InstallationInvalid:
    return InstallationInvalid(
        f"support.installations, {installation}: {what}.",
        remedy=f"{remedy[0].upper()}{remedy[1:]}; see docs/how-to/support-zendesk-setup.md.",
        installation=installation,
    )


def zendesk_id(value: object, what: str = "id") -> str:
    """`value` if it is an id as Zendesk gives them: digits, no leading zero. Raises ZendeskIdInvalid."""
    if isinstance(value, str) and _ID.fullmatch(value):
        return value
    raise ZendeskIdInvalid(
        f"{what}: up to 20 digits are expected.", remedy="Take it from the page's address."
    )


def _options(*required: str) -> Options:
    """How tokens are decoded; moments are compared here, with the caller's `now`."""
    return {
        "strict_aud": True,  # one audience, no list of them
        "require": list(required),
        "verify_exp": False,
        "verify_nbf": False,
        "verify_iat": False,
        "verify_sub": False,
    }


# --- signed URLs ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Vouched:
    """Somebody for whom Zendesk's signature vouches, and that signature's digest."""

    installation: Installation
    user: str
    digest: str = field(repr=False)  # SHA-256 of the signature
    expires_at: datetime  # from then on the token is refused for its age alone


def verify_signed_url(installations: Installations, token: str, *, now: datetime) -> Vouched:
    """Whom the `token` of a signed URL vouches for at `now`; `claim` then makes sure it is used once.

    Raises ZendeskTokenInvalid or ZendeskTokenExpired.
    """
    installation = _addressed_to(installations, token)
    try:
        found = jwt.decode_complete(
            token,
            installation.public_key,
            algorithms=["RS256"],
            audience=installation.audience,
            options=_options("exp", "iat", "nbf", "iss", "aud", "sub"),
        )
    except (jwt.InvalidTokenError, ValueError) as error:
        raise _refused(type(error).__name__) from None
    body: Mapping[str, Any] = found["payload"]
    issued, expires = _check_times(body, now)
    if body["iss"] not in installation.issuers:
        raise _refused("issuer")
    _check_context(body.get("context"))
    last_s = min(expires, issued + MAX_AGE_S) + LEEWAY_S
    return Vouched(
        installation=installation,
        user=_user(body["sub"], installation),
        digest=hashlib.sha256(found["signature"]).hexdigest(),
        expires_at=datetime.fromtimestamp(last_s, UTC),
    )


def _addressed_to(installations: Installations, token: str) -> Installation:
    """The installation that the token *says* it is for: chooses the pinned key to verify it with."""
    if len(token) > TOKEN_MAX_CHARS:
        raise _refused("size")
    try:
        audience = jwt.decode(token, options={"verify_signature": False}).get("aud")
    except (jwt.InvalidTokenError, ValueError) as error:
        raise _refused(type(error).__name__) from None
    for one in installations.by_id.values():
        if audience == one.audience:
            return one
    raise _refused("audience")


def _check_times(body: Mapping[str, Any], now: datetime) -> tuple[int, int]:
    """(iat, exp) of a token that is valid at `now`."""
    issued, begins, expires = (_moment(body, name) for name in ("iat", "nbf", "exp"))
    at = now.timestamp()
    if at < issued - LEEWAY_S or at < begins - LEEWAY_S:
        raise _refused("not_yet_valid")
    if at >= expires + LEEWAY_S or at - issued > MAX_AGE_S:
        raise ZendeskTokenExpired(remedy="Reload the ticket.")
    return issued, expires


def _moment(body: Mapping[str, Any], name: str) -> int:
    value = body[name]
    # Booleans are integers to Python, and no number of seconds has more digits than this.
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < 10**11:
        raise _refused("times")
    return value


def _check_context(context: object) -> None:
    if not isinstance(context, dict):
        raise _refused("context")
    product, location = context.get("product"), context.get("location")
    # Lists cannot be looked up in a set.
    if not isinstance(product, str) or not isinstance(location, str):
        raise _refused("context")
    if product not in PRODUCTS or location not in LOCATIONS:
        raise _refused("context")


def _user(subject: object, installation: Installation) -> str:
    """The user's id; Zendesk may also name the user by address."""
    text = str(subject) if isinstance(subject, int) and not isinstance(subject, bool) else subject
    if isinstance(text, str):
        text = text.removeprefix(f"{installation.origin}/api/v2/users/").removesuffix(".json")
        if _ID.fullmatch(text):
            return text
    raise _refused("subject")


def _refused(reason: str) -> ZendeskTokenInvalid:
    """One message for every reason: the log has it, and a forger does not."""
    telemetry.count("fairlead_support_tokens_refused_total", labels={"reason": reason})
    telemetry.log.warning("support.zendesk_assertion_refused", reason=reason)
    return ZendeskTokenInvalid(
        remedy="Reload the ticket; if that does not help, ask an administrator to check the installation."
    )


def claim(connection: sa.Connection, vouched: Vouched, *, now: datetime) -> None:
    """Use up the token; of any number at once one succeeds. Raises ZendeskTokenReplayed."""
    connection.execute(sa.delete(used_tokens).where(used_tokens.c.expires_at < now - _KEPT_BEYOND_END))
    first = (
        insert_into(connection, used_tokens)
        .values(digest=vouched.digest, expires_at=vouched.expires_at)
        .on_conflict_do_nothing()
        .returning(used_tokens.c.digest)
    )
    if connection.execute(first).first() is None:
        raise ZendeskTokenReplayed(remedy="Reload the ticket.")


# --- proxy tokens --------------------------------------------------------------------------------


def verify_proxy_token(installation: Installation, token: str, *, now: datetime) -> None:
    """Check that `token` was signed with the installation's secret a moment ago; it proves nothing else.

    It is not used up: Zendesk signs the same bytes for two agents in one second. Raises ZendeskTokenInvalid
    or ZendeskTokenExpired.
    """
    if len(token) > TOKEN_MAX_CHARS:
        raise _refused("size")
    try:
        body: Mapping[str, Any] = jwt.decode(
            token,
            installation.shared_secret.get_secret_value(),
            algorithms=["HS256"],
            options={**_options("exp"), "verify_aud": False},
        )
    except (jwt.InvalidTokenError, ValueError) as error:
        raise _refused(type(error).__name__) from None
    expires = _moment(body, "exp")
    at = now.timestamp()
    if at >= expires + LEEWAY_S:
        raise ZendeskTokenExpired(remedy="Try again.")
    if expires - at > MAX_AGE_S + LEEWAY_S:
        raise _refused("lifetime")


# --- our own sessions ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """What an agent's session token says."""

    id: str
    agent: Agent  # the role is that of the moment when the token was made
    opened_at: datetime  # when a signed URL proved who it is; renewing does not change it
    expires_at: datetime


def _session_key(key: SigningKey) -> bytes:
    return hmac.digest(key.value, b"fairlead support agent sessions", "sha256")


def issue_session(
    key: SigningKey, agent: Agent, now: datetime, ttl_s: float, *, opened_at: datetime | None = None
) -> str:
    """A session token for `agent`, valid for `ttl_s` seconds, and no longer than the whole session may last.

    `opened_at`: when who it is was proved, for a renewal; default: now.
    """
    opened = opened_at or now
    expires = min(now.timestamp() + ttl_s, opened.timestamp() + SESSION_LIFETIME_S)
    body = {
        "iss": _ISSUER,
        "aud": _AUDIENCE,
        "sub": agent.user,
        "installation": agent.installation,
        "project": agent.project_id,
        "role": agent.role.value,
        "jti": uuid.uuid4().hex,
        "iat": int(now.timestamp()),
        "auth_time": int(opened.timestamp()),
        "exp": math.floor(expires),
    }
    return SESSION_PREFIX + jwt.encode(body, _session_key(key), algorithm="HS256")


def read_session(key: SigningKey, token: str, now: datetime, *, grace_s: float = 0) -> Session:
    """What a session token proves at `now`. Check the installation too: `Installations.of(session.agent)`.

    `grace_s` lets one that has expired by no more than so many seconds pass, for renewing it. Raises
    AgentSessionInvalid or AgentSessionExpired.
    """
    if not token.startswith(SESSION_PREFIX) or len(token) > TOKEN_MAX_CHARS:
        raise AgentSessionInvalid(remedy="Reload the ticket.")
    try:
        body: dict[str, Any] = jwt.decode(
            token.removeprefix(SESSION_PREFIX),
            _session_key(key),
            algorithms=["HS256"],
            audience=_AUDIENCE,
            issuer=_ISSUER,
            options=_options(*_SESSION_CLAIMS),
        )
        session = _session(body)
    except (jwt.InvalidTokenError, ValueError, TypeError, OverflowError):
        raise AgentSessionInvalid(remedy="Reload the ticket.") from None
    if now >= session.expires_at + timedelta(seconds=grace_s):
        raise AgentSessionExpired(remedy="Renew the session, or reload the ticket.")
    return session


def _session(body: Mapping[str, Any]) -> Session:
    return Session(
        id=body["jti"],
        agent=Agent(
            installation=body["installation"],
            user=body["sub"],
            project_id=body["project"],
            role=AgentRole(body["role"]),
        ),
        opened_at=datetime.fromtimestamp(body["auth_time"], UTC),
        expires_at=datetime.fromtimestamp(body["exp"], UTC),
    )


def renewable(
    key: SigningKey, installations: Installations, *, session_token: str, proxy_token: str, now: datetime
) -> Session:
    """The session to renew: identity comes from it, that its installation asks from the proxy's token.

    Raises AgentSessionInvalid, AgentSessionExpired (also after the longest that a session lasts),
    InstallationUnknown, ZendeskTokenInvalid (also for another installation's token), ZendeskTokenExpired.
    """
    session = read_session(key, session_token, now, grace_s=SESSION_GRACE_S)
    verify_proxy_token(installations.of(session.agent), proxy_token, now=now)
    if (now - session.opened_at).total_seconds() >= SESSION_LIFETIME_S:
        raise AgentSessionExpired(remedy="Reload the ticket.")
    return session
