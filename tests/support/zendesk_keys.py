"""Zendesk's side of identity: real keys, made once per test process, and tokens as Zendesk signs them."""

from collections.abc import Collection, Mapping
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from fairlead.kernel.clock import utc_now
from fairlead.kernel.settings import ZendeskInstallationSettings
from fairlead.support.zendesk import Installation

INSTALLATION, PROJECT, SUBDOMAIN = "360001234567", "acme", "acme"
SECRET = "f0" * 32  # the app's setting shared_secret
USER = "361507770001"
AnyInstallation = Installation | ZendeskInstallationSettings


def private_key(name: str = "zendesk") -> RSAPrivateKey:
    """A key pair; another name, another pair."""
    return _made(name)


@cache
def _made(name: str) -> RSAPrivateKey:  # the name tells them apart
    return generate_private_key(public_exponent=65537, key_size=2048)


def public_pem(name: str = "zendesk") -> bytes:
    """What `GET /api/v2/apps/ID/public_key.pem` would answer."""
    return private_key(name).public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def installation_settings(folder: Path, **values: Any) -> ZendeskInstallationSettings:
    """Settings of one installation, its public key written into `folder`."""
    key = values.pop("key", "zendesk")
    path = folder / f"{key}.pem"
    path.write_bytes(public_pem(key))
    given = {"id": INSTALLATION, "project": PROJECT, "subdomain": SUBDOMAIN, "shared_secret": SECRET}
    return ZendeskInstallationSettings.model_validate({**given, "public_key_file": path, **values})


def claims_of(installation: AnyInstallation, user: str, now: datetime) -> dict[str, Any]:
    """The claims of a signed URL."""
    host, at = f"{installation.subdomain}.zendesk.com", int(now.timestamp())
    return {
        "iss": host,
        "aud": f"https://{host}/api/v2/apps/installations/{installation.id}.json",
        "sub": user,
        "iat": at,
        "nbf": at,
        "exp": at + 3600,
        "cnf": {"jku": f"https://{host}/api/v2/apps/{installation.id}/public_keys"},
        "qsh": "0" * 64,
        "context": {"product": "support", "location": "ticket_sidebar"},
    }


def signed_url_token(
    installation: AnyInstallation,
    user: str = USER,
    /,
    *,
    now: datetime | None = None,
    key: Any = None,
    algorithm: str = "RS256",
    headers: Mapping[str, Any] | None = None,
    omit: Collection[str] = (),
    **claims: Any,
) -> str:
    """The `token` of a signed URL; `claims` replace what Zendesk would say, `omit` leaves claims out."""
    body = {**claims_of(installation, user, now or utc_now()), **claims}
    for name in omit:
        del body[name]
    signing = private_key() if key is None else key
    return jwt.encode(body, signing, algorithm=algorithm, headers=dict(headers or {}))


def proxy_token(
    installation: AnyInstallation,
    /,
    *,
    now: datetime | None = None,
    expiry_s: float = 60,
    secret: str | None = None,
    algorithm: str = "HS256",
    **claims: Any,
) -> str:
    """What Zendesk's proxy puts in place of `{{jwt.token}}`; `claims` are the browser's."""
    at = int((now or utc_now()).timestamp())
    given = installation.shared_secret.get_secret_value() if secret is None else secret
    return jwt.encode({"iat": at, "exp": at + int(expiry_s), **claims}, given, algorithm=algorithm)
