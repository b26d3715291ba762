"""Who is calling from Zendesk: every token that must not pass, and that a right one passes once."""

import base64
import hashlib
import hmac
import json
import threading
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jwt
import pytest
import sqlalchemy as sa
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1
from cryptography.hazmat.primitives.asymmetric.ec import generate_private_key as generate_ec_key
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from fairlead.kernel.db import Database
from fairlead.kernel.projects.tokens import Claims, SigningKey, access_token
from fairlead.support.model import Agent, AgentRole
from fairlead.support.tables import used_tokens
from fairlead.support.zendesk import (
    MAX_AGE_S,
    SESSION_GRACE_S,
    SESSION_LIFETIME_S,
    SESSION_PREFIX,
    AgentSessionExpired,
    AgentSessionInvalid,
    Installation,
    InstallationInvalid,
    Installations,
    InstallationUnknown,
    ZendeskIdInvalid,
    ZendeskTokenExpired,
    ZendeskTokenInvalid,
    ZendeskTokenReplayed,
    claim,
    issue_session,
    read_installations,
    read_session,
    renewable,
    verify_proxy_token,
    verify_signed_url,
    zendesk_id,
)
from tests.support.zendesk_keys import (
    INSTALLATION,
    PROJECT,
    SECRET,
    USER,
    claims_of,
    installation_settings,
    private_key,
    proxy_token,
    public_pem,
    signed_url_token,
)

NOW = datetime(2026, 11, 20, 10, 0, 0, tzinfo=UTC)
AT = int(NOW.timestamp())
KEY = SigningKey(b"s" * 32)
OTHER = "360007654321"  # an installation of the same server in another Zendesk


@pytest.fixture(scope="module")
def installations(tmp_path_factory: pytest.TempPathFactory) -> Installations:
    folder = tmp_path_factory.mktemp("keys")
    other = {"id": OTHER, "project": "globex", "subdomain": "globex", "shared_secret": "9e" * 32}
    return read_installations(
        [installation_settings(folder), installation_settings(folder, key="globex", **other)]
    )


@pytest.fixture
def acme(installations: Installations) -> Installation:
    return installations.by_id[INSTALLATION]


def signed(header: dict[str, Any], body: dict[str, Any], sign: Callable[[bytes], bytes]) -> str:
    """A token of any form, also of forms that no library would make."""
    parts = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in (header, body)]
    signature = base64.urlsafe_b64encode(sign(b".".join(parts))).rstrip(b"=")
    return b".".join([*parts, signature]).decode()


def hs256(secret: bytes) -> Callable[[bytes], bytes]:
    return lambda message: hmac.new(secret, message, hashlib.sha256).digest()


# --- signed URLs ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "claims",
    [
        {},
        {"iss": "https://acme.zendesk.com"},
        {"iat": AT - MAX_AGE_S},
        {"exp": AT - 29},
        {"nbf": AT + 30, "iat": AT + 30},
        {"sub": int(USER)},
        {"sub": f"https://acme.zendesk.com/api/v2/users/{USER}.json"},
        {"cnf": {"jku": "https://evil.example/keys"}},
    ],
    ids=[
        "as Zendesk says it",
        "issuer with its scheme",
        "five minutes old",
        "expired within the leeway",
        "ahead within the leeway",
        "user as a number",
        "user by address",
        "a key address in cnf is ignored",
    ],
)
def test_a_signed_url_proves_its_user(installations: Installations, claims: dict[str, Any]) -> None:
    acme = installations.by_id[INSTALLATION]
    vouched = verify_signed_url(installations, signed_url_token(acme, now=NOW, **claims), now=NOW)
    assert (vouched.installation.id, vouched.user) == (INSTALLATION, USER)
    assert len(vouched.digest) == 64


