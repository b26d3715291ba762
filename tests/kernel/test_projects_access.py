"""The permission tables, and the forms of credentials: pure decisions."""

import stat
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.kernel.errors import Unauthenticated
from fairlead.kernel.projects import passwords, tokens
from fairlead.kernel.projects.access import permissions_of
from fairlead.kernel.projects.model import (
    ADMIN_PERMISSIONS,
    ALL_PERMISSIONS,
    ROLE_PERMISSIONS,
    SCOPE_PERMISSIONS,
    Actor,
    Permission,
    Role,
    Scope,
    token_permissions,
)

P = Permission
NOW = datetime(2026, 1, 15, 10, 30, tzinfo=UTC)
KEY = tokens.SigningKey(b"k" * 32)
CLAIMS = tokens.Claims(user_id="u1", session_id="s1")

#                       viewer author approver owner admin(no member)
TABLE = {
    P.PROJECT_READ: "      x      x      x        x     x",
    P.PLAN_READ: "         x      x      x        x     x",
    P.STATE_READ: "        x      x      x        x     x",
    P.RUN_READ: "          x      x      x        x     x",
    P.AUDIT_READ: "        x      x      x        x     x",
    P.PLAN_CREATE: "       -      x      x        x     -",
    P.APPLY: "             -      x      x        x     -",
    P.PLAN_APPROVE: "      -      -      x        x     -",
    P.RUN_CANCEL: "        -      x      x        x     x",
    P.PROJECT_UPDATE: "    -      -      -        x     x",
    P.PROJECT_DELETE: "    -      -      -        x     x",
    P.MEMBERS_MANAGE: "    -      -      -        x     x",
}


@pytest.mark.parametrize("permission", list(TABLE), ids=str)
def test_the_roles_table(permission: Permission) -> None:
    sets = [*(ROLE_PERMISSIONS[role] for role in Role), ADMIN_PERMISSIONS]
    assert ["x" if permission in one else "-" for one in sets] == TABLE[permission].split()


def test_the_table_is_complete_and_roles_only_grow() -> None:
    assert set(TABLE) == ALL_PERMISSIONS - {P.PROJECT_CREATE, P.USERS_MANAGE, P.CREDENTIALS_MANAGE}
    ranks = [ROLE_PERMISSIONS[role] for role in (Role.VIEWER, Role.AUTHOR, Role.APPROVER, Role.OWNER)]
    assert all(low < high for low, high in pairwise(ranks))


@given(
    st.sampled_from([*Role, None]),
    st.sampled_from(Scope),
    st.sampled_from([*Role, None]),
    st.sampled_from([None, "here", "elsewhere"]),
    st.booleans(),
)
def test_a_token_never_may_more_than_its_user_its_scope_and_its_ceiling(
    role: Role | None, scope: Scope, ceiling: Role | None, project_uid: str | None, is_admin: bool
) -> None:
    person = Actor(user_id="u", username="u", is_admin=is_admin)
    allowed = token_permissions(scope, ceiling, project_uid)
    token = Actor(
        user_id="u", username="u", is_admin=is_admin, scopes=allowed, token_id="t", project_uid=project_uid
    )
    may = permissions_of(token, "here", role)
    assert may <= permissions_of(person, "here", role) & SCOPE_PERMISSIONS[scope]
    assert P.CREDENTIALS_MANAGE not in allowed
    if ceiling is not None:
        assert may <= ROLE_PERMISSIONS[ceiling]
    if project_uid == "elsewhere":
        assert may == frozenset()
    if scope is Scope.PROPOSE:
        assert not may & {P.PLAN_APPROVE, P.APPLY, P.RUN_CANCEL, P.MEMBERS_MANAGE, P.PROJECT_UPDATE}
    if role is None:
        assert not may & {P.PLAN_CREATE, P.PLAN_APPROVE, P.APPLY}


def test_an_access_token_holds_to_its_last_second() -> None:
    token = tokens.access_token(KEY, CLAIMS, now=NOW, lifetime_s=900)
    assert tokens.read_access_token(KEY, token, now=NOW + timedelta(seconds=899)) == CLAIMS
    with pytest.raises(tokens.TokenExpired):
        tokens.read_access_token(KEY, token, now=NOW + timedelta(seconds=900))


@pytest.mark.parametrize(
    "change",
    [{"sid": 5}, {"sid": None}, {"exp": "soon"}, {"exp": 1e300}, {"sub": 7}, {"iss": "x"}],
    ids=str,
)
def test_signed_nonsense_is_refused(change: dict[str, object]) -> None:
    body = {"iss": "fairlead", "sub": "u", "sid": "s", "iat": 1, "exp": 9_999_999_999, **change}
    with pytest.raises(Unauthenticated):
        tokens.read_access_token(KEY, jwt.encode(body, KEY.for_access_tokens, "HS256"), now=NOW)


@given(st.one_of(st.text(), st.from_regex(r"[A-Za-z0-9_-]{2,40}\.[A-Za-z0-9_-]{2,60}\.[A-Za-z0-9_-]{0,50}")))
def test_whatever_comes_as_a_token_is_refused_and_nothing_breaks(text: str) -> None:
    with pytest.raises(Unauthenticated):
        tokens.read_access_token(KEY, text, now=NOW)


@given(st.integers(min_value=0), st.sampled_from("ABCabc019_-"))
def test_a_token_with_one_character_changed_is_refused(place: int, character: str) -> None:
    token = tokens.access_token(KEY, CLAIMS, now=NOW, lifetime_s=900)
    head, _, signature = token.rpartition(".")
    # The last character of a part carries unused bits: leave it.
    at = place % (len(head) - 1)
    changed = head[:at] + character + head[at + 1 :]
    if changed != head:
        with pytest.raises(Unauthenticated):
            tokens.read_access_token(KEY, f"{changed}.{signature}", now=NOW)


def test_processes_that_race_get_the_same_key_readable_by_us_only(tmp_path: Path) -> None:
    path = tmp_path / "new" / "session.key"
    with ThreadPoolExecutor(8) as pool:
        keys = set(pool.map(lambda _: tokens.load_signing_key(path), range(8)))
    assert len(keys) == 1
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [file.name for file in path.parent.iterdir()] == ["session.key"]
    (key,) = keys
    assert str(key.value) not in repr(key)


def test_a_key_that_others_can_read_or_that_is_short_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_bytes(b"k" * 32)
    path.chmod(0o644)
    with pytest.raises(tokens.SigningKeyInvalid, match="Other users"):
        tokens.load_signing_key(path)
    path.write_bytes(b"short")
    path.chmod(0o600)
    with pytest.raises(tokens.SigningKeyInvalid, match="shorter"):
        tokens.load_signing_key(path)
    with pytest.raises(tokens.SigningKeyInvalid, match="cannot be used"):
        tokens.load_signing_key(path / "below-a-file")


def test_an_unknown_user_s_password_costs_what_a_known_one_s_costs() -> None:
    mine = passwords.hashed("a quiet harbour at dawn")
    parameters = mine.rsplit("$", 2)[0]
    assert passwords.NOBODY.startswith(parameters + "$")
    assert not passwords.outdated(mine)
    assert passwords.matches("a quiet harbour at dawn", mine)
    assert not passwords.matches("a quiet harbour at dusk", mine)
    assert not passwords.matches("a quiet harbour at dawn", None)
    assert not passwords.matches("a quiet harbour at dawn", "not a hash")
