"""Forms of credentials: signed access tokens (JWT), and opaque secrets of which only a digest is stored."""

import hashlib
import hmac
import os
import secrets
import tempfile
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import jwt

from fairlead.kernel.errors import SettingsInvalid, Unauthenticated

API_TOKEN_PREFIX = "fl_"  # noqa: S105 - a prefix, not a password
REFRESH_PREFIX = "flr_"
_ISSUER = "fairlead"
_ALGORITHM = "HS256"
_KEY_BYTES = 32


class TokenExpired(Unauthenticated):
    """The access token has expired."""

    code = "auth.token_expired"


class SigningKeyInvalid(SettingsInvalid):
    """The key that signs access tokens cannot be used."""

    code = "auth.signing_key_invalid"


@dataclass(frozen=True, slots=True)
class SigningKey:
    """The server's key; its repr hides it. Each use takes a key derived for that use."""

    value: bytes

    @property
    def for_access_tokens(self) -> bytes:
        """The derived key that signs access tokens."""
        return hmac.digest(self.value, b"fairlead access tokens", "sha256")

    def __repr__(self) -> str:
        """Never the key."""
        return "SigningKey(...)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    """What a valid access token says."""

    user_id: str
    session_id: str


def load_signing_key(path: Path) -> SigningKey:
    """The key in the file `path`, made (mode 0600) if there is none; processes that race get the same one.

    Raises SigningKeyInvalid when others can read the file, it is too short or cannot be reached.
    """
    try:
        if not path.exists():
            _create_key(path)
        if path.stat().st_mode & 0o077:
            raise SigningKeyInvalid(
                f"Other users of this machine can read {path}.", remedy=f"Run: chmod 600 {path}"
            )
        value = path.read_bytes()
    except OSError as error:
        raise SigningKeyInvalid(
            f"The signing key {path} cannot be used: {error.strerror}.",
            remedy="Check that the data folder exists, is writable and has room.",
        ) from error
    if len(value) < _KEY_BYTES:
        raise SigningKeyInvalid(
            f"The signing key {path} is shorter than {_KEY_BYTES} bytes.",
            remedy="Remove the file; a new one is made and everyone logs in again.",
        )
    return SigningKey(value)


def _create_key(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor, draft = tempfile.mkstemp(dir=path.parent, prefix=".key-")  # mode 0600
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_bytes(_KEY_BYTES))
            file.flush()
            os.fsync(file.fileno())
        # A hard link appears whole or not at all, and never over an existing file.
        os.link(draft, path)
    except FileExistsError:
        pass  # another process was first; its key is the key
    finally:
        Path(draft).unlink()


def access_token(key: SigningKey, claims: Claims, *, now: datetime, lifetime_s: int) -> str:
    """A signed token that proves `claims` until `now` + `lifetime_s`."""
    issued = int(now.timestamp())
    body = {
        "iss": _ISSUER,
        "sub": claims.user_id,
        "sid": claims.session_id,
        "iat": issued,
        "exp": issued + lifetime_s,
    }
    return jwt.encode(body, key.for_access_tokens, algorithm=_ALGORITHM)


def read_access_token(key: SigningKey, token: str, *, now: datetime) -> Claims:
    """What `token` proves at `now`. Raises TokenExpired, or Unauthenticated for anything we did not sign."""
    try:
        # Expiry is compared below with the caller's `now`; the algorithm is ours, never the token's choice.
        body: dict[str, Any] = jwt.decode(
            token,
            key.for_access_tokens,
            algorithms=[_ALGORITHM],
            issuer=_ISSUER,
            options={"require": ["exp", "iat", "sub", "sid"], "verify_exp": False, "verify_iat": False},
        )
    except (jwt.InvalidTokenError, ValueError):
        raise Unauthenticated("The access token is not valid.", remedy="Log in again.") from None
    expires, session = body["exp"], body["sid"]
    if not isinstance(expires, int) or not isinstance(session, str):
        raise Unauthenticated("The access token is not valid.", remedy="Log in again.")
    if now.timestamp() >= expires:
        raise TokenExpired(remedy="Refresh the session, or log in again.")
    return Claims(user_id=body["sub"], session_id=session)


def new_secret(prefix: str) -> str:
    """An opaque credential: `prefix` and 256 random bits."""
    return prefix + secrets.token_urlsafe(32)


def digest(secret: str) -> str:
    """What is stored of an opaque credential. 256 random bits need no slow hash."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()