@pytest.mark.parametrize(
    "headers",
    [
        {"kid": "../../etc/passwd"},
        {"jku": "https://evil.example/keys.json"},
        {"x5u": "https://evil.example/cert.pem"},
        {"jwk": {"kty": "RSA", "n": "AQAB", "e": "AQAB"}},
    ],
    ids=lambda headers: next(iter(headers)),
)
def test_what_a_header_says_about_keys_changes_nothing(
    installations: Installations, headers: dict[str, Any]
) -> None:
    acme = installations.by_id[INSTALLATION]
    right = signed_url_token(acme, now=NOW, headers=headers)
    assert verify_signed_url(installations, right, now=NOW).user == USER
    with pytest.raises(ZendeskTokenInvalid):
        verify_signed_url(
            installations, signed_url_token(acme, now=NOW, headers=headers, key=private_key("evil")), now=NOW
        )


WRONG_CLAIMS: dict[str, dict[str, Any]] = {
    "audience of another installation in this Zendesk": {
        "aud": "https://acme.zendesk.com/api/v2/apps/installations/1.json"
    },
    "audience in capitals": {
        "aud": f"https://ACME.zendesk.com/api/v2/apps/installations/{INSTALLATION}.json"
    },
    "audience without .json": {"aud": f"https://acme.zendesk.com/api/v2/apps/installations/{INSTALLATION}"},
    "audience in a list": {
        "aud": [f"https://acme.zendesk.com/api/v2/apps/installations/{INSTALLATION}.json"]
    },
    "audience that only begins rightly": {
        "aud": f"https://acme.zendesk.com/api/v2/apps/installations/{INSTALLATION}.json.evil"
    },
    "another Zendesk's issuer": {"iss": "globex.zendesk.com"},
    "issuer over http": {"iss": "http://acme.zendesk.com"},
    "issuer with a slash": {"iss": "https://acme.zendesk.com/"},
    "issuer as a suffix": {"iss": "evil-acme.zendesk.com"},
    "not yet valid": {"nbf": AT + 31},
    "made in the future": {"iat": AT + 31},
    "moment as text": {"exp": str(AT + 600)},
    "moment as a fraction": {"exp": AT + 600.5},
    "moment as a truth": {"iat": True},
    "moment beyond any calendar": {"exp": 10**30},
    "no subject's digits": {"sub": "agent@acme.example"},
    "subject with a sign": {"sub": "-1"},
    "subject of another Zendesk": {"sub": "https://globex.zendesk.com/api/v2/users/1.json"},
    "subject in other digits": {"sub": "\uff13\uff16\uff11"},
    "subject as an object": {"sub": {"id": USER}},
    "product that is not support": {"context": {"product": "chat", "location": "ticket_sidebar"}},
    "place that the manifest has not": {"context": {"product": "support", "location": "nav_bar"}},
    "places in a list": {"context": {"product": "support", "location": ["ticket_sidebar"]}},
    "context as text": {"context": "support ticket_sidebar"},
    "context as null": {"context": None},
}


@pytest.mark.parametrize("claims", WRONG_CLAIMS.values(), ids=WRONG_CLAIMS.keys())
def test_a_rightly_signed_token_with_wrong_claims_is_refused(
    installations: Installations, claims: dict[str, Any]
) -> None:
    token = signed_url_token(installations.by_id[INSTALLATION], now=NOW, **claims)
    with pytest.raises(ZendeskTokenInvalid):
        verify_signed_url(installations, token, now=NOW)


@pytest.mark.parametrize("name", ["exp", "iat", "nbf", "iss", "aud", "sub", "context"])
def test_every_claim_is_required(installations: Installations, name: str) -> None:
    token = signed_url_token(installations.by_id[INSTALLATION], now=NOW, omit=[name])
    with pytest.raises(ZendeskTokenInvalid):
        verify_signed_url(installations, token, now=NOW)


