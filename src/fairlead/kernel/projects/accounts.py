"""Users: who can log in, and who may manage the others."""

import uuid
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from fairlead.kernel.clock import utc_now
from fairlead.kernel.db import UtcDateTime, metadata
from fairlead.kernel.errors import Conflict, Forbidden, NotFound
from fairlead.kernel.projects import passwords
from fairlead.kernel.projects.model import User

users = sa.Table(
    "users",
    metadata,
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("username", sa.String(64), nullable=False, unique=True),
    sa.Column("display_name", sa.String(200), nullable=False),
    sa.Column("email", sa.String(254)),
    sa.Column("password_hash", sa.String(255), nullable=False),
    sa.Column("is_admin", sa.Boolean, nullable=False),
    sa.Column("disabled_at", UtcDateTime),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("updated_at", UtcDateTime, nullable=False),
)


class UserNotFound(NotFound):
    """There is no such user."""

    code = "users.not_found"


class UserExists(Conflict):
    """The username is taken."""

    code = "users.exists"


class LastAdmin(Conflict):
    """This is the last administrator who can log in."""

    code = "users.last_admin"


class WrongPassword(Forbidden):
    """The current password is not right."""

    code = "users.wrong_password"


def user_of(row: Any) -> User:
    """The user in a row of `users`."""
    return User(
        id=row.id,
        username=row.username,
        display_name=row.display_name,
        email=row.email,
        is_admin=row.is_admin,
        disabled_at=row.disabled_at,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )


def create_user(
    conn: sa.Connection,
    *,
    username: str,
    password_hash: str,
    display_name: str | None = None,
    email: str | None = None,
    is_admin: bool = False,
) -> User:
    """Add a user. Raises UserExists."""
    now = utc_now()
    user = User(
        id=uuid.uuid4().hex,
        username=username,
        display_name=display_name or username,
        email=email,
        is_admin=is_admin,
        disabled_at=None,
        created_at=now,
        updated_at=now,
    )
    values = {name: getattr(user, name) for name in User.__slots__}
    added = insert_into(conn, users).values(**values, password_hash=password_hash)
    if conn.execute(added.on_conflict_do_nothing().returning(users.c.id)).first() is None:
        raise UserExists(f"The username {username!r} is taken.", remedy="Choose another one.")
    return user


def ensure_admin(conn: sa.Connection) -> tuple[str, str | None]:
    """The administrator's username, and the password just generated if there was no user at all.

    The password is returned this once and kept nowhere.
    """
    if conn.execute(sa.select(users.c.id).limit(1)).first() is None:
        password = passwords.generate()
        try:
            create_user(
                conn,
                username="admin",
                display_name="Administrator",
                is_admin=True,
                password_hash=passwords.hashed(password),
            )
        except UserExists:  # another process was first, and showed its password
            return "admin", None
        return "admin", password
    first = sa.select(users.c.username).where(users.c.is_admin).order_by(users.c.created_at, users.c.username)
    return conn.execute(first).scalars().first() or "admin", None


def storable(name: str) -> bool:
    """Whether `name` can be asked for: databases refuse NUL and lone surrogates, no username has either."""
    return name.isascii() and name.isprintable()


def find_user(conn: sa.Connection, username: str) -> User:
    """The user called `username`. Raises UserNotFound."""
    query = sa.select(users).where(users.c.username == username)
    if storable(username) and (row := conn.execute(query).first()):
        return user_of(row)
    raise UserNotFound(f"There is no user {username!r}.", remedy="See `GET /users` for the names.")


def list_users(conn: sa.Connection, *, after: str = "", limit: int = 50) -> list[User]:
    """Users in the order of their names, those behind `after`."""
    query = sa.select(users).where(users.c.username > after).order_by(users.c.username).limit(limit)
    return [user_of(row) for row in conn.execute(query)]


def update_user(conn: sa.Connection, user: User, changes: Mapping[str, Any]) -> User:
    """Change display_name, email, is_admin or disabled_at.

    Raises LastAdmin rather than leave nobody who can manage users.
    """
    now = utc_now()
    conn.execute(
        sa.update(users).where(users.c.id == user.id).values({**changes, "updated_at": now}),
    )
    if user.is_admin and user.disabled_at is None:
        _require_an_admin(conn)
    return find_user(conn, user.username)


def _require_an_admin(conn: sa.Connection) -> None:
    # Locks what it reads: two administrators who demote each other at once must not both succeed.
    active = sa.select(users.c.id).where(users.c.is_admin, users.c.disabled_at.is_(None)).with_for_update()
    if conn.execute(active).first() is None:
        raise LastAdmin(remedy="Make another user an administrator first.")


def set_password(conn: sa.Connection, user_id: str, password_hash: str) -> None:
    """Replace the password; `sessions.end_all` is the caller's next line."""
    conn.execute(
        sa.update(users)
        .where(users.c.id == user_id)
        .values(password_hash=password_hash, updated_at=utc_now())
    )


def password_hash_of(conn: sa.Connection, user_id: str) -> str | None:
    """The stored hash, for `passwords.matches`."""
    return conn.execute(sa.select(users.c.password_hash).where(users.c.id == user_id)).scalar()


def insert_into(conn: sa.Connection, table: sa.Table) -> Any:
    """An INSERT that knows "on conflict", which both databases spell alike and SQLAlchemy not at all."""
    return sqlite.insert(table) if conn.dialect.name == "sqlite" else postgresql.insert(table)
