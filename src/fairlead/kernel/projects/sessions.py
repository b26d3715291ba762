"""Logging in, and the sessions that it opens.

A session is an access token (JWT, minutes) and a refresh token (opaque, used once, replaced by
each refresh). A refresh token that comes a second time was stolen or replayed: its session ends.
"""

import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any

import sqlalchemy as sa

from fairlead.kernel.clock import utc_now
from fairlead.kernel.db import Database, UtcDateTime, metadata
from fairlead.kernel.errors import FairleadError, Unauthenticated
from fairlead.kernel.projects import passwords, tokens
from fairlead.kernel.projects.accounts import insert_into, storable, user_of, users
from fairlead.kernel.projects.model import Actor, User

ACCESS_LIFETIME_S = 15 * 60
SESSION_IDLE = timedelta(days=7)  # a session that nobody refreshes for so long ends
SESSION_LIFETIME = timedelta(days=30)  # every session ends after this, refreshed or not
FREE_ATTEMPTS = 5  # wrong passwords before waiting begins
MAX_WAIT_S = 15 * 60
FORGET_ATTEMPTS = timedelta(days=1)

login_attempts = sa.Table(
    "login_attempts",
    metadata,
    # SHA-256 of username and address: people type passwords into username fields.
    sa.Column("subject", sa.String(64), primary_key=True),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("last_at", UtcDateTime, nullable=False, index=True),
)

sessions = sa.Table(
    "sessions",
    metadata,
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("user_id", sa.ForeignKey("users.id", ondelete="CASCADE"), nullable=False, index=True),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("expires_at", UtcDateTime, nullable=False, index=True),
    sa.Column("revoked_at", UtcDateTime),
)

refresh_tokens = sa.Table(
    "refresh_tokens",
    metadata,
    sa.Column("digest", sa.String(64), primary_key=True),
    sa.Column("session_id", sa.ForeignKey("sessions.id", ondelete="CASCADE"), nullable=False, index=True),
    sa.Column("used_at", UtcDateTime),
)


class InvalidCredentials(Unauthenticated):
    """Username and password do not match."""

    code = "auth.invalid_credentials"


class LoginThrottled(FairleadError):
    """Too many wrong passwords; wait before the next attempt."""

    code, status, retryable = "auth.throttled", 429, True


class SessionEnded(Unauthenticated):
    """The session has ended."""

    code = "auth.session_ended"


class RefreshReused(Unauthenticated):
    """The refresh token was used before; its session has been ended."""

    code = "auth.refresh_reused"


class UserDisabled(Unauthenticated):
    """The account is disabled."""

    code = "auth.user_disabled"


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedSession:
    """A session's credentials, shown once."""

    session_id: str
    user: User
    access_token: str
    refresh_token: str
    expires_in_s: int  # of the access token

    def __repr__(self) -> str:
        """Never the tokens."""
        return f"OpenedSession(session_id={self.session_id!r}, user={self.user.username!r})"


def throttle_wait_s(attempts: int, since_last_s: float) -> float:
    """Seconds to wait before the next attempt after `attempts` unsuccessful ones; 0 = go ahead."""
    if attempts < FREE_ATTEMPTS:
        return 0.0
    wait = min(2.0 ** min(attempts - FREE_ATTEMPTS, 20), MAX_WAIT_S)
    return max(0.0, wait - since_last_s)


def login(
    database: Database, key: tokens.SigningKey, *, username: str, password: str, address: str
) -> OpenedSession:
    """Open a session. Raises InvalidCredentials (for every reason the same) or LoginThrottled."""
    name = username.strip().lower()
    subject = sha256(f"{name}\0{address}".encode("utf-8", "surrogatepass")).hexdigest()
    # Counted before the password is looked at, so that parallel guesses all count.
    with database.transaction() as conn:
        wait_s = count_attempt(conn, subject)
    if wait_s:
        raise LoginThrottled(
            f"Too many wrong passwords; wait {wait_s} s.",
            remedy="Wait, or ask an administrator for a new password.",
            retry_after_s=wait_s,
        )
    with database.reading() as conn:
        query = sa.select(users).where(users.c.username == name)
        row = conn.execute(query).first() if storable(name) else None
    right = passwords.matches(password, row.password_hash if row else None)
    if row is None or not right or row.disabled_at is not None:
        raise InvalidCredentials(remedy="Check both, and that the account is enabled.")
    renewed = passwords.hashed(password) if passwords.outdated(row.password_hash) else None
    with database.transaction() as conn:
        # The account may have changed while the password was checked.
        unchanged = sa.select(users.c.id).where(
            users.c.id == row.id, users.c.password_hash == row.password_hash, users.c.disabled_at.is_(None)
        )
        if conn.execute(unchanged).first() is None:
            raise InvalidCredentials(remedy="Check both, and that the account is enabled.")
        conn.execute(sa.delete(login_attempts).where(login_attempts.c.subject == subject))
        if renewed:
            conn.execute(sa.update(users).where(users.c.id == row.id).values(password_hash=renewed))
        return open_session(conn, key, user_of(row))