@pytest.mark.parametrize(
    "claims",
    [{"exp": AT - 30}, {"iat": AT - MAX_AGE_S - 1}, {"iat": AT - MAX_AGE_S - 1, "exp": AT + 10**6}],
    ids=["expired", "too old", "too old, however long it means to live"],
)
def test_an_old_token_is_refused_as_old(installations: Installations, claims: dict[str, Any]) -> None:
    token = signed_url_token(installations.by_id[INSTALLATION], now=NOW, **claims)
    with pytest.raises(ZendeskTokenExpired):
        verify_signed_url(installations, token, now=NOW)


def forged(acme: Installation) -> dict[str, str]:
    body, pem = claims_of(acme, USER, NOW), public_pem()
    right = signed_url_token(acme, now=NOW)
    head, payload, signature = right.split(".")
    der = private_key().public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    ec = generate_ec_key(SECP256R1())
    changed = base64.urlsafe_b64encode(json.dumps({**body, "sub": "1"}).encode()).rstrip(b"=").decode()
    return {
        "alg none without a signature": signed({"alg": "none"}, body, lambda _: b""),
        "alg None in other capitals": signed({"alg": "nOnE"}, body, lambda _: b""),
        "alg none with a right signature": signed(
            {"alg": "none"}, body, lambda _: base64.urlsafe_b64decode(signature + "==")
        ),
        "no alg": signed({}, body, lambda _: b""),
        "issuer in a list": signed(
            {"alg": "RS256"},
            {**body, "iss": ["acme.zendesk.com"]},
            lambda message: private_key().sign(message, PKCS1v15(), SHA256()),
        ),
        "alg as a list": signed({"alg": ["RS256"]}, body, hs256(pem)),
        "HS256 with the public key as PEM": signed({"alg": "HS256"}, body, hs256(pem)),
        "HS256 with the public key as PEM without its last line break": signed(
            {"alg": "HS256"}, body, hs256(pem.strip())
        ),
        "HS256 with the public key as DER": signed({"alg": "HS256"}, body, hs256(der)),
        "HS256 with the shared secret": jwt.encode(body, SECRET, algorithm="HS256"),
        "HS256 with an empty secret": signed({"alg": "HS256"}, body, hs256(b"")),
        "another RSA key": signed_url_token(acme, now=NOW, key=private_key("evil")),
        "the key of another installation": signed_url_token(acme, now=NOW, key=private_key("globex")),
        "RS512 with the right key": signed_url_token(acme, now=NOW, algorithm="RS512"),
        "PS256 with the right key": signed_url_token(acme, now=NOW, algorithm="PS256"),
        "ES256": signed_url_token(acme, now=NOW, algorithm="ES256", key=ec),
        "a header that says it is critical": signed_url_token(
            acme, now=NOW, headers={"crit": ["own"], "own": 1}
        ),
        "a detached payload": f"{head}..{signature}",
        "claims changed behind the signature": f"{head}.{changed}.{signature}",
        "signature cut": right[:-8],
        "signature of zeros": f"{head}.{payload}.{'A' * len(signature)}",
        "two parts": f"{head}.{payload}",
        "five parts": f"{right}.{payload}.{signature}",
        "nothing": "",
        "no token": "not a token",
        "no text": "\ud800.\x00.é",
        "a page of brackets": base64.urlsafe_b64encode(b"[" * 4000).decode() + ".e30.AA",
        "a megabyte": "A" * 1_000_000,
    }


def test_nothing_that_zendesk_did_not_sign_with_the_pinned_key_passes(
    installations: Installations, acme: Installation
) -> None:
    passed = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of keys that are short on purpose
        for name, token in forged(acme).items():
            try:
                verify_signed_url(installations, token, now=NOW)
                passed.append(name)
            except ZendeskTokenInvalid as error:
                assert error.message == "The token is not one that Zendesk made for this server.", name  # noqa: PT017
    assert passed == []