def count_attempt(conn: sa.Connection, subject: str) -> int:
    """Count one attempt, or answer how many whole seconds it has to wait (then it does not count)."""
    now = utc_now()
    conn.execute(sa.delete(login_attempts).where(login_attempts.c.last_at < now - FORGET_ATTEMPTS))
    # The row first, then its lock: who finds none could not wait for the others.
    new = insert_into(conn, login_attempts).values(subject=subject, attempts=0, last_at=now)
    conn.execute(new.on_conflict_do_nothing())
    mine = login_attempts.c.subject == subject
    row = conn.execute(sa.select(login_attempts).where(mine).with_for_update()).one()
    wait_s = throttle_wait_s(row.attempts, (now - row.last_at).total_seconds())
    if wait_s:
        return int(wait_s) + 1
    conn.execute(sa.update(login_attempts).where(mine).values(attempts=row.attempts + 1, last_at=now))
    return 0


def open_session(conn: sa.Connection, key: tokens.SigningKey, user: User) -> OpenedSession:
    """A new session of `user`, whose identity the caller has established."""
    now = utc_now()
    conn.execute(sa.delete(sessions).where(sessions.c.expires_at < now))
    session_id = uuid.uuid4().hex
    conn.execute(
        sa.insert(sessions).values(
            id=session_id, user_id=user.id, created_at=now, expires_at=now + SESSION_IDLE
        )
    )
    return _credentials(conn, key, session_id, user, now)


def _credentials(
    conn: sa.Connection, key: tokens.SigningKey, session_id: str, user: User, now: datetime
) -> OpenedSession:
    refresh = tokens.new_secret(tokens.REFRESH_PREFIX)
    conn.execute(sa.insert(refresh_tokens).values(digest=tokens.digest(refresh), session_id=session_id))
    claims = tokens.Claims(user_id=user.id, session_id=session_id)
    return OpenedSession(
        session_id=session_id,
        user=user,
        access_token=tokens.access_token(key, claims, now=now, lifetime_s=ACCESS_LIFETIME_S),
        refresh_token=refresh,
        expires_in_s=ACCESS_LIFETIME_S,
    )


def refresh(database: Database, key: tokens.SigningKey, refresh_token: str) -> OpenedSession:
    """New credentials for the session of `refresh_token`, which cannot be used again.

    Raises Unauthenticated, SessionEnded, UserDisabled, RefreshReused (then the session is over).
    """
    with database.transaction() as conn:
        outcome = _rotate(conn, key, tokens.digest(refresh_token))
    if isinstance(outcome, FairleadError):  # raised out here: the end of a session must be committed
        raise outcome
    return outcome


def _rotate(conn: sa.Connection, key: tokens.SigningKey, digest: str) -> OpenedSession | Unauthenticated:
    now = utc_now()
    joined = refresh_tokens.join(sessions, sessions.c.id == refresh_tokens.c.session_id).join(
        users, users.c.id == sessions.c.user_id
    )
    query = (
        sa.select(
            users,
            sessions.c.id.label("session_id"),
            sessions.c.expires_at,
            sessions.c.revoked_at,
            sessions.c.created_at.label("opened_at"),
        )
        .select_from(joined)
        .where(refresh_tokens.c.digest == digest)
    )
    row = conn.execute(query).first()
    if row is None:
        return Unauthenticated("The refresh token is not valid.", remedy="Log in again.")
    if refused := refusal(row, now):
        return refused
    claimed = conn.execute(
        sa.update(refresh_tokens)
        .where(refresh_tokens.c.digest == digest, refresh_tokens.c.used_at.is_(None))
        .values(used_at=now)
    )
    if claimed.rowcount != 1:
        end(conn, row.session_id)
        return RefreshReused(remedy="Log in again; if that was not you, change the password.")
    until = min(now + SESSION_IDLE, row.opened_at + SESSION_LIFETIME)
    conn.execute(sa.update(sessions).where(sessions.c.id == row.session_id).values(expires_at=until))
    return _credentials(conn, key, row.session_id, user_of(row), now)


def refusal(row: Any, now: datetime) -> Unauthenticated | None:
    """Why the credential in `row` (disabled_at, revoked_at, expires_at) opens nothing; None if it does."""
    if row.disabled_at is not None:
        return UserDisabled(remedy="Ask an administrator.")
    if row.revoked_at is not None or (row.expires_at is not None and row.expires_at <= now):
        return SessionEnded(remedy="Log in again.")
    return None


def end(conn: sa.Connection, session_id: str) -> None:
    """End one session; nothing happens if it has ended."""
    open_ones = sa.update(sessions).where(sessions.c.id == session_id, sessions.c.revoked_at.is_(None))
    conn.execute(open_ones.values(revoked_at=utc_now()))


def end_all(conn: sa.Connection, user_id: str, *, but: str | None = None) -> None:
    """End every session of a user, except `but`."""
    theirs = sa.update(sessions).where(sessions.c.user_id == user_id, sessions.c.revoked_at.is_(None))
    if but is not None:
        theirs = theirs.where(sessions.c.id != but)
    conn.execute(theirs.values(revoked_at=utc_now()))


def actor_of(conn: sa.Connection, session_id: str, user_id: str) -> Actor:
    """The session's user, as of now. Raises SessionEnded, UserDisabled."""
    query = (
        sa.select(users, sessions.c.expires_at, sessions.c.revoked_at)
        .select_from(sessions.join(users, users.c.id == sessions.c.user_id))
        .where(sessions.c.id == session_id, users.c.id == user_id)
    )
    row = conn.execute(query).first()
    if row is None:
        raise SessionEnded(remedy="Log in again.")
    if refused := refusal(row, utc_now()):
        raise refused
    return Actor(user_id=row.id, username=row.username, is_admin=row.is_admin, session_id=session_id)