def test_a_signature_opens_one_session_and_the_next_one_too(database: Database, acme: Installation) -> None:
    installations = Installations({acme.id: acme})
    first, second = (signed_url_token(acme, user, now=NOW) for user in (USER, "77"))
    for token in (first, second):
        with database.transaction() as conn:
            claim(conn, verify_signed_url(installations, token, now=NOW), now=NOW)
    later = NOW + timedelta(minutes=4)
    # The same signature in another spelling is the same signature.
    for again in (first, f"{first}=="):
        with database.transaction() as conn, pytest.raises(ZendeskTokenReplayed):
            claim(conn, verify_signed_url(installations, again, now=later), now=later)


def test_of_many_that_hurry_with_one_token_one_succeeds(database: Database, acme: Installation) -> None:
    vouched = verify_signed_url(Installations({acme.id: acme}), signed_url_token(acme, now=NOW), now=NOW)
    crowd = 8
    barrier = threading.Barrier(crowd)

    def hurry(_: int) -> bool:
        barrier.wait(60)
        try:
            with database.transaction() as conn:
                claim(conn, vouched, now=NOW)
        except ZendeskTokenReplayed:
            return False
        return True

    with ThreadPoolExecutor(crowd) as pool:
        assert sorted(pool.map(hurry, range(crowd))) == [False] * (crowd - 1) + [True]


def test_a_used_signature_is_kept_until_its_token_is_too_old_to_pass(
    database: Database, acme: Installation
) -> None:
    installations = Installations({acme.id: acme})
    token = signed_url_token(acme, now=NOW)
    vouched = verify_signed_url(installations, token, now=NOW)
    with pytest.raises(ZendeskTokenExpired):
        verify_signed_url(installations, token, now=vouched.expires_at)
    with database.transaction() as conn:
        claim(conn, vouched, now=NOW)
    much_later = NOW + timedelta(hours=3)
    other = verify_signed_url(installations, signed_url_token(acme, now=much_later), now=much_later)
    with database.transaction() as conn:
        claim(conn, other, now=much_later)
        kept = conn.execute(sa.select(used_tokens.c.digest)).scalars().all()
    assert kept == [other.digest]


# --- proxy tokens --------------------------------------------------------------------------------


def test_a_proxy_token_proves_its_installation(acme: Installation) -> None:
    verify_proxy_token(acme, proxy_token(acme, now=NOW), now=NOW)
    verify_proxy_token(acme, proxy_token(acme, now=NOW, aud="anything", iss="anybody"), now=NOW)


def test_a_wrong_proxy_token_is_refused(installations: Installations, acme: Installation) -> None:
    other = installations.by_id[OTHER]
    body = {"exp": AT + 60}
    wrong = {
        "another installation's": proxy_token(other, now=NOW),
        "made with the public key": signed({"alg": "HS256"}, body, hs256(public_pem())),
        "alg none": signed({"alg": "none"}, body, lambda _: b""),
        "HS512": proxy_token(acme, now=NOW, algorithm="HS512"),
        "a signed URL's": signed_url_token(acme, now=NOW),
        "without an end": jwt.encode({"iat": AT}, SECRET, algorithm="HS256"),
        "with an end of text": jwt.encode({"exp": "soon"}, SECRET, algorithm="HS256"),
        "living for an hour": proxy_token(acme, now=NOW, expiry_s=3600),
        "empty": "",
        "a megabyte": "A" * 1_000_000,
    }
    passed = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # HS512 wants a longer secret
        for name, token in wrong.items():
            try:
                verify_proxy_token(acme, token, now=NOW)
                passed.append(name)
            except ZendeskTokenInvalid:
                pass
    assert passed == []


def test_an_expired_proxy_token_is_refused_as_old(acme: Installation) -> None:
    with pytest.raises(ZendeskTokenExpired):
        verify_proxy_token(acme, proxy_token(acme, now=NOW, expiry_s=-30), now=NOW)


# --- sessions ------------------------------------------------------------------------------------

AGENT = Agent(installation=INSTALLATION, user=USER, project_id=PROJECT, role=AgentRole.LEAD)


def test_a_session_says_who_opened_it_and_until_when() -> None:
    session = read_session(KEY, issue_session(KEY, AGENT, NOW, 900), NOW)
    assert session.agent == AGENT
    assert session.expires_at == NOW + timedelta(seconds=900)
    assert session.opened_at == NOW
    assert session.id != read_session(KEY, issue_session(KEY, AGENT, NOW, 900), NOW).id


def test_a_session_that_is_over_opens_nothing() -> None:
    token = issue_session(KEY, AGENT, NOW, 900)
    end = NOW + timedelta(seconds=900)
    read_session(KEY, token, end - timedelta(microseconds=1))
    with pytest.raises(AgentSessionExpired):
        read_session(KEY, token, end)


def test_a_session_of_another_making_is_refused() -> None:
    token = issue_session(KEY, AGENT, NOW, 900).removeprefix(SESSION_PREFIX)
    body = jwt.decode(token, options={"verify_signature": False})
    derived = hmac.digest(KEY.value, b"fairlead support agent sessions", "sha256")
    again = {name: {**body, name: value} for name, value in [("role", "root"), ("aud", "x"), ("iss", "x")]}
    wrong = {
        "without its prefix": token,
        "of another server": issue_session(SigningKey(b"t" * 32), AGENT, NOW, 900),
        "signed with the server's key itself": jwt.encode(body, KEY.value, algorithm="HS256"),
        "signed with the key of access tokens": jwt.encode(body, KEY.for_access_tokens, algorithm="HS256"),
        "a user's access token": access_token(
            KEY, Claims(user_id="u", session_id="s"), now=NOW, lifetime_s=900
        ),
        "alg none": signed({"alg": "none"}, body, lambda _: b""),
        "HS512": signed({"alg": "HS512"}, body, lambda m: hmac.digest(derived, m, "sha512")),
        "a signed URL's token": signed_url_token(installation_like(), now=NOW),
        **{f"wrong {name}": jwt.encode(one, derived, algorithm="HS256") for name, one in again.items()},
        **{
            f"without {name}": jwt.encode(
                {key: value for key, value in body.items() if key != name}, derived, algorithm="HS256"
            )
            for name in body
        },
        "moments of text": jwt.encode({**body, "exp": "later"}, derived, algorithm="HS256"),
        "beyond any calendar": jwt.encode({**body, "exp": 10**300}, derived, algorithm="HS256"),
        "empty": "",
        "a megabyte": "A" * 1_000_000,
    }
    passed = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, one in wrong.items():
            for spelled in {one, SESSION_PREFIX + one.removeprefix(SESSION_PREFIX)} - {
                SESSION_PREFIX + token
            }:
                try:
                    read_session(KEY, spelled, NOW)
                    passed.append(name)
                except AgentSessionInvalid:
                    pass
    assert passed == []


def installation_like() -> Any:
    class Named:
        id, subdomain = INSTALLATION, "acme"

    return Named


def renew(installations: Installations, token: str, proxy: str, now: datetime) -> Agent:
    return renewable(KEY, installations, session_token=token, proxy_token=proxy, now=now).agent


def test_who_a_renewed_session_is_for_stands_in_the_old_one(
    installations: Installations, acme: Installation
) -> None:
    token = issue_session(KEY, AGENT, NOW, 900)
    # The browser writes these claims; nobody reads them.
    lying = proxy_token(acme, now=NOW, sub="1", user="1", role="administrator", installation=OTHER)
    assert renew(installations, token, lying, NOW) == AGENT


def test_an_expired_session_is_renewed_within_its_grace_only(
    installations: Installations, acme: Installation
) -> None:
    token = issue_session(KEY, AGENT, NOW, 900)
    end = NOW + timedelta(seconds=900 + SESSION_GRACE_S)
    just = end - timedelta(seconds=1)
    assert renew(installations, token, proxy_token(acme, now=just), just) == AGENT
    with pytest.raises(AgentSessionExpired):
        renew(installations, token, proxy_token(acme, now=end), end)


def test_renewing_goes_on_for_no_longer_than_a_working_day(
    installations: Installations, acme: Installation
) -> None:
    late = NOW + timedelta(seconds=SESSION_LIFETIME_S - 60)
    token = issue_session(KEY, AGENT, late, 900, opened_at=NOW)
    assert read_session(KEY, token, late).expires_at == NOW + timedelta(seconds=SESSION_LIFETIME_S)
    after = NOW + timedelta(seconds=SESSION_LIFETIME_S)
    with pytest.raises(AgentSessionExpired):
        renew(installations, token, proxy_token(acme, now=after), after)


def test_another_installation_renews_nothing(installations: Installations, acme: Installation) -> None:
    token, other = issue_session(KEY, AGENT, NOW, 900), installations.by_id[OTHER]
    with pytest.raises(ZendeskTokenInvalid):
        renew(installations, token, proxy_token(other, now=NOW), NOW)
    with pytest.raises(InstallationUnknown):
        renew(Installations({OTHER: other}), token, proxy_token(acme, now=NOW), NOW)
    with pytest.raises(AgentSessionInvalid):
        renew(installations, signed_url_token(acme, now=NOW), proxy_token(acme, now=NOW), NOW)


def test_a_session_ends_with_its_installation_or_its_project(acme: Installation) -> None:
    with pytest.raises(InstallationUnknown):
        Installations({}).of(AGENT)
    moved = Agent(installation=INSTALLATION, user=USER, project_id="globex", role=AgentRole.AGENT)
    with pytest.raises(InstallationUnknown):
        Installations({acme.id: acme}).of(moved)


# --- settings ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"public_key_file": Path("/nowhere/key.pem")}, "cannot be read"),
        ({"shared_secret": "short"}, "shorter than 32 bytes"),
        ({"api_email": "bot@acme.example"}, "belong together"),
        ({"api_url": "http://acme.zendesk.com"}, "api_url"),
        ({"api_url": "https://acme.zendesk.com/api"}, "api_url"),
        ({"api_url": "https://user@acme.zendesk.com"}, "api_url"),
        ({"api_url": "file:///etc/passwd"}, "api_url"),
    ],
)
def test_an_installation_that_cannot_work_is_named_at_the_start(
    tmp_path: Path, values: dict[str, Any], said: str
) -> None:
    with pytest.raises(InstallationInvalid, match=said) as caught:
        read_installations([installation_settings(tmp_path, **values)])
    assert INSTALLATION in caught.value.message
    assert SECRET not in str(caught.value.problem())


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"not a key", "no public key"),
        (
            generate_ec_key(SECP256R1())
            .public_key()
            .public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
            "no RSA key",
        ),
    ],
    ids=["no key", "another kind of key"],
)
def test_a_key_file_that_holds_no_rsa_key_is_refused(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "wrong.pem"
    path.write_bytes(content)
    with pytest.raises(InstallationInvalid, match=said):
        read_installations([installation_settings(tmp_path, public_key_file=path)])


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"id": INSTALLATION}, "twice"),
        ({"id": "7"}, "shared_secret is that of"),
        ({"id": "7", "shared_secret": "1" * 64, "subdomain": "globex"}, "belongs to acme.zendesk.com"),
    ],
)
def test_installations_do_not_overlap(tmp_path: Path, values: dict[str, Any], said: str) -> None:
    with pytest.raises(InstallationInvalid, match=said):
        read_installations([installation_settings(tmp_path), installation_settings(tmp_path, **values)])


@pytest.mark.parametrize(
    "value", ["", "0", "035", "12a", "\uff11\uff12", "1" * 21, "1\n", "../1", "-1", 7, None]
)
def test_what_is_no_id_of_zendesk_is_refused(value: object) -> None:
    with pytest.raises(ZendeskIdInvalid):
        zendesk_id(value)
